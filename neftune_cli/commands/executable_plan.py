"""A plan with the executor for its trials, and the signals that interrupt them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neftune_cli.commands.request import PlannedSweep, plan_sweep
from neftune_cli.commands.stderr_lines import say_line, say_nothing
from neftune_cli.config.executors import EXECUTORS, make_executor
from neftune_cli.config.run_settings import SweepSettings
from neftune_cli.config.spec import SweepSpec
from neftune_cli.errors import Problem, UsageError
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps.executors import Executor
from neftune_cli.sweeps.inspection import Inspection
from neftune_cli.sweeps.interrupts import Interrupts
from neftune_cli.sweeps.plan import Plan
from neftune_cli.sweeps.resources import available_cores

READING = "Reading model and data ..."
"""First line of a sweep. The imports of a worker and its reading take seconds."""


@dataclass(frozen=True)
class ExecutablePlan:
    """A plan with the executor for its trials, and the signals that interrupt them."""

    planned: PlannedSweep
    executor: Executor
    interrupts: Interrupts

    @property
    def plan(self) -> Plan:
        """Return the plan."""
        return self.planned.plan

    @property
    def folder(self) -> SweepFolder:
        """Return the results folder."""
        return self.planned.folder


@contextmanager
def executable_plan(
    file: Path | None,
    fields: Mapping[str, Any],
    output: Path | None,
    run_settings: SweepSettings,
    *,
    quiet: bool,
    single_trial: bool = False,
    pause_at: int | None = None,
    remembered: Callable[[SweepSpec], Inspection | None] = lambda _: None,
) -> Iterator[ExecutablePlan]:
    """Yield the plan of the given options with its executor, whose workers end with the block.

    Unless `quiet`, a line says that model and data are read: by a worker, unless `remembered` returns the facts.

    Raises:
        UsageError: every problem of the request; or only one trial is allowed, and the folder has another.

    """
    with Interrupts() as interrupts, _executor(run_settings) as executor:
        say = say_nothing if quiet else say_line

        def inspect(spec: SweepSpec) -> Inspection:
            known = remembered(spec) if run_settings.on_this_machine else None
            found = known or executor.inspect(spec)
            if run_settings.estimate and not found.problems:  # --no-estimate leaves the cache of measurements alone
                from neftune_cli.sweeps.measurement_cache import remember_machine

                remember_machine(found)  # before the number of processes changes what is known of the machine
            return found.for_processes(run_settings.trial_settings, available_cores())

        planned = plan_sweep(file, fields, output, inspect, lambda: say(READING), pause_at=pause_at)
        if single_trial and len(planned.plan.trials) > 2:  # the base model and the one training
            there = f"{planned.folder.path} already has trials of other arms or seeds"
            what = f"`neftune train` needs a folder with one training; {there}."
            raise UsageError(Problem(what, "Use another folder with --output, or `neftune sweep`."))
        yield ExecutablePlan(planned, executor, interrupts)


def _executor(run_settings: SweepSettings) -> Executor:
    own = dict(run_settings.executor_settings)
    if EXECUTORS[run_settings.executor].starts_ahead:
        own["workers"] = run_settings.workers
    return make_executor(run_settings.executor, own)
