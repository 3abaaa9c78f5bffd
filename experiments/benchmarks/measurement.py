"""Parts that the measurements of `make bench` share: their types, their repetition, new processes, and trials."""

import os
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.config.spec import TrialSpec
from neftune_cli.training.hardware import configure_process

if TYPE_CHECKING:
    from neftune_cli.training.model_cache import ModelCache

P = ParamSpec("P")
T = TypeVar("T")

Fields = Mapping[str, Any]
"""Model, data and recipe, as in an experiment file."""
Figures = dict[str, list[float]]
"""Numbers by name: (repetitions,) each."""

REPEATED_SECONDS = 60.0
"""No repetition starts after this time."""


class MeasurementError(Exception):
    """A command of a measurement failed."""


def repeated(
    measure: Callable[[int], Mapping[str, float]], repetitions: int, *, clock: Callable[[], float] = perf_counter
) -> Figures:
    """Return the figures of all repetitions. `measure` gets the number of the repetition."""
    begin, figures = clock(), defaultdict[str, list[float]](list)
    for number in range(repetitions):
        if number and clock() - begin >= REPEATED_SECONDS:
            break
        for name, value in measure(number).items():
            figures[name].append(value)
    return dict(figures)


def trial_of(fields: Fields, alpha: float, cache: "ModelCache") -> TrialSpec:
    """Return the trial of an alpha with seed 0."""
    from neftune_cli.sweeps.inspection import resolved_evaluation

    spec = resolve_sweep(None, {**fields, "alphas": [alpha], "seeds": [0]})
    return spec.trial(spec.arms[0], 0, resolved_evaluation(spec, cache.data(spec).generation))


def in_new_process(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function in a new process, which is configured as a worker of a sweep, and return its result.

    Raises:
        MeasurementError: the function raised an exception, or the process died.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_prepare_process) as pool:
        try:
            return pool.submit(function, *args, **kwargs).result()
        except Exception as error:
            raise MeasurementError(f"{type(error).__name__}: {error}") from error


def _prepare_process() -> None:
    configure_process()
    sys.stdout = sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
