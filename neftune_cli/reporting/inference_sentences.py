"""Sentences on the tests, intervals, margins and verdicts of a comparison."""

import math
from collections.abc import Iterable, Iterator, Sequence

from neftune_cli.analysis.results import DIFFERENT, Assessment, Comparison, Contrast, tests_by_family
from neftune_cli.analysis.verdicts import missing_verdict_reason, unknown_error_reason, untested_reason
from neftune_cli.formatting import capitalized, counted, listed, number_range, percent
from neftune_cli.metrics import Metric
from neftune_cli.reporting.cells import DASH, interval_text, p_statement
from neftune_cli.reporting.outlooks import margin_sentences
from neftune_cli.reporting.sections import is_defined

MOST_ARMS_OF_MEAN = 4
"""Largest number of alphas to list for their mean."""


def inference_sentences(comparison: Comparison) -> Iterator[str]:
    """Yield the sentences on pairing, intervals, verdicts, margins and power; none where nothing is compared."""
    assessments = list(_assessments(comparison))
    if assessments:
        yield " ".join([_method(comparison, assessments), *_intervals(comparison, assessments)])
        if any(one.verdict for one in assessments):
            yield _verdict_legend()
        yield from _scope(comparison, assessments)
        yield _margins(comparison)
        yield from filter(None, (" ".join(margin_sentences(comparison)), noise_test_sentence(comparison)))
        yield from _unadjusted(comparison)
        yield from _agreeing_seeds(comparison)
        yield from _metrics_without_items(comparison)
    yield from _dashes(comparison)


def pairing(comparison: Comparison, keys: Sequence[str]) -> str:
    """Return what the differences of these metrics are paired by: `seed and item`, or `seed`."""
    return _paired_by([one for key in keys for one in comparison.assessments(key).values()])


def few_seeds_sentence(comparison: Comparison) -> str:
    """Return the sentence on arms with fewer than three paired seeds; empty where there is no such arm."""
    arms = ", ".join(_arms_with_few_seeds(comparison))
    if not arms:
        return ""
    if _have_items(one for one in _assessments(comparison) if not one.paired.has_enough_seeds):
        return (
            f"With fewer than three paired seeds ({arms}), intervals are unadjusted and describe these trained models, "
            "not the method: they generalize to other items but not to other seeds."
        )
    return f"With fewer than three paired seeds ({arms}), differences describe these trained models, not the method."


def margins_by_metric(comparison: Comparison, keys: Sequence[str], *, with_keys: bool = False) -> str:
    """Return the equivalence margin of each of these metrics; empty where none is used."""
    margins = {key: {one.margin for one in comparison.assessments(key).values()} for key in keys}
    metrics = {key: comparison.metrics[key] for key, used in margins.items() if used}
    return ", ".join(
        f"{metric.label if with_keys else metric.name_within} {number_range(list(margins[key]), '{:.3g}')}"
        for key, metric in metrics.items()
    )


def _method(comparison: Comparison, assessments: Sequence[Assessment]) -> str:
    paired = f"Differences are paired by {_paired_by(assessments)}.{_random_factors(assessments)}"
    return (
        f"{paired} {tests_text(comparison, comparison.metrics)}" if any(one.verdict for one in assessments) else paired
    )


def _random_factors(assessments: Iterable[Assessment]) -> str:
    about_method = [one for one in assessments if one.paired.has_enough_seeds]
    factors = "Seeds and items are crossed random factors" if _have_items(about_method) else "Seeds are a random factor"
    return f" {factors}." if about_method else ""


def tests_text(comparison: Comparison, keys: Iterable[str]) -> str:
    """Return level and adjustment of the tests on these metrics, which may differ in their number of tested arms."""
    level = percent(1 - comparison.confidence)
    assessed = [comparison.assessments(key) for key in keys]
    with_verdict = (found for found in assessed if any(one.verdict for one in found.values()))
    tested = [max(tests_by_family(found).values()) for found in with_verdict]
    fewest, most = min(tested, default=0), max(tested, default=0)
    looks = "for the planned looks" if comparison.declared.has_planned_looks else ""
    if most < 2:
        adjusted = f", adjusted {looks}" if looks else ""
        return f"Verdicts use tests at the {level} level{adjusted}.{tested_alone_text(comparison)}"
    arms = f"{fewest} to {counted(most, 'arm')}" if fewest < most else counted(most, "arm")
    return (
        f"Verdicts use p-values adjusted for the number of arms (Hommel's method, {arms}, {level} level)"
        f"{f' and {looks}' if looks else ''}, separately for difference and equivalence.{tested_alone_text(comparison)}"
    )


