"""Comparison in LaTeX: booktabs tables with captions and labels, ready to include in a paper."""

import math
import re
from collections.abc import Iterator, Sequence

from neftune_cli.analysis.advice import advice
from neftune_cli.analysis.results import Comparison
from neftune_cli.formatting import percent
from neftune_cli.reporting.footnotes import few_seeds_sentence, footnotes, margins_by_metric, pairing
from neftune_cli.reporting.sanitizing import latex_text
from neftune_cli.reporting.sections import Block, Section, early_stopping_section, sections, title

MOST_ROWS = 36
"""Rows in one table, including the names of metrics: LaTeX does not break a table over pages."""


def to_latex(comparisons: Sequence[Comparison]) -> str:
    """Return the tables one after another; they need the booktabs package and nothing else.

    Each section is one table environment, split between metrics where it would be longer than a page. Advice and
    footnotes are comments.
    """
    several = len(comparisons) > 1
    parts = [
        _comparison(comparison, f"{number}-" if several else "") for number, comparison in enumerate(comparisons, 1)
    ]
    return "\n".join(parts)


def _comparison(comparison: Comparison, number: str) -> str:
    stopping = early_stopping_section(comparison)
    tables = [
        _table(section, part, comparison, f"{number}{_slug(comparison.sweep)}-{_slug(section.title)}{suffix}")
        for section in [*sections(comparison), *([stopping] if stopping else [])]
        for part, suffix in _parts(section)
    ]
    return "\n".join([*_comments(comparison), *tables])


def _comments(comparison: Comparison) -> Iterator[str]:
    yield "% Needs \\usepackage{booktabs}."
    for text in (title(comparison), comparison.apart, advice(comparison), *footnotes(comparison)):
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
    baseline = "" if section.note else f" to {comparison.baseline}"
    yield f"Differences{baseline} are paired by {pairing(comparison, section.keys)}."
    yield f"The {percent(comparison.confidence)} intervals are unadjusted."
    yield (
        "Verdicts use p-values adjusted for the number of arms (Hommel's method), separately for difference and "
        "equivalence."
    )
    yield few_seeds_sentence(comparison)
    if margins := margins_by_metric(comparison, section.keys):
        yield f"Equivalence margins: {margins}."


def _slug(text: str) -> str:
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")
