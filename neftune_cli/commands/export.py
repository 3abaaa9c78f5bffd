"""`neftune export`: finished sweeps for TensorBoard, MLflow or Weights & Biases."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from neftune_cli.errors import NothingToCompareError, Problem, UsageError


class TrackerName(StrEnum):
    """Tracker that receives the runs."""

    TENSORBOARD = "tensorboard"
    MLFLOW = "mlflow"
    WANDB = "wandb"
    WANDB_OFFLINE = "wandb-offline"


def export(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Results folders, or folders that contain results.")
    ],
    to: Annotated[TrackerName, typer.Option("--to", help="Tracker that receives the runs.")],
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the runs (default: a folder with the tracker's name)."),
    ] = None,
) -> None:
    """Write each finished trial and the comparison of a sweep as runs of a tracker.

    Runs that were written before are left as they are. MLflow writes to the server MLFLOW_TRACKING_URI if it is set.
    """
    from neftune_cli.store import find_sweeps
    from neftune_cli.trackers import make_tracker
    from neftune_cli.trackers.runs import tracked_runs

    sweeps = find_sweeps(paths)
    if not sweeps:
        shown = ", ".join(map(str, paths))
        raise NothingToCompareError(f"No sweep in {shown}. Use a results folder, for example results/ablation.")
    target = output or Path(to.value)
    tracker = make_tracker(to.value, target)
    for sweep in sweeps:
        try:
            new = [tracker.write(sweep.name, run) for run in tracked_runs(sweep)]
        except OSError as error:
            what = f"--to {to.value}: the runs of {sweep.path} cannot be written: {error}."
            raise UsageError(Problem(what, "Use another --output, or check the server.")) from None
        typer.echo(f"{sweep.path}: {sum(new)} runs written, {len(new) - sum(new)} written before", err=True)
