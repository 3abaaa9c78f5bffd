"""Resources of a sweep: number of workers, threads, memory and disk, as given or as machine and model allow."""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from neftune_cli.config.spec import TrialSpec
from neftune_cli.evaluation.batches import CACHE_BYTES, MOST_PROMPTS, tokens_at_once
from neftune_cli.formatting import counted
from neftune_cli.store import KEPT_CHECKPOINTS, SweepFolder
from neftune_cli.sweeps.inspection import ClusterSlots, LoadedSizes
from neftune_cli.sweeps.plan import Plan
from neftune_cli.training.hardware import available_cores, available_memory, limited_threads
from neftune_cli.training.trial import Trial


@dataclass(frozen=True)
class WorkerAllocation:
    """Number of workers of a sweep, with their threads and GPUs, and the sizes of model and data."""

    workers: int
    threads: int
    """Threads of each worker."""
    gpus: int
    sizes: LoadedSizes
    memory: int | None
    """Main memory in bytes for all workers; None if they use a GPU or run on other machines."""
    workers_of_plan: int
    """Number of workers for all trials of the plan. `workers` is smaller if fewer trials are missing."""
    cores: int
    most_threads: int
    """Largest number of threads of a worker: that of a started sweep, or all usable ones in a new sweep.

    A smaller limit in the environment wins.
    """
    is_automatic: bool
    """Whether the number of workers may be lowered."""
    startup: float
    """Seconds until model and data were loaded."""

    def fitting(self, peak: int | None) -> "WorkerAllocation":
        """Return an automatic allocation with at most as many workers as fit into the memory, at least one.

        Args:
            peak: measured peak memory of a worker in bytes; None if it is unknown.
        """
        if not (self.is_automatic and peak and self.memory is not None):
            return self
        of_plan = max(1, min(self.workers_of_plan, self.memory // peak))
        threads = self.threads if of_plan == self.workers_of_plan else max(1, self.cores // of_plan)
        return replace(
            self,
            workers=min(of_plan, self.workers),
            threads=min(threads, self.most_threads),
            workers_of_plan=of_plan,
        )

    def notes_on_fewer_workers(self, fitting: "WorkerAllocation", peak: int | None) -> Iterator[str]:
        """Yield a note if an allocation that fits a peak has fewer workers than this one."""
        if fitting.workers < self.workers and peak and self.memory is not None:
            needs = f"a worker needs {peak / GIB:.1f} GiB, and {self.memory / GIB:.1f} GiB are available"
            yield f"--workers auto: {fitting.workers} instead of {counted(self.workers, 'worker')}, because {needs}."

    def disk_need(self, models: int) -> int:
        """Return the estimated maximum disk space in bytes of checkpoints and kept models."""
        return disk_need(self.sizes, workers=self.workers, models=models)


Prepare = Callable[[Sequence[TrialSpec]], LoadedSizes]
"""Load the model and the data of trials, and return their sizes."""


def load_and_allocate(
    plan: Plan, missing: Sequence[Trial], folder: SweepFolder, prepare: Prepare, workers: int | None
) -> WorkerAllocation:
    """Load model and data for the missing trials, and return the workers for them.

    A resumed sweep keeps its number of threads per worker, if there are enough cores, because on some models the number
    of threads changes last digits: each thread adds up a part of a sum. The number is therefore computed for the whole
    plan and not for the missing trials.

    Args:
        plan: plan with the facts about machine and model.
        missing: trials to run, at least one.
        folder: results folder.
        prepare: loads model and data.
        workers: number of workers, None for as many as are useful.

    Raises:
        UsageError: the data do not fit the model.
    """
    begin = time.monotonic()
    sizes = prepare([trial.spec for trial in missing])
    startup = plan.inspection.seconds + time.monotonic() - begin
    if slots := plan.inspection.cluster_slots:
        return _allocate_on_cluster(plan, missing, folder, sizes, slots, workers, startup)
    return _allocate_here(plan, missing, folder, sizes, workers, startup)


def _allocate_here(
    plan: Plan,
    missing: Sequence[Trial],
    folder: SweepFolder,
    sizes: LoadedSizes,
    workers: int | None,
    startup: float,
) -> WorkerAllocation:
    """Return the workers of an executor on this machine."""
    found, cores, memory = plan.inspection, available_cores(), plannable_memory()
    if workers is None:
        need = max(_memory_need_of(trial, sizes, found.device) for trial in missing)
        count = automatic_workers(
            len(plan.trials), cores=cores, memory=memory, need=need, gpus=found.gpus, device=found.device
        )
    else:
        count = max(1, min(workers, len(plan.trials)))
    most_threads = limited_threads(_threads_before(folder) or cores, os.environ)
    return WorkerAllocation(
        workers=min(count, len(missing)),
        threads=min(max(1, cores // count), most_threads),
        gpus=found.gpus,
        sizes=sizes,
        memory=None if found.device == "cuda" else memory,
        workers_of_plan=count,
        cores=cores,
        most_threads=most_threads,
        is_automatic=workers is None and found.device == "cpu",
        startup=startup,
    )


def _memory_need_of(trial: Trial, sizes: LoadedSizes, device: str) -> int:
    train = trial.spec.train
    return memory_need(
        sizes,
        batch_size=train.batch_size,
        max_length=train.max_length,
        at_once=tokens_at_once(device, train.micro_batch_tokens),
    )


def _threads_before(folder: SweepFolder) -> int | None:
    """Return the threads of a worker when the sweep was started, None if it was not started before."""
    return folder.manifest().workers.threads


def _allocate_on_cluster(
    plan: Plan,
    missing: Sequence[Trial],
    folder: SweepFolder,
    sizes: LoadedSizes,
    slots: ClusterSlots,
    workers: int | None,
    startup: float,
) -> WorkerAllocation:
    """Return the workers of an executor on other machines, whose memory is not known here."""
    count = max(1, min(workers or slots.number, len(plan.trials)))
    before = _threads_before(folder) or slots.threads
    return WorkerAllocation(
        workers=min(count, len(missing)),
        threads=min(slots.threads, before),
        gpus=plan.inspection.gpus,
        sizes=sizes,
        memory=None,
        workers_of_plan=count,
        cores=slots.number * slots.threads,
        most_threads=slots.threads,
        is_automatic=False,
        startup=startup,
    )


GIB = 1 << 30
"""Bytes of a gibibyte."""
LIBRARY_BYTES = GIB
"""Memory in bytes of a process with all libraries imported."""
FLOAT_BYTES = 4
"""Bytes of a float32 number; weights, gradients and the two moments of Adam have this type."""
ACTIVATION_BYTES = 68
"""Bytes of activations per token, layer and embedding element: 34 in two-byte numbers without attention scores
(Korthikanti et al. 2022, "Reducing Activation Recomputation", equation 2), twice that in float32."""
LOGITS_COPIES = 3
"""Simultaneous float32 copies of the logits of a batch: logits, log-softmax and gradient."""


def automatic_workers(trials: int, *, cores: int, memory: int, need: int, gpus: int, device: str) -> int:
    """Return the number of parallel workers, at least one.

    On a CPU, one thread per trial has the highest throughput if there are enough trials for all cores.

    Args:
        trials: number of trials.
        cores: number of usable cores.
        memory: available main memory in bytes.
        need: main memory of a worker in bytes.
        gpus: number of GPUs; each runs one trial at a time.
        device: `cuda`, `mps` or `cpu`.
    """
    in_parallel = {"cuda": max(1, gpus), "mps": 1}.get(device, cores)
    return max(1, min(trials, in_parallel, memory // max(1, need)))


def memory_warning(peak: int, workers: int, memory: int | None) -> str:
    """Return the fault and the fix if workers need more main memory than there is; otherwise an empty string.

    Args:
        peak: peak memory of a worker in bytes.
        workers: number of workers.
        memory: main memory for all of them in bytes; None if they use a GPU or run on other machines.
    """
    if memory is None or peak * workers <= memory:
        return ""
    fits = memory // peak
    fix = f"use --workers {fits}" if fits else "lower --batch-size or --max-length"
    return f"This exceeds the available memory: {fix}."


def disk_need(sizes: LoadedSizes, *, workers: int, models: int) -> int:
    """Estimate the maximum disk space in bytes of checkpoints and kept models.

    Args:
        sizes: properties of the model.
        workers: number of parallel trials, each with two checkpoints and a third one being written.
        models: number of kept models.
    """
    checkpoint = 3 * FLOAT_BYTES * sizes.trainable  # the weights and the two moments of Adam
    return workers * (KEPT_CHECKPOINTS + 1) * checkpoint + models * sizes.weight_bytes


def memory_need(sizes: LoadedSizes, *, batch_size: int, max_length: int, at_once: int) -> int:
    """Estimate the peak memory of a worker in bytes, on one device.

    Args:
        sizes: properties of model and data.
        batch_size: examples of a batch, before gradient accumulation.
        max_length: maximum length of an example in tokens; a packed row has this length.
        at_once: tokens of a micro-batch; 0 if a batch is computed whole.
    """
    longest = min(max_length, sizes.longest)
    tokens = min(batch_size * longest, max(at_once, longest) if at_once else math.inf)
    copies = 2  # the initial weights are kept for later trials
    weights = copies * sizes.weight_bytes + 3 * FLOAT_BYTES * sizes.trainable
    activations = ACTIVATION_BYTES * tokens * sizes.width * sizes.layers
    logits = LOGITS_COPIES * FLOAT_BYTES * tokens * sizes.vocabulary
    # a response is assumed to be as long as the longest example
    keys_and_values = 2 * FLOAT_BYTES * sizes.width * sizes.layers * 2 * sizes.longest * MOST_PROMPTS
    return LIBRARY_BYTES + weights + max(int(activations + logits), min(CACHE_BYTES, keys_and_values))


def plannable_memory() -> int:
    """Return the main memory in bytes for the workers of this command: what is available, and what they hold."""
    return available_memory() + held_memory()


def held_memory() -> int:
    """Return the main memory in bytes that the workers, which are child processes, would free at their end."""
    import psutil

    held = 0
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            held += int(child.memory_full_info().uss)
    return held
