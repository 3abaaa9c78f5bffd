"""Checks before a verdict: whether fine-tuning learned anything, had room to improve, and did not diverge."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from neftune_cli.analysis.alignment import TrialsByArm, are_finite
from neftune_cli.config.spec import BUNDLED_DATASET, BUNDLED_MODEL
from neftune_cli.errors import alternatives
from neftune_cli.evidence.measurements import ItemValues, Setting
from neftune_cli.formatting import listed
from neftune_cli.metrics import CORRECTNESS_METRICS, HELD_OUT_LOSS, Margin, Metric

NO_ROOM = 0.02
"""Distance of a response metric to 0 or 1 within which there is no room for a difference."""


@dataclass(frozen=True)
class Learning:
    """Whether the trials can answer a question about fine-tuning."""

    has_learned: bool | None
    """Whether the baseline improves on the base model; None if the base model was not evaluated."""
    problems: tuple[str, ...] = ()
    """Sentences on what limits the comparison, each with what to change; the most important first."""


def check_learning(
    arms: TrialsByArm,
    baseline: str,
    base_scores: Mapping[str, float | None] | None,
    metrics: Mapping[str, Metric],
    margins: Mapping[str, Margin],
    *,
    primary: str,
    setting: Setting | None,
) -> Learning:
    """Return whether the baseline learned, and the problems of the trials.

    The baseline has learned if its held-out loss is lower than that of the base model, or if exact match or ROUGE-L is
    higher by more than its equivalence margin. The means over seeds are compared.

    Args:
        arms: trained trials, without controls.
        baseline: arm without the treatment.
        base_scores: scores of the base model, or None.
        metrics: measured metrics.
        margins: their equivalence margins, in the unit of each.
        primary: key of the primary metric.
        setting: names of model and data.
    """
    means = {arm: {key: _mean(arms, arm, key) for key in metrics} for arm in arms}
    gains = dict(_gains(means[baseline], base_scores or {}, metrics))
    has_learned = any(_is_gain(key, gain, margins) for key, gain in gains.items()) if gains else None
    problems = [
        *_diverged(arms),
        *(_not_learned(arms, baseline, base_scores or {}, gains, metrics) if has_learned is False else ()),
        *(_worse_loss(arms, baseline, base_scores or {}, metrics, primary) if has_learned else ()),
        *_without_room(means, baseline, metrics, primary),
        *_bundled_model(setting),
    ]
    return Learning(has_learned, tuple(problems))


def _gains(
    means: Mapping[str, float | None], base_scores: Mapping[str, float | None], metrics: Mapping[str, Metric]
) -> Iterator[tuple[str, float]]:
    """Yield the improvement of the baseline over the base model in each metric that shows learning."""
    for key in (HELD_OUT_LOSS, *CORRECTNESS_METRICS):
        before, after = base_scores.get(key), means.get(key)
        if before is not None and after is not None and are_finite(before):
            yield key, metrics[key].gain(before, after)


def _is_gain(key: str, gain: float, margins: Mapping[str, Margin]) -> bool:
    return gain > (0.0 if key == HELD_OUT_LOSS else margins[key].size)


def _not_learned(
    arms: TrialsByArm,
    baseline: str,
    base_scores: Mapping[str, float | None],
    gains: Mapping[str, float],
    metrics: Mapping[str, Metric],
) -> Iterator[str]:
    names = alternatives(metrics[key].name_within for key in gains)
    remedy = _remedy(arms, baseline, base_scores)
    yield f"Fine-tuning with {baseline} does not improve {names} over the base model. {remedy}"


def _remedy(arms: TrialsByArm, baseline: str, base_scores: Mapping[str, float | None]) -> str:
    """Return what to change: fewer epochs if an earlier epoch was better than the base model."""
    before, by_epoch = base_scores.get(HELD_OUT_LOSS), _losses_by_epoch(arms, baseline)
    if before is not None and by_epoch and min(by_epoch.values()) < before:
        best = min(by_epoch, key=by_epoch.__getitem__)
        return f"After epoch {best} the held-out loss was lower than before training: use --epochs {best}."
    return "Train longer, or use another learning rate."


def _losses_by_epoch(arms: TrialsByArm, arm: str) -> dict[int, float]:
    """Return the mean held-out loss over seeds after each epoch that all seeds have, where it is finite."""
    trials = list(arms[arm].values())
    epochs = set.intersection(*(set(trial.held_out_by_epoch) for trial in trials))
    losses = {epoch: fmean(_loss(trial.held_out_by_epoch[epoch]) for trial in trials) for epoch in sorted(epochs)}
    return {epoch: loss for epoch, loss in losses.items() if math.isfinite(loss)}


def _loss(values: ItemValues) -> float:
    return float(np.average(values.values, weights=values.weights))


def _worse_loss(
    arms: TrialsByArm,
    baseline: str,
    base_scores: Mapping[str, float | None],
    metrics: Mapping[str, Metric],
    primary: str,
) -> Iterator[str]:
    """Yield the trials whose held-out loss is not better than that of the base model, although the baseline learned."""
    before = base_scores.get(HELD_OUT_LOSS)
    if before is None or not are_finite(before):
        return
    found = {
        arm: [seed for seed, trial in trials.items() if before <= (trial.scores.get(HELD_OUT_LOSS) or 0.0) < math.inf]
        for arm, trials in arms.items()
    }
    name = metrics[HELD_OUT_LOSS].name_within
    other_metric = ", or choose another metric with --metric in a new sweep" if primary == HELD_OUT_LOSS else ""
    if len(found[baseline]) == len(arms[baseline]):
        yield (
            f"The {name} of {baseline} is not lower than that of the base model, although the responses are better. "
            f"Use fewer epochs or a smaller learning rate{other_metric}."
        )
    elif any(found.values()):
        yield (
            f"The {name} of {_trials(found)} is not lower than that of the base model. "
            "Inspect the learning curves; a smaller learning rate can help."
        )


def _without_room(
    means: Mapping[str, Mapping[str, float | None]], baseline: str, metrics: Mapping[str, Metric], primary: str
) -> Iterator[str]:
    """Yield the correctness metrics that can hardly show a difference: nearly all responses are right, or wrong.

    References of several sentences are rarely matched exactly. Rates near 0 are therefore a problem only for the
    primary metric.
    """
    for key in CORRECTNESS_METRICS:
        rates = [one for of_arm in means.values() if (one := of_arm.get(key)) is not None]
        rate = means[baseline].get(key)
        if rate is not None and rate >= 1 - NO_ROOM:
            name = metrics[key].name
            yield f"{name} of {baseline} is {rate:.3f}, so it can hardly improve. Use harder held-out examples."
        elif rates and max(rates) <= NO_ROOM and key == primary:
            most = f"at most {max(rates):.3f}" if any(rates) else "0"
            yield (
                f"{metrics[key].name} is {most} in every arm, so it can hardly show a difference. "
                "Train longer, or choose another metric with --metric."
            )


def _bundled_model(setting: Setting | None) -> Iterator[str]:
    if setting and setting.model == BUNDLED_MODEL and setting.data not in ("", BUNDLED_DATASET):
        yield (
            f"The bundled model {BUNDLED_MODEL} was pretrained only on facts about fictional people. On "
            f"{setting.data} it is suitable only for trying out the tool: its results say nothing about other models. "
            "Use --model with the model that you want to fine-tune."
        )


def _diverged(arms: TrialsByArm) -> Iterator[str]:
    diverged = {
        arm: [seed for seed, trial in trials.items() if _has_diverged(trial.scores)] for arm, trials in arms.items()
    }
    if any(diverged.values()):
        has_noise = any(arms[arm][seed].alpha for arm, seeds in diverged.items() for seed in seeds)
        less_noise = ", or less noise" if has_noise else ""
        yield f"The training of {_trials(diverged)} diverged. Use a smaller learning rate{less_noise}."


def _has_diverged(scores: Mapping[str, float | None]) -> bool:
    loss = scores.get(HELD_OUT_LOSS)
    return loss is not None and not math.isfinite(loss)


def _trials(seeds: Mapping[str, Sequence[int]]) -> str:
    """Return arms with seeds, like `alpha=5 (seed 1) and alpha=10 (seeds 0, 2)`."""
    return listed(
        [
            f"{arm} (seed{'s' if len(of_arm) > 1 else ''} {', '.join(map(str, of_arm))})"
            for arm, of_arm in seeds.items()
            if of_arm
        ]
    )


def _mean(arms: TrialsByArm, arm: str, key: str) -> float | None:
    values = [score for trial in arms[arm].values() if (score := trial.scores.get(key)) is not None]
    return fmean(values) if values and all(map(math.isfinite, values)) else None
