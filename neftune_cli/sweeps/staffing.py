"""How many workers run a plan's missing trials, and with what: as the user says, or as machine and model allow."""

from collections.abc import Sequence
from dataclasses import dataclass

from neftune_cli.store import SweepFolder
from neftune_cli.sweeps.executors import Executor
from neftune_cli.sweeps.inspection import Preparation
from neftune_cli.sweeps.machine import available_cores, available_memory
from neftune_cli.sweeps.plan import Plan
from neftune_cli.sweeps.workers_auto import disk_need, memory_need, workers_auto
from neftune_cli.training.trial import Trial


@dataclass(frozen=True)
class Staff:
    """The workers of a sweep."""

    workers: int
    threads: int
    """Threads each."""
    gpus: int
    preparation: Preparation

    def disk_need(self, models: int) -> int:
        """Return the bytes that checkpoints and so many kept models are guessed to take at most."""
        return disk_need(self.preparation, workers=self.workers, models=models)


def staff_for(
    plan: Plan, missing: Sequence[Trial], folder: SweepFolder, executor: Executor, workers: int | None
) -> Staff:
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
    return Staff(min(most, len(missing)), min(threads, before), found.gpus, preparation)
