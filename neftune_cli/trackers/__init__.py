"""Trackers: programs that show curves and results of finished sweeps, such as TensorBoard, MLflow and Weights & Biases.

A tracker is optional. Its library is imported when it is used.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Protocol

from neftune_cli.errors import Problem, UsageError

Parameters = Mapping[str, str | int | float]


@dataclass(frozen=True)
class TrackedRun:
    """One finished trial, or the comparison of a sweep, as a run of a tracker."""

    name: str
    """Name of the trial, for example `alpha=5,seed=0`, or `comparison`."""
    id: str
    """Id that is the same at each export, so that a run is not written twice."""
    parameters: Parameters
    """All factors: arm, alpha, seed, noise and recipe, fingerprints and versions."""
    curves: Sequence[tuple[int, Mapping[str, float]]]
    """Step, and the values by name that were logged at it."""
    scores: Mapping[str, float]
    """Results by name."""
    files: Sequence[Path] = ()
    """Files to attach, for example the report."""


class Tracker(Protocol):
    """Write runs to a tracker."""

    def write(self, group: str, run: TrackedRun) -> bool:
        """Write a run of a group, which is a sweep. Return whether it was new.

        Raises:
            OSError: the target cannot be written or reached.
        """
        ...


@dataclass(frozen=True)
class _Library:
    package: str
    """Name to install with pip."""
    module: str
    """Module to import."""
    make: Callable[[Path], Tracker]


def _late(name: str, folder: Path) -> Tracker:
    tracker: Tracker = import_module(f"neftune_cli.trackers.{name}").make(folder)
    return tracker


TRACKERS: Mapping[str, _Library] = {
    "tensorboard": _Library("tensorboard", "tensorboard", partial(_late, "tensorboard")),
    "mlflow": _Library("mlflow", "mlflow", partial(_late, "mlflow")),
    "wandb-offline": _Library("wandb", "wandb", partial(_late, "wandb_offline")),
}
"""Trackers by name."""


def make_tracker(name: str, folder: Path) -> Tracker:
    """Return a tracker that writes into a folder; MLflow writes to `MLFLOW_TRACKING_URI` if it is set.

    Raises:
        UsageError: the tracker's library is not installed.

    """
    library = TRACKERS[name]
    try:
        import_module(library.module)
    except ImportError:
        what = f"--to {name}: the package {library.package} is not installed."
        raise UsageError(Problem(what, f"Run `pip install {library.package}`.")) from None
    return library.make(folder)
