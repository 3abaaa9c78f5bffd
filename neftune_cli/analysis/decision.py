"""Decision after a comparison: an action that follows from the verdicts on the primary metric."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from neftune_cli.analysis.results import Assessment, Comparison, EarlyStopping, StoppedArm
from neftune_cli.metrics import HELD_OUT_LOSS, Metric

MAX_ADDITIONAL_SEEDS = 30
"""Largest number of additional seeds to advise."""

Action = Literal[
    "use", "stop earlier", "keep baseline", "more seeds", "undecided", "no direction", "too few seeds", "no evidence"
]
"""Action to advise:

- `use`: use an arm, which is better than the baseline.
- `stop earlier`: stop the baseline earlier; the arm is not shown to be better than the early-stopped baseline.
- `keep baseline`: all arms with a verdict are worse or equivalent.
- `more seeds`: run additional seeds, at most `MAX_ADDITIONAL_SEEDS`.
- `undecided`: keep the baseline for now; more than `MAX_ADDITIONAL_SEEDS` seeds are needed, or no number decides.
- `no direction`: report the change; neither direction of the metric is an improvement.
- `too few seeds`: report the results of these checkpoints.
- `no evidence`: report the reasons why there is no verdict.
"""


@dataclass(frozen=True)
class Decision:
    """An action, and the assessments on which it is based."""

    action: Action
    arm: str | None
    """The arm to use, or the undecided arm that needs the fewest additional seeds."""
    seeds: int | None
    """Approximate total seeds that a verdict on `arm` needs."""
    with_verdict: Mapping[str, Assessment]
    checkpoints: Mapping[str, Assessment]
    """Arms with too few seeds for a verdict on the method."""
    without_verdict: tuple[str, ...]
    """Other arms; `missing_verdict_reason` returns the reason."""


def decide(comparison: Comparison) -> Decision:
    """Return the decision that follows from the verdicts on the primary metric."""
    metric = comparison.metrics[comparison.primary]
    known = {arm.name: one for arm in comparison.treated if (one := comparison.assessment(arm.name, metric.key))}
    with_verdict = {arm: one for arm, one in known.items() if one.verdict}
    checkpoints = {arm: one for arm, one in known.items() if one.comparison.about == "checkpoints"}
    others = tuple(arm.name for arm in comparison.treated if arm.name not in {**with_verdict, **checkpoints})
    action, arm = _action(comparison, metric, with_verdict, checkpoints)
    seeds = with_verdict[arm].seeds_needed if action in ("more seeds", "undecided") and arm else None
    return Decision(action, arm, seeds, with_verdict, checkpoints, others)


def stopped_arm(stopping: EarlyStopping | None, name: str) -> StoppedArm | None:
    """Return an arm of the early-stopping comparison, or None if it has no such arm."""
    return next((arm for arm in stopping.arms if arm.name == name), None) if stopping else None


def _action(
    comparison: Comparison,
    metric: Metric,
    with_verdict: Mapping[str, Assessment],
    checkpoints: Mapping[str, Assessment],
) -> tuple[Action, str | None]:
    verdicts = {assessment.verdict for assessment in with_verdict.values()}
    if not with_verdict:
        return ("too few seeds" if checkpoints else "no evidence"), None
    if verdicts & {"higher", "lower"}:
        return "no direction", None
    if better := {arm: one for arm, one in with_verdict.items() if one.verdict == "better"}:
        return _use_or_stop(comparison, metric, better)
    if "inconclusive" in verdicts:
        return _undecided(with_verdict)
    return "keep baseline", None


def _use_or_stop(comparison: Comparison, metric: Metric, better: Mapping[str, Assessment]) -> tuple[Action, str | None]:
    """Return the best of the better arms, preferably one that is also better than the early-stopped baseline."""
    preferred = {arm: one for arm, one in better.items() if not _early_stopping_may_suffice(comparison, arm)}
    sign = 1 if metric.goal == "lower" else -1
    best = min(preferred or better, key=lambda arm: sign * better[arm].comparison.difference)
    return ("use" if preferred else "stop earlier"), best


def _early_stopping_may_suffice(comparison: Comparison, arm: str) -> bool:
    """Return whether the baseline is overtrained and the arm is not better than the early-stopped baseline."""
    stopping = comparison.early_stopping if comparison.primary == HELD_OUT_LOSS else None
    baseline, treated = stopped_arm(stopping, comparison.baseline), stopped_arm(stopping, arm)
    overtrained = baseline is not None and baseline.last is not None and baseline.last.verdict == "worse"
    return bool(overtrained and treated and treated.best and treated.best.verdict != "better")


def _undecided(with_verdict: Mapping[str, Assessment]) -> tuple[Action, str | None]:
    more = {arm: one.seeds_needed - one.comparison.seeds for arm, one in with_verdict.items() if one.seeds_needed}
    nearest = min(more, key=more.__getitem__) if more else None
    return ("more seeds" if nearest and more[nearest] <= MAX_ADDITIONAL_SEEDS else "undecided"), nearest
