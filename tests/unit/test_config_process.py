"""The command line for messages, in a form that the same shell can run, and the folder of the cache."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from neftune_cli.config.process import command_again, own_command, typed_command, user_cache


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Return an executable with the name neftune."""
    path = tmp_path / "bin" / "neftune"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_a_program_on_the_search_path_is_given_by_its_name(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setattr(sys, "argv", [str(program), "sweep", "--alphas", "0,5"])
    assert typed_command() == ("neftune", "sweep", "--alphas", "0,5")


def test_a_program_outside_the_search_path_is_given_by_its_path(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(program.parent.parent)
    monkeypatch.setattr(sys, "argv", ["bin/neftune", "sweep", "--output", "my results"])
    assert command_again("--retry", "failed") == "bin/neftune sweep --output 'my results' --retry failed"


def test_another_program_of_the_same_name_on_the_search_path_is_not_used(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other" / "neftune"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(other.parent))
    monkeypatch.setattr(sys, "argv", [str(program), "sweep"])
    assert typed_command() == (str(program), "sweep")


def test_a_module_is_run_with_the_same_interpreter() -> None:
    code = "import sys; from neftune_cli.config.process import command_again; print(command_again())"
    called = [sys.executable, "-c", f"import sys; sys.argv = ['/x/neftune_cli/__main__.py', 'status']; {code}"]
    line = subprocess.run(called, capture_output=True, text=True, check=True).stdout
    first, *rest = shlex.split(line)
    assert rest == ["-m", "neftune_cli", "status"]
    assert first == sys.executable or first.startswith("python")


@pytest.mark.parametrize(
    ("program", "is_own"),
    [
        ("/venv/bin/neftune", True),
        ("/site-packages/neftune_cli/__main__.py", True),
        ("C:/venv/neftune.exe", True),
        ("study.py", False),
        ("/my_package/__main__.py", False),
        ("ipykernel_launcher.py", False),
        ("", False),
    ],
)
def test_the_command_line_of_another_program_is_none_of_neftune(
    monkeypatch: pytest.MonkeyPatch, program: str, is_own: bool
) -> None:
    monkeypatch.setattr(sys, "argv", [program, "sweep"])
    assert own_command() == (typed_command() if is_own else ())


def test_the_cache_follows_the_xdg_specification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache() == tmp_path / "neftune"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert user_cache() == tmp_path / "home" / ".cache" / "neftune"
