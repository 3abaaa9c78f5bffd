"""Answers of the checklist about the analysis: intervals, number of tests, exclusions and scope."""

import math
from collections.abc import Iterator

from neftune_cli.analysis.decision import decide
from neftune_cli.analysis.results import DECIDED, Comparison
from neftune_cli.config.arm_names import spoken_name
from neftune_cli.evidence.measurements import AnalysisPlan
from neftune_cli.formatting import counted, listed, percent
from neftune_cli.reporting.checklist.design import Answer, first_notes
from neftune_cli.reporting.checklist.files import RunFiles


def intervals(comparison: Comparison) -> Answer:
    """Return the answer about intervals and tests."""
    question = "How were intervals and tests computed, and what do they assume?"
    covers = "ACL C3; NeurIPS: statistical significance"
    found = comparison.assessments(comparison.primary).values()
    if not any(one.paired.has_enough_seeds for one in found):
        few = "There is no test: a verdict needs at least three seeds that an arm shares with the baseline."
        return Answer(question, covers, (few,))
    level, has_items = percent(comparison.confidence), any(one.paired.items > 1 for one in found)
    factors = (
        "Seeds and held-out items are crossed random factors; the standard error accounts for both."
        if has_items
        else "Seeds are the random factor."
    )
    return Answer(
        question,
        covers,
        (
            f"Intervals of {level} are t intervals of the paired difference from {comparison.baseline}. {factors}",
            f"Assumptions: {_assumptions(has_items=has_items)}",
            "With few seeds, normality cannot be checked. Strongly skewed differences raise the error rates.",
            "Equivalence is shown by two one-sided tests, with the interval of "
            f"{percent(comparison.equivalence_confidence)}.",
        ),
    )


def _assumptions(*, has_items: bool) -> str:
    of_seeds = "the seeds are a random sample, and their differences are independent and about normal."
    of_items = " The items, or their clusters, are a random sample of the population that the conclusion is about."
    return of_seeds + (of_items if has_items else "")


def multiplicity(comparison: Comparison) -> Answer:
    """Return the answer about the number of tests."""
    return Answer(
        "How many tests were performed, and how is their number accounted for?",
        "NeurIPS: statistical significance",
        (
            *_adjustments(comparison),
            f"P-values are not adjusted over the {counted(len(comparison.metrics), 'metric')}: the conclusion is based "
            "on the primary one.",
        ),
    )


def _adjustments(comparison: Comparison) -> Iterator[str]:
    assessed = comparison.assessments(comparison.primary).values()
    tested = [one for one in assessed if math.isfinite(one.p_adjusted) and one.role != "control"]
    yield (
        f"{counted(len(tested), 'arm')} {'is' if len(tested) == 1 else 'are'} tested on the primary metric. P-values "
        f"of arms that are tested together are adjusted by Hommel's method, at a level of "
        f"{percent(1 - comparison.confidence)}, separately for difference and for equivalence: the probability of any "
        f"false verdict on arms that are tested together is at most {percent(2 * (1 - comparison.confidence))} if both "
        "keep their level. Intervals are simultaneous over the same arms (Bonferroni). An interval that disagrees "
        "with its test about zero ends at 0 and carries no information beyond the verdict."
    )
    if comparison.early_stopping is not None:
        yield (
            "The comparison with early stopping has further families: the arms after their last epoch, the arms at "
            "their best epoch, and the baseline after its last epoch alone. The bound does not cover them, although "
            "they can change the advice from using an arm to stopping earlier."
        )
    yield "The claims of the paper are not adjusted, and not part of the conclusion."
    yield from _role_sentences(comparison)
    if comparison.primary in comparison.noise_tests:
        yield (
            "A first test asks whether any arm with noise differs. It combines the mean of these arms, their trend "
            "over alpha and the difference of each arm. No adjusted p-value of an arm in this test is smaller "
            "than the p-value of this test. The p-values of mean and trend are adjusted over these two, and are not "
            "smaller than that of this test either."
        )
    if looks := comparison.declared.looks:
        yield f"P-values and intervals are also adjusted for the {len(looks)} planned looks."


def _role_sentences(comparison: Comparison) -> Iterator[str]:
    roles = {one.role for one in comparison.assessments(comparison.primary).values()}
    if "primary" in roles:
        yield "The primary arm is tested alone; the exploratory arms are adjusted among themselves."
    if "control" in roles:
        yield "Each control is tested separately from the other arms."


def exclusions(comparison: Comparison, files: RunFiles) -> Answer:
    """Return the answer about missing runs and data."""
    return Answer(
        "Were runs or data excluded, and did runs fail?",
        "ACL C3; NeurIPS: reproducibility",
        (*_missing_runs(comparison, files), *_dropped_rows(files), *first_notes(comparison.notes)),
        () if files.specs else ("runs that failed or were left out before the comparison",),
    )


def _missing_runs(comparison: Comparison, files: RunFiles) -> Iterator[str]:
    yield from (f"Missing from the numbers: {line}" for line in comparison.unfinished)
    plan, is_complete = comparison.declared, not comparison.unfinished and not comparison.arms_without_trials
    if plan.has_planned_looks:
        yield f"Looks taken: {plan.looks_taken} of {len(plan.looks)}."
        open_arms = decide(comparison).open_arms if comparison.treated else ()
        if open_arms:
            yield f"Not decided: {listed([spoken_name(arm) for arm in open_arms])}."
        if is_complete and _has_all_seeds_of_looks(comparison, plan):
            yield "No trial is missing: every declared trial up to the look that decides its arm has finished."
    elif is_complete and files.specs:
        yield "No trial is missing: every declared trial has finished."


def _has_all_seeds_of_looks(comparison: Comparison, plan: AnalysisPlan) -> bool:
    """Return whether every arm but the controls has all seeds up to the look that decides it, or up to the last one."""
    assessed = [comparison.assessment(arm.name, comparison.primary) for arm in comparison.studied]
    looks = [
        one.looks_taken for one in assessed if one and (one.verdict in DECIDED or one.looks_taken == len(plan.looks))
    ]
    if len(looks) < len(comparison.studied) or min(looks, default=0) == 0:
        return False
    arms = [*zip(comparison.studied, looks, strict=True), (comparison.arm(comparison.baseline), max(looks))]
    return all(set(plan.seeds_until(look)) <= set(arm.seeds) for arm, look in arms)


def _dropped_rows(files: RunFiles) -> Iterator[str]:
    if any(spec.get("skip_bad_rows") for spec in files.specs):
        yield "Rows of the data that could not be used were dropped and counted (skip_bad_rows)."


def scope(comparison: Comparison) -> Answer:
    """Return the answer about the scope of the conclusions."""
    return Answer(
        "For what do the conclusions hold?",
        "ACL A1; NeurIPS: limitations",
        (
            f"For this setting only: {comparison.setting.description}. Another model, data set or recipe was not "
            "measured.",
        ),
        ("other limitations of the work",),
    )
