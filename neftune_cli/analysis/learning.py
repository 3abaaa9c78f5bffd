"""Checks before a verdict: whether fine-tuning learned anything, had room to improve, and did not diverge."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from neftune_cli.analysis.alignment import TrialsByArm
from neftune_cli.metrics import HELD_OUT_LOSS, Metric

RESPONSE_METRICS = ("exact_match", "rouge_l")
"""Metrics that can show learning although the held-out loss rises."""
NO_ROOM = 0.02
"""Distance of an exact match rate to 0 or 1 within which there is no room for a difference."""


@dataclass(frozen=True)
class Learning:
    """Whether the trials can answer a question about fine-tuning."""

    has_learned: bool | None
    """Whether the baseline improves on the base model; None if the base model was not evaluated."""
    problems: tuple[str, ...] = ()
    """Sentences on what limits the comparison, each with what to change; the most important first."""


def check_learning(
    arms: TrialsByArm, baseline: str, base: Mapping[str, float | None] | None, metrics: Mapping[str, Metric]
) -> Learning:
    """Return whether the baseline learned, and the problems of the trials.

    Args:
        arms: trained trials.
        baseline: arm without the treatment.
        base: scores of the base model, or None.
        metrics: measured metrics.
    """
    means = {key: _mean(arms, baseline, key) for key in metrics}
    gains = dict(_gains(means, base or {}, metrics))
    has_learned = any(gain > 0 for gain in gains.values()) if gains else None
    problems = [*_diverged(arms), *_not_learned(gains, metrics), *_without_room(means, metrics)]
    return Learning(has_learned, tuple(problems))


def _gains(
    means: Mapping[str, float | None], base: Mapping[str, float | None], metrics: Mapping[str, Metric]
) -> Iterator[tuple[str, float]]:
    """Yield the improvement of the baseline over the base model in each metric that shows learning."""
    for key in (HELD_OUT_LOSS, *RESPONSE_METRICS):
        before, after = base.get(key), means.get(key)
        if before is not None and after is not None:
            yield key, (before - after) * (1 if metrics[key].goal == "lower" else -1)


def _not_learned(gains: Mapping[str, float], metrics: Mapping[str, Metric]) -> Iterator[str]:
    if gains and not any(gain > 0 for gain in gains.values()):
        names = " or ".join(metrics[key].name_within for key in gains)
        yield (
            f"Fine-tuning without noise does not improve {names} over the base model, so there is nothing that noise "
            "could improve. Train longer, or use another learning rate."
        )


def _without_room(means: Mapping[str, float | None], metrics: Mapping[str, Metric]) -> Iterator[str]:
    rate = means.get("exact_match")
    if rate is None or NO_ROOM < rate < 1 - NO_ROOM:
        return
    name = metrics["exact_match"].name
    if rate > 0.5:
        yield f"{name} is nearly 1, so it cannot show an improvement. Use harder held-out examples."


def _diverged(arms: TrialsByArm) -> Iterator[str]:
    diverged = {
        arm: [seed for seed, trial in trials.items() if _is_infinite(trial.scores)] for arm, trials in arms.items()
    }
    if found := [
        f"{arm} (seed{'s' if len(seeds) > 1 else ''} {_listed(seeds)})" for arm, seeds in diverged.items() if seeds
    ]:
        yield f"The training diverged: {'; '.join(found)}. Use a smaller learning rate."


def _is_infinite(scores: Mapping[str, float | None]) -> bool:
    loss = scores.get(HELD_OUT_LOSS)
    return loss is not None and not math.isfinite(loss)


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _mean(arms: TrialsByArm, arm: str, key: str) -> float | None:
    values = [score for trial in arms[arm].values() if (score := trial.scores.get(key)) is not None]
    return fmean(values) if values and all(map(math.isfinite, values)) else None
