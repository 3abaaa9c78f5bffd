"""The comparison as GitHub renders it: `summary.md`, advice first, a row an arm and metric, notes and claims."""

import re
from collections.abc import Iterator, Sequence

from neftune_cli.analysis.advice import advice
from neftune_cli.analysis.paper_claims import EACH_AT_ITS_OWN_LEVEL
from neftune_cli.analysis.results import Comparison, HypothesisResult
from neftune_cli.reporting.cells import Section, sections, title
from neftune_cli.reporting.footnotes import footnotes
from neftune_cli.reporting.selection import BEST_ARM_TITLE, best_arm_sentences, early_stopping_section
from neftune_cli.reporting.tables import HYPOTHESES_TITLE, facts

_NUMBER = r"[+\N{MINUS SIGN}][\d.e+\N{MINUS SIGN}]+"
_RENDERED = re.compile(
    rf"(?P<interval>\[{_NUMBER}, {_NUMBER}\](?![(\[:]))|(?P<listed>^\d{{1,9}})(?=[.)](?:\s|$))"
    r"|(?<!\w)_+|_+(?!\w)|[\\\[\]&~$`<>*#]"
)
"""What GitHub would take for emphasis, code, a formula, a link, a heading, a list, HTML or one of its entities.

Underscores inside words are none of it, and names have many; nor are the brackets of an interval.
"""


def to_markdown(comparisons: Sequence[Comparison]) -> str:
    """Return the summaries one after another."""
    return "\n".join(summary_markdown(comparison) for comparison in comparisons)


def summary_markdown(comparison: Comparison) -> str:
    """Return the content of `summary.md`, ending with a line break."""
    return "\n\n".join(_paragraphs(comparison)) + "\n"


def _paragraphs(comparison: Comparison) -> Iterator[str]:
    yield f"# {_escaped(title(comparison))}"
    if comparison.apart:
        yield _escaped(comparison.apart)
    yield _escaped(advice(comparison))
    for section in sections(comparison):
        yield from _section(section)
    if sentences := best_arm_sentences(comparison):
        yield f"## {BEST_ARM_TITLE}"
        yield _escaped(sentences)
    if stopping := early_stopping_section(comparison):
        yield from _section(stopping)
    yield "## Notes"
    yield "\n".join(f"- {_escaped(line)}" for line in footnotes(comparison))
    if comparison.hypotheses:
        yield f"## {HYPOTHESES_TITLE}"
        yield from (_claim(result) for result in comparison.hypotheses)
        yield EACH_AT_ITS_OWN_LEVEL


def _section(section: Section) -> Iterator[str]:
    yield f"## {_escaped(section.title)}"
    if section.note:
        yield _escaped(section.note)
    yield "\n".join(_table(section))


def _table(section: Section) -> Iterator[str]:
    """Yield a table of few columns: one with all metrics side by side would be read through a slot."""
    headings = ["metric", *section.headings]
    yield _row(headings)
    yield _row([":--", ":--", "--:", "--:", "--:", ":--"][: len(headings)])
    for block in section.blocks:
        names = [block.title] + [""] * (len(section.rows) - 1)
        yield from (_row([name, *line]) for name, line in zip(names, section.lines(block), strict=True))


def _row(cells: Sequence[str]) -> str:
    escaped = (_escaped(cell).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def _claim(result: HypothesisResult) -> str:
    lines = [f"**{result.status}**: {_escaped(result.claim)}", ""]
    lines += [f"- {label}: {_escaped(sentence)}" for label, sentence in facts(result)]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """Return text on one line, in which nothing is taken for markup: arms are called what their users like."""
    return _RENDERED.sub(_as_it_is, " ".join(text.split()))


def _as_it_is(found: re.Match[str]) -> str:
    if found["listed"]:
        return f"{found[0]}\\"
    return found[0] if found["interval"] else "".join(f"\\{character}" for character in found[0])
