"""Notes of a comparison: departures from the declared analysis, seeds and items left out, and very unequal weights."""

from collections.abc import Hashable, Iterator, Mapping, Sequence

import numpy as np

from neftune_cli.analysis.alignment import TrialsByArm, measured_seeds
from neftune_cli.analysis.crossed_factors import MIN_EFFECTIVE_CLUSTERS, MIN_INFORMATIVE_CLUSTERS
from neftune_cli.analysis.design import Design
from neftune_cli.analysis.options import DEFAULT_OPTIONS
from neftune_cli.analysis.results import Assessment, Departure, MetricAssessment
from neftune_cli.evidence.measurements import Evidence, Measurements
from neftune_cli.formatting import counted, listed, percent
from neftune_cli.metrics import Margin, Metric

VERY_UNEQUAL = 0.5
"""Largest `evenness` of weights with a note, if fewer than `MIN_INFORMATIVE_CLUSTERS` clusters count in effect. A
dominating cluster has a note at any evenness."""


def comparison_notes(
    evidence: Evidence,
    design: Design,
    *,
    planned: Metric,
    primary: Metric,
    assessed: Mapping[str, MetricAssessment],
    departures: Sequence[Departure],
) -> tuple[str, ...]:
    """Return the notes of a comparison without duplicates.

    Args:
        evidence: with its own notes, and those of its trials.
        design: the arms and their declared analysis.
        planned: the declared primary metric, or the default one.
        primary: primary metric of the comparison.
        assessed: assessments by metric.
        departures: departures from the declared analysis.
    """
    notes = (
        *evidence.notes,
        *(one.sentence for one in departures),
        *(_seed_notes(design, planned, assessed[planned.key].arms) if design.plan.has_planned_looks else ()),
        *_trial_notes(evidence.trials),
        *_item_notes(design.trials, evidence.metrics),
        *_weight_notes(primary, assessed[primary.key].arms),
        *((evidence.note_on_repeated_trials,) if evidence.note_on_repeated_trials else ()),
    )
    return tuple(dict.fromkeys(notes))


def plan_departures(
    evidence: Evidence,
    design: Design,
    *,
    planned: Metric,
    primary: Metric,
    margin: Margin | None,
    default_baseline: str,
) -> Iterator[Departure]:
    """Yield a departure for each reason why the comparison is not the declared one, or holds with a restriction.

    Args:
        evidence: with the names of sweeps whose declared analysis is left out.
        design: the arms and their declared analysis.
        planned: the declared primary metric, or the default one.
        primary: primary metric of the comparison.
        margin: equivalence margin of the primary metric that was chosen for this comparison, if any.
        default_baseline: first arm of the sweep, which may have no finished trial.
    """
    yield from _departures_of_folders(evidence)
    yield from _other_baseline(evidence, design, default_baseline)
    if not evidence.origin.is_sweep:
        yield from _copied_runs(design.trials)
        has_base = any(one.is_base for one in evidence.trials)
        if primary.margin.of_gain and margin is None and not has_base:
            what = "No run of the base model is compared, so the gain of fine-tuning is unknown."
            yield Departure(
                "missing base model", f"{what} The equivalence margin has a fallback value; --margin sets it."
            )
    if evidence.plan is None:
        return
    if design.plan.metric not in (None, planned.key):
        yield Departure("metric not measured", f"The declared primary metric {design.plan.metric} was not measured.")
    if primary is not planned:
        exploratory = f"Results of {primary.name_within} are exploratory."
        yield Departure("other metric", f"The planned primary metric is {planned.name_within}. {exploratory}")
    declared = design.plan.margin or primary.margin
    if primary is planned and margin not in (None, declared) and (design.plan.margin or design.plan.has_planned_looks):
        rule = declared.rule()
        exploratory = "Equivalence within another one is exploratory."
        yield Departure("other margin", f"The equivalence margin of the sweep is {rule}. {exploratory}")
    if design.plan.has_planned_looks and design.confidence != DEFAULT_OPTIONS.confidence:
        level = percent(DEFAULT_OPTIONS.confidence)
        exploratory = f"Verdicts at {percent(design.confidence)} are exploratory."
        yield Departure("other level", f"The planned looks use a confidence level of {level}. {exploratory}")


