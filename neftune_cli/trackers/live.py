"""Live tracking: each trial is a run of a tracker, which transformers' own integration fills while it trains.

The run is opened here, with its name, its group and its factors, and the callback that transformers has for the
tracker (`report_to`) writes to it. A tracker that fails ends the tracking of the trial with a line in the trial's log.
The trial goes on.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from neftune_cli.config.run_settings import Tracking
from neftune_cli.records import CurvePoint, TrialRecord, scores_of
from neftune_cli.store import SweepFolder, TrialFolder
from neftune_cli.trackers import RUN_ID_TAG, mlflow_uri, run_folder_name
from neftune_cli.trackers.factors import Parameters, circumstances, factors, finite

if TYPE_CHECKING:
    from neftune_cli.training.trial import Trial

T = TypeVar("T")

MOST_PARAMETERS = 100
"""Largest number of parameters in a request to MLflow."""
LONGEST_PARAMETER = 500
"""Largest length of a parameter of MLflow, in characters."""


@dataclass(frozen=True)
class RunAbout:
    """Name and factors of a run."""

    group: str
    """Name of the sweep."""
    name: str
    """Name of the trial."""
    id: str
    """Id of the trial. A resumed trial continues its run, and `neftune export` does not write it again."""
    parameters: Parameters


class OpenRun(Protocol):
    """An open run of one tracker."""

    callback: TrainerCallback
    """transformers' callback, which writes to this run."""

    def finish(self, scores: Mapping[str, float]) -> None:
        """Write the results of the trial, and mark the run as finished."""
        ...

    def close(self) -> None:
        """Close the run, which a resumed trial continues if it is not finished."""
        ...


class TensorBoardRun:
    """Event files in a folder of the run."""

    def __init__(self, folder: Path, about: RunAbout) -> None:
        from torch.utils.tensorboard import SummaryWriter
        from transformers.integrations.integration_utils import TensorBoardCallback

        self._path = folder / about.group / run_folder_name(about.name, about.id)
        self._writer: Any = SummaryWriter(str(self._path))
        rows = "\n".join(f"| {name} | {value} |" for name, value in about.parameters.items())
        self._writer.add_text("parameters", f"| parameter | value |\n|---|---|\n{rows}")
        self.callback: TrainerCallback = TensorBoardCallback(self._writer)

    def finish(self, scores: Mapping[str, float]) -> None:
        """Write the results at the last step."""
        for name, value in scores.items():
            self._writer.add_scalar(f"final/{name}", value)

    def close(self) -> None:
        """Write and close the event file."""
        self._writer.close()


class MLflowRun:
    """A run of the experiment of the sweep."""

    def __init__(self, folder: Path, about: RunAbout) -> None:
        import mlflow
        from transformers.integrations.integration_utils import MLflowCallback

        mlflow.set_tracking_uri(mlflow_uri(folder))
        experiment = mlflow.set_experiment(about.group).experiment_id
        known = mlflow.search_runs(
            [experiment], f"tags.`{RUN_ID_TAG}` = '{about.id}'", max_results=1, output_format="list"
        )
        if known:
            mlflow.start_run(run_id=known[0].info.run_id, log_system_metrics=False)
        else:
            mlflow.start_run(run_name=about.name, tags={RUN_ID_TAG: about.id}, log_system_metrics=False)
            values = [(name, str(value)[:LONGEST_PARAMETER]) for name, value in about.parameters.items()]
            for first in range(0, len(values), MOST_PARAMETERS):
                mlflow.log_params(dict(values[first : first + MOST_PARAMETERS]))
        self._mlflow: Any = mlflow
        self._status = "KILLED"
        self.callback: TrainerCallback = MLflowCallback()

    def finish(self, scores: Mapping[str, float]) -> None:
        """Write the results as metrics."""
        self._mlflow.log_metrics({f"final/{name}": value for name, value in scores.items()})
        self._status = "FINISHED"

    def close(self) -> None:
        """End the run, with the status KILLED if it is not finished."""
        self._mlflow.end_run(self._status)


