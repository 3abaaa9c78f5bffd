"""Comparison in LaTeX: booktabs tables with captions and labels, ready to include in a paper."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256

from neftune_cli.analysis.advice import advice
from neftune_cli.analysis.results import Comparison, Verdict
from neftune_cli.config.spec import BASE_ARM
from neftune_cli.formatting import percent
from neftune_cli.metrics import HELD_OUT_RESPONSES, TRUNCATED, Metric
from neftune_cli.reporting.cells import arm_with_role, number_cell, value_cell
from neftune_cli.reporting.footnotes import footnotes
from neftune_cli.reporting.inference_sentences import (
    few_seeds_sentence,
    has_arms_tested_together,
    interval_ends_text,
    intervals_text,
    margins_by_metric,
    pairing,
    tested_alone_text,
    tests_text,
)
from neftune_cli.reporting.sanitizing import latex_text
from neftune_cli.reporting.sections import (
    EARLY_STOPPING_TITLE,
    Block,
    Section,
    early_stopping_section,
    is_defined,
    row_names,
    sections,
    title,
)

MOST_ROWS = 36
"""Rows in one table, including the names of metrics: LaTeX does not break a table over pages."""


def to_latex(comparisons: Sequence[Comparison]) -> str:
    """Return the tables one after another; they need the booktabs package and nothing else.

    The first table is a compact one of the primary metric and the response metrics. Then each section is one table
    environment, split between metrics where it would be longer than a page. Advice and footnotes are comments.
    """
    several = len(comparisons) > 1
    parts = [
        _comparison(comparison, f"{number}-" if several else "") for number, comparison in enumerate(comparisons, 1)
    ]
    return "\n".join(parts)


def _comparison(comparison: Comparison, number: str) -> str:
    stopping, prefix = early_stopping_section(comparison), f"{number}{_label_of(comparison.sweep)}"
    tables = [
        _table(section, part, comparison, f"{prefix}-{_slug(section.title)}{suffix}")
        for section in [*sections(comparison), *([stopping] if stopping else [])]
        for part, suffix in _parts(section)
    ]
    return "\n".join([*_comments(comparison), *_compact_tables(comparison, f"{prefix}-compact"), *tables])


def _comments(comparison: Comparison) -> Iterator[str]:
    yield "% Needs \\usepackage{booktabs}."
    for text in (title(comparison), comparison.difference_from_first, advice(comparison), *footnotes(comparison)):
        if text:
            yield f"% {' '.join(text.split())}"


def _parts(section: Section) -> Iterator[tuple[Sequence[Block], str]]:
    """Yield the blocks of each table with the suffix of its label."""
    at_most = max(1, MOST_ROWS // (len(section.rows) + 1))
    for number, blocks in enumerate(section.parts(math.ceil(len(section.blocks) / at_most)), 1):
        yield blocks, "" if number == 1 else f"-{number}"


def _table(section: Section, blocks: Sequence[Block], comparison: Comparison, label: str) -> str:
    columns = section.columns()
    lines = [
        r"\begin{table}[htbp]",
        r"\centering\small",
        rf"\caption{{{_caption(section, comparison)}}}",
        rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{{''.join(column.align[0] for column in columns)}}}",
        r"\toprule",
        _row([section.heading(column) for column in columns]),
    ]
    for block in blocks:
        lines += [r"\midrule", rf"\multicolumn{{{len(columns)}}}{{l}}{{{latex_text(block.title)}}} \\"]
        lines += map(_row, section.lines(block))
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"{' & '.join(latex_text(cell) for cell in cells)} \\\\"


def _caption(section: Section, comparison: Comparison) -> str:
    sentences = [f"{section.title}: {comparison.setting.description}."]
    sentences.append(section.note or "Mean ± standard deviation over seeds.")
    if section.compares:
        sentences += _inference(section, comparison)
    return latex_text(" ".join(filter(None, sentences)))


def _inference(section: Section, comparison: Comparison) -> Iterator[str]:
    baseline = "" if section.note else f" from {comparison.baseline}"
    yield f"Differences{baseline} are paired by {pairing(comparison, section.keys)}."
    verdicts = _verdicts(comparison, section.keys)
    if not verdicts:
        yield "No arm was tested."
    elif section.title == EARLY_STOPPING_TITLE:
        yield _early_stopping_tests(comparison)
    else:
        yield intervals_text(comparison, section.keys)
        yield tests_text(comparison, section.keys)
        if any(key in comparison.noise_tests for key in section.keys):
            yield "P-values for difference are at least that of the any-noise test."
    yield from (departure.sentence for departure in comparison.departures)
    yield few_seeds_sentence(comparison)
    if margins := margins_by_metric(comparison, section.keys):
        yield f"Equivalence margins: {margins}."


def _early_stopping_tests(comparison: Comparison) -> str:
    level = f"{percent(1 - comparison.confidence)} level"
    at_look = ", at the last look" if comparison.declared.has_planned_looks else ""
    if len(comparison.studied) == 1:  # the table has no controls
        return f"Verdicts use single tests at the {level}{at_look}. {interval_ends_text(comparison)}"
    return (
        "The differences at the best epoch and those after the last epoch are two families of tests. In each, p-values "
        f"are adjusted for the number of arms (Hommel's method, {level}{at_look}), separately for difference and "
        f"equivalence, and the {percent(comparison.confidence)} intervals are simultaneous (Bonferroni). "
        f"{comparison.baseline} after its last epoch is tested alone. {interval_ends_text(comparison)}"
    )


# Compact table

PANEL = 4
"""Metrics beside each other in the compact table; more metrics are below each other, under headings of their own."""
MARKS: Mapping[Verdict | None, str] = {
    "better": "$^{+}$",
    "worse": "$^{-}$",
    "higher": r"$^{\uparrow}$",
    "lower": r"$^{\downarrow}$",
    "equivalent": r"$^{\approx}$",
    "inconclusive": "",
    None: "",
}
"""Marks of the verdicts in the compact table."""


def _compact_tables(comparison: Comparison, label: str) -> Iterator[str]:
    """Yield one table, or several with all arms where it would be longer than a page."""
    metrics = _compact_metrics(comparison)
    size = PANEL * max(1, MOST_ROWS // (len(row_names(comparison)) + 1))
    for number, start in enumerate(range(0, len(metrics), size), 1):
        yield _compact_table(comparison, metrics[start : start + size], label if number == 1 else f"{label}-{number}")


def _compact_table(comparison: Comparison, metrics: Sequence[Metric], label: str) -> str:
    lines = [
        r"\begin{table}[htbp]",
        r"\centering\small",
        rf"\caption{{{_compact_caption(comparison, metrics)}}}",
        rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{l{'r' * min(PANEL, len(metrics))}}}",
        r"\toprule",
    ]
    for start in range(0, len(metrics), PANEL):
        lines += [r"\midrule"] if start else []
        lines += _panel(comparison, metrics[start : start + PANEL], min(PANEL, len(metrics)))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def _compact_metrics(comparison: Comparison) -> list[Metric]:
    """Return the primary metric and the metrics of responses that have a value."""
    primary = comparison.metrics[comparison.primary]
    others = [
        metric
        for metric in comparison.metrics.values()
        if metric.section == HELD_OUT_RESPONSES and metric.key not in (primary.key, TRUNCATED)
    ]
    return [primary, *(metric for metric in others if is_defined(comparison, metric.key))]


def _panel(comparison: Comparison, metrics: Sequence[Metric], columns: int) -> Iterator[str]:
    """Yield the heading and the rows of metrics beside each other, filled up to the columns of the table."""
    spare = [""] * (columns - len(metrics))
    yield _joined(["arm", *(latex_text(metric.title) for metric in metrics), *spare])
    yield r"\midrule"
    for arm in row_names(comparison):
        yield _joined([_arm_name(comparison, arm), *(_value(comparison, arm, metric) for metric in metrics), *spare])


def _joined(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def _arm_name(comparison: Comparison, arm: str) -> str:
    return latex_text(arm if arm == BASE_ARM else arm_with_role(comparison, arm))


def _value(comparison: Comparison, arm: str, metric: Metric) -> str:
    if arm == BASE_ARM:
        value = (comparison.base_scores or {}).get(metric.key)
        return "" if value is None else latex_text(number_cell(value, metric).number)
    estimate = next(one for one in comparison.arms if one.name == arm).estimates.get(metric.key)
    cell = value_cell(estimate, metric)
    spread = rf"\,{{\scriptsize {latex_text(f'± {cell.spread}')}}}" if cell.spread else ""
    assessment = estimate.assessment if estimate else None
    return latex_text(cell.number) + spread + MARKS[assessment.verdict if assessment else None]


def _compact_caption(comparison: Comparison, metrics: Sequence[Metric]) -> str:
    setting = latex_text(f"{comparison.setting.description}. Mean ± standard deviation over seeds.")
    if not comparison.treated:
        return setting
    departures = [latex_text(departure.sentence) for departure in comparison.departures]
    return " ".join([setting, _verdict_legend(comparison, metrics), *departures])


def _verdict_legend(comparison: Comparison, metrics: Sequence[Metric]) -> str:
    """Return the meaning of the marks that occur in the table."""
    keys = [metric.key for metric in metrics]
    verdicts = _verdicts(comparison, keys)
    level = f"compared with {comparison.baseline}{_adjustment(comparison, keys)}"
    if not verdicts:
        return "No arm was tested."
    used = [verdict for verdict, mark in MARKS.items() if mark and verdict in verdicts]
    alone = tested_alone_text(comparison).lstrip()
    if not used:
        return latex_text(f"No arm has a verdict of a difference or of equivalence {level}. {alone}")
    marks = ", ".join(f"{MARKS[verdict]} {verdict}" for verdict in used)
    return f"{latex_text(f'Verdicts {level}:')} {marks}. {latex_text(alone)}".rstrip()


def _adjustment(comparison: Comparison, keys: Iterable[str]) -> str:
    """Return what the tests on these metrics are adjusted for, and their level."""
    adjusted = ["for the number of arms (Hommel's method)"] if has_arms_tested_together(comparison, keys) else []
    adjusted += ["for the planned looks"] if comparison.declared.has_planned_looks else []
    at_level = f" at the {percent(1 - comparison.confidence)} level"
    return f", adjusted {' and '.join(adjusted)}{at_level}" if adjusted else at_level


def _verdicts(comparison: Comparison, keys: Iterable[str]) -> set[Verdict]:
    """Return the verdicts that occur on these metrics; empty if no arm was tested."""
    return {one.verdict for key in keys for one in comparison.assessments(key).values() if one.verdict}


def _label_of(sweep: str) -> str:
    """Return the name of a sweep in labels. A name without letters and digits of ASCII has a hash in its place."""
    return _slug(sweep) or f"sweep-{sha256(sweep.encode()).hexdigest()[:8]}"


def _slug(text: str) -> str:
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")