def _departures_of_folders(evidence: Evidence) -> Iterator[Departure]:
    """Yield the departures that follow from the compared folders and their missing trials."""
    if evidence.dropped_plans:
        yield Departure(
            "several sweeps",
            f"The declared analysis of {listed(evidence.dropped_plans)} does not apply to several folders together: "
            "the number of seeds counts as fixed. If it depended on results, p-values are too small.",
        )
    yield from (Departure("added seeds", sentence) for sentence in evidence.added_seeds)
    if evidence.origin.lacks_declared_trials:
        seeds = counted(len(evidence.declared_seeds), "seed")
        yield Departure(
            "missing trials",
            f"Not all trials of the declared {seeds} have finished. Testing both now and at the end gives more false "
            "positives than stated.",
        )
    if evidence.origin.lacks_base:
        yield Departure(
            "missing base model",
            "The base model has no finished trial. Margins that are a share of the gain of fine-tuning have a fallback "
            "value until it is measured, so verdicts can change.",
        )
    if evidence.origin.has_base_elsewhere:
        yield Departure(
            "missing base model",
            "The base model was not measured with the settings of these trials. Margins that are a share of the gain "
            "of fine-tuning have a fallback value.",
        )


def _other_baseline(evidence: Evidence, design: Design, default: str) -> Iterator[Departure]:
    exploratory = f"The comparison with {design.baseline} is exploratory."
    if default not in design.trials:
        lacking = f"The baseline of the sweep, {default}, has no finished trial in this comparison."
        yield Departure("missing baseline", f"{lacking} {exploratory}")
    elif evidence.plan and design.baseline != default:
        yield Departure("other baseline", f"The declared baseline is {default}. {exploratory}")


def _copied_runs(arms: TrialsByArm) -> Iterator[Departure]:
    """Yield a departure if runs of an arm with different seeds have the same values, as copies of one run have."""
    if copied := [arm for arm, trials in arms.items() if len(set(map(_varying_values, trials.values()))) < len(trials)]:
        same = f"Runs of {listed(copied)} with different seeds have the same value on every item."
        yield Departure(
            "copied runs", f"{same} If they are copies of one run, the verdicts do not hold for other seeds."
        )


def _varying_values(trial: Measurements) -> Hashable:
    """Return the values of the metrics that vary between items; a new object, equal to no other, if none varies."""
    varying = {key: one for key, one in trial.items.items() if len(np.unique(one.values)) > 1}
    return tuple((key, one.items, one.values.tobytes()) for key, one in sorted(varying.items())) or object()


def _seed_notes(design: Design, metric: Metric, assessed: Mapping[str, Assessment]) -> Iterator[str]:
    plan = design.plan
    shared = {arm: measured_seeds(design.trials[arm], metric.key) for arm in (design.baseline, *assessed)}
    if outside := sorted(set().union(*shared.values()) - set(plan.seeds)):
        seeds = listed([str(seed) for seed in outside])
        yield f"Seeds outside the plan are not tested: {seeds}."
    unused = {
        arm: (one.paired.seeds, len(shared[arm] & shared[design.baseline] & set(plan.seeds)))
        for arm, one in assessed.items()
        if one.looks_taken
    }
    if later := [f"{used} of {count} seeds of {arm}" for arm, (used, count) in unused.items() if used < count]:
        where = "after the look that decides an arm, or after the last look"
        yield f"Seeds {where}, are not tested. Tested: {listed(later)}."


def _trial_notes(trials: Sequence[Measurements]) -> Iterator[str]:
    return (note for trial in trials for note in trial.notes)


def _item_notes(arms: TrialsByArm, metrics: Mapping[str, Metric]) -> Iterator[str]:
    """Yield a note for each metric that was measured on different items in different trials."""
    for key, metric in metrics.items():
        measured = {
            trial.items[key].items
            for trials in arms.values()
            for trial in trials.values()
            if key in trial.items and trial.scores.get(key) is not None
        }
        if len(measured) > 1:
            sizes = sorted(set(map(len, measured)))
            found = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else f"different sets of {sizes[0]}"
            yield f"{metric.name}: trials have {found} items. Each difference uses the items that both arms have."


def _weight_notes(metric: Metric, assessed: Mapping[str, Assessment]) -> Iterator[str]:
    """Yield a note if a few of the items or clusters have so much weight that few count in effect.

    Small numbers of items with the usual differences in length have no note.
    """
    one = min((one.paired for one in assessed.values()), key=lambda one: one.crossed.effective_clusters, default=None)
    if one is None or one.crossed.effective_clusters >= MIN_INFORMATIVE_CLUSTERS:
        return
    if one.crossed.evenness > VERY_UNEQUAL and not one.crossed.has_dominating_cluster:
        return
    units = f"{metric.item}s" if one.clusters == one.items else f"clusters of {metric.item}s"
    effect = (
        f"With fewer than {MIN_EFFECTIVE_CLUSTERS:g} there is no interval and no verdict."
        if one.crossed.has_dominating_cluster
        else "This makes the intervals wide."
    )
    yield (
        f"{metric.name}: the {one.clusters:,} {units} count as only {one.crossed.effective_clusters:.1f} of equal "
        f"weight, because a few of them weigh much more than the others. {effect}"
    )
