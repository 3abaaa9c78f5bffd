"""Run settings: workers, checkpoints, retries, kept models, and the reaction to failures.

They are not part of a trial's identity, except the processes of a trial (`--nproc`, `--accelerate-config`). With
several processes the noise differs, so the environment in the identity contains their number and their sharding.

Three kinds of run settings are not part of the identity and can still change numbers. `--workers`, and on a cluster
`--cpus-per-trial` and `--slurm cpus_per_task=N`, determine the threads of a trial and so the order of sums, which can
change last digits. `--on-oom halve-batch` changes the order of sums in a trial that ran out of memory.
`--no-stop-on-divergence` completes trials that would otherwise fail.
"""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from neftune_cli.config.executors import EXECUTORS, INLINE, LOCAL, missing_library, settings_without_effect
from neftune_cli.config.slurm_settings import parse_slurm
from neftune_cli.errors import Problem, Problems, UsageError


class Keep(StrEnum):
    """Trained models that are kept, as safetensors in the folders of their trials."""

    NONE = "none"
    BEST = "best"
    ALL = "all"


class Retry(StrEnum):
    """Trials that run again."""

    FAILED = "failed"


class OnOom(StrEnum):
    """Reaction to a trial that runs out of memory."""

    FAIL = "fail"
    HALVE_BATCH = "halve-batch"


class LiveTracker(StrEnum):
    """Tracker that shows the curves of running trials: the name of its package, and of its module in `trackers/`."""

    TENSORBOARD = "tensorboard"
    MLFLOW = "mlflow"
    WANDB = "wandb"
    TRACKIO = "trackio"


ACCELERATE_CONFIG = "--accelerate-config"
"""Option that names a configuration file of accelerate."""


@dataclass(frozen=True)
class Tracking:
    """Trackers of running trials."""

    trackers: tuple[str, ...]
    """Values of `LiveTracker`."""
    folder: str
    """Folder with a folder of files for each tracker; absolute."""


@dataclass(frozen=True)
class Sharding:
    """How the processes of a trial share its weights, gradients and optimizer state."""

    processes: int
    """Number of processes, each with its own GPU or core."""
    mixed_precision: str | None = None
    """Value of `mixed_precision` in the file, None if it has none."""
    fsdp: Mapping[str, Any] = field(default_factory=dict)
    """Values of `SFTConfig.fsdp_config`."""


@dataclass(frozen=True)
class TrialSettings:
    """Run settings of one trial, which its worker reads."""

    checkpoint_steps: int | None = None
    """Steps between checkpoints; None if only `checkpoint_minutes` applies."""
    checkpoint_minutes: float = 2.0
    """Minutes between checkpoints."""
    keep_model: bool = False
    """Whether the trained model is kept in the trial's folder, as safetensors."""
    halve_batch: bool = False
    """Whether a trial that runs out of memory restarts with half the batch size and twice the gradient accumulation."""
    stop_on_divergence: bool = True
    """Whether a trial fails as soon as its training loss is not finite."""
    side_by_side: int = 1
    """Number of trials of the sweep that can run in parallel, on one machine or on a cluster."""
    processes: int = 1
    """Number of processes that train the trial together, each with its own GPU or core."""
    sharding: Sharding | None = None
    """How the processes share the weights; None if each has all of them."""
    tracking: Tracking | None = None
    """Trackers that show the trial while it runs."""
    lease_seconds: float = 120.0
    """Age of the last heartbeat after which another process may take over the lease of a trial."""


@dataclass(frozen=True)
class SweepSettings:
    """Run settings of a whole sweep, which the main process reads, and those of each trial."""

    workers: int | None = None
    """Number of trials that run in parallel; None if machine and model determine it."""
    executor: str = LOCAL
    """Name of the executor."""
    executor_settings: Mapping[str, Any] = field(default_factory=dict)
    """Values of the options in the executor's `settings`, by parameter name."""
    trial_settings: TrialSettings = TrialSettings()
    """Run settings of each trial."""
    keep: Keep = Keep.NONE
    """Trained models that remain after the sweep."""
    retry_failed: bool = False
    """Whether trials that failed in an earlier run are run again."""
    fail_fast: bool = False
    """Whether all trials stop when one fails."""
    estimate: bool = False
    """Whether calibration steps estimate time and memory before the first trial. False for trials of several processes
    or on other machines."""

    @property
    def detach(self) -> bool:
        """Return whether the command ends when all trials are submitted."""
        return bool(self.executor_settings.get("detach"))

    @property
    def allowed_workers(self) -> int | None:
        """Return `workers`, or the largest number that the executor can run if this is smaller."""
        most = EXECUTORS[self.executor].most_workers
        return self.workers if most is None else min(self.workers or most, most)

    @property
    def on_this_machine(self) -> bool:
        """Return whether the trials run on this machine."""
        return EXECUTORS[self.executor].on_this_machine


