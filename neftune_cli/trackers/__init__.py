"""Trackers, such as TensorBoard and MLflow, which show curves and results of running and finished trials.

A tracker is optional. Its library is imported when it is used. The module of a tracker has `make`, which returns a
`Tracker` for a folder, and `open_run`, which returns the run of a running trial.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from neftune_cli.config.run_settings import LiveTracker, Tracking, missing_tracker
from neftune_cli.errors import Problem, Problems, UsageError

if TYPE_CHECKING:  # `neftune export --help` imports this module, and must not import pydantic
    from neftune_cli.store.manifest import Manifest

FINAL_PREFIX = "final/"
"""Beginning of the names of results, which distinguishes them from curves."""
WANDB_OFFLINE = "wandb-offline"
"""Name of the tracker that writes the runs of Weights & Biases into files instead of to its server."""
Parameters = Mapping[str, str | int | float]
"""Values by dotted name."""


@dataclass(frozen=True)
class TrackedRun:
    """One trial, or the comparison of a sweep, as a run of a tracker. A running trial has no curves and scores yet."""

    name: str
    """Name of the trial, for example `alpha=5,seed=0`, or `comparison`."""
    id: str
    """Id that is the same at each export, so that a run is not written twice."""
    parameters: Parameters
    """Arm, alpha, seed, noise and recipe, fingerprints and versions."""
    curves: Sequence[tuple[int, Mapping[str, float]]] = ()
    """Step, and the values by name that were logged at it."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Results by name."""
    files: Sequence[Path] = ()
    """Files to attach, for example the report."""


class Tracker(Protocol):
    """Write runs to a tracker."""

    def prepare(self, group: str) -> None:
        """Check that runs of a group can be written, and create what several processes would create at once.

        Raises:
            UsageError: the user is not logged in.
            OSError: the target cannot be written or reached.
        """

    def write(self, group: str, run: TrackedRun) -> bool:
        """Write a run of a group, which is a sweep. Return whether it was new.

        Raises:
            OSError: the target cannot be written or reached.
        """


def make_tracker(name: str, folder: Path, option: str) -> Tracker:
    """Return a tracker that writes into a folder; MLflow writes to `MLFLOW_TRACKING_URI` if it is set.

    Args:
        name: a `LiveTracker`, or WANDB_OFFLINE.
        folder: the folder, which is created when it is needed.
        option: the option with the name, for messages.

    Raises:
        UsageError: the tracker's library is not installed, or its settings cannot be used.
        OSError: the folder cannot be used.
    """
    library = LiveTracker.WANDB.value if name == WANDB_OFFLINE else LiveTracker(name).value
    module = import_module(f"neftune_cli.trackers.{library}")
    make: Callable[[Path], Tracker] = partial(module.make, mode="offline") if name == WANDB_OFFLINE else module.make
    try:
        tracker = make(folder)  # before the import, because trackio reads its folder when it is imported
        import_module(library)
    except ImportError:
        raise UsageError(missing_tracker(option, name, library)) from None
    return tracker


def prepare_trackers(tracking: Tracking, group: str) -> None:
    """Check that the trackers of running trials can be used, before the first trial.

    Raises:
        UsageError: one problem for each tracker that cannot.
    """
    problems = Problems()
    for name in tracking.trackers:
        problems.attempt(partial(_prepare, name, Path(tracking.folder, name), group))
    problems.raise_any()


def _prepare(name: str, folder: Path, group: str) -> None:
    try:
        make_tracker(name, folder, "--track").prepare(group)
    except OSError as error:
        what = f"--track {name}: the runs cannot be written: {error}"
        raise UsageError(Problem(what, "Check the server, or remove --track.")) from None


def trial_parameters(
    arm: str, alpha: float | None, seed: int | None, identity: Mapping[str, Any], manifest: "Manifest"
) -> Parameters:
    """Return the arm, the seed, everything that identifies the trial, and the circumstances of its sweep."""
    return {**dict(_flat({"arm": arm, "alpha": alpha, "seed": seed, **identity})), **circumstances(manifest)}


def circumstances(manifest: "Manifest") -> Parameters:
    """Return model, data, versions, hardware and commit of a sweep."""
    parts = {
        "model": manifest.model,
        "data": manifest.data,
        "versions": manifest.versions,
        "hardware": dict(manifest.hardware or ()),
        "git": dict(manifest.git or ()),
    }
    return dict(_flat(parts))


def final(scores: Mapping[str, float]) -> dict[str, float]:
    """Return the results of a trial under the names that they have beside its curves: `final/NAME`."""
    return {f"{FINAL_PREFIX}{name}": value for name, value in scores.items()}


def finite_values(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the finite numbers."""
    return {name: value for name, value in values.items() if _is_number(value) and math.isfinite(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str | int | float]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value if isinstance(value, int | float | str) else str(value)