def tested_alone_text(comparison: Comparison) -> str:
    """Return which arms are tested alone on the primary metric, with a space before it; empty if there are none."""
    named = {"primary": "the primary arm", "control": "each control"}
    tested = {one.role for one in comparison.assessments(comparison.primary).values() if one.verdict}
    alone = [name for role, name in named.items() if role in tested]
    return f" {capitalized(listed(alone))} {'are' if len(alone) > 1 else 'is'} tested alone." if alone else ""


def _roles(comparison: Comparison) -> set[str]:
    return {one.role for one in comparison.assessments(comparison.primary).values()}


def simultaneous_over(comparison: Comparison) -> str:
    """Return what intervals are simultaneous over: the arms, and the planned looks if there are any."""
    arms = "the arms" if _roles(comparison) <= {"arm"} else "the arms that are tested together"
    return f"{arms} and the planned looks" if comparison.declared.has_planned_looks else arms


def _intervals(comparison: Comparison, assessments: Sequence[Assessment]) -> Iterator[str]:
    """Yield the meaning of the intervals."""
    if any(math.isfinite(one.interval.low) for one in assessments if one.verdict):
        yield intervals_text(comparison, comparison.metrics)
    elif any(math.isfinite(one.paired.ci_low) for one in assessments):
        yield f"The {percent(comparison.confidence)} intervals shown are unadjusted."


def intervals_text(comparison: Comparison, keys: Iterable[str]) -> str:
    """Return the meaning of the intervals of tested arms on these metrics."""
    level = f"the {percent(comparison.confidence)} intervals"
    if not (comparison.declared.has_planned_looks or has_arms_tested_together(comparison, keys)):
        return f"No arms are tested together, so {level} are not adjusted. {interval_ends_text(comparison)}"
    over = simultaneous_over(comparison)
    return f"{capitalized(level)} are simultaneous over {over} (Bonferroni). {interval_ends_text(comparison)}"


def has_arms_tested_together(comparison: Comparison, keys: Iterable[str]) -> bool:
    """Return whether the tests of several arms on one of these metrics are adjusted together."""
    return any(tests > 1 for key in keys for tests in tests_by_family(comparison.assessments(key)).values())


def interval_ends_text(comparison: Comparison) -> str:
    """Return which intervals of tested arms have other ends than those of a simultaneous interval."""
    return (
        f"The interval of an equivalent arm is the {percent(comparison.equivalence_confidence)} interval, by which "
        "equivalence is tested. Where an interval disagrees with its verdict, it ends at exactly 0 or at the margin, "
        "and carries no information beyond the verdict."
    )


def _verdict_legend() -> str:
    return (
        "Verdicts: equivalent if the difference is shown to be within the margin; otherwise better or worse if it is "
        "shown to differ from zero (higher or lower for metrics without a preferred direction); inconclusive if "
        "neither is shown."
    )


def _scope(comparison: Comparison, assessments: Sequence[Assessment]) -> Iterator[str]:
    if about_method := [one for one in assessments if one.verdict]:
        populations = "seeds and items" if _have_items(about_method) else "seeds"
        yield f"Verdicts generalize to other {populations} of this setting only: {comparison.setting.description}."
    yield from filter(None, [few_seeds_sentence(comparison)])


def _margins(comparison: Comparison) -> str:
    margins = margins_by_metric(comparison, tuple(comparison.metrics), with_keys=True)
    return f"Equivalence margins in each metric's unit, with the keys for --metric and --margin: {margins}."


def noise_test_sentence(comparison: Comparison) -> str:
    """Return the test whether any arm with noise differs on the primary metric; empty if it was not made."""
    test = comparison.noise_tests.get(comparison.primary)
    if test is None:
        return ""
    metric = comparison.metric
    contrasts = "; ".join(contrast_text(comparison, one, metric) for one in test.contrasts)
    trend = ", their trend over alpha" if any(one.name == "trend" for one in test.contrasts) else ""
    return (
        f"The any-noise test on {metric.name_within} combines the mean of the arms with noise{trend} and the "
        f"difference of each arm (Simes' test, {p_statement(test.p_value)}). Adjusted p-values of the arms are at "
        f"least this large. Results: {contrasts}."
    )


def contrast_text(comparison: Comparison, contrast: Contrast, metric: Metric) -> str:
    """Return a contrast with its interval and its verdict."""
    one = contrast.assessment
    arms = [comparison.arm(name) for name in contrast.arms]
    alphas = sorted(arm.alpha or 0.0 for arm in arms)
    if contrast.name == "trend":
        name = f"trend from {alphas[0]:g} to {alphas[-1]:g}"
    elif len(arms) <= MOST_ARMS_OF_MEAN and all(arm.is_named_by_alpha for arm in arms):
        name = f"mean of alphas {', '.join(f'{alpha:g}' for alpha in alphas)}"
    else:
        name = f"mean of {len(arms)} arms"
    if contrast.name == "trend" and one.verdict in DIFFERENT:
        rises = one.verdict in ("higher", "worse" if metric.goal == "lower" else "better")
        return f"{name}: {interval_text(one, metric)}, {'rises' if rises else 'falls'} with alpha"
    if one.verdict is None:
        about = "" if one.paired.has_enough_seeds else "; unadjusted interval for other items only"
        return f"{name}: {interval_text(one, metric)}, no verdict ({untested_reason(one)}{about})"
    level = f" ({percent(comparison.equivalence_confidence)} interval)" if one.verdict == "equivalent" else ""
    return f"{name}: {interval_text(one, metric)}, {one.verdict}{level}"