def sweep_settings(arguments: Mapping[str, Any]) -> SweepSettings:
    """Return the run settings of a command's arguments.

    Args:
        arguments: values by parameter name. `workers`, `checkpoint_steps`, `checkpoint_minutes`, `on_oom` and
            `stop_on_divergence` are required. The others have the defaults of `SweepSettings` and `TrialSettings`.

    Raises:
        UsageError: one problem for each invalid argument.
        TypeError: an argument is not a run setting, so its value would be ignored.
    """
    unread = dict(arguments)
    problems = Problems()
    workers = problems.attempt(partial(parse_workers, unread.pop("workers")))
    for name, fix in _ABOVE_0.items():
        problems.attempt(partial(_check_above_0, name, unread.get(name), fix))
    problems.attempt(
        partial(_check_rate_is_used, unread.pop("hourly_rate", None), dry_run=unread.pop("dry_run", False))
    )
    sharding = problems.attempt(partial(_sharding, unread.pop("accelerate_config", None)))
    nproc, executor = unread.pop("nproc", TrialSettings.processes), unread.pop("executor", SweepSettings.executor)
    processes = sharding.processes if sharding else nproc
    problems.add(_problems_of_processes(nproc, sharding, workers, executor))
    problems.add(_problems_of_main_process(workers, executor))
    executor_settings = problems.attempt(partial(_executor_settings, executor, unread))
    tracking = problems.attempt(partial(_tracking, unread.pop("track", None)))
    problems.raise_any()
    if workers == 0:
        workers, executor = None, INLINE
    keep = unread.pop("keep", SweepSettings.keep)
    # a calibration measures trials of one process on this machine
    can_calibrate = processes == 1 and EXECUTORS[executor].on_this_machine
    settings = SweepSettings(
        workers=1 if processes > 1 else workers,
        executor=executor,
        executor_settings=executor_settings or {},
        trial_settings=_trial_settings(unread, keep, processes, sharding, tracking),
        keep=keep,
        retry_failed=unread.pop("retry", None) is Retry.FAILED,
        fail_fast=unread.pop("fail_fast", SweepSettings.fail_fast),
        estimate=unread.pop("estimate", SweepSettings.estimate) and can_calibrate,
    )
    if unread:
        raise TypeError(f"No run setting reads the arguments {', '.join(unread)}.")
    return settings


def _trial_settings(
    unread: dict[str, Any], keep: Keep, processes: int, sharding: Sharding | None, tracking: Tracking | None
) -> TrialSettings:
    """Take the settings of each trial out of the arguments."""
    return TrialSettings(
        checkpoint_steps=unread.pop("checkpoint_steps"),
        checkpoint_minutes=unread.pop("checkpoint_minutes"),
        keep_model=keep is not Keep.NONE,
        halve_batch=unread.pop("on_oom") is OnOom.HALVE_BATCH,
        stop_on_divergence=unread.pop("stop_on_divergence"),
        processes=processes,
        sharding=sharding,
        tracking=tracking,
    )


def _tracking(trackers: Sequence[str] | None) -> Tracking | None:
    """Return the chosen trackers, whose files are written below the working directory; None if there are none."""
    if unknown := set(trackers or ()) - set(LiveTracker):
        what = f"--track {min(unknown)}: there is no such tracker."
        raise UsageError(Problem(what, f"Use one of {', '.join(LiveTracker)}."))
    # find_spec raises for a loaded module without __spec__, such as a replacement by a test
    if missing := [name for name in trackers or () if name not in sys.modules and find_spec(name) is None]:
        raise UsageError(*(missing_tracker("--track", name, name) for name in missing))
    return Tracking(tuple(dict.fromkeys(map(str, trackers))), str(Path.cwd())) if trackers else None