class WandbRun:
    """A run in the group of the sweep; offline in the mode that WANDB_MODE or `wandb offline` sets."""

    def __init__(self, folder: Path, about: RunAbout) -> None:
        import wandb
        from transformers.integrations.integration_utils import WandbCallback

        folder.mkdir(parents=True, exist_ok=True)
        self._run: Any = wandb.init(
            dir=str(folder),
            project=os.environ.get("WANDB_PROJECT") or about.group,
            group=about.group,
            name=about.name,
            id=about.id[:64],
            resume="allow",
            config=dict(about.parameters),
            settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
        )
        self._exit_code = 1
        self.callback: TrainerCallback = WandbCallback()

    def finish(self, scores: Mapping[str, float]) -> None:
        """Write the results into the summary."""
        self._run.summary.update({f"final/{name}": value for name, value in scores.items()})
        self._exit_code = 0

    def close(self) -> None:
        """End the run, as failed if it is not finished."""
        self._run.finish(exit_code=self._exit_code)


MAKERS: Mapping[str, Callable[[Path, RunAbout], OpenRun]] = {
    "tensorboard": TensorBoardRun,
    "mlflow": MLflowRun,
    "wandb": WandbRun,
}
"""Open a run below a folder, by the name of the tracker."""


class _Guarded:
    """An open run whose first error closes it. The error is printed, which writes it to the trial's log."""

    def __init__(self, tracker: str, open_run: Callable[[], OpenRun]) -> None:
        self._tracker = tracker
        self._run = self._guarded(open_run)

    def call(self, action: Callable[[OpenRun], object]) -> None:
        """Do something with the run, unless it has failed."""
        if (run := self._run) is not None:
            self._guarded(lambda: action(run))

    def _guarded(self, action: Callable[[], T]) -> T | None:
        try:
            return action()
        except Exception as error:  # trackers raise errors of many types, and none may end the trial
            self._run = None
            print(f"--track {self._tracker} failed: {error} The trial continues without it.", file=sys.stderr)
            return None


class LiveRuns(TrainerCallback):
    """The runs of one trial, one for each tracker, as a callback of its trainer."""

    def __init__(self, runs: Mapping[str, Callable[[], OpenRun]]) -> None:
        self._runs = [_Guarded(tracker, open_run) for tracker, open_run in runs.items()]
        self._training: tuple[TrainingArguments, TrainerState, TrainerControl] | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """Pass the start of the training on."""
        self._training = args, state, control
        self._each(lambda run: run.callback.on_train_begin(args, state, control, model=model))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        model: Any = None,
        **_: Any,
    ) -> None:
        """Pass logged values on."""
        self._each(lambda run: run.callback.on_log(args, state, control, logs=dict(logs or {}), model=model))

    def add(self, point: CurvePoint) -> None:
        """Log the noise-off losses of a point of the learning curve, which the trainer does not log."""
        losses = finite({"eval_loss": point.eval_loss, "train_loss_clean": point.train_loss_clean})
        if losses and self._training:
            self.on_log(*self._training, logs=losses)

    def finish(self, record: TrialRecord) -> None:
        """Write the results of the trial, and mark its runs as finished."""
        scores = finite(scores_of(record))
        self._each(lambda run: run.finish(scores))

    def close(self) -> None:
        """Close the runs."""
        self._each(lambda run: run.close())

    def _each(self, action: Callable[[OpenRun], object]) -> None:
        for run in self._runs:
            run.call(action)


@contextmanager
def live_runs(tracking: Tracking, trial: "Trial", folder: TrialFolder, sweep: SweepFolder) -> Iterator[LiveRuns]:
    """Open the runs of a trial, and close them at the end of the block.

    Args:
        tracking: the trackers, and the folder of their files.
        trial: the trial.
        folder: its folder, whose label is the name of the runs.
        sweep: the folder of its sweep, whose name is that of the group.
    """
    identity = factors(trial.arm, trial.alpha, trial.seed, trial.identity)
    about = RunAbout(sweep.name, folder.label, trial.id, {**identity, **circumstances(sweep.manifest())})
    makers = {name: (lambda name=name: MAKERS[name](Path(tracking.folder, name), about)) for name in tracking.trackers}
    runs = LiveRuns(makers)
    try:
        yield runs
    finally:
        runs.close()
