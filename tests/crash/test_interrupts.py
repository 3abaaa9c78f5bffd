"""Ctrl-C at a terminal and SIGTERM: the current step is finished and kept, and the printed command resumes."""

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from neftune_cli.sweeps.progress.live import STOPPING
from tests.crash.forks import SMALL, finish_with_plots, sweep_files
from tests.crash.terminals import Terminal

LONG = (
    *("sweep", "--workers", "2", "--alphas", "0,5", "--seeds", "1", "--epochs", "16", *SMALL),
    *("--output", "sweep"),
)
"""Trainings of 32 steps, which are too short for a periodic checkpoint."""
COMMAND = (sys.executable, "-m", "neftune_cli", *LONG)


@pytest.fixture(scope="module")
def by_one_process(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("by-one")
    finish_with_plots(folder, [*LONG[:2], "0", "--quiet", *LONG[3:]])
    return sweep_files(folder / "sweep")


def first_worker(terminal: Terminal) -> int:
    """Return the process id of the first worker of a command."""
    children = Path(f"/proc/{terminal.process.pid}/task/{terminal.process.pid}/children").read_text().split()
    return int(children[0])


def steps_logged(folder: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in folder.glob("sweep/trials/alpha*/metrics.jsonl"))


def resumed_trials(folder: Path) -> int:
    return sum("Resuming after step" in log.read_text() for log in folder.glob("sweep/trials/alpha*/log.txt"))


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.parametrize("interrupt", [Terminal.press_ctrl_c, Terminal.terminate], ids=["Ctrl-C", "SIGTERM"])
def test_step_is_finished_and_printed_command_resumes(
    interrupt: Callable[[Terminal], None], by_one_process: dict[str, bytes], tmp_path: Path
) -> None:
    with Terminal(tmp_path, COMMAND) as terminal:
        terminal.wait_until(lambda: steps_logged(tmp_path) > 6)
        interrupt(terminal)
        assert terminal.wait() == 130
        text = terminal.text
    assert "Interrupted. Finished trials are kept. Resume with:" in text
    assert list(tmp_path.glob("sweep/trials/*/checkpoints/step-*/index.json"))
    assert not list(tmp_path.glob("sweep/trials/*/lease-*.json"))
    before = steps_logged(tmp_path)
    line = text[text.index("Resume with:") :].splitlines()[1].strip()
    with Terminal(tmp_path, shlex.split(line)) as terminal:
        assert terminal.wait() == 0, terminal.text
    assert before > 6
    assert resumed_trials(tmp_path) > 0
    assert sweep_files(tmp_path / "sweep") == by_one_process


@pytest.mark.slow
@pytest.mark.crash
def test_second_ctrl_c_ends_at_once_and_same_command_resumes(by_one_process: dict[str, bytes], tmp_path: Path) -> None:
    with Terminal(tmp_path, COMMAND) as terminal:
        terminal.wait_until(lambda: steps_logged(tmp_path) > 6)
        os.kill(first_worker(terminal), signal.SIGSTOP)  # simulates a step that never ends
        terminal.press_ctrl_c()
        terminal.wait_until(lambda: STOPPING.plain in terminal.text)
        terminal.press_ctrl_c()
        pressed = time.monotonic()
        assert terminal.wait() == 130
        assert time.monotonic() - pressed < 10
    with Terminal(tmp_path, COMMAND) as terminal:
        assert terminal.wait() == 0, terminal.text
    assert sweep_files(tmp_path / "sweep") == by_one_process
