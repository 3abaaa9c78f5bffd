"""`neftune export`: finished sweeps for TensorBoard, MLflow, Weights & Biases, Trackio or AlpacaEval."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neftune_cli.config.run_settings import LiveTracker
from neftune_cli.errors import DISK_FULL, FREE_SPACE, NothingToCompareError, Problem, Problems, UsageError
from neftune_cli.formatting import listed
from neftune_cli.trackers import WANDB_OFFLINE

if TYPE_CHECKING:
    from neftune_cli.store import SweepFolder


REFERENCE = "reference"
"""Generator of the references of the data, in the files for AlpacaEval."""


class ExportTarget(StrEnum):
    """A tracker for runs, or AlpacaEval for responses."""

    TENSORBOARD = LiveTracker.TENSORBOARD.value
    MLFLOW = LiveTracker.MLFLOW.value
    WANDB = LiveTracker.WANDB.value
    WANDB_OFFLINE = WANDB_OFFLINE
    TRACKIO = LiveTracker.TRACKIO.value
    ALPACA_EVAL = "alpaca-eval"


def export(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Results folders, or folders that contain results.")
    ],
    to: Annotated[
        ExportTarget, typer.Option("--to", help="Tracker that receives the runs, or alpaca-eval for the responses.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the files (default: a folder with the name given to --to)."),
    ] = None,
) -> None:
    """Copy finished sweeps to a tracker, or write the responses in AlpacaEval's format.

    A tracker gets one run per trial, and one for the comparison. Runs that were written before are left as they are.
    MLflow writes to the server in the environment variable MLFLOW_TRACKING_URI, and Trackio to the folder in
    TRACKIO_DIR, if they are set.
    """
    from neftune_cli.evidence.folders import sweeps_in

    sweeps = sweeps_in(paths)
    problems = Problems()
    for sweep in sweeps:
        problems.attempt(partial(_check, sweep))
    if to is ExportTarget.ALPACA_EVAL:
        problems.add(_equal_names(sweeps))
    problems.raise_any()  # before the first file is written
    target = output or Path(to.value)
    write, written = (_responses, "responses") if to is ExportTarget.ALPACA_EVAL else (partial(_runs, to), "runs")
    for sweep in sweeps:
        try:
            typer.echo(f"{sweep.path}: {write(sweep, target)}", err=True)
        except OSError as error:
            what = f"--to {to.value}: the {written} of {sweep.path} cannot be written: {error.strerror or error}."
            local = "Use another --output."
            fix = local if to is ExportTarget.ALPACA_EVAL else "Use another --output, or check the server."
            raise UsageError(Problem(what, FREE_SPACE if error.errno in DISK_FULL else fix)) from None


def _check(sweep: "SweepFolder") -> None:
    from neftune_cli.evidence.folders import check_files

    check_files(sweep, sweep.records())


def _equal_names(sweeps: Sequence["SweepFolder"]) -> Iterator[Problem]:
    """Yield a problem for each name that several sweeps have: their responses would be written to the same files."""
    for name, number in Counter(sweep.name for sweep in sweeps).items():
        if number > 1:
            paths = listed([str(sweep.path) for sweep in sweeps if sweep.name == name])
            what = f"The sweeps {paths} have the same name, so their responses would be written to the same folder."
            yield Problem(what, "Export each with its own --output.")


def _runs(to: ExportTarget, sweep: "SweepFolder", target: Path) -> str:
    """Write runs of a tracker, and return their number in words."""
    from neftune_cli.trackers import make_tracker
    from neftune_cli.trackers.runs import tracked_runs

    tracker = make_tracker(to.value, target, "--to")
    tracker.prepare(sweep.name)
    new = [tracker.write(sweep.name, run) for run in tracked_runs(sweep)]
    return f"{sum(new)} runs written, {len(new) - sum(new)} written before"


def _responses(sweep: "SweepFolder", target: Path) -> str:
    """Write the responses of each finished trial, and the references of the data. Return the number of files in words.

    A prompt that occurs twice is written once, because AlpacaEval joins outputs by their instruction.

    Raises:
        NothingToCompareError: no trial has finished with responses.
        OSError: a file cannot be written.
    """
    from neftune_cli.config.arm_names import trial_key
    from neftune_cli.evidence.trials import held_out_responses

    folder, finished, written, references = target / sweep.name, sweep.finished(), 0, dict[str, str]()
    labels = Counter(trial.folder_label for trial, _ in finished)
    for trial, record in finished:
        responses: dict[str, str] = {}
        for one in held_out_responses(trial.generations()):
            responses.setdefault(one.prompt, one.response)
            references.setdefault(one.prompt, one.reference)
        if responses:
            # two arms of a sweep of an earlier version may share a label
            name = trial.folder_label if labels[trial.folder_label] == 1 else trial.path.name
            _write_outputs(folder / f"{name}.json", responses, trial_key(record.arm, record.seed))
            written += 1
    if not written:
        raise NothingToCompareError(f"{sweep.path} has no finished trial with responses. Wait for its first trial.")
    _write_outputs(folder / f"{REFERENCE}.json", references, REFERENCE)
    return f"{written + 1} files written to {folder}"


def _write_outputs(path: Path, outputs: Mapping[str, str], generator: str) -> None:
    """Write outputs by instruction in the format of AlpacaEval."""
    from neftune_cli.store import write_atomically

    rows = [
        {"instruction": instruction, "output": output, "generator": generator, "dataset": path.parent.name}
        for instruction, output in outputs.items()
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
