"""Comparison in GitHub Markdown, the content of `summary.md`: first screen, advice, tables, notes and claims."""

import io
from collections.abc import Iterator, Sequence

from rich.console import Console

from neftune_cli.analysis.advice import advice
from neftune_cli.analysis.best_arm import best_arm_sentences
from neftune_cli.analysis.paper_claims import UNADJUSTED_CLAIMS_NOTE
from neftune_cli.analysis.results import ClaimResult, Comparison
from neftune_cli.formatting import SCREEN_WIDTH
from neftune_cli.reporting.footnotes import footnotes
from neftune_cli.reporting.outlooks import outlook_section
from neftune_cli.reporting.sanitizing import markdown_text
from neftune_cli.reporting.screen import print_screen
from neftune_cli.reporting.sections import (
    ADVICE_TITLE,
    BEST_ARM_TITLE,
    CLAIMS_TITLE,
    Section,
    claim_details,
    early_stopping_section,
    sections,
    title,
)


def to_markdown(comparisons: Sequence[Comparison]) -> str:
    """Return the summaries one after another."""
    return "\n".join(summary_markdown(comparison) for comparison in comparisons)


def summary_markdown(comparison: Comparison) -> str:
    """Return the content of `summary.md`, ending with a line break.

    It has no times, so that two runs of a sweep have the same summary.
    """
    return "\n\n".join(_paragraphs(comparison)) + "\n"


def comparison_tables(comparison: Comparison) -> Iterator[str]:
    """Yield the first screen and the tables of the metrics as paragraphs; their headings have the third level."""
    yield _screen(comparison)
    for section in sections(comparison):
        yield from _section(section, level=3)


def _paragraphs(comparison: Comparison) -> Iterator[str]:
    yield f"# {markdown_text(title(comparison))}"
    yield _screen(comparison)
    yield f"## {ADVICE_TITLE}"
    yield markdown_text(advice(comparison))
    for section in sections(comparison):
        yield from _section(section)
    if sentences := best_arm_sentences(comparison):
        yield f"## {BEST_ARM_TITLE}"
        yield markdown_text(sentences)
    for section in filter(None, (early_stopping_section(comparison), outlook_section(comparison))):
        yield from _section(section)
    yield "## Notes"
    yield "\n".join(f"- {markdown_text(line)}" for line in footnotes(comparison, has_times=False))
    if comparison.claims:
        yield f"## {CLAIMS_TITLE}"
        yield from (_claim(result) for result in comparison.claims)
        yield UNADJUSTED_CLAIMS_NOTE


def _screen(comparison: Comparison) -> str:
    """Return the first screen as a code block, without the commands: they have paths and times of one machine."""
    text = io.StringIO()
    console = Console(file=text, width=SCREEN_WIDTH, color_system=None, force_terminal=False)
    print_screen(console, comparison, has_commands=False)
    return "\n".join(f"    {line}".rstrip() for line in text.getvalue().splitlines())


def _section(section: Section, level: int = 2) -> Iterator[str]:
    yield f"{'#' * level} {markdown_text(section.title)}"
    if section.note:
        yield markdown_text(section.note)
    yield "\n".join(_table(section))


def _table(section: Section) -> Iterator[str]:
    """Yield the lines of a long table; with one column per metric, GitHub would make readers scroll sideways."""
    columns = section.columns()
    yield _row(["metric", *(section.heading(column) for column in columns)])
    yield _row([":--", *(":--" if column.align == "left" else "--:" for column in columns)])
    for block in section.blocks:
        names = [block.title] + [""] * (len(section.rows) - 1)
        yield from (_row([name, *line]) for name, line in zip(names, section.lines(block), strict=True))


def _row(cells: Sequence[str]) -> str:
    escaped = (markdown_text(cell).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def _claim(result: ClaimResult) -> str:
    lines = [f"**{result.status}**: {markdown_text(result.claim)}", ""]
    lines += [f"- {label}: {markdown_text(sentence)}" for label, sentence in claim_details(result)]
    return "\n".join(lines)
