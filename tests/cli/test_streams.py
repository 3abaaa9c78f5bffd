"""Standard streams that are closed, full or without a reader."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = f"{sys.executable} -m neftune_cli"


def test_a_reader_that_ends_early_is_no_failure() -> None:
    """The pipe has no reader, as that of `neftune compare X | head` after the last line that `head` shows."""
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-m", "neftune_cli", "--help"], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("line", "ended"),
    [
        ("compare missing 2>&-", (2, "", "")),
        ("compare missing 2>/dev/full", (2, "", "")),
        ("--version >&-", (0, "", "")),
        (
            "--version >/dev/full",
            (
                1,
                "",
                "Error: No space left on device.\n  Free some space, or use another disk, and run the command again.\n",
            ),
        ),
    ],
)
def test_a_closed_or_full_stream_changes_neither_the_other_one_nor_the_exit_code(
    tmp_path: Path, line: str, ended: tuple[int, str, str]
) -> None:
    result = subprocess.run(f"{COMMAND} {line}", shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == ended


def test_closed_streams_get_objects_with_their_numbers() -> None:
    program = (
        "import os, sys; from neftune_cli.cli import _open_closed_streams; _open_closed_streams(); "
        "os._exit([one.fileno() for one in (sys.stdin, sys.stdout, sys.stderr)] == [0, 1, 2])"
    )
    ended = subprocess.run(f"{sys.executable} -c '{program}' <&- >&- 2>&-", shell=True, check=False)
    assert ended.returncode == 1


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [("latin-1", "\N{MINUS SIGN}"), ("ascii", "\N{MINUS SIGN}"), ("utf-8", "\N{MINUS SIGN}"), ("latin-1:replace", "?")],
)
def test_characters_that_the_encoding_of_stdout_lacks_are_printed(encoding: str, printed: str) -> None:
    program = "from neftune_cli.cli import _encode_stdout_as_utf8; _encode_stdout_as_utf8(); print(chr(0x2212))"
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=False)

    assert ended.stdout.decode("utf-8") == f"{printed}\n"
