"""Evidence from the trainers of transformers and TRL: runs with a `trainer_state.json`."""

import math
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePath

from neftune_cli.errors import Problems
from neftune_cli.evidence.measurements import Evidence, Measurements, Setting, agree, grouped, with_differences
from neftune_cli.evidence.run_names import RunName, by_common_folder, folders_below, full_path, name_runs
from neftune_cli.evidence.trainer_files import STATE_FILE, TrainerRun, read_run
from neftune_cli.metrics import METRICS, Margin, Metric
from neftune_cli.records import CurvePoint, perplexity

OWN_SCORES = "Scores that the trainers logged"
"""Title of the table of these scores."""

_CHECKPOINT = re.compile(r"checkpoint-\d+")
_SAME_RATE = 1e-6
_ROUNDING = 1e-6
"""Tolerance for epochs, which are quotients."""
_METRICS = {key: METRICS[key] for key in ("train_loss", "eval_loss", "eval_perplexity")}
_NOTES = (
    "These runs come from trainer states, which do not show whether the runs differ only in noise and seed. "
    "Arm and seed come from folder names or run files.",
    "Trainer states have no losses per example. Intervals are over seeds alone.",
)


def find_trainer_runs(root: Path) -> list[Path]:
    """Return the output folders at and below `root`: folders with a trainer state, directly or in checkpoints."""
    runs = []
    for found in folders_below(root):
        checkpoints = [name for name in found.folders if _CHECKPOINT.fullmatch(name)]
        if STATE_FILE in found.files or any((found.path / name / STATE_FILE).is_file() for name in checkpoints):
            runs.append(found.path)
        found.folders[:] = [name for name in found.folders if name not in checkpoints]
    return runs


def trainer_evidence(*roots: Path) -> list[Evidence]:
    """Return the runs below each folder, grouped by setting, the largest group first.

    Folders that are parts of a larger one are combined (`by_common_folder`).

    Raises:
        UsageError: a state is invalid or has no measurement, or arm or seed of a run are unknown.

    """
    folders = {root: find_trainer_runs(root) for root in roots}
    problems = Problems()
    runs = {
        root: [run for place in places if (run := problems.attempt(partial(read_run, place)))]
        for root, places in folders.items()
    }
    problems.raise_any()
    return [one for root, found in by_common_folder(runs) for one in _evidence_of(root, found)]


def _evidence_of(root: Path, runs: Sequence[TrainerRun]) -> list[Evidence]:
    groups = grouped(runs, _comparable)
    ended = [_ended(group) for group in groups]
    names = name_runs([[run.folder for run in group] for group in ended], root)
    return with_differences([_evidence(root, *both, names) for both in zip(groups, ended, strict=True)])


def _comparable(one: TrainerRun, other: TrainerRun) -> bool:
    """Return whether two runs agree in everything that their files contain, learning rates at every step included."""
    here, there = one.learning_rates, other.learning_rates
    same_rates = here == there or all(
        math.isclose(here.get(step, rate), rate, rel_tol=_SAME_RATE) for step, rate in there.items()
    )
    return same_rates and agree(one.known, other.known)


def _ended(group: Sequence[TrainerRun]) -> list[TrainerRun]:
    """Return the runs that finished, or that are as far as the furthest of the group."""
    furthest = max(run.state.global_step for run in group)
    return [run for run in group if run.state.has_ended or run.state.global_step == furthest]


def _evidence(
    root: Path, group: Sequence[TrainerRun], ended: Sequence[TrainerRun], names: dict[Path, RunName]
) -> Evidence:
    """Return the evidence of one setting: the finished runs, and a note on the others."""
    in_order = sorted(ended, key=lambda run: names[run.folder].order)
    trials = tuple(_measurements(run, names[run.folder]) for run in in_order)
    known = {**_METRICS, **{key: _own_metric(key) for trial in trials for key in trial.scores if key not in _METRICS}}
    measured = [key for key in known if any(trial.scores.get(key) is not None for trial in trials)]
    return Evidence(
        name=full_path(root).name,
        setting=_setting(group),
        trials=trials,
        metrics={key: known[key] for key in measured},
        folders=tuple(str(run.folder) for run in in_order),
        notes=(*_NOTES, *_notes(in_order)),
        unfinished=tuple(
            f"{run.folder} has not finished: step {run.state.global_step} of {run.state.max_steps}"
            for run in group
            if run.folder not in names
        ),
    )


def _own_metric(key: str) -> Metric:
    """Return a metric that a trainer logged. Its direction is unknown, so its verdicts are `higher` and `lower`."""
    name = key.removeprefix("eval_")
    return Metric(
        key, f"Held-out {name}", name, "held-out, as logged", None, 4, Margin(0.02, relative=True), OWN_SCORES
    )


def _setting(group: Sequence[TrainerRun]) -> Setting:
    known = {part: value for run in reversed(group) for part, value in run.known.items()}
    run = group[0]
    rates = list(run.learning_rates.values())
    shown = {"learning rate": f"{max(rates):g} at most, {rates[-1]:g} at the end"} if rates else {}
    epochs, steps = run.state.num_train_epochs, run.state.max_steps
    whole = abs(run.state.epoch - epochs) < 0.01
    rank = known.get("LoRA rank")
    return Setting(
        model=PurePath(str(known.get("model", "a model"))).name,
        data=PurePath(str(known.get("data", "data"))).name,
        recipe={**({"epochs": epochs} if whole else {"max_steps": steps}), **({"lora_rank": rank} if rank else {})},
        shared={**known, **shown},
    )


def _notes(runs: Sequence[TrainerRun]) -> Iterator[str]:
    """Yield a note if some runs were not measured at their end."""
    short = sorted({run.state.global_step for run in runs if not run.state.has_ended})
    if short:
        yield f"The last saved state is of step {_span(short)} of {runs[0].state.max_steps}."
    evaluated = sorted({run.evaluated_at for run in runs if run.evaluated_at is not None})
    if len(evaluated) > 1 or any(run.evaluated_at not in (None, run.state.global_step) for run in runs):
        yield f"Held-out losses are from the last evaluation in the states, at step {_span(evaluated)}."


def _span(steps: Sequence[int]) -> str:
    return str(steps[0]) if len(steps) == 1 else f"{steps[0]} to {steps[-1]}"


def _measurements(run: TrainerRun, name: RunName) -> Measurements:
    logged = run.state.log_history
    own = next((entry.own_scores for entry in reversed(logged) if entry.own_scores), {})
    eval_loss = next((entry.eval_loss for entry in reversed(logged) if entry.eval_loss is not None), None)
    return Measurements(
        trial=str(run.folder),
        arm=name.arm,
        alpha=name.alpha,
        seed=name.seed,
        scores={
            "train_loss": _last_epoch_loss(run),
            "eval_loss": eval_loss,
            "eval_perplexity": None if eval_loss is None else perplexity(eval_loss),
            **own,
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
    """Return the mean training loss over the last epoch. A logged loss is the mean since the previous one."""
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
