"""How a sweep is run: where, how often it is kept, and what follows a failure.

None of it is part of a trial's identity. Numbers can depend on it all the same. `--workers` can change last digits: it
decides the threads of a worker, and so the order of sums. `--on-oom halve-batch` can, too, in a trial that ran out of
memory. With `--no-stop-on-divergence` there are numbers of a training that would otherwise have failed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from neftune_cli.errors import Problem, Problems, UsageError


class Keep(StrEnum):
    """Which trained models stay on the disk, as safetensors in their trials' folders."""

    NONE = "none"
    BEST = "best"
    ALL = "all"


class Retry(StrEnum):
    """Which trials run again."""

    FAILED = "failed"


class OnOom(StrEnum):
    """What follows when memory isn't enough for a trial."""

    FAIL = "fail"
    HALVE_BATCH = "halve-batch"


@dataclass(frozen=True)
class RunSettings:
    """How each trial is run."""

    checkpoint_steps: int | None = None
    """Steps from one checkpoint to the next, None if only time counts."""
    checkpoint_minutes: float = 2.0
    keep_model: bool = False
    """Whether the trained model stays in the trial's folder, as safetensors."""
    halve_batch: bool = False
    """Whether a trial that runs out of memory starts anew with half the batch and twice the accumulation."""
    stop_on_divergence: bool = True
    side_by_side: int = 1
    """How many trials share the machine."""
    lease_seconds: float = 120.0
    """After so long without a sign of life another process may take a trial over."""


@dataclass(frozen=True)
class RunOptions:
    """How all of them are run together."""

    workers: int | None = None
    """How many trials run side by side, 0 in this process; None leaves it to the machine and the model."""
    settings: RunSettings = RunSettings()
    keep: Keep = Keep.NONE
    retry_failed: bool = False
    fail_fast: bool = False
    estimate: bool = False
    """Whether time and memory are estimated before the first trial."""


def run_options(arguments: Mapping[str, Any]) -> RunOptions:
    """Return what the arguments of a command say of how to run; those it doesn't have keep their defaults.

    Raises:
        UsageError: one problem for each that can't be.
    """
    problems = Problems()
    workers = problems.attempt(lambda: parse_workers(arguments["workers"]))
    for name, fix in _ABOVE_0.items():
        problems.attempt(partial(_check_above_0, name, arguments.get(name), fix))
    problems.attempt(lambda: _check_rate_is_used(arguments))
    problems.raise_any()
    keep = arguments.get("keep", Keep.ALL)
    return RunOptions(
        workers=workers,
        settings=RunSettings(
            checkpoint_steps=arguments["checkpoint_steps"],
            checkpoint_minutes=arguments["checkpoint_minutes"],
            keep_model=keep is not Keep.NONE,
            halve_batch=arguments["on_oom"] is OnOom.HALVE_BATCH,
            stop_on_divergence=arguments["stop_on_divergence"],
        ),
        keep=keep,
        retry_failed=arguments.get("retry", Retry.FAILED) is Retry.FAILED,
        fail_fast=arguments.get("fail_fast", False),
        estimate=arguments.get("estimate", False),
    )


def parse_workers(text: str) -> int | None:
    """Return the number that `--workers` means, None for `auto`.

    Raises:
        UsageError: it means none.
    """
    if text == "auto":
        return None
    if text.isascii() and text.isdigit():
        return int(text)
    what = f"--workers: {text!r} is no number of workers."
    raise UsageError(Problem(what, "Give a number, auto, or 0 to run the trials in this process."))


_ABOVE_0 = {
    "checkpoint_minutes": "Give a number of minutes above 0, like 2.",
    "checkpoint_steps": "Give a number of steps, 1 or more.",
    "hourly_rate": "Give what the machine costs an hour, a number above 0 like 1.20.",
}


def _check_above_0(name: str, value: float | None, fix: str) -> None:
    if value is None or 0 < value < math.inf:
        return
    wrong = "not above 0" if math.isfinite(value) else "no finite number"
    raise UsageError(Problem(f"--{name.replace('_', '-')}: {value:.15g} is {wrong}.", fix))


def _check_rate_is_used(arguments: Mapping[str, Any]) -> None:
    if arguments.get("hourly_rate") is not None and not arguments["dry_run"]:
        what = "--hourly-rate: without --dry-run no price is shown."
        raise UsageError(Problem(what, "Add --dry-run to see the price, or leave --hourly-rate out."))
