"""What to do after a comparison: decided from verdicts alone, before anybody puts it into words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from neftune_cli.analysis.results import Assessment, Comparison, EarlyStopping, StoppedArm
from neftune_cli.metrics import HELD_OUT_LOSS, Metric

MOST_SEEDS_ADVISED = 30
"""More seeds than that are called too many to be worth it."""

Action = Literal["use", "stop earlier", "keep", "more seeds", "open", "neither is good", "too few seeds", "no evidence"]
"""`use` an arm; `stop` the baseline `earlier`, which the arm isn't shown to beat; `keep` the baseline; run `more
seeds`; leave it `open`; of a metric of which `neither` way `is good` only say what changed; with `too few seeds` say
what the checkpoints do; with `no evidence` say why there is none."""


@dataclass(frozen=True)
class Decision:
    """What the verdicts on one metric add up to."""

    action: Action
    arm: str | None
    """The arm to use, or the one that the fewest more seeds would settle."""
    seeds: int | None
    """About how many seeds in all would settle `arm`."""
    judged: Mapping[str, Assessment]
    """Arms with a verdict."""
    checkpoints: Mapping[str, Assessment]
    """Arms with fewer seeds than a statement about the method takes."""
    unjudged: tuple[str, ...]
    """Arms without a shared seed or a finite value, or of which nothing says how sure the difference is."""


def decide(comparison: Comparison) -> Decision:
    """Return what the verdicts on the primary metric add up to."""
    metric = comparison.metrics[comparison.primary]
    known = {arm.name: one for arm in comparison.treated if (one := comparison.assessment(arm.name, metric.key))}
    judged = {arm: one for arm, one in known.items() if one.verdict}
    checkpoints = {arm: one for arm, one in known.items() if one.comparison.about == "checkpoints"}
    unjudged = tuple(arm.name for arm in comparison.treated if arm.name not in judged and arm.name not in checkpoints)
    action, arm = _action(comparison, metric, judged, checkpoints)
    needed = judged[arm].seeds_needed if action in ("more seeds", "open") and arm else None
    return Decision(action, arm, needed, judged, checkpoints, unjudged)


def stopped_arm(stopping: EarlyStopping | None, name: str) -> StoppedArm | None:
    """Return an arm beside the early-stopped baseline, None where it isn't there."""
    return next((arm for arm in stopping.arms if arm.name == name), None) if stopping else None


def _action(
    comparison: Comparison, metric: Metric, judged: Mapping[str, Assessment], checkpoints: Mapping[str, Assessment]
) -> tuple[Action, str | None]:
    words = {assessment.verdict for assessment in judged.values()}
    if not judged:
        return ("too few seeds" if checkpoints else "no evidence"), None
    if words & {"higher", "lower"}:
        return "neither is good", None
    if better := {arm: one for arm, one in judged.items() if one.verdict == "better"}:
        return _better(comparison, metric, better)
    if "inconclusive" in words:
        return _inconclusive(judged)
    return "keep", None


def _better(comparison: Comparison, metric: Metric, better: Mapping[str, Assessment]) -> tuple[Action, str | None]:
    """Take the best of the better arms, those first that are better than the early-stopped baseline too."""
    own = {arm: one for arm, one in better.items() if not _may_be_replaced_by_stopping(comparison, arm)}
    sign = 1 if metric.goal == "lower" else -1
    best = min(own or better, key=lambda arm: sign * better[arm].comparison.difference)
    return ("use" if own else "stop earlier"), best


def _may_be_replaced_by_stopping(comparison: Comparison, arm: str) -> bool:
    """Return whether the baseline was shown to be trained too long, and the arm not to beat it at its best epoch."""
    stopping = comparison.early_stopping if comparison.primary == HELD_OUT_LOSS else None
    baseline, treated = stopped_arm(stopping, comparison.baseline), stopped_arm(stopping, arm)
    overtrained = baseline is not None and baseline.last is not None and baseline.last.verdict == "worse"
    return bool(overtrained and treated and treated.best and treated.best.verdict != "better")


def _inconclusive(judged: Mapping[str, Assessment]) -> tuple[Action, str | None]:
    more = {arm: one.seeds_needed - one.comparison.seeds for arm, one in judged.items() if one.seeds_needed}
    nearest = min(more, key=more.__getitem__) if more else None
    return ("more seeds" if nearest and more[nearest] <= MOST_SEEDS_ADVISED else "open"), nearest
