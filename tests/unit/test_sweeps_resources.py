"""Resources of a sweep: workers, threads, memory of a worker, and the limits of containers."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.config.spec import TrialSpec
from neftune_cli.store import SweepFolder
from neftune_cli.store.manifest import Manifest, Workers
from neftune_cli.sweeps import resources
from neftune_cli.sweeps.inspection import ClusterSlots, LoadedSizes
from neftune_cli.sweeps.resources import (
    WorkerAllocation,
    automatic_workers,
    held_memory,
    load_and_allocate,
    memory_need,
    memory_warning,
)
from neftune_cli.training.hardware import available_cores, available_memory

GIB = 1 << 30
TRIALS = 9
MANY_CORES, TWO_CORES = 8, 2


class PreparingExecutor:
    """An executor that only prepares model and data."""

    def prepare(self, trials: Sequence[TrialSpec]) -> LoadedSizes:
        return LoadedSizes((), 1000, 4000, vocabulary=100, width=8, layers=1, longest=10)


def allocated(
    folder: SweepFolder, *, missing: int, workers: int | None = None, slots: ClusterSlots | None = None
) -> WorkerAllocation:
    trial = SimpleNamespace(spec=SimpleNamespace(train=resolve_sweep(None, {}).train))
    found = SimpleNamespace(gpus=0, device="cpu", seconds=0.0, cluster_slots=slots)
    plan = SimpleNamespace(trials=(trial,) * TRIALS, inspection=found)
    executor = PreparingExecutor()
    return load_and_allocate(cast(Any, plan), cast(Any, (trial,) * missing), folder, executor.prepare, workers)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    monkeypatch.setattr(resources, "available_cores", lambda: TWO_CORES)
    monkeypatch.setattr(resources, "available_memory", lambda: 1 << 40)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return SweepFolder(tmp_path)


def write_threads(folder: SweepFolder, threads: int) -> None:
    folder.write_manifest(Manifest(workers=Workers(number=1, threads=threads)))


@pytest.mark.parametrize("workers", [None, 1, 2])
def test_the_last_trial_has_the_same_number_of_threads_as_the_others(folder: SweepFolder, workers: int | None) -> None:
    first, last = (allocated(folder, missing=missing, workers=workers) for missing in (TRIALS, 1))
    assert first.threads == last.threads
    assert (first.workers, last.workers) == (2 if workers is None else workers, 1)


def test_a_resumed_sweep_keeps_its_number_of_threads(folder: SweepFolder) -> None:
    write_threads(folder, 1)
    assert allocated(folder, missing=3, workers=1).threads == 1


@pytest.mark.parametrize(("limit", "threads"), [("1", 1), ("2", 2), ("99", 8), ("", 8), ("4,2", 8), ("0", 8)])
def test_a_limit_in_the_environment_counts_as_the_number_of_threads(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch, limit: str, threads: int
) -> None:
    monkeypatch.setattr(resources, "available_cores", lambda: MANY_CORES)
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    assert allocated(folder, missing=TRIALS, workers=1).threads == threads
    assert replace(allocated(folder, missing=TRIALS), memory=GIB).fitting(GIB).threads == threads
    write_threads(folder, 2)
    assert allocated(folder, missing=TRIALS, workers=1).threads == min(2, threads)


def test_threads_do_not_exceed_cores(folder: SweepFolder) -> None:
    write_threads(folder, 8)
    found = allocated(folder, missing=3)
    assert (found.workers, found.threads) == (2, 1)


def test_workers_share_the_cores(folder: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "available_cores", lambda: MANY_CORES)
    assert [allocated(folder, missing=TRIALS, workers=workers).threads for workers in (1, 2, 3, 20)] == [8, 4, 2, 1]


@pytest.mark.parametrize(("workers", "expected"), [(None, 4), (2, 2), (20, TRIALS)])
def test_the_slots_of_a_cluster_replace_the_cores_of_this_machine(
    folder: SweepFolder, workers: int | None, expected: int
) -> None:
    found = allocated(folder, missing=TRIALS, workers=workers, slots=ClusterSlots(4, 8))
    assert (found.workers, found.threads, found.memory) == (expected, 8, None)
    write_threads(folder, 2)
    assert allocated(folder, missing=TRIALS, slots=ClusterSlots(4, 8)).threads == 2


def test_with_little_memory_there_are_fewer_workers_with_more_threads(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "available_memory", lambda: 1)  # not enough for one worker, but one must run
    found = allocated(folder, missing=TRIALS)
    assert (found.workers, found.threads) == (1, 2)


def test_automatic_workers_fit_the_measured_memory(folder: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "available_cores", lambda: MANY_CORES)
    monkeypatch.setattr(resources, "available_memory", lambda: 12 * GIB)
    planned = allocated(folder, missing=TRIALS)
    assert planned.workers == MANY_CORES
    for peak, workers, threads in ((GIB, 8, 1), (3 * GIB, 4, 2), (5 * GIB, 2, 4), (12 * GIB, 1, 8), (99 * GIB, 1, 8)):
        found = planned.fitting(peak)
        assert (found.workers, found.threads) == (workers, threads)
        assert found.workers == 1 or found.workers * peak <= 12 * GIB
    assert planned.fitting(None) == planned
    given = allocated(folder, missing=TRIALS, workers=8)
    assert given.fitting(99 * GIB) == given
    last = allocated(folder, missing=1).fitting(5 * GIB)  # as many threads as if all trials were left
    assert (last.workers, last.threads) == (1, 4)


def test_fewer_workers_keep_the_threads_of_a_resumed_sweep(folder: SweepFolder) -> None:
    write_threads(folder, 1)
    found = replace(allocated(folder, missing=TRIALS), memory=3 * GIB).fitting(2 * GIB)
    assert (found.workers, found.threads) == (1, 1)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the system does not show the memory of processes")
def test_memory_of_child_processes_counts_as_free() -> None:
    before = held_memory()
    hold = "held = b'x' * (1 << 28); print(len(held), flush=True); input()"
    command = [sys.executable, "-c", hold]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert (1 << 28) <= held_memory() - before < (1 << 29)
        process.kill()
    assert held_memory() - before < 1 << 20


@pytest.mark.parametrize(
    ("peak", "workers", "memory", "expected"),
    [
        (2, 2, 4, ""),
        (2, 3, 4, "This exceeds the available memory: use --workers 2."),
        (5, 1, 4, "This exceeds the available memory: lower --batch-size or --max-length."),
        (5, 1, None, ""),
    ],
)
def test_the_warning_names_the_number_of_workers_that_fits(
    peak: int, workers: int, memory: int | None, expected: str
) -> None:
    assert memory_warning(peak * GIB, workers, None if memory is None else memory * GIB) == expected


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
    million = LoadedSizes((), 10**6, 4 * 10**6, vocabulary=1000, width=100, layers=10, longest=50)
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
