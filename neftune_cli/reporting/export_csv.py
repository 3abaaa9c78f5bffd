"""The comparison for spreadsheets and data frames: one row a sweep, arm and metric."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence

from neftune_cli.analysis.results import ArmSummary, Comparison
from neftune_cli.config.spec import BASE_ARM
from neftune_cli.reporting.export_json import exported_estimate, finite

CSV_COLUMNS = (
    "sweep",
    "arm",
    "alpha",
    "metric",
    "mean",
    "sd",
    "difference",
    "difference_sd",
    "ci_low",
    "ci_high",
    "p_value",
    "p_adjusted",
    "p_equivalent",
    "margin",
    "verdict",
    "about",
    "seeds",
    "items",
)
"""Header of the CSV, fields named as in the JSON; `seeds` are those the mean is over, with spaces between."""

_Row = Mapping[str, str | float | None]


def to_csv(comparisons: Sequence[Comparison]) -> str:
    """Return one row a sweep, arm and metric, the base among the arms; empty where a number is undefined."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for comparison in comparisons:
        writer.writerows(_base_rows(comparison))
        writer.writerows(row for arm in comparison.arms for row in _arm_rows(comparison, arm))
    return text.getvalue()


def _base_rows(comparison: Comparison) -> Iterator[_Row]:
    if comparison.base is not None:
        for key in comparison.metrics:
            value = finite(comparison.base.get(key))
            yield {"sweep": comparison.sweep, "arm": BASE_ARM, "metric": key, "mean": value}


def _arm_rows(comparison: Comparison, arm: ArmSummary) -> Iterator[_Row]:
    alpha = "" if arm.alpha is None else f"{arm.alpha:g}"
    for key in comparison.metrics:
        row: dict[str, str | float | None] = {"sweep": comparison.sweep, "arm": arm.name, "alpha": alpha, "metric": key}
        if estimate := arm.estimates.get(key):
            exported = exported_estimate(estimate)
            row |= exported.model_dump(include=set(CSV_COLUMNS))
            row["seeds"] = " ".join(map(str, exported.seeds))
        yield row
