"""Imports of the main process: a help page needs nothing but Typer, and a sweep starts without torch and pandas."""

import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from neftune_cli.cli import SUMMARIES
from neftune_cli.commands.request import READING
from tests.command_line import Neftune

HEAVY = {"torch", "transformers", "trl", "datasets", "accelerate", "peft", "pandas", "sklearn", "matplotlib"}
NOT_FOR_HELP = HEAVY | {"numpy", "scipy", "pyarrow", "pydantic", "yaml", "jinja2", "rich.console", "importlib.metadata"}
NOT_BEFORE_THE_FIRST_LINE = HEAVY | {"numpy", "scipy", "pyarrow", "jinja2"}

AT_FIRST_LINE = """\
import os, sys, typer
typer.echo = lambda *text, **_: (print(*text, *sys.modules, sep="\\n", file=sys.stderr, flush=True), os._exit(0))
from neftune_cli.cli import main
main()
"""
AT_EXIT = """\
import atexit, sys
atexit.register(lambda: print("MODULES", *sys.modules, file=sys.stderr))
from neftune_cli.cli import main
main()
"""


ModulesOfHelp = Callable[[str], set[str]]


@pytest.fixture(scope="module")
def modules_of_help(tmp_path_factory: pytest.TempPathFactory) -> ModulesOfHelp:
    """Return a function that shows the help of a command in a new process, and returns the modules at its end."""
    folder = tmp_path_factory.mktemp("help")

    @cache
    def run(command: str) -> set[str]:
        arguments = [sys.executable, "-c", AT_EXIT, *command.split(), "--help"]
        done = subprocess.run(arguments, check=False, capture_output=True, text=True, cwd=folder)
        *_, listed = done.stderr.splitlines()
        assert listed.startswith("MODULES "), done.stderr
        return set(listed.split()[1:])

    return run


@pytest.mark.parametrize("command", ["", *SUMMARIES])
def test_a_help_page_imports_no_library_but_typer(command: str, modules_of_help: ModulesOfHelp) -> None:
    assert modules_of_help(command) & NOT_FOR_HELP == set()


@pytest.mark.parametrize("command", SUMMARIES)
def test_a_help_page_imports_no_other_command(command: str, modules_of_help: ModulesOfHelp) -> None:
    imported = modules_of_help(command)
    assert {f"neftune_cli.commands.{name}" for name in SUMMARIES} & imported == {f"neftune_cli.commands.{command}"}


@pytest.mark.parametrize("arguments", ["sweep", "sweep --dry-run", "sweep --alphas 0,5 --seeds 2", "train --alpha 5"])
def test_the_first_line_is_printed_before_slow_imports(arguments: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", AT_FIRST_LINE, *arguments.split()]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    line, *imported = done.stderr.splitlines()
    assert line == READING
    assert set(imported) & NOT_BEFORE_THE_FIRST_LINE == set()
    assert "neftune_cli.sweeps.executors.local" in imported


def test_a_preview_reports_bad_data_before_torch_is_imported(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text('{"question": "?"}\n')
    command = [sys.executable, "-c", AT_EXIT, "preview", "--dataset", "data.jsonl"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)
    *message, imported = done.stderr.splitlines()
    assert done.returncode == 2
    assert message[0].startswith("Error: The columns of data.jsonl match no supported layout")
    assert set(imported.split()) & HEAVY == set()


def test_the_first_line_of_a_sweep_precedes_the_problems_that_a_worker_finds(neftune: Neftune, tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text('{"question": "?"}\n')
    arguments = ("sweep", "--dataset", "data.jsonl")
    found = neftune(*arguments).err.splitlines()
    assert found[0] == READING
    assert found[1].startswith("Error: The columns of data.jsonl match no supported layout")
    assert neftune(*arguments, "--quiet").err.splitlines() == found[1:]


@pytest.mark.parametrize("option", ["--alphas=x", "--epochs=0", "--workers=x", "--keep=some", "--alpahs=1"])
def test_a_mistyped_option_is_the_only_thing_that_is_reported(neftune: Neftune, option: str) -> None:
    assert neftune("sweep", option).err.startswith("Error: ")
