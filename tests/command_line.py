"""In-process command line, so that the tests import torch once."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from neftune_cli import cli


@dataclass(frozen=True)
class CommandResult:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


Neftune = Callable[..., CommandResult]


@pytest.fixture(name="neftune")
def neftune_fixture(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Neftune:
    """Return a function that runs `neftune` in an empty folder, without plots, and returns its exit code and output."""
    from neftune_cli.sweeps.executors.inline import InlineExecutor  # imports torch: not in pytest-xdist's controller

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("neftune_cli.sweeps.executors.local.LocalExecutor", lambda **_: InlineExecutor())
    monkeypatch.setattr("neftune_cli.reporting.reports.draw_plots", lambda _: {})  # drawing takes longer than training

    def run(*arguments: str) -> CommandResult:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["neftune", *arguments])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        printed = capsys.readouterr()
        return CommandResult(int(exit_.value.code or 0), printed.out, printed.err)

    return run


def overridden(*arguments: str) -> tuple[str, ...]:
    """Return arguments with only the last value of each option that is given more than once, with one value each.

    An argument that is no value of an option must not follow a flag, which would take it as its value.
    """
    kept: list[tuple[str, ...]] = []
    rest = list(arguments)
    while rest:
        first = rest.pop(0)
        has_value = first.startswith("--") and "=" not in first and bool(rest) and not rest[0].startswith("--")
        if has_value:
            kept = [one for one in kept if one[0] != first]
        kept.append((first, rest.pop(0)) if has_value else (first,))
    return tuple(part for one in kept for part in one)
