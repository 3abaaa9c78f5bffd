"""Chances of a decision with more seeds: a table of the open arms, and the margin beside the variation of the seeds."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from neftune_cli.analysis.outlook import MOST_SEEDS, SPREAD, Outlook, seed_variance_range, seeds_for_equivalence
from neftune_cli.analysis.results import Assessment, Comparison, family_of, tests_by_family
from neftune_cli.config.arm_names import spoken_name
from neftune_cli.formatting import listed, percent
from neftune_cli.reporting.cells import UNDEFINED, Cell, share_range
from neftune_cli.reporting.sections import Block, Section

OUTLOOK_TITLE = "Chance of a decision with more seeds"


def outlook_section(comparison: Comparison) -> Section | None:
    """Return the table of the chances of the open arms, at the next look and at the last one; None without any."""
    outlooks = {arm: found for arm, found in comparison.outlooks.items() if found}
    if not outlooks:
        return None
    seeds = sorted({one.seeds for found in outlooks.values() for one in found})
    change = _assumed_change(comparison)
    return Section(
        title=OUTLOOK_TITLE,
        rows=tuple(outlooks),
        blocks=tuple(
            Block(f"{count} seeds", effect, tuple(_cell(found, count, place) for found in outlooks.values()), None)
            for count in seeds
            for place, effect in enumerate(("difference = 0", f"{change} = margin", "twice the margin"))
        ),
        against="",
        confidence=percent(comparison.confidence),
        keys=(comparison.primary,),
        note=outlook_note(comparison),
    )


def _assumed_change(comparison: Comparison) -> str:
    """Return the noun for the direction of the assumed differences."""
    return "improvement" if comparison.metric.goal else "increase"


def margin_sentences(comparison: Comparison) -> Iterator[str]:
    """Yield the margin of the primary metric with its rule, and its size beside the variation of open arms' seeds."""
    if comparison.treated and comparison.margins[comparison.primary].size > 0:
        yield _margin(comparison)
        needs: dict[tuple[bool, bool], list[_SeedsNeeded]] = {}
        for arm, one in comparison.assessments(comparison.primary).items():
            if one.verdict == "inconclusive" and one.paired.crossed.seed_variance > 0:
                need = _seeds_needed(comparison, arm, one)
                needs.setdefault((need.seeds is None, need.is_tested_alone), []).append(need)
        for alike in needs.values():
            yield _beside_the_seeds(comparison, alike)


def _margin(comparison: Comparison) -> str:
    margin, metric = comparison.margins[comparison.primary], comparison.metric
    rule = f" ({margin.rule()})" if margin.stated or margin.because else ""
    return f"The equivalence margin of {metric.name_within} is {metric.margin_size(margin.size)}{rule}."


class _SeedsNeeded(NamedTuple):
    """Equivalence margin of an open arm beside the variation of its seeds."""

    arm: str
    share: str
    """Margin as a share of the per-seed standard deviation of the difference."""
    seeds: tuple[int, ...] | None
    """Seeds that show equivalence: estimate, lowest and highest; None if a number of seeds does not exist."""
    is_tested_alone: bool


def _seeds_needed(comparison: Comparison, arm: str, assessment: Assessment) -> _SeedsNeeded:
    mean, margin = assessment.paired.crossed, assessment.margin
    tests = tests_by_family(comparison.assessments(comparison.primary))[family_of(arm, assessment.role)]
    significance = (1 - comparison.confidence) / tests
    variances = (mean.seed_variance, *seed_variance_range(mean))
    needed = [seeds_for_equivalence(replace(mean, seed_variance=one), margin, significance) for one in variances]
    known = tuple(seeds for seeds in needed if seeds is not None)
    share = f"{margin / math.sqrt(mean.seed_variance):.2g}"
    return _SeedsNeeded(spoken_name(arm), share, known if len(known) == len(needed) else None, tests < 2)


def _beside_the_seeds(comparison: Comparison, needs: Sequence[_SeedsNeeded]) -> str:
    """Return the sentences about open arms that are tested alike; each number of seeds has its range in parentheses."""
    first, *further = needs
    shares = [f"{first.share} of the per-seed standard deviation", *(one.share for one in further)]
    start = f"It is {listed([f'{share} for {one.arm}' for share, one in zip(shares, needs, strict=True)])}"
    if first.seeds is None:
        item = comparison.metric.item
        return f"{start}. No number of seeds up to {MOST_SEEDS:,} shows equivalence with 80% power on these {item}s."
    others = "" if first.is_tested_alone else " and no other arm is equivalent"
    numbers = [
        f"about {about:,}{'' if place else ' seeds'} ({low:,} to {high:,}) for {one.arm}"
        for place, one in enumerate(needs)
        for about, low, high in [one.seeds or ()]
    ]
    return (
        f"{start}. If the true difference is 0{others}, showing equivalence with 80% power takes {listed(numbers)}, "
        f"fixed in advance. The ranges follow from the {SPREAD:.0%} interval of the standard deviation."
    )


def _cell(found: tuple[Outlook, ...], seeds: int, place: int) -> Cell:
    """Return the range of the chance for the assumed difference at this place: 0, the margin, twice the margin."""
    effects = list(dict.fromkeys(one.effect for one in found))
    chosen = [one for one in found if one.seeds == seeds and one.effect == effects[place]]
    return Cell(share_range(chosen[0].low, chosen[0].high)) if chosen and place < len(effects) else UNDEFINED


def outlook_note(comparison: Comparison) -> str:
    """Return the sentences on the assumptions of the chances, and on the margin."""
    seeds = (
        "The measured seeds are kept, and further ones are added at the planned looks."
        if comparison.declared.has_planned_looks
        else "They also assume that the new sweep with --until-decided measures the same values for these seeds. Looks "
        "at the measured number of seeds or before are left out, so the chances can be too low."
    )
    several = (
        "If several arms are open, the chances also assume that all have the same true difference and are independent. "
        if sum(map(bool, comparison.outlooks.values())) > 1
        else ""
    )
    assumptions = (
        "A decision is a verdict other than inconclusive. The chances assume that the true difference is 0, or an "
        f"{_assumed_change(comparison)} by the margin or by twice the margin, and that differences are normal. "
        f"{several}The any-noise test is left out. {seeds} The range of a chance follows from the {SPREAD:.0%} "
        "interval of the variance between seeds, which few seeds estimate only roughly."
    )
    return f"{assumptions} {_margin(comparison)}"
