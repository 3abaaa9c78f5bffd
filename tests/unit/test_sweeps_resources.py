"""Resources of a sweep: workers, threads, memory of a worker, and the limits of containers."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.config.spec import TrialSpec
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps import resources
from neftune_cli.sweeps.inspection import Preparation
from neftune_cli.sweeps.resources import (
    WorkerAllocation,
    allocate_workers,
    automatic_workers,
    available_cores,
    available_memory,
    memory_need,
)

GIB = 1 << 30
TRIALS = 9
MANY_CORES, TWO_CORES = 8, 2


class PreparingExecutor:
    """An executor that only prepares model and data."""

    def prepare(self, trials: Sequence[TrialSpec]) -> Preparation:
        return Preparation((), 1000, 4000, vocabulary=100, width=8, layers=1, longest=10)


def allocated(folder: SweepFolder, *, missing: int, workers: int | None = None) -> WorkerAllocation:
    trial = SimpleNamespace(spec=SimpleNamespace(train=resolve_sweep(None, {}).train))
    plan = SimpleNamespace(trials=(trial,) * TRIALS, inspection=SimpleNamespace(gpus=0, device="cpu"))
    executor = PreparingExecutor()
    return allocate_workers(cast(Any, plan), cast(Any, (trial,) * missing), folder, cast(Any, executor), workers)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    monkeypatch.setattr(resources, "available_cores", lambda: TWO_CORES)
    monkeypatch.setattr(resources, "available_memory", lambda: 1 << 40)
    return SweepFolder(tmp_path)


def write_threads(folder: SweepFolder, threads: int) -> None:
    folder.write_manifest({"workers": {"number": 1, "threads": threads}})


@pytest.mark.parametrize("workers", [None, 1, 2])
def test_the_last_trial_has_the_same_number_of_threads_as_the_others(folder: SweepFolder, workers: int | None) -> None:
    first, last = (allocated(folder, missing=missing, workers=workers) for missing in (TRIALS, 1))
    assert first.threads == last.threads
    assert (first.workers, last.workers) == (2 if workers is None else workers, 1)


def test_a_resumed_sweep_keeps_its_number_of_threads(folder: SweepFolder) -> None:
    write_threads(folder, 1)
    assert allocated(folder, missing=3, workers=1).threads == 1


def test_threads_do_not_exceed_cores(folder: SweepFolder) -> None:
    write_threads(folder, 8)
    found = allocated(folder, missing=3)
    assert (found.workers, found.threads) == (2, 1)


def test_workers_share_the_cores(folder: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "available_cores", lambda: MANY_CORES)
    assert [allocated(folder, missing=TRIALS, workers=workers).threads for workers in (1, 2, 3, 20)] == [8, 4, 2, 1]


def test_with_little_memory_there_are_fewer_workers_with_more_threads(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "available_memory", lambda: 1)  # not enough for one worker, but one must run
    found = allocated(folder, missing=TRIALS)
    assert (found.workers, found.threads) == (1, 2)


@pytest.mark.parametrize(
    ("trials", "cores", "memory", "gpus", "device", "expected"),
    [
        (12, 8, 100, 0, "cpu", 8),  # one trial per core
        (3, 8, 100, 0, "cpu", 3),  # fewer trials than cores
        (1, 8, 100, 0, "cpu", 1),
        (12, 8, 7, 0, "cpu", 3),  # memory for three workers
        (12, 8, 1, 0, "cpu", 1),  # not enough for one worker, but one must run
        (12, 16, 100, 4, "cuda", 4),  # one worker per GPU
        (12, 16, 100, 1, "cuda", 1),
        (12, 8, 100, 1, "mps", 1),
        (12, 2, 100, 8, "cuda", 8),  # fewer cores than GPUs
    ],
)
def test_automatic_workers_by_trials_cores_memory_and_gpus(
    trials: int, cores: int, memory: int, gpus: int, device: str, expected: int
) -> None:
    found = automatic_workers(trials, cores=cores, memory=memory * GIB, need=2 * GIB, gpus=gpus, device=device)
    assert found == expected


def test_the_memory_of_a_worker_is_that_of_its_weights_and_its_largest_batch() -> None:
    million = Preparation((), 10**6, 4 * 10**6, vocabulary=1000, width=100, layers=10, longest=50)
    # by hand: 1 GiB; 4 MB of weights twice, gradients and two moments; 8 x 50 tokens
    weights = GIB + 8 * 10**6 + 12 * 10**6
    expected = weights + 4000 * 68 * 100 * 10 + 4000 * 1000 * 12
    assert memory_need(million, batch_size=80, max_length=256, at_once=0) == expected
    adapters = replace(million, trainable=10**4)
    assert expected - memory_need(adapters, batch_size=80, max_length=256, at_once=0) == 12 * (10**6 - 10**4)
    assert memory_need(million, batch_size=80, max_length=25, at_once=0) < expected
    micro_batches = memory_need(million, batch_size=80, max_length=256, at_once=1000)
    # keys and values of 256 prompts of 50 tokens with responses of 50 tokens: more than the activations of 1,000 tokens
    assert micro_batches == weights + 2 * 4 * 100 * 10 * 100 * 256
    assert memory_need(million, batch_size=80, max_length=256, at_once=3000) == weights + 3000 * (68 * 1000 + 12 * 1000)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no CPU affinity")
def test_cores_are_limited_by_the_affinity() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


STAT = "anon 5\ninactive_file 200000"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {"memory.max": "1000000", "memory.current": "700000", "memory.stat": STAT}, 500_000),
        ("0::/\n", {"memory.max": "max", "memory.current": "1"}, None),
        (
            "0::/job/step\n",  # the outer group has the limit
            {"job/memory.max": "1000000", "job/memory.current": "700000", "job/step/memory.max": "max"},
            300_000,
        ),
        ("0::/of/the/host\n", {"memory.max": "1000000", "memory.current": "700000"}, 300_000),  # path of the host
        (
            "4:memory:/docker\n",  # version 1
            {"memory/docker/memory.limit_in_bytes": "1000000", "memory/docker/memory.usage_in_bytes": "700000"},
            300_000,
        ),
        ("", {}, None),
    ],
)
def test_memory_is_limited_by_the_control_groups(
    own: str, files: dict[str, str], expected: int | None, tmp_path: Path
) -> None:
    for name, content in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    (tmp_path / "own").write_text(own)
    found = available_memory(cgroups=tmp_path / "cgroup", own=tmp_path / "own")
    assert found == expected if expected is not None else found > 10**7
