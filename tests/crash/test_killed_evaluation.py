"""SIGKILL of a trial while it is evaluated after its training: the same command gives the same files."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.contract.test_lm_eval import write_tasks
from tests.crash.forks import sweep_files

COMMAND = [sys.executable, "-m", "neftune_cli", "sweep", "--quiet", "--alphas", "0,5", "--seeds", "1", "--workers", "1"]
SIZES = ["--train-examples", "16", "--eval-examples", "200", "--max-steps", "3", "--max-new-tokens", "96"]
RUN = ["--no-estimate", "--output", "sweep"]
REPOSITORY = Path(__file__).parents[2]
TRIAL = "alpha=5,seed=0-*"
WAIT_SECONDS = 300
pytestmark = pytest.mark.timeout(900)  # the harness alone takes up to a minute to import
needs_harness = pytest.mark.skipif(find_spec("lm_eval") is None, reason="needs the extra lm-eval")


def start(folder: Path, options: list[str]) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [*COMMAND, *SIZES, *RUN, *options],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
    )


def finish(folder: Path, options: list[str]) -> dict[str, bytes]:
    """Run the sweep to its end, and return its files."""
    assert start(folder, options).wait(WAIT_SECONDS) == 0
    return sweep_files(folder / "sweep")


def phase(folder: Path) -> str:
    states = list((folder / "sweep" / "trials").glob(f"{TRIAL}/state.json"))
    return str(json.loads(states[0].read_text()).get("phase")) if states else ""


def kill_in(folder: Path, wanted: str, options: list[str], *, everything: bool) -> None:
    """Start the sweep, and kill it with SIGKILL in a phase of the trial: all its processes, or the main process."""
    process = start(folder, options)
    deadline = time.monotonic() + WAIT_SECONDS
    while phase(folder) != wanted:
        assert process.poll() is None, "the sweep ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    (os.killpg if everything else os.kill)(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not list((folder / "sweep" / "trials").glob(f"{TRIAL}/record.json"))


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.parametrize("everything", [True, False], ids=["all processes", "main process"])
@pytest.mark.parametrize("wanted", ["generating", pytest.param("evaluating", marks=needs_harness)])
def test_sweep_killed_in_the_evaluation_has_the_same_files(wanted: str, everything: bool, tmp_path: Path) -> None:
    tasks = write_tasks(tmp_path / "tasks", questions=400) if wanted == "evaluating" else None
    options = ["--lm-eval", str(tasks)] if tasks else []
    uninterrupted = finish(tmp_path / "uninterrupted", options)
    killed = tmp_path / "killed"
    kill_in(killed, wanted, options, everything=everything)
    kill_in(killed, wanted, options, everything=everything)
    resumed = finish(killed, options)
    assert resumed.keys() == uninterrupted.keys()
    for name, content in uninterrupted.items():
        assert resumed[name] == content, name
