"""How many workers a sweep gets, and the threads of each: those it had before, whatever is left to do."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.config.spec import TrialSpec
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps import resources as staffing
from neftune_cli.sweeps.inspection import Preparation
from neftune_cli.sweeps.resources import WorkerAllocation, allocate_workers

TRIALS = 9
MANY_CORES, TWO_CORES = 8, 2


class Loader:
    """Stands for the executor that loads model and data."""

    def prepare(self, trials: Sequence[TrialSpec]) -> Preparation:
        return Preparation((), 1000, 4000, vocabulary=100, width=8, layers=1, longest=10)


def staffed(folder: SweepFolder, *, missing: int, workers: int | None = None) -> WorkerAllocation:
    trial = SimpleNamespace(spec=SimpleNamespace(train=resolve_sweep(None, {}).train))
    plan = SimpleNamespace(trials=(trial,) * TRIALS, inspection=SimpleNamespace(gpus=0, device="cpu"))
    return allocate_workers(cast(Any, plan), cast(Any, (trial,) * missing), folder, cast(Any, Loader()), workers)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    monkeypatch.setattr(staffing, "available_cores", lambda: TWO_CORES)
    monkeypatch.setattr(staffing, "available_memory", lambda: 1 << 40)
    return SweepFolder(tmp_path)


def ran_with(folder: SweepFolder, threads: int) -> None:
    folder.write_manifest({"workers": {"number": 1, "threads": threads}})


@pytest.mark.parametrize("workers", [None, 1, 2])
def test_the_last_trial_has_the_threads_that_the_others_had(folder: SweepFolder, workers: int | None) -> None:
    first, last = (staffed(folder, missing=missing, workers=workers) for missing in (TRIALS, 1))
    assert first.threads == last.threads
    assert (first.workers, last.workers) == (2 if workers is None else workers, 1)


def test_a_sweep_that_goes_on_keeps_its_threads_though_more_could_be_had(folder: SweepFolder) -> None:
    ran_with(folder, 1)
    assert staffed(folder, missing=3, workers=1).threads == 1


def test_there_are_never_more_threads_than_cores(folder: SweepFolder) -> None:
    ran_with(folder, 8)
    found = staffed(folder, missing=3)
    assert (found.workers, found.threads) == (2, 1)


def test_cores_are_shared_out(folder: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staffing, "available_cores", lambda: MANY_CORES)
    assert [staffed(folder, missing=TRIALS, workers=workers).threads for workers in (1, 2, 3, 20)] == [8, 4, 2, 1]


def test_little_memory_allows_fewer_workers_with_more_threads(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staffing, "available_memory", lambda: 1)  # not even for one: one must try
    found = staffed(folder, missing=TRIALS)
    assert (found.workers, found.threads) == (1, 2)
