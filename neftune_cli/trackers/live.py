"""Live tracking: each trial is a run of a tracker, which transformers' own integration fills while it trains.

The module of the tracker opens the run, with its name, its group and its parameters. The callback that transformers has
for the tracker (`report_to`) writes to it. A tracker that fails ends the tracking of the trial with a line in the
trial's log. The trial goes on.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from neftune_cli.config.run_settings import Tracking
from neftune_cli.records import CurvePoint, TrialRecord, scores_of, task_scores
from neftune_cli.store import TASK_SCORES_FILE, SweepFolder, TrialFolder
from neftune_cli.trackers import TrackedRun, finite_values, trial_parameters

if TYPE_CHECKING:
    from neftune_cli.training.trial import Trial

T = TypeVar("T")


class OpenRun(Protocol):
    """An open run of one tracker, which `open_run` in its module returns. A resumed trial continues its run."""

    callback: TrainerCallback
    """transformers' callback, which writes to this run."""

    def finish(self, scores: Mapping[str, float]) -> None:
        """Write the results of the trial, and mark the run as finished."""

    def close(self) -> None:
        """Close the run, which a resumed trial continues if it is not finished."""


class _Guarded:
    """An open run whose first error closes it. The error is printed, which writes it to the trial's log."""

    def __init__(self, tracker: str, open_run: Callable[[], OpenRun]) -> None:
        self._tracker = tracker
        self._run: OpenRun | None = None
        self._run = self._guarded(open_run)

    def call(self, action: Callable[[OpenRun], object]) -> None:
        """Do something with the run, unless it has failed."""
        if (run := self._run) is not None:
            self._guarded(lambda: action(run))

    def _guarded(self, action: Callable[[], T]) -> T | None:
        try:
            return action()
        except Exception as error:  # trackers raise errors of many types, and none may end the trial
            run, self._run = self._run, None
            if run is not None:
                with suppress(Exception):
                    run.close()
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
        losses = finite_values({"eval_loss": point.eval_loss, "train_loss_clean": point.train_loss_clean})
        if losses and self._training:
            self.on_log(*self._training, logs=losses)

    def finish(self, record: TrialRecord, task_files: Mapping[str, str]) -> None:
        """Write the results of the trial, and mark its runs as finished.

        Args:
            record: the record.
            task_files: the contents of the files of lm-evaluation-harness, by name; empty without tasks.
        """
        self._each(lambda run: run.finish(_scores(record, task_files)))

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
        folder: its folder, whose name without the id is the name of the runs.
        sweep: the folder of its sweep, whose name is that of the group.
    """
    parameters = trial_parameters(trial.arm, trial.alpha, trial.seed, trial.identity, sweep.manifest())
    run = TrackedRun(folder.folder_label, trial.id, parameters)
    makers = {name: partial(_open, name, Path(tracking.folder, name), sweep.name, run) for name in tracking.trackers}
    runs = LiveRuns(makers)
    try:
        yield runs
    finally:
        runs.close()


def _scores(record: TrialRecord, task_files: Mapping[str, str]) -> dict[str, float]:
    results = json.loads(task_files[TASK_SCORES_FILE])["results"] if task_files else {}
    return finite_values({**scores_of(record), **task_scores(results)})


def _open(tracker: str, folder: Path, group: str, run: TrackedRun) -> OpenRun:
    opened: OpenRun = import_module(f"neftune_cli.trackers.{tracker}").open_run(folder, group, run)
    return opened
