"""First screen of a chapter: the texts of the terminal's first screen, and the chances of a decision as a table."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neftune_cli.analysis.headline import Word, headline
from neftune_cli.analysis.planning import Outlook
from neftune_cli.analysis.results import Comparison
from neftune_cli.reporting.cells import DASH
from neftune_cli.reporting.next_step import next_step
from neftune_cli.reporting.screen import facts, scope_parts

_COLORS: Mapping[Word, str] = {
    "DECIDED": "equivalent",
    "PARTLY DECIDED": "inconclusive",
    "NOT DECIDED": "inconclusive",
    "NO VERDICT": "inconclusive",
    "NOTHING LEARNED": "worse",
    "NOTHING TO COMPARE": "",
}
"""Verdict that has the color of each headline."""


@dataclass(frozen=True)
class Opening:
    """Texts of the first screen."""

    headline: str
    color: str
    """Verdict that has the color of the headline."""
    sentence: str
    scope: str
    facts: Mapping[str, str]
    """Label to text, in the order of the page."""
    statement: str
    """The advice."""


def opening(comparison: Comparison, advice: str) -> Opening:
    """Return the texts of the first screen, which are those of the terminal."""
    found = headline(comparison)
    shown = {fact.label: fact.sentence for fact in facts(comparison)}
    if step := next_step(comparison):
        shown["Next"] = f"{shlex.join(step.command)} ({step.price})"
    return Opening(
        headline=found.word.capitalize(),
        color=_COLORS[found.word],
        sentence=found.sentence,
        scope=" · ".join(scope_parts(comparison)),
        facts=shown,
        statement=advice,
    )


def outlook_table(comparison: Comparison) -> list[Sequence[str]]:
    """Return headings and rows: the chance of a decision by arm, assumed true difference and total number of seeds."""
    metric = comparison.metrics[comparison.primary]
    chances = {(arm, one.effect, one.seeds): one for arm, found in comparison.outlooks.items() for one in found}
    seeds = sorted({seeds for _, _, seeds in chances})
    rows = dict.fromkeys((arm, effect) for arm, effect, _ in chances)
    cells = [
        (arm, metric.number(effect), *(_chance(chances.get((arm, effect, number))) for number in seeds))
        for arm, effect in rows
    ]
    return [("arm", "true difference", *(f"{number} seeds" for number in seeds)), *cells] if cells else []


def _chance(one: Outlook | None) -> str:
    return DASH if one is None else f"{one.chance:.0%} ({one.low:.0%} to {one.high:.0%})"
