"""Chances of a decision with more seeds: a table of the open arms, and the margin beside the variation of the seeds."""

import math
from collections.abc import Iterator
from dataclasses import replace

from neftune_cli.analysis.outlook import MOST_SEEDS, SPREAD, Outlook, seed_variance_range, seeds_for_equivalence
from neftune_cli.analysis.results import Assessment, Comparison, family_of, tests_by_family
from neftune_cli.formatting import percent
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
        for arm, one in comparison.assessments(comparison.primary).items():
            if one.verdict == "inconclusive" and one.paired.crossed.seed_variance > 0:
                yield _beside_the_seeds(comparison, arm, one)


def _margin(comparison: Comparison) -> str:
    margin, metric = comparison.margins[comparison.primary], comparison.metric
    rule = f" ({margin.stated})" if margin.stated else ""
    return f"The equivalence margin of {metric.name_within} is {metric.amount(margin.size)}{rule}."


def _beside_the_seeds(comparison: Comparison, arm: str, assessment: Assessment) -> str:
    mean, margin = assessment.paired.crossed, assessment.margin
    share = f"{margin / math.sqrt(mean.seed_variance):.2g}"
    start = f"For {comparison.spoken(arm)} it is {share} of the standard deviation of the difference of one seed"
    tests = tests_by_family(comparison.assessments(comparison.primary))[family_of(arm, assessment.role)]
    significance = (1 - comparison.confidence) / tests
    variances = (mean.seed_variance, *seed_variance_range(mean))
    needed = [seeds_for_equivalence(replace(mean, seed_variance=one), margin, significance) for one in variances]
    known = [seeds for seeds in needed if seeds is not None]
    if len(known) < len(needed):
        item = comparison.metric.item
        return f"{start}. No number of seeds up to {MOST_SEEDS:,} shows equivalence with 80% power on these {item}s."
    about, low, high = known
    others = " and no other arm is equivalent" if tests > 1 else ""
    return (
        f"{start}. If the true difference is 0{others}, showing equivalence with a fixed number of seeds takes about "
        f"{about:,} (80% power): {low:,} to {high:,} within the {SPREAD:.0%} interval of this standard deviation."
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
