"""The comparison for a paper: booktabs tables that compile as they are, everything in them escaped."""

import math
import re
from collections.abc import Iterator, Sequence

from neftune_cli.analysis.advice import advice
from neftune_cli.analysis.results import Comparison
from neftune_cli.analysis.wording import percent
from neftune_cli.reporting.cells import Block, Section, sections, title
from neftune_cli.reporting.footnotes import few_seeds_sentence, footnotes, margin_words, pairing_words
from neftune_cli.reporting.selection import early_stopping_section

MOST_ROWS = 36
"""Rows in one table, metrics' names among them: more don't fit on a page, and LaTeX breaks no table."""

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after the end of a row it would open an option
    "*": "{*}",  # after the end of a row it would be part of the command
    "`": r"\textasciigrave{}",
    "\N{MINUS SIGN}": "$-$",
    "\N{EN DASH}": r"\textendash{}",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{DOWNWARDS ARROW}": r"$\downarrow$",
    "\N{UPWARDS ARROW}": r"$\uparrow$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
}
_ESCAPED = re.compile("|".join(map(re.escape, _ESCAPES)))


def to_latex(comparisons: Sequence[Comparison]) -> str:
    """Return the tables one after another; they need the package booktabs and nothing else.

    A table environment a section, cut between metrics where it would be longer than a page. What is said outside the
    tables stands in comments.
    """
    several = len(comparisons) > 1
    parts = [
        _comparison(comparison, f"{number}-" if several else "") for number, comparison in enumerate(comparisons, 1)
    ]
    return "\n".join(parts)


def escaped(text: str) -> str:
    """Return text on one line that LaTeX prints as it is."""
    plain = _ESCAPED.sub(lambda found: _ESCAPES[found.group()], " ".join(text.split()))
    return re.sub("-(?=-)", "-{}", plain)  # two hyphens would become a dash


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
    """Yield the blocks that fit into one table, and what tells its label from those of the others."""
    at_most = max(1, MOST_ROWS // (len(section.rows) + 1))
    for number, blocks in enumerate(section.parts(math.ceil(len(section.blocks) / at_most)), 1):
        yield blocks, "" if number == 1 else f"-{number}"


def _table(section: Section, blocks: Sequence[Block], comparison: Comparison, label: str) -> str:
    columns = len(section.headings)
    lines = [
        r"\begin{table}[htbp]",
        r"\centering\small",
        rf"\caption{{{_caption(section, comparison)}}}",
        rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{{'lrrrl'[:columns]}}}",
        r"\toprule",
        _row(section.headings),
    ]
    for block in blocks:
        lines += [r"\midrule", rf"\multicolumn{{{columns}}}{{l}}{{{escaped(block.title)}}} \\"]
        lines += map(_row, section.lines(block))
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"{' & '.join(escaped(cell) for cell in cells)} \\\\"


def _caption(section: Section, comparison: Comparison) -> str:
    sentences = [f"{section.title}: {comparison.setting.words}."]
    sentences.append(section.note or "Mean ± standard deviation over seeds.")
    if len(section.headings) > 2:
        sentences += _compared(section, comparison)
    return escaped(" ".join(filter(None, sentences)))


def _compared(section: Section, comparison: Comparison) -> Iterator[str]:
    whose = "" if section.note else f" from {comparison.baseline}"
    yield (
        f"Differences{whose} are paired by {pairing_words(comparison, section.keys)}, with "
        f"{percent(comparison.confidence)} intervals; verdicts are corrected over arms (Holm), differences and "
        "equivalences each for themselves."
    )
    yield few_seeds_sentence(comparison)
    if margins := margin_words(comparison, section.keys):
        yield f"Equivalent means within the margin: {margins}."


def _slug(text: str) -> str:
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")
