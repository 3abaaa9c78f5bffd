"""What choosing gains: the best arm measured on what it was not chosen on, and every arm's best epoch, for people."""

import math
from collections.abc import Iterator, Sequence

from neftune_cli.analysis.paired import PairedComparison
from neftune_cli.analysis.results import BestArm, Comparison, EarlyStopping, Judgement
from neftune_cli.analysis.wording import percent
from neftune_cli.evidence.metrics import HELD_OUT_LOSS, METRICS, Metric
from neftune_cli.reporting.cells import (
    DASH,
    DIVERGED,
    NO_DIFFERENCE,
    NOT_FINITE,
    Block,
    Cell,
    Difference,
    Section,
    judged_difference,
)

BEST_ARM_TITLE = "Best arm"
EARLY_STOPPING_TITLE = "Early stopping"


def best_arm_sentences(comparison: Comparison) -> str | None:
    """Return what choosing the best arm gains, naively and honestly; None where nothing was chosen."""
    best = comparison.best
    if best is None:
        return None
    metric = comparison.metrics.get(best.metric) or METRICS[best.metric]
    parts = " and ".join(best.split)
    return (
        f"{metric.name}: {best.arm} is the best arm, {metric.signed(best.naive)} beside {comparison.baseline} on the "
        f"{parts} that it was chosen on, which is too good on average. Chosen on one part of {parts}, measured on the "
        f"other: {_honest(best.gain, metric)}. {_chosen(best)}"
    )


def early_stopping_section(comparison: Comparison) -> Section | None:
    """Return every arm after its last and at its best epoch beside the baseline at its best; None where unknown."""
    stopping = comparison.early_stopping
    if stopping is None:
        return None
    metric = METRICS[HELD_OUT_LOSS]
    epochs = Block("chosen", "epoch", tuple(Cell(f"{arm.best_epoch:.1f}") for arm in stopping.arms), None)
    return Section(
        title=EARLY_STOPPING_TITLE,
        rows=tuple(arm.name for arm in stopping.arms),
        blocks=(epochs, _at_best(stopping, metric), _at_last(stopping, metric)),
        against="difference",
        interval=f"{percent(comparison.confidence)} interval",
        keys=(metric.key,),
        note=_note(stopping, comparison.baseline),
    )


def _at_best(stopping: EarlyStopping, metric: Metric) -> Block:
    losses = tuple(_loss(arm.best_loss, metric) for arm in stopping.arms)
    differences = tuple(_differences([arm.best for arm in stopping.arms], metric))
    compared = any(arm.best for arm in stopping.arms)
    return Block(metric.title, f"best epoch, {metric.unit}", losses, differences if compared else None)


def _at_last(stopping: EarlyStopping, metric: Metric) -> Block:
    losses = tuple(_loss(arm.last_loss, metric) for arm in stopping.arms)
    differences = tuple(_differences([arm.last for arm in stopping.arms], metric))
    return Block(metric.title, f"last epoch, {metric.unit}", losses, differences)


def _honest(gain: PairedComparison, metric: Metric) -> str:
    number = metric.signed(gain.difference)
    if not math.isfinite(gain.ci_low):
        return number
    return (
        f"{number} ({percent(gain.confidence)} interval {metric.signed(gain.ci_low)} to {metric.signed(gain.ci_high)})"
    )


def _chosen(best: BestArm) -> str:
    ranked = sorted(best.chosen.items(), key=lambda one: -one[1])
    shares = ", ".join(f"{arm} in {share:.0%}" for arm, share in ranked if share > 0)
    return f"Best in the splits: {shares}."


def _note(stopping: EarlyStopping, baseline: str) -> str:
    return (
        f"Every difference is to {baseline} at its best epoch. Epochs ({_epochs(stopping)}) are chosen on other items "
        "than those they are measured on."
    )


def _epochs(stopping: EarlyStopping) -> str:
    """Return the epochs that all arms choose from, or each arm's own where they differ."""
    by_arm = {arm.name: _span(arm.epochs or stopping.epochs) for arm in stopping.arms}
    if len(set(by_arm.values())) == 1:
        return next(iter(by_arm.values()))
    return "; ".join(f"{span} of {arm}" for arm, span in by_arm.items())


def _span(epochs: Sequence[int]) -> str:
    return f"{epochs[0]} to {epochs[-1]}" if len(epochs) > 1 else str(epochs[0])


def _loss(value: float, metric: Metric) -> Cell:
    return Cell(metric.number(value) if math.isfinite(value) else NOT_FINITE)


def _differences(judgements: Sequence[Judgement | None], metric: Metric) -> Iterator[Difference]:
    """Yield the differences; the first arm is the baseline, which need not differ from itself."""
    for number, judgement in enumerate(judgements):
        missing = Difference(DASH, p=DASH, remark=DIVERGED) if number else NO_DIFFERENCE
        yield missing if judgement is None else judged_difference(judgement, metric)