def _unadjusted(comparison: Comparison) -> Iterator[str]:
    metric, level = comparison.metric, percent(comparison.confidence)
    found = comparison.assessments(comparison.primary)
    tested = {arm: one.paired for arm, one in found.items() if math.isfinite(one.p_adjusted)}
    if len(tested) > 1 or any(found[arm].looks_taken > 1 for arm in tested):
        texts = (
            f"{metric.signed(one.difference)} [{metric.signed(one.ci_low)}, {metric.signed(one.ci_high)}] ({arm})"
            for arm, one in tested.items()
        )
        named = f"Unadjusted {level} intervals of {metric.name_within}"
        yield f"{named}, which need not match the verdicts: {', '.join(texts)}."


def _agreeing_seeds(comparison: Comparison) -> Iterator[str]:
    """Yield the arms whose seeds differ less on the primary metric than the residual explains."""
    found = comparison.assessments(comparison.primary)
    arms = [arm for arm, one in found.items() if one.verdict and one.paired.crossed.seeds_agree_too_well()]
    if arms:
        yield (
            f"The differences of {listed(arms)} in {comparison.metric.name_within} vary less between seeds than the "
            "residual variation alone would produce (lower-tailed F test, 10% level). The variance between seeds may "
            "be underestimated, and the interval too narrow."
        )


def _metrics_without_items(comparison: Comparison) -> Iterator[str]:
    """Yield the metrics without per-item values, if other metrics have them."""
    if not _have_items(_assessments(comparison)):
        return
    names = [name for key in comparison.metrics if (name := _name_without_items(comparison, key))]
    if names:
        yield f"These metrics have no per-item values, so their intervals are over seeds only: {', '.join(names)}."


def _name_without_items(comparison: Comparison, key: str) -> str:
    """Return a metric's name, with the arms if only some have no items; empty where all have items."""
    found = comparison.assessments(key)
    about_method = {arm: one for arm, one in found.items() if one.paired.has_enough_seeds}
    arms = [arm for arm, one in about_method.items() if one.paired.items == 1]
    name = comparison.metrics[key].name_within
    return name if len(arms) == len(about_method) and arms else f"{name} ({', '.join(arms)})" if arms else ""


def _dashes(comparison: Comparison) -> Iterator[str]:
    """Yield the reasons for missing verdicts and missing intervals, each reason once."""
    reasons = (
        missing_verdict_reason(arm.estimates.get(key), comparison.baseline)
        for key in comparison.metrics
        if is_defined(comparison, key)
        for arm in comparison.treated
    )
    if found := list(dict.fromkeys(filter(None, reasons))):
        yield f"{DASH} no verdict: {'; '.join(found)}."
    if found := list(dict.fromkeys(filter(None, map(_missing_interval_reason, _assessments(comparison))))):
        yield f"{DASH} no interval: {'; '.join(found)}."


def _missing_interval_reason(assessment: Assessment) -> str:
    """Return the reason why a difference of few seeds has no interval; empty where it has one."""
    if assessment.paired.has_enough_seeds or math.isfinite(assessment.paired.ci_low):
        return ""
    if assessment.paired.items > 1:
        return unknown_error_reason(assessment.paired)
    return "a metric without per-item values needs three paired seeds"


def _assessments(comparison: Comparison) -> Iterator[Assessment]:
    for metric in comparison.metrics:
        yield from comparison.assessments(metric).values()


def _arms_with_few_seeds(comparison: Comparison) -> Iterator[str]:
    """Yield the arms with fewer than three paired seeds, with the metrics if others have more seeds."""
    for arm in comparison.treated:
        assessed = {key: one for key in comparison.metrics if (one := comparison.assessment(arm.name, key))}
        few = [comparison.metrics[key].name_within for key, one in assessed.items() if not one.paired.has_enough_seeds]
        if few:
            yield arm.name if len(few) == len(assessed) else f"{arm.name} in {listed(few)}"


def _paired_by(assessments: Iterable[Assessment]) -> str:
    return "seed and item" if _have_items(assessments) else "seed"


def _have_items(assessments: Iterable[Assessment]) -> bool:
    return any(one.paired.items > 1 for one in assessments)
