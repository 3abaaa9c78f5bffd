"""Completion in the shell, as bash asks for it: commands, options, and the values of options."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("neftune sw", {"sweep"}),
        ("neftune sweep --kee", {"--keep"}),
        ("neftune sweep --keep ", {"none", "best", "all"}),
        ("neftune sweep --noise g", {"gaussian"}),
        ("neftune sweep --executor ", {"local"}),
        ("neftune export results --to m", {"mlflow"}),
    ],
)
def test_bash_gets_the_words_that_fit(words: str, expected: set[str]) -> None:
    asked = {"_NEFTUNE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    program = "import sys; sys.argv = ['neftune']; from neftune_cli.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **asked}, check=True, capture_output=True, text=True
    )
    assert expected <= set(done.stdout.split())
    last = words.rpartition(" ")[2]
    assert all(word.startswith(last) for word in done.stdout.split())
