"""The comparison for other programs and documents: Markdown, CSV and JSON."""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence

from neftune_cli.analysis.comparison import ArmSummary, Comparison, Estimate
from neftune_cli.analysis.metrics import METRICS
from neftune_cli.analysis.reading import reading
from neftune_cli.config.spec import BASE_ARM
from neftune_cli.records import SCHEMA_VERSION, Record
from neftune_cli.reporting.cells import MetricColumns, difference_heading, metric_columns, row_names, title
from neftune_cli.reporting.footnotes import footnotes
from neftune_cli.reporting.tables import SECTIONS

CSV_COLUMNS = ("sweep", "arm", "alpha", "metric", "mean", "sd", "difference", "difference_sd", "seeds")
"""Header of the CSV; `seeds` are those the mean is over, with spaces between."""


class ExportedEstimate(Record):
    """One metric of one arm; null where a number is undefined or not finite."""

    mean: float | None
    sd: float | None
    """Standard deviation over seeds (ddof=1); null for one seed."""
    difference: float | None
    """Mean of arm minus baseline over the seeds both have; null for the baseline itself."""
    difference_sd: float | None
    """Standard deviation of the paired differences (ddof=1)."""
    seeds: tuple[int, ...]
    """Seeds that the mean is over."""


class ExportedComparison(Record):
    """One sweep: losses in nats per completion token, metrics named and scaled as in the trials' records."""

    sweep: str
    baseline: str
    base: dict[str, float | None] | None
    """Metric to value before fine-tuning."""
    noise_ratio: dict[str, float | None]
    """Arm to noise norm as a share of the embedding norm."""
    metrics: dict[str, dict[str, ExportedEstimate | None]]
    """Metric to arm to estimate; null where the metric isn't defined for the data."""
    reading: str
    notes: tuple[str, ...]
    unfinished: tuple[str, ...]


class ExportedComparisons(Record):
    """The whole JSON document of `neftune compare --format json`."""

    schema_version: int = SCHEMA_VERSION
    comparisons: tuple[ExportedComparison, ...]


def to_json(comparisons: Sequence[Comparison]) -> str:
    """Return the document that `ExportedComparisons` describes."""
    document = ExportedComparisons(comparisons=tuple(_exported(comparison) for comparison in comparisons))
    return document.model_dump_json(indent=2) + "\n"


def to_csv(comparisons: Sequence[Comparison]) -> str:
    """Return one row a sweep, arm and metric, the base among the arms; empty where a number is undefined."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for comparison in comparisons:
        writer.writerows(_base_rows(comparison))
        writer.writerows(row for arm in comparison.arms for row in _arm_rows(comparison, arm))
    return text.getvalue()


def to_markdown(comparisons: Sequence[Comparison]) -> str:
    """Return the summaries one after another."""
    return "\n".join(summary_markdown(comparison) for comparison in comparisons)


def summary_markdown(comparison: Comparison) -> str:
    """Return the content of `summary.md`: title, reading, the two tables as GitHub renders them, footnotes."""
    lines = [f"# {title(comparison)}", "", reading(comparison)]
    for section, keys in SECTIONS:
        if columns := metric_columns(comparison, keys):
            lines += ["", f"## {section}", "", *_markdown_table(comparison, columns)]
    lines += ["", *(f"- {line}" for line in footnotes(comparison))]
    return "\n".join(lines) + "\n"


def _exported(comparison: Comparison) -> ExportedComparison:
    return ExportedComparison(
        sweep=comparison.sweep,
        baseline=comparison.baseline,
        base=None if comparison.base is None else {key: _finite(value) for key, value in comparison.base.items()},
        noise_ratio={arm.name: arm.noise_ratio for arm in comparison.arms},
        metrics={key: {arm.name: _estimate(arm.estimates[key]) for arm in comparison.arms} for key in METRICS},
        reading=reading(comparison),
        notes=comparison.notes,
        unfinished=comparison.unfinished,
    )


def _estimate(estimate: Estimate | None) -> ExportedEstimate | None:
    if estimate is None:
        return None
    difference = estimate.difference
    return ExportedEstimate(
        mean=_finite(estimate.mean),
        sd=estimate.sd,
        difference=_finite(difference.mean) if difference else None,
        difference_sd=difference.sd if difference else None,
        seeds=tuple(estimate.by_seed),
    )


def _finite(value: float | None) -> float | None:
    # JSON has no infinity; Python's encoders would write one that other parsers refuse.
    return value if value is not None and math.isfinite(value) else None


_Row = Mapping[str, str | float | None]


def _base_rows(comparison: Comparison) -> Iterator[_Row]:
    for key, value in (comparison.base or {}).items():
        yield {"sweep": comparison.sweep, "arm": BASE_ARM, "metric": key, "mean": _finite(value)}


def _arm_rows(comparison: Comparison, arm: ArmSummary) -> Iterator[_Row]:
    alpha = "" if arm.alpha is None else f"{arm.alpha:g}"
    for key, estimate in arm.estimates.items():
        row: dict[str, str | float | None] = {"sweep": comparison.sweep, "arm": arm.name, "alpha": alpha, "metric": key}
        if exported := _estimate(estimate):
            row |= exported.model_dump(exclude={"seeds"})
            row["seeds"] = " ".join(map(str, exported.seeds))
        yield row


def _markdown_table(comparison: Comparison, columns: Sequence[MetricColumns]) -> Iterator[str]:
    headings, cells = ["arm"], [row_names(comparison)]
    for column in columns:
        headings.append(f"{column.metric.title} ({column.metric.unit})" if column.metric.unit else column.metric.title)
        cells.append([cell.text for cell in column.values])
        if column.differences is not None:
            headings.append(difference_heading(comparison))
            cells.append([cell.text for cell in column.differences])
    yield _markdown_row(headings)
    yield _markdown_row([":--", *["--:"] * (len(headings) - 1)])
    yield from (_markdown_row(row) for row in zip(*cells, strict=True))


def _markdown_row(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"
