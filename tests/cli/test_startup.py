"""Imports of the main process: a help page needs nothing but Typer, and a sweep starts without torch and pandas."""

import subprocess
import sys
from pathlib import Path

import pytest

from neftune_cli.commands.command_group import SUMMARIES

HEAVY = {"torch", "transformers", "trl", "datasets", "accelerate", "peft", "pandas", "sklearn", "matplotlib"}
NOT_FOR_HELP = HEAVY | {"numpy", "scipy", "pyarrow", "pydantic", "yaml", "jinja2", "rich.console", "importlib.metadata"}
NOT_BEFORE_THE_FIRST_LINE = HEAVY | {"numpy", "scipy", "pyarrow", "jinja2"}

AT_EXIT = """\
import atexit, sys
atexit.register(lambda: print("MODULES", *sys.modules, file=sys.stderr))
from neftune_cli.cli import main
main()
"""


def modules_of(*arguments: str, cwd: Path) -> set[str]:
    """Run a command in a new process, and return the modules that it has imported at its end."""
    command = [sys.executable, "-c", AT_EXIT, *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=cwd)
    *_, listed = done.stderr.splitlines()
    assert listed.startswith("MODULES "), done.stderr
    return set(listed.split()[1:])


@pytest.mark.parametrize("command", ["", *SUMMARIES])
def test_a_help_page_imports_no_library_but_typer(command: str, tmp_path: Path) -> None:
    imported = modules_of(*command.split(), "--help", cwd=tmp_path)
    assert imported & NOT_FOR_HELP == set()


@pytest.mark.parametrize("command", SUMMARIES)
def test_a_help_page_imports_no_other_command(command: str, tmp_path: Path) -> None:
    imported = modules_of(command, "--help", cwd=tmp_path)
    assert {f"neftune_cli.commands.{name}" for name in SUMMARIES} & imported == {f"neftune_cli.commands.{command}"}
