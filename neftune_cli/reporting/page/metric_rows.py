"""Rows of the page's tables: one metric over the base and all arms, and the losses of early stopping."""

from dataclasses import dataclass
from typing import Literal

from neftune_cli.analysis.results import ArmSummary, Comparison, Estimate, Judgement, StoppedArm
from neftune_cli.config.spec import BASE_ARM
from neftune_cli.evidence.metrics import METRICS, Metric
from neftune_cli.reporting.page.interval_drawing import IntervalDrawing, draw_intervals
from neftune_cli.reporting.page.written import (
    NOTHING,
    UNKNOWN,
    Figure,
    Verdict,
    difference,
    interval,
    level,
    p_value,
    spread,
    verdict,
)


@dataclass(frozen=True)
class DifferenceCells:
    """What is said of one difference, cell by cell."""

    difference: Figure = NOTHING
    interval: str = ""
    p: Figure = NOTHING
    detectable: Figure = NOTHING
    verdict: Verdict | None = None


@dataclass(frozen=True)
class MetricRow:
    """One arm in a metric's table."""

    arm: str
    role: Literal["base", "baseline", "arm"]
    mean: Figure
    sd: Figure
    cells: DifferenceCells
    drawing: IntervalDrawing | None = None


@dataclass(frozen=True)
class MetricRows:
    """One metric over all arms."""

    metric: Metric
    rows: tuple[MetricRow, ...]


@dataclass(frozen=True)
class StoppedRow:
    """One arm in the table of early stopping, after its last epoch or at its best."""

    arm: str
    role: Literal["baseline", "arm"]
    epoch: Figure
    loss: Figure
    cells: DifferenceCells


def metric_rows(comparison: Comparison, key: str) -> MetricRows:
    """Return the rows of one metric: the base where it was evaluated, then the arms."""
    metric = comparison.metrics[key]
    base = [] if comparison.base is None else [_base_row(metric, comparison.base.get(key))]
    drawings = draw_intervals({arm.name: comparison.judgement(arm.name, key) for arm in comparison.arms})
    arms = [_arm_row(comparison, metric, arm, drawings.get(arm.name)) for arm in comparison.arms]
    return MetricRows(metric, (*base, *arms))


def by_section(comparison: Comparison) -> dict[str, list[MetricRows]]:
    """Return the rows of all metrics that have a value anywhere, by the title of their table."""
    sections: dict[str, list[MetricRows]] = {}
    for key, metric in comparison.metrics.items():
        rows = metric_rows(comparison, key)
        if any(row.mean is not UNKNOWN for row in rows.rows):
            sections.setdefault(metric.section, []).append(rows)
    return sections


def stopped_rows(comparison: Comparison) -> dict[str, list[StoppedRow]]:
    """Return the rows of early stopping by when training ended, the baseline first; none where it wasn't measured."""
    if (stopping := comparison.early_stopping) is None:
        return {}
    metric = comparison.metrics.get("eval_loss", METRICS["eval_loss"])
    last = max(stopping.epochs)
    return {
        "After the last epoch": [_last_row(comparison, metric, arm, last) for arm in stopping.arms],
        "At its own best epoch": [_best_row(comparison, metric, arm) for arm in stopping.arms],
    }


def difference_cells(metric: Metric, judgement: Judgement | None) -> DifferenceCells:
    """Return the cells of a difference that was judged; unknown ones where it wasn't."""
    if judgement is None:
        return DifferenceCells(UNKNOWN, UNKNOWN.text, UNKNOWN, UNKNOWN)
    return DifferenceCells(
        difference=difference(metric, judgement.comparison.difference),
        interval=interval(metric, judgement.comparison),
        p=p_value(judgement.p_adjusted),
        detectable=level(metric, judgement.detectable),
        verdict=verdict(judgement),
    )


def _base_row(metric: Metric, value: float | None) -> MetricRow:
    return MetricRow(BASE_ARM, "base", level(metric, value), NOTHING, DifferenceCells())


def _arm_row(comparison: Comparison, metric: Metric, arm: ArmSummary, drawing: IntervalDrawing | None) -> MetricRow:
    estimate = arm.estimates.get(metric.key)
    role = _role(comparison, arm.name)
    return MetricRow(
        arm=arm.name,
        role=role,
        mean=level(metric, estimate.mean if estimate else None),
        sd=spread(metric, estimate.sd if estimate else None),
        cells=DifferenceCells() if role == "baseline" else _cells(metric, estimate),
        drawing=drawing,
    )


def _cells(metric: Metric, estimate: Estimate | None) -> DifferenceCells:
    return difference_cells(metric, estimate.judgement if estimate else None)


def _last_row(comparison: Comparison, metric: Metric, arm: StoppedArm, epoch: int) -> StoppedRow:
    cells = difference_cells(metric, arm.last)
    return StoppedRow(
        arm.name, _role(comparison, arm.name), Figure(str(epoch), epoch), level(metric, arm.last_loss), cells
    )


def _best_row(comparison: Comparison, metric: Metric, arm: StoppedArm) -> StoppedRow:
    role = _role(comparison, arm.name)
    cells = DifferenceCells() if role == "baseline" else difference_cells(metric, arm.best)
    epoch = Figure(f"{arm.best_epoch:.1f}", arm.best_epoch)
    return StoppedRow(arm.name, role, epoch, level(metric, arm.best_loss), cells)


def _role(comparison: Comparison, arm: str) -> Literal["baseline", "arm"]:
    return "baseline" if arm == comparison.baseline else "arm"
