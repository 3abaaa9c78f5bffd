"""`--dry-run` as a command: the first one calibrates in a worker, the second one answers without torch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from neftune_cli.sweeps.measurement_cache import FOLDER
from tests.command_line import Neftune, overridden
from tests.small_model import WITH_SMALL_MODEL

pytestmark = pytest.mark.usefixtures("small_model")

OPTIONS = overridden(
    *WITH_SMALL_MODEL,
    *"--train-examples 16 --eval-examples 8 --batch-size 8 --max-new-tokens 8 --seeds 1 --workers 1".split(),
)
WITHOUT_TORCH = (
    "import sys; sys.modules.update(torch=None, transformers=None); from neftune_cli.cli import main; main()"
)


def dry_run(folder: Path, *options: str, python: tuple[str, ...] = ("-m", "neftune_cli")) -> tuple[str, str]:
    """Return what a command writes to stdout and to stderr."""
    command = [sys.executable, *python, "sweep", "--dry-run", *OPTIONS, "--output", str(folder / "out"), *options]
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "TZ": "UTC"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder whose cache has the calibration of a first dry run."""
    folder = tmp_path_factory.mktemp("dry")
    output, errors = dry_run(folder, "--alphas", "0")
    assert "Calibrating with a few steps, at most 30 seconds ..." in errors
    assert "Source of the estimates: a calibration with a few steps and responses." in output
    return folder


def test_the_second_dry_run_answers_without_torch(folder: Path) -> None:
    first = json.loads(dry_run(folder, "--alphas", "0", "--json")[0])
    output, errors = dry_run(folder, "--alphas", "0,5", python=("-c", WITHOUT_TORCH))
    assert "Calibrating" not in errors
    (calibration,) = (folder / "cache" / "neftune" / FOLDER).glob("CalibratedRecipe-*.json")
    day, _, time = json.loads(calibration.read_text())["written"].partition("T")
    assert f"Source of the estimates: a remembered calibration of {day} {time[:5]}." in output
    again = json.loads(dry_run(folder, "--alphas", "0,5", "--json", python=("-c", WITHOUT_TORCH))[0])
    times = {line["arm"]: line["seconds"] for line in again["trials"]}
    assert {line["arm"]: line["seconds"] for line in first["trials"]}.items() < times.items()
    assert {line["trial"] for line in first["trials"]} < {line["trial"] for line in again["trials"]}
    assert not (folder / "out").exists()


def test_a_pause_without_a_look_is_refused(folder: Path) -> None:
    looks = ["--alphas", "0,5", "--until-decided", "--looks", "3,5", "--seeds", "5"]
    command = [
        sys.executable,
        "-m",
        "neftune_cli",
        "sweep",
        "--dry-run",
        *overridden(*OPTIONS, *looks),
        "--pause-at",
        "4",
    ]
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run(
        [*command, "--output", str(folder / "out")], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--pause-at 4: no look is planned at 4 seeds." in done.stderr


def test_a_damaged_cache_is_replaced(neftune: Neftune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process calibrates, because it has the imports."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    command = ("sweep", "--dry-run", *OPTIONS, "--output", str(tmp_path / "out"), "--alphas", "0")
    assert neftune(*command).code == 0
    files = sorted((tmp_path / "cache" / "neftune" / FOLDER).glob("*.json"))
    assert len(files) == 3
    for file in files:
        file.write_text(file.read_text()[:50])
    assert "a calibration with a few steps and responses" in neftune(*command).out
    assert all(json.loads(file.read_text()) for file in files)