def missing_tracker(option: str, name: str, library: str) -> Problem:
    """Return the problem that the package of a tracker is not installed."""
    return Problem(f"{option} {name}: the package {library} is not installed.", f"Run `pip install {library}`.")


def _executor_settings(executor: str, unread: dict[str, Any]) -> dict[str, Any]:
    """Take the given options of an executor out of the arguments.

    Raises:
        UsageError: one problem for each option without effect or with an invalid value, and for a missing library.
    """
    names = dict.fromkeys(name for one in EXECUTORS for name in EXECUTORS[one].settings)  # several may read one option
    values = {name: unread.pop(name, None) for name in names}
    given = {name: value for name, value in values.items() if not (value is None or value is False or value == [])}
    problems = Problems()
    problems.add(missing_library(executor))
    problems.add(settings_without_effect(executor, given))
    if (texts := given.get("slurm")) is not None:
        given["slurm"] = problems.attempt(partial(parse_slurm, texts))
    for name in ("gpus_per_trial", "cpus_per_trial"):
        problems.attempt(partial(_check_resource, name, given.get(name)))
    problems.raise_any()
    return given


def _check_resource(name: str, value: float | None) -> None:
    option = f"--{name.replace('_', '-')}"
    if value is None or (math.isfinite(value) and value >= 0 and (value <= 1 or value == int(value))):
        return
    what = f"{option} must be a whole number, or a number between 0 and 1; {value:.15g} was given."
    raise UsageError(Problem(what, f"Use for example {option} 1, or {option} 0.5 for two trials on one."))


def parse_workers(text: str) -> int | None:
    """Return the number of workers, None for `auto`.

    Raises:
        UsageError: the text is neither a number nor `auto`.
    """
    if text == "auto":
        return None
    if text.isascii() and text.isdigit():
        return int(text)
    what = f"--workers: {text!r} is not a number of workers."
    raise UsageError(Problem(what, "Use a number, auto, or 0 to run the trials in the main process."))


def _sharding(file: Path | None) -> Sharding | None:
    if file is None:
        return None
    from neftune_cli.config.accelerate_config import read_accelerate_config

    return read_accelerate_config(file)


def _problems_of_processes(
    nproc: int, sharding: Sharding | None, workers: int | None, executor: str
) -> Iterator[Problem]:
    """Yield the options that do not fit the processes of a trial."""
    if nproc == 1 and sharding is None:
        return
    option = f"--nproc {nproc}" if sharding is None else ACCELERATE_CONFIG
    if sharding and nproc not in (1, sharding.processes):
        what = f"--nproc is {nproc}, but num_processes in the file of {option} is {sharding.processes}."
        yield Problem(what, "Remove --nproc, or change num_processes.")
    if workers not in (None, 1):
        what = f"{option} trains one trial at a time, but --workers {workers} is given."
        yield Problem(what, "Use --workers 1, or remove one of them.")
    if executor != LOCAL:
        yield Problem(f"{option} needs --executor local; {executor} was given.", "Remove one of them.")


def _problems_of_main_process(workers: int | None, executor: str) -> Iterator[Problem]:
    """Yield the executor that contradicts `--workers 0`."""
    if workers == 0 and executor not in (LOCAL, INLINE):
        what = f"--workers 0 selects --executor inline, but --executor {executor} is given."
        yield Problem(what, "Remove one of them.")


_ABOVE_0 = {
    "checkpoint_minutes": "Use a number of minutes, for example --checkpoint-minutes 2.",
    "checkpoint_steps": "Use a number of steps, for example --checkpoint-steps 100.",
    "hourly_rate": "Use the cost of the machine per hour, for example --hourly-rate 1.20.",
}


def _check_above_0(name: str, value: float | None, fix: str) -> None:
    if value is None or 0 < value < math.inf:
        return
    required = "larger than 0" if math.isfinite(value) else "a finite number"
    raise UsageError(Problem(f"--{name.replace('_', '-')} must be {required}; {value:.15g} was given.", fix))


def _check_rate_is_used(hourly_rate: float | None, *, dry_run: bool) -> None:
    if hourly_rate is not None and not dry_run:
        what = "--hourly-rate has no effect without --dry-run."
        raise UsageError(Problem(what, "Add --dry-run to see the cost estimate, or remove --hourly-rate."))
