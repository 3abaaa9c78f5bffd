"""Suggestions for mistyped names: only close ones, the closest first, and at most three."""

from pathlib import Path

import pytest

from neftune_cli.errors import did_you_mean


@pytest.mark.parametrize(
    ("name", "known", "question"),
    [
        ("unifrom", ["uniform", "gaussian"], "Did you mean 'uniform'?"),
        ("epochs", ["alphas", "snr"], ""),
        ("seed", [], ""),
        ("arm1", ["arm4", "arm2", "arm3", "arm12", "arm"], "Did you mean 'arm12', 'arm' or 'arm4'?"),
    ],
)
def test_only_close_names_are_suggested(name: str, known: list[str], question: str) -> None:
    assert did_you_mean(name, known) == question


def test_the_compared_part_decides_and_the_whole_name_is_printed() -> None:
    files = ["data/mine.jsonl", "data/theirs.jsonl"]
    question = did_you_mean("data/mien.csv", files, compared=lambda one: Path(one).stem, quoted=False)
    assert question == "Did you mean data/mine.jsonl?"
