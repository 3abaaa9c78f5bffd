"""Evidence from runs of transformers' and TRL's trainers, which write `trainer_state.json`."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from pathlib import Path, PurePath
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from neftune_cli.errors import Problem, Problems, UsageError
from neftune_cli.evidence.folders import folders_below, full_path
from neftune_cli.evidence.grouping import agree, grouped, with_differences
from neftune_cli.evidence.measurements import Evidence, Measurements, Setting, TrialOrigin
from neftune_cli.evidence.run_names import RunName, by_common_folder, name_runs, origin_note
from neftune_cli.formatting import listed
from neftune_cli.metrics import (
    HELD_OUT_LOSS,
    HELD_OUT_PERPLEXITY,
    METRICS,
    NOISY_TRAINING_LOSS,
    TRAINER_TABLE,
    Margin,
    Metric,
)
from neftune_cli.records import CurvePoint, perplexity

_CHECKPOINT = re.compile(r"checkpoint-\d+")
_SAME_RATE = 1e-6
"""Relative tolerance of learning rates."""
_ROUNDING = 1e-6
"""Tolerance for epochs, which are quotients."""
_METRICS = {key: METRICS[key] for key in (NOISY_TRAINING_LOSS, HELD_OUT_LOSS, HELD_OUT_PERPLEXITY)}
_NOTES = (
    origin_note("trainer states, which"),
    "Trainer states have no losses per example. Intervals are over seeds only.",
)
STATE_FILE = "trainer_state.json"

_FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---", re.S)
_DAMAGED_FIX = "Restore the file, or move its folder elsewhere."
_EMPTY_FIX = "Train with a smaller logging_steps, or leave out the run."
_TIMING_SUFFIXES = ("_runtime", "_per_second", "_time", "_num_tokens")
"""Suffixes of logged values that are not metrics."""


class LoggedLine(BaseModel):
    """One entry of a log history. Further logged values are read if they are metrics of an evaluation."""

    model_config = ConfigDict(frozen=True, extra="allow")

    step: int = 0
    epoch: float = 0.0
    loss: float | None = None
    """Mean training loss since the previous entry with a loss, in nats per token."""
    eval_loss: float | None = None
    learning_rate: float | None = None
    num_tokens: float | None = None
    train_runtime: float | None = None
    """Written once, at the end of training."""

    @property
    def custom_scores(self) -> dict[str, float]:
        """Return custom metrics of an evaluation: name to value."""
        logged = (self.model_extra or {}).items()
        return {
            name: float(value)
            for name, value in logged
            if name.startswith("eval_") and not name.endswith(_TIMING_SUFFIXES) and isinstance(value, int | float)
        }


class TrainerState(BaseModel):
    """The content of `trainer_state.json` (transformers' `TrainerState`)."""

    model_config = ConfigDict(frozen=True)

    global_step: int
    epoch: float = 0.0
    max_steps: int = 0
    num_train_epochs: float = 0
    """Planned number of epochs, rounded up."""
    train_batch_size: int | None = None
    """Batch size of one process, without gradient accumulation."""
    log_history: tuple[LoggedLine, ...] = ()
    stateful_callbacks: dict[str, Any] | None = None

    @property
    def has_finished(self) -> bool:
        """Return whether training finished, also if a callback stopped it early."""
        control = (self.stateful_callbacks or {}).get("TrainerControl")
        arguments = control.get("args") if isinstance(control, dict) else None
        was_stopped = isinstance(arguments, dict) and arguments.get("should_training_stop") is True
        has_runtime = any(line.train_runtime is not None for line in self.log_history)
        return was_stopped or has_runtime or self.global_step >= self.max_steps


@dataclass(frozen=True)
class TrainerRun:
    """The run in one output folder."""

    folder: Path
    state: TrainerState
    """The latest state of the folder and its checkpoints."""
    card_settings: dict[str, Any]
    """Model, data and LoRA rank from the model card and the adapter configuration, as far as they are known."""

    @cached_property
    def known(self) -> dict[str, Any]:
        """Return the known settings other than noise and seed: part to value."""
        state = self.state
        values = {
            **self.card_settings,
            "num_train_epochs": state.num_train_epochs,
            "max_steps": state.max_steps,
            "train_batch_size": state.train_batch_size,
        }
        return {part: value for part, value in values.items() if value is not None}

    @cached_property
    def learning_rates(self) -> dict[int, float]:
        """Return the logged learning rates: step to value."""
        return {line.step: line.learning_rate for line in self.state.log_history if line.learning_rate is not None}

    @property
    def evaluated_at(self) -> int | None:
        """Return the step of the last evaluation, None if there was none."""
        logged = reversed(self.state.log_history)
        return next((line.step for line in logged if line.eval_loss is not None or line.custom_scores), None)

    @property
    def last_custom_scores(self) -> list[dict[str, float]]:
        """Return the custom metrics of the last evaluation with any: one entry for each evaluation data set."""
        logged = [(line.step, scores) for line in self.state.log_history if (scores := line.custom_scores)]
        return [scores for step, scores in logged if step == logged[-1][0]]

    @property
    def shared_names(self) -> set[str]:
        """Return the names of custom metrics under which several data sets of the last evaluation have a value."""
        evaluated = self.last_custom_scores
        is_repeated = all(scores.keys() == evaluated[0].keys() for scores in evaluated)
        counts = Counter(chain.from_iterable(evaluated))
        return set() if is_repeated else {name for name, count in counts.items() if count > 1}


def find_trainer_runs(root: Path) -> list[Path]:
    """Return the output folders at and below `root`: those with a trainer state in them or in their checkpoints."""
    runs = []
    for folder in folders_below(root):
        checkpoints = [name for name in folder.folders if _CHECKPOINT.fullmatch(name)]
        if STATE_FILE in folder.files or any((folder.path / name / STATE_FILE).is_file() for name in checkpoints):
            runs.append(folder.path)
        folder.folders[:] = [name for name in folder.folders if name not in checkpoints]
    return runs


def trainer_evidence(*roots: Path) -> list[Evidence]:
    """Return the runs below each folder, grouped by setting, the largest group first.

    Folders that are parts of a larger one are combined (`by_common_folder`).

    Raises:
        UsageError: a state is not valid or has no loss, or the arm or seed of a run is unknown.
    """
    folders = {root: find_trainer_runs(root) for root in roots}
    problems = Problems()
    runs = {
        root: [run for folder in found if (run := problems.attempt(partial(read_run, folder)))]
        for root, found in folders.items()
    }
    problems.raise_any()
    return [one for root, found in by_common_folder(runs) for one in _evidence_of(root, found)]


def _evidence_of(root: Path, runs: Sequence[TrainerRun]) -> list[Evidence]:
    groups = grouped(runs, _agree)
    compared = [_runs_to_compare(group) for group in groups]
    names = name_runs([[run.folder for run in group] for group in compared], root)
    return with_differences([_evidence(root, *runs, names) for runs in zip(groups, compared, strict=True)])


def _agree(one: TrainerRun, other: TrainerRun) -> bool:
    """Return whether two runs agree in all known settings and in the learning rates at common steps."""
    rates, other_rates = one.learning_rates, other.learning_rates
    same_rates = rates == other_rates or all(
        math.isclose(rates.get(step, rate), rate, rel_tol=_SAME_RATE) for step, rate in other_rates.items()
    )
    return same_rates and agree(one.known, other.known)


def _runs_to_compare(group: Sequence[TrainerRun]) -> list[TrainerRun]:
    """Return the finished runs, and the unfinished runs at the highest step of the group."""
    last_step = max(run.state.global_step for run in group)
    return [run for run in group if run.state.has_finished or run.state.global_step == last_step]


def _evidence(
    root: Path, group: Sequence[TrainerRun], compared: Sequence[TrainerRun], names: dict[Path, RunName]
) -> Evidence:
    """Return the evidence of one setting: the compared runs, and a sentence for each of the others."""
    in_order = sorted(compared, key=lambda run: names[run.folder].order)
    trials = tuple(_measurements(run, names[run.folder]) for run in in_order)
    custom = {key: _custom_metric(key) for trial in trials for key in trial.scores if key not in _METRICS}
    metrics = {**_METRICS, **custom}
    measured = [key for key in metrics if any(trial.scores.get(key) is not None for trial in trials)]
    return Evidence(
        name=full_path(root).name,
        setting=_setting(group),
        trials=trials,
        metrics={key: metrics[key] for key in measured},
        origin=TrialOrigin(tuple(str(run.folder) for run in in_order)),
        notes=(*_NOTES, *_notes(in_order)),
        unfinished=tuple(
            f"{run.folder} has not finished: step {run.state.global_step} of {run.state.max_steps}"
            for run in group
            if run.folder not in names
        ),
    )


def _custom_metric(key: str) -> Metric:
    """Return a custom metric. Its direction of improvement is unknown, so its verdicts are `higher` and `lower`."""
    name = key.removeprefix("eval_")
    return Metric(key, f"Held-out {name}", "as logged", None, 4, Margin(0.02, relative=True), TRAINER_TABLE)


def _setting(group: Sequence[TrainerRun]) -> Setting:
    known = {part: value for run in reversed(group) for part, value in run.known.items()}
    run = group[0]
    rates = list(run.learning_rates.values())
    learning_rate = {"learning rate": f"{max(rates):g} at most, {rates[-1]:g} at the end"} if rates else {}
    epochs, steps = run.state.num_train_epochs, run.state.max_steps
    has_whole_epochs = abs(run.state.epoch - epochs) < 0.01
    duration = {"epochs": epochs} if has_whole_epochs else {"max_steps": steps}
    rank = known.get("LoRA rank")
    return Setting(
        model=PurePath(str(known.get("model", "a model"))).name,
        data=PurePath(str(known.get("data", "data"))).name,
        recipe={**duration, **({"lora_rank": rank} if rank else {})},
        shared={**known, **learning_rate},
    )


def _notes(runs: Sequence[TrainerRun]) -> Iterator[str]:
    """Yield notes on runs whose last state or last evaluation is not from the end of training."""
    unfinished = sorted({run.state.global_step for run in runs if not run.state.has_finished})
    if unfinished:
        yield f"The last saved state is of step {_span(unfinished)} of {runs[0].state.max_steps}."
    evaluated = sorted({run.evaluated_at for run in runs if run.evaluated_at is not None})
    if len(evaluated) > 1 or any(run.evaluated_at not in (None, run.state.global_step) for run in runs):
        yield f"Held-out metrics are from the last evaluation in the states, at step {_span(evaluated)}."
    if names := sorted(set[str]().union(*(run.shared_names for run in runs))):
        yield (
            f"The trainers logged {listed(names)} for several evaluation data sets under one name: the value of the "
            "last data set is compared."
        )


def _span(steps: Sequence[int]) -> str:
    return str(steps[0]) if len(steps) == 1 else f"{steps[0]} to {steps[-1]}"


def _measurements(run: TrainerRun, name: RunName) -> Measurements:
    logged = run.state.log_history
    eval_loss = next((entry.eval_loss for entry in reversed(logged) if entry.eval_loss is not None), None)
    return Measurements(
        trial_id=str(run.folder),
        arm=name.arm,
        alpha=name.alpha,
        seed=name.seed,
        scores={
            NOISY_TRAINING_LOSS: _last_epoch_loss(run),
            HELD_OUT_LOSS: eval_loss,
            HELD_OUT_PERPLEXITY: None if eval_loss is None else perplexity(eval_loss),
            **{name: score for scores in run.last_custom_scores for name, score in scores.items()},
        },
        items={},
        held_out_by_epoch={},
        curve=tuple(
            CurvePoint(
                step=entry.step,
                epoch=entry.epoch,
                train_loss=entry.loss,
                eval_loss=entry.eval_loss,
                learning_rate=entry.learning_rate,
                tokens=None if entry.num_tokens is None else int(entry.num_tokens),
            )
            for entry in logged
            if entry.loss is not None or entry.eval_loss is not None
        ),
    )


def _last_epoch_loss(run: TrainerRun) -> float | None:
    """Return the mean training loss over the last epoch. A logged loss is the mean since the previous logged loss."""
    logged = [(entry.step, entry.epoch, entry.loss) for entry in run.state.log_history if entry.loss is not None]
    if not logged:
        return None
    begin = math.ceil(logged[-1][1] - _ROUNDING) - 1 + _ROUNDING
    before = (0, *(step for step, _, _ in logged))
    last = [
        (max(step - earlier, 1), loss)
        for earlier, (step, epoch, loss) in zip(before, logged, strict=False)
        if epoch > begin or step == logged[-1][0]
    ]
    return sum(steps * loss for steps, loss in last) / sum(steps for steps, _ in last)


def read_run(folder: Path) -> TrainerRun:
    """Return the run of an output folder.

    Raises:
        UsageError: its latest state is not valid or has no loss.
    """
    checkpoints = sorted(folder.glob(f"checkpoint-*/{STATE_FILE}"), key=_step, reverse=True)
    states = {path: _read_state(path) for path in (folder / STATE_FILE, *checkpoints[:1]) if path.is_file()}
    latest = max(states, key=lambda path: states[path].global_step)
    if not any(line.loss is not None or line.eval_loss is not None for line in states[latest].log_history):
        raise UsageError(Problem(f"{latest} has no loss in its log history.", _EMPTY_FIX))
    return TrainerRun(folder, states[latest], dict(_card_settings((folder, latest.parent))))


def _step(checkpoint: Path) -> int:
    _, _, number = checkpoint.parent.name.rpartition("-")
    return int(number) if number.isdecimal() else -1


def _read_state(path: Path) -> TrainerState:
    try:
        return TrainerState.model_validate_json(path.read_bytes())
    except ValidationError as error:
        details = error.errors()[0]
        where = ": ".join([".".join(map(str, details["loc"])), details["msg"]]).removeprefix(": ")
        raise UsageError(Problem(f"{path} is not valid ({where}).", _DAMAGED_FIX)) from None
    except OSError as error:
        raise UsageError(Problem(f"Cannot read {path}: {error.strerror}.", _DAMAGED_FIX)) from None


def _card_settings(folders: Sequence[Path]) -> Iterator[tuple[str, Any]]:
    """Yield model, data and LoRA rank from TRL's model card, and then from the adapter configuration."""
    for folder in folders:
        card = _front_matter(folder / "README.md")
        for part, field in (("model", "base_model"), ("data", "datasets")):
            if value := card.get(field):
                yield part, ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    for folder in folders:
        adapter = _json(folder / "adapter_config.json")
        for part, field in (("model", "base_model_name_or_path"), ("LoRA rank", "r")):
            if value := adapter.get(field):
                yield part, value


def _front_matter(path: Path) -> dict[str, Any]:
    """Return the fields of a model card; empty if the card is missing or not valid, because it is optional."""
    try:
        found = _FRONT_MATTER.match(path.read_text(encoding="utf-8"))
        values = yaml.safe_load(found[1]) if found else None
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return values if isinstance(values, dict) else {}


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
