"""Comparisons of arms: means, paired differences from a baseline arm, verdicts and claims, for each set of trials."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from neftune_cli.analysis.alignment import TrialsByArm, align, are_finite, first_trial, measured_seeds
from neftune_cli.analysis.best_arm import best_arm_advantage
from neftune_cli.analysis.comparison_setup import comparison_setup
from neftune_cli.analysis.decision import continuation
from neftune_cli.analysis.design import Design
from neftune_cli.analysis.early_stopping import early_stopping
from neftune_cli.analysis.error_sources import ErrorSources, error_sources
from neftune_cli.analysis.learning import check_learning
from neftune_cli.analysis.notes import comparison_notes, plan_departures
from neftune_cli.analysis.options import DEFAULT_OPTIONS, ComparisonOptions
from neftune_cli.analysis.paper_claims import examine_claims
from neftune_cli.analysis.results import (
    ArmSummary,
    Assessment,
    BestArm,
    Comparison,
    DifferenceBySeed,
    EarlyStopping,
    Estimate,
    MetricAssessment,
)
from neftune_cli.config.spec import MIN_SEEDS
from neftune_cli.errors import NothingToCompareError
from neftune_cli.evidence.measurements import Evidence, Measurements
from neftune_cli.evidence.sweeps import sweep_evidence
from neftune_cli.metrics import HELD_OUT_LOSS, TASKS_TABLE, Metric
from neftune_cli.store import SweepFolder


@dataclass(frozen=True)
class ComparedEvidence:
    """Comparable trials, their comparison, and the options that it was made with."""

    evidence: Evidence
    comparison: Comparison
    options: ComparisonOptions


def compare_all(
    evidence: Sequence[Evidence], options: ComparisonOptions = DEFAULT_OPTIONS
) -> tuple[list[ComparedEvidence], list[str]]:
    """Compare each set of trials; also return a message for each set without a finished trained trial.

    Raises:
        NothingToCompareError: no set has a finished trained trial.
        UsageError: the options do not fit one of the sets.
    """
    compared, empty = [], []
    for one in evidence:
        try:
            compared.append(ComparedEvidence(one, compare_arms(one, options), options))
        except NothingToCompareError as error:
            empty.append(str(error))
    if not compared:
        raise NothingToCompareError("\n".join(empty))
    return compared, empty


def compare_sweep(folder: SweepFolder) -> list[ComparedEvidence]:
    """Compare the finished trials of one sweep: several comparisons if trials differ in more than their arm and seed.

    Raises:
        NothingToCompareError: no trained trial has finished.
    """
    return compare_all(sweep_evidence([folder]))[0]


def compare_arms(evidence: Evidence, options: ComparisonOptions = DEFAULT_OPTIONS) -> Comparison:
    """Compare the arms of comparable trials, paired by seed and item.

    Raises:
        NothingToCompareError: no trained trial has finished, or no score can be compared.
        UsageError: `options.baseline` matches no arm or several, two trials have the same arm and seed, or
            `options.metric` was not measured.
    """
    setup = comparison_setup(evidence, options)
    arms, baseline, metrics, design = setup.arms, setup.design.baseline, setup.metrics, setup.design
    margins, looks_by_arm = setup.options.margins, setup.looks_by_arm
    assessed = {key: design.assess(metric, margins[key].size, looks_by_arm) for key, metric in metrics.items()}
    tested = design.tested_trials(looks_by_arm)
    primary_key = setup.primary.key
    chosen_margin = options.margins.get(primary_key)
    departures = tuple(
        plan_departures(
            evidence,
            design,
            planned=setup.planned,
            primary=setup.primary,
            margin=chosen_margin,
            default_baseline=setup.declared_arms[0],
        )
    )
    stopping = _early_stopping(tested, design, looks_by_arm, metrics, setup.options)
    comparison = Comparison(
        sweep=evidence.name,
        setting=evidence.setting,
        declared_arms=setup.declared_arms,
        baseline=baseline,
        base_scores=setup.base_scores,
        arms=tuple(_summary(name, arms[name], arms[baseline], name == baseline, metrics, assessed) for name in arms),
        metrics=metrics,
        primary=primary_key,
        about_noise=design.about_noise,
        confidence=options.confidence,
        margins=margins,
        items=_most_items(evidence.trials, primary_key),
        noise_tests={key: one.noise_test for key, one in assessed.items() if one.noise_test},
        plan=evidence.plan,
        learning=check_learning(
            tested, baseline, setup.base_scores, metrics, margins, primary=primary_key, setting=evidence.setting
        ),
        best=_best(tested, design, looks_by_arm, setup.primary),
        early_stopping=stopping,
        claims=examine_claims(tested, baseline, metrics, stopping, setup.options),
        difference_from_first=evidence.difference_from_first,
        attestations=tuple(trial.attestation for trial in evidence.trials if trial.attestation and trial.alpha),
        notes=comparison_notes(
            evidence,
            design,
            planned=setup.planned,
            primary=setup.primary,
            assessed=assessed,
            departures=departures,
        ),
        unfinished=evidence.unfinished,
        manifest_digest=evidence.manifest_digest,
        origin=evidence.origin,
        error_sources=_error_sources(
            tested, baseline, _base_without_tasks(setup.base, evidence), assessed[primary_key].arms
        ),
        departures=departures,
        declared_seeds=evidence.declared_seeds,
        chosen_margin=chosen_margin,
        shared_controls=evidence.shared_controls,
        chosen_options=(
            *evidence.origin.reading_options,
            *replace(options, metric=setup.options.metric).arguments(metrics),
        ),
    )
    return _with_outlooks(comparison, design)


def _with_outlooks(comparison: Comparison, design: Design) -> Comparison:
    """Return the comparison with the chances of a decision, if the sweep continues with further seeds of its arms.

    Further looks, and a new sweep, are tested at the default confidence level.
    """
    how = continuation(comparison)
    has_further_seeds = how == "looks" or (how == "new sweep" and not comparison.arms_without_trials)
    if comparison.confidence != DEFAULT_OPTIONS.confidence or not has_further_seeds:
        return comparison
    return replace(comparison, outlooks=design.outlooks(comparison.metric, comparison.assessments(comparison.primary)))


def _most_items(trials: Sequence[Measurements], key: str) -> int | None:
    counts = (len(trial.items[key].items) for trial in trials if key in trial.items)
    return max(counts, default=None)


def _error_sources(
    arms: TrialsByArm, baseline: str, base: Measurements | None, assessed: Mapping[str, Assessment]
) -> ErrorSources | None:
    return error_sources(
        {arm: one.paired for arm, one in assessed.items() if arm in arms},
        {arm: [one.seconds for one in trials.values() if one.seconds is not None] for arm, trials in arms.items()},
        baseline=baseline,
        evaluation_seconds=base.seconds if base else None,
    )


def _base_without_tasks(base: Measurements | None, evidence: Evidence) -> Measurements | None:
    """Return the base model if its time is that of one evaluation on the items, without tasks of a harness."""
    return None if any(metric.section == TASKS_TABLE for metric in evidence.metrics.values()) else base


def _best(arms: TrialsByArm, design: Design, looks_by_arm: Mapping[str, int], metric: Metric) -> BestArm | None:
    """Select among the arms with enough seeds, on the seeds that they share: an arm with few seeds would leave few."""
    baseline = design.baseline
    own = measured_seeds(arms[baseline], metric.key)
    enough = {
        name: trials for name, trials in arms.items() if len(own & measured_seeds(trials, metric.key)) >= MIN_SEEDS
    }
    aligned = align(enough, metric.key) if baseline in enough and len(enough) > 2 else None
    if aligned is None or len(aligned.seeds) < MIN_SEEDS:
        return None
    # like those of the arms, the interval holds over all looks; its level is that of the last look that all of them had
    shared = min(looks_by_arm[name] for name in enough if name != baseline)
    level = design.test.level(1 - design.confidence, max(1, shared) - 1)
    best = best_arm_advantage(aligned, baseline, metric, confidence=1 - level)
    return replace(best, advantage=replace(best.advantage, confidence=design.confidence)) if best else None


def _early_stopping(
    arms: TrialsByArm,
    design: Design,
    looks_by_arm: Mapping[str, int],
    metrics: Mapping[str, Metric],
    options: ComparisonOptions,
) -> EarlyStopping | None:
    metric = metrics.get(HELD_OUT_LOSS)
    if metric is None:
        return None
    return early_stopping(
        arms,
        design.baseline,
        metric,
        margin=options.margins[metric.key].size,
        confidence=options.confidence,
        test=design.test,
        looks_by_arm=looks_by_arm,
    )


def _summary(
    name: str,
    trials: Mapping[int, Measurements],
    baseline: Mapping[int, Measurements],
    is_baseline: bool,
    metrics: Mapping[str, Metric],
    assessed: Mapping[str, MetricAssessment],
) -> ArmSummary:
    ratios = [trial.noise_ratio for trial in trials.values() if trial.noise_ratio is not None]
    reference: Mapping[int, Measurements] = {} if is_baseline else baseline
    return ArmSummary(
        name=name,
        alpha=first_trial({name: trials}, name).alpha,
        seeds=tuple(sorted(trials)),
        noise_ratio=fmean(ratios) if ratios else None,
        estimates={
            key: _estimate(_by_seed(key, trials), _by_seed(key, reference), assessed[key].arms.get(name))
            for key in metrics
        },
    )


def _by_seed(key: str, trials: Mapping[int, Measurements]) -> dict[int, float]:
    """Return the metric's values by seed, in the order of the seeds, without seeds that have no value."""
    values = {seed: trials[seed].scores.get(key) for seed in sorted(trials)}
    return {seed: value for seed, value in values.items() if value is not None}


def _estimate(
    values: Mapping[int, float], baseline: Mapping[int, float], assessment: Assessment | None
) -> Estimate | None:
    if not values:
        return None
    # the perplexities of two diverged trials are both cut at exp(700): their difference would be 0
    differences = {
        seed: value - baseline[seed] if are_finite([value, baseline[seed]]) else math.nan
        for seed, value in values.items()
        if seed in baseline
    }
    paired = DifferenceBySeed(differences, *_mean_and_sd(list(differences.values()))) if differences else None
    return Estimate(values, *_mean_and_sd(list(values.values())), difference=paired, assessment=assessment)


def _mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    # for infinite values, fmean and stdev raise different errors
    if not are_finite(values):
        return math.nan, None
    return fmean(values), stdev(values) if len(values) > 1 else None
