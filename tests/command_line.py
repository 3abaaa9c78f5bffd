"""A command line that runs in this process, so that torch is imported once."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from neftune_cli import cli
from neftune_cli.sweeps.executors.inline import InlineExecutor


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Neftune = Callable[..., Ended]


@pytest.fixture(name="neftune")
def neftune_fixture(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Neftune:
    """Return a function that runs `neftune` with arguments, in an empty folder, and tells how it ended."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("neftune_cli.sweeps.executors.local.LocalExecutor", InlineExecutor)

    def run(*arguments: str) -> Ended:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["neftune", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return Ended(int(ended.value.code or 0), printed.out, printed.err)

    return run
