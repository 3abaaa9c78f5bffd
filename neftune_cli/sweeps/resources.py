"""How many workers run a plan's missing trials, and with what: as the user says, or as machine and model allow."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from neftune_cli.store import KEPT_CHECKPOINTS, SweepFolder
from neftune_cli.sweeps.executors import Executor
from neftune_cli.sweeps.inspection import Preparation
from neftune_cli.sweeps.plan import Plan
from neftune_cli.training.trial import Trial


@dataclass(frozen=True)
class WorkerAllocation:
    """The workers of a sweep."""

    workers: int
    threads: int
    """Threads each."""
    gpus: int
    preparation: Preparation

    def disk_need(self, models: int) -> int:
        """Return the bytes that checkpoints and so many kept models are guessed to take at most."""
        return disk_need(self.preparation, workers=self.workers, models=models)


def allocate_workers(
    plan: Plan, missing: Sequence[Trial], folder: SweepFolder, executor: Executor, workers: int | None
) -> WorkerAllocation:
    """Have model and data loaded for the missing trials, and return the workers to run them with.

    A sweep that goes on keeps the threads it had, where there are cores for them: on some models their number decides
    the last digits, since each adds up a part of a sum. So it depends on the whole plan, not on what is left of it.

    Args:
        plan: what machine and model were found for it.
        missing: trials to run, at least one.
        folder: where the sweep is.
        executor: whose first worker loads them.
        workers: how many, None for as many as are useful.

    Raises:
        UsageError: the data don't fit the model.
    """
    preparation = executor.prepare([trial.spec for trial in missing])
    found, cores = plan.inspection, available_cores()
    need = max(
        memory_need(preparation, batch_size=trial.spec.train.batch_size, max_length=trial.spec.train.max_length)
        for trial in missing
    )
    if workers is None:
        most = workers_auto(
            len(plan.trials), cores=cores, memory=available_memory(), need=need, gpus=found.gpus, device=found.device
        )
    else:
        most = max(1, min(workers, len(plan.trials)))
    threads = max(1, cores // most)
    before = (folder.manifest().get("workers") or {}).get("threads", threads)
    return WorkerAllocation(min(most, len(missing)), min(threads, before), found.gpus, preparation)


LIBRARIES = 1 << 30
"""Bytes a process holds with its libraries imported, and what glibc keeps."""
FLOAT = 4
"""Bytes of a float32, in which weights, gradients and Adam's two averages are."""
ACTIVATIONS = 68
"""Bytes kept for the backward pass a token, layer and element of width: 34 in two-byte numbers, attention's scores left
out (Korthikanti et al. 2022, "Reducing Activation Recomputation", equation 2), twice that in float32."""
LOGITS = 3
"""Copies of a batch's float32 logits at once: themselves, their log-softmax, their gradient."""


def workers_auto(trials: int, *, cores: int, memory: int, need: int, gpus: int, device: str) -> int:
    """Return how many workers run at once, at least one.

    On the CPU one thread a trial does most work a second, as long as there are trials for all cores: no part of it
    waits for another.

    Args:
        trials: how many there are in all.
        cores: how many may be used.
        memory: bytes of main memory that are available.
        need: bytes of it that a worker takes.
        gpus: how many there are; each gets one trial at a time.
        device: `cuda`, `mps` or `cpu`.
    """
    places = {"cuda": max(1, gpus), "mps": 1}.get(device, cores)
    return max(1, min(trials, places, memory // max(1, need)))


def disk_need(preparation: Preparation, *, workers: int, models: int) -> int:
    """Guess the bytes that checkpoints and kept models take at most.

    Args:
        preparation: what is known of the model.
        workers: trials side by side, each with two checkpoints while it writes a third.
        models: how many trained models are kept.
    """
    checkpoint = 3 * FLOAT * preparation.trainable  # the weights, and Adam's two averages
    return workers * (KEPT_CHECKPOINTS + 1) * checkpoint + models * preparation.weight_bytes


def memory_need(preparation: Preparation, *, batch_size: int, max_length: int) -> int:
    """Guess the bytes that a worker holds at its peak, all on one device.

    Args:
        preparation: what is known of model and data.
        batch_size: examples in a batch, before gradient accumulation.
        max_length: tokens after which an example is cut; a packed row is as long.
    """
    tokens = batch_size * min(max_length, preparation.longest)
    weights = 2 * preparation.weight_bytes + 3 * FLOAT * preparation.trainable  # one copy stays as it was
    activations = ACTIVATIONS * tokens * preparation.width * preparation.layers
    logits = LOGITS * FLOAT * tokens * preparation.vocabulary
    return LIBRARIES + weights + activations + logits


_CGROUPS, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def available_cores(*, cgroups: Path = _CGROUPS, own: Path = _OWN) -> int:
    """Return how many cores this process may use at once, at least one: by affinity, and by a container's quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *(int(quota) for quota in _core_quotas(cgroups, own))]))


def available_memory(*, cgroups: Path = _CGROUPS, own: Path = _OWN) -> int:
    """Return how many bytes of main memory can be had without swapping, and within a container's limit."""
    import psutil

    return max(0, min([int(psutil.virtual_memory().available), *_memory_left(cgroups, own)]))


def _core_quotas(cgroups: Path, own: Path) -> Iterator[float]:
    """Yield the cores that each group around this process allows, a part of one as a whole one."""
    for folder in _groups(cgroups, own, ""):
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        if quota.isdecimal() and period.isdecimal():
            yield max(1.0, int(quota) / int(period))
    for folder in _groups(cgroups / "cpu", own, "cpu"):
        quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal():  # no quota is -1
            yield max(1.0, int(quota) / int(period))


def _memory_left(cgroups: Path, own: Path) -> Iterator[int]:
    """Yield the bytes that each group around this process has left; what files cache is given up when needed."""
    for folder in _groups(cgroups, own, ""):
        yield from _left(folder / "memory.max", folder / "memory.current", folder / "memory.stat")
    for folder in _groups(cgroups / "memory", own, "memory"):
        yield from _left(folder / "memory.limit_in_bytes", folder / "memory.usage_in_bytes", folder / "memory.stat")


def _left(limit: Path, usage: Path, stat: Path) -> Iterator[int]:
    most, used = _text(limit), _text(usage)
    if most.isdecimal() and used.isdecimal():
        figures = dict(line.split() for line in _text(stat).splitlines() if len(line.split()) == 2)
        cached = int(figures.get("total_inactive_file", figures.get("inactive_file", 0)))
        yield int(most) - int(used) + cached


def _groups(root: Path, own: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of the groups this process is in, of version 2 (no controller) or 1: its own, then outer ones.

    In a container the path may be that of the host, which isn't there; the root is the container's own group then.
    """
    lines = (line.split(":", 2) for line in _text(own).splitlines())
    paths = [parts[2] for parts in lines if len(parts) == 3 and controller in parts[1].split(",")]
    for path in paths:
        folder = root / path.strip("/")
        yield from (group for group in (folder, *folder.parents) if group == root or root in group.parents)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
