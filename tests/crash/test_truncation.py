"""Files cut at any byte, as a machine that loses its power leaves them: the next run never trips, nor counts a half."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from neftune_cli.store import RECORD_FILE, SweepFolder, TrialFolder
from neftune_cli.sweeps.progress.status import StatusReader
from neftune_cli.sweeps.progress.views import State
from tests.crash.forks import KILLED, Forks, results

CUT_OFF = ("metrics.jsonl", "state.json", "claim-1.json", "checkpoints/step-00000002/index.json")
"""Files of a trial whose process was killed."""
MOST_CUTS = 1000
RERUNS_A_FILE = 6
"""Cuts of each file after which the sweep is really gone on with; at the others, everything is read."""


@pytest.fixture(scope="module")
def killed(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where a sweep was killed in its first training, after the second checkpoint; the base is done."""
    folder = tmp_path_factory.mktemp("killed")
    assert forks.run(folder, die_at="neftune.checkpoints-pruned", occurrence=2) == KILLED
    return folder


@pytest.fixture
def half_done(killed: Path, tmp_path: Path) -> Path:
    """Return a copy of it."""
    shutil.copytree(killed, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def done(uninterrupted_folder: Path, tmp_path: Path) -> Path:
    """Return a copy of a finished sweep."""
    shutil.copytree(uninterrupted_folder, tmp_path / "copy")
    return tmp_path / "copy"


def trained(folder: Path) -> Path:
    """Return where the first training's files are."""
    return next(folder.glob("sweep/trials/alpha=0*"))


@contextmanager
def each_cut(path: Path) -> Iterator[Callable[[], Iterator[int]]]:
    """Yield a function over the lengths that a file can be cut to, which cuts it to each; it is whole again after.

    Files of many kilobytes are cut at some bytes only.
    """
    content, size = path.read_bytes(), size_without_line_end(path)

    def cuts() -> Iterator[int]:
        for length in range(0, size, 1 + size // MOST_CUTS):
            path.write_bytes(content[:length])
            yield length

    yield cuts
    path.write_bytes(content)


def size_without_line_end(file: Path) -> int:
    """Return the bytes of a file; the line end after an object is no part of it."""
    return file.stat().st_size - (file.suffix == ".json")


def state(sweep: SweepFolder, trial: Path) -> State:
    views = StatusReader(sweep).read().trials
    return next(view.state for view in views if trial.name.endswith(view.trial))


@pytest.mark.parametrize("name", ["metrics.jsonl", "state.json", "claim-1.json"])
def test_what_a_killed_process_left_can_be_cut_anywhere(name: str, half_done: Path) -> None:
    sweep, trial = SweepFolder(half_done / "sweep"), TrialFolder(trained(half_done))
    with each_cut(trial.path / name) as cuts:
        for length in cuts():
            finished, unfinished = sweep.contents()
            assert [record.arm for _, record in finished] == ["base"], length
            assert len(unfinished) <= 1
            assert state(sweep, trial.path) in (State.STALLED, State.WAITING)
            assert not trial.is_claimed(), length


@pytest.mark.parametrize("name", ["metrics.jsonl", "generations.jsonl", "examples.parquet", RECORD_FILE])
def test_a_trial_of_whose_results_a_part_is_lost_counts_as_not_done(name: str, done: Path) -> None:
    sweep, trial = SweepFolder(done / "sweep"), trained(done)
    whole = len(sweep.records())
    with each_cut(trial / name) as cuts:
        for length in cuts():
            finished, unfinished = sweep.contents()
            assert len(finished) == whole - 1, length
            assert f"its {name} is damaged" in unfinished[0]
    assert len(sweep.records()) == whole


def test_a_finished_trial_needs_no_state(done: Path) -> None:
    sweep, trial = SweepFolder(done / "sweep"), trained(done)
    whole = sweep.records()
    with each_cut(trial / "state.json") as cuts:
        for length in cuts():
            assert sweep.records() == whole, length
            assert state(sweep, trial) is State.DONE


def lengths(file: Path) -> list[int]:
    """Return none, all but one byte of what counts, and some between."""
    size = size_without_line_end(file)
    return sorted({0, size - 1, *(size * part // RERUNS_A_FILE for part in range(1, RERUNS_A_FILE))})


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.parametrize("name", CUT_OFF)
def test_the_same_command_goes_on_from_what_was_cut(
    name: str, forks: Forks, half_done: Path, uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    for length in lengths(trained(half_done) / name):
        check_goes_on(forks, half_done, trained(half_done) / name, length, tmp_path / str(length), uninterrupted)


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.parametrize("name", ["metrics.jsonl", "state.json", "examples.parquet", RECORD_FILE])
def test_the_same_command_mends_a_finished_trial(
    name: str, forks: Forks, done: Path, uninterrupted: dict[str, bytes], tmp_path: Path
) -> None:
    for length in lengths(trained(done) / name):
        check_goes_on(forks, done, trained(done) / name, length, tmp_path / str(length), uninterrupted)


def check_goes_on(forks: Forks, before: Path, file: Path, length: int, folder: Path, whole: dict[str, bytes]) -> None:
    shutil.copytree(before, folder)
    os.truncate(folder / file.relative_to(before), length)
    forks.finish(folder)
    assert results(folder / "sweep") == whole, length
