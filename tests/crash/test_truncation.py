"""Files cut at any byte, as after a power failure: they are read without errors, and never count as complete."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from neftune_cli.store import RECORD_FILE, SweepFolder, TrialFolder
from neftune_cli.sweeps.progress.status import StatusReader
from neftune_cli.sweeps.progress.views import ObservedState
from tests.crash.forks import KILLED, ONE_TRAINING, Forks, sweep_files

CUT_OFF = ("metrics.jsonl", "state.json", "lease-1.json", "checkpoints/step-00000002/index.json")
"""Files of a trial whose process was killed."""
CUTS = pytest.mark.parametrize("most_cuts", [100, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.crash])])
"""Largest number of lengths to which a file is cut. Shorter files are cut at each byte."""
RERUNS_PER_FILE = 6
"""Cuts of each file after which the sweep is resumed. After all other cuts, the files are only read."""


@pytest.fixture(scope="module")
def killed(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a sweep that was killed in its training, after the second checkpoint."""
    folder = tmp_path_factory.mktemp("killed")
    assert forks.run(folder, ONE_TRAINING, die_at="neftune.checkpoints-pruned", occurrence=2) == KILLED
    return folder


@pytest.fixture
def half_done(killed: Path, tmp_path: Path) -> Path:
    """Return a copy of the killed sweep."""
    shutil.copytree(killed, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def done(one_training_folder: Path, tmp_path: Path) -> Path:
    """Return a copy of a finished sweep."""
    shutil.copytree(one_training_folder, tmp_path / "copy")
    return tmp_path / "copy"


def trained(folder: Path) -> Path:
    """Return the folder of the training."""
    return next(folder.glob("sweep/trials/alpha=5*"))


@contextmanager
def each_cut(path: Path, most_cuts: int) -> Iterator[Callable[[], Iterator[int]]]:
    """Yield a function that cuts a file to each length and yields the length. Restore the file afterwards."""
    content, size = path.read_bytes(), size_without_newline(path)

    def cuts() -> Iterator[int]:
        for length in range(0, size, 1 + size // most_cuts):
            path.write_bytes(content[:length])
            yield length

    yield cuts
    path.write_bytes(content)


def size_without_newline(file: Path) -> int:
    """Return the size of a file in bytes, without the optional newline at the end of a JSON object."""
    return file.stat().st_size - (file.suffix == ".json")


def state(sweep: SweepFolder, trial: Path) -> ObservedState:
    views = StatusReader(sweep).read().trials
    return next(view.state for view in views if trial.name.endswith(view.trial))


@CUTS
@pytest.mark.parametrize("name", ["metrics.jsonl", "state.json", "lease-1.json"])
def test_cut_files_of_killed_process_are_read_without_errors(name: str, most_cuts: int, half_done: Path) -> None:
    sweep, trial = SweepFolder(half_done / "sweep"), TrialFolder(trained(half_done))
    with each_cut(trial.path / name, most_cuts) as cuts:
        for length in cuts():
            finished, unfinished = sweep.contents()
            assert [record.arm for _, record in finished] == ["base"], length
            assert len(unfinished) <= 1
            assert state(sweep, trial.path) in (ObservedState.STALLED, ObservedState.WAITING)
            assert not trial.is_leased(), length


@CUTS
@pytest.mark.parametrize("name", ["metrics.jsonl", "generations.jsonl", "examples.parquet", RECORD_FILE])
def test_trial_with_cut_result_file_is_not_finished(name: str, most_cuts: int, done: Path) -> None:
    sweep, trial = SweepFolder(done / "sweep"), trained(done)
    number = len(sweep.records())
    with each_cut(trial / name, most_cuts) as cuts:
        for length in cuts():
            finished, unfinished = sweep.contents()
            assert len(finished) == number - 1, length
            assert f"its {name} is damaged" in unfinished[0]
    assert len(sweep.records()) == number


@CUTS
def test_finished_trial_does_not_depend_on_state_file(most_cuts: int, done: Path) -> None:
    sweep, trial = SweepFolder(done / "sweep"), trained(done)
    records = sweep.records()
    with each_cut(trial / "state.json", most_cuts) as cuts:
        for length in cuts():
            assert sweep.records() == records, length
            assert state(sweep, trial) is ObservedState.DONE


def lengths(file: Path) -> list[int]:
    """Return lengths to cut a file to: 0, one byte less than its size, and some between."""
    size = size_without_newline(file)
    return sorted({0, size - 1, *(size * part // RERUNS_PER_FILE for part in range(1, RERUNS_PER_FILE))})


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.parametrize("name", CUT_OFF)
def test_same_command_resumes_after_cut(
    name: str, forks: Forks, half_done: Path, one_training: dict[str, bytes], tmp_path: Path
) -> None:
    for length in lengths(trained(half_done) / name):
        check_resumes(forks, half_done, trained(half_done) / name, length, tmp_path / str(length), one_training)


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.parametrize("name", ["metrics.jsonl", "state.json", "examples.parquet", RECORD_FILE])
def test_same_command_repairs_finished_trial(
    name: str, forks: Forks, done: Path, one_training: dict[str, bytes], tmp_path: Path
) -> None:
    for length in lengths(trained(done) / name):
        check_resumes(forks, done, trained(done) / name, length, tmp_path / str(length), one_training)


def check_resumes(
    forks: Forks, before: Path, file: Path, length: int, folder: Path, expected: dict[str, bytes]
) -> None:
    shutil.copytree(before, folder)
    os.truncate(folder / file.relative_to(before), length)
    forks.finish(folder, ONE_TRAINING)
    assert sweep_files(folder / "sweep") == expected, length
