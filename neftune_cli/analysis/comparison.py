"""Compare the arms of comparable trials: means, paired differences from a baseline arm, verdicts and claims.

Or compare several sets of trials, each comparison with the evidence that it was made from.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from statistics import fmean, stdev

from neftune_cli.analysis.alignment import TrialsByArm, align, are_finite, first_trial, measured_seeds
from neftune_cli.analysis.best_arm import best_arm_advantage
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
from neftune_cli.config.arm_names import arms_named
from neftune_cli.config.spec import MIN_SEEDS
from neftune_cli.errors import NothingToCompareError, Problem, Problems, UsageError
from neftune_cli.evidence.measurements import AnalysisPlan, Evidence, Measurements
from neftune_cli.evidence.sweeps import sweep_evidence
from neftune_cli.formatting import counted
from neftune_cli.metrics import HELD_OUT_LOSS, METRICS, TASKS_TABLE, Metric
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
    arms = _trials_by_arm(evidence)
    declared_arms = evidence.declared_arms or tuple(arms)
    metrics = _measured_metrics(evidence)
    base = next((trial for trial in evidence.trials if trial.is_base), None)
    base_scores = base.scores if base else None
    plan = evidence.plan or AnalysisPlan(controls=evidence.shared_controls)
    planned_key = _planned_metric(plan, metrics)
    planned = metrics[planned_key]
    problems = Problems()
    baseline = problems.attempt(lambda: _baseline(evidence.name, arms, declared_arms[0], options.baseline))
    primary = problems.attempt(lambda: _primary_metric(evidence.name, metrics, planned_key, options.metric))
    problems.raise_any()
    assert baseline is not None
    assert primary is not None
    until_first_look = _until_first_look(arms, plan)
    with_declared_margin = replace(options, margins={plan.metric or planned_key: plan.margin} if plan.margin else {})
    resolved = _resolved(options, with_declared_margin, primary, metrics, until_first_look, baseline, base_scores)
    design = Design(arms, baseline, options.confidence, plan, _is_about_noise(arms, baseline, plan))
    # looks are those of the declared margin: another one must not change which arms were decided
    looks_by_arm = design.looks_by_arm(
        planned, with_declared_margin.margin(planned, until_first_look, baseline, base_scores).size
    )
    assessed = {key: design.assess(metric, resolved.margins[key].size, looks_by_arm) for key, metric in metrics.items()}
    tested = design.tested_trials(looks_by_arm)
    chosen_margin = options.margins.get(primary)
    departures = tuple(
        plan_departures(evidence, design, metrics[primary], planned, chosen_margin, default_baseline=declared_arms[0])
    )
    stopping = _early_stopping(tested, design, looks_by_arm, metrics, resolved)
    comparison = Comparison(
        sweep=evidence.name,
        setting=evidence.setting,
        declared_arms=declared_arms,
        baseline=baseline,
        base_scores=base_scores,
        arms=tuple(_summary(name, arms[name], arms[baseline], name == baseline, metrics, assessed) for name in arms),
        metrics=metrics,
        primary=primary,
        about_noise=design.about_noise,
        confidence=options.confidence,
        margins=resolved.margins,
        items=_most_items(evidence.trials, primary),
        noise_tests={key: one.noise_test for key, one in assessed.items() if one.noise_test},
        plan=evidence.plan,
        learning=check_learning(
            tested, baseline, base_scores, metrics, resolved.margins, primary=primary, setting=evidence.setting
        ),
        best=_best(tested, design, looks_by_arm, metrics[primary]),
        early_stopping=stopping,
        claims=examine_claims(tested, baseline, metrics, stopping, resolved),
        difference_from_first=evidence.difference_from_first,
        attestations=tuple(trial.attestation for trial in evidence.trials if trial.attestation and trial.alpha),
        notes=comparison_notes(evidence, design, planned, assessed[planned_key].arms, departures),
        unfinished=evidence.unfinished,
        manifest_digest=evidence.manifest_digest,
        origin=evidence.origin,
        error_sources=_error_sources(tested, baseline, _timed(base, evidence), assessed[primary].arms),
        departures=departures,
        declared_seeds=evidence.declared_seeds,
        chosen_margin=chosen_margin,
        shared_controls=evidence.shared_controls,
        chosen_options=(*evidence.origin.reading_options, *replace(options, metric=resolved.metric).arguments(metrics)),
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


def _planned_metric(plan: AnalysisPlan, metrics: Mapping[str, Metric]) -> str:
    """Return the key of the declared primary metric, or of the default one if the declared one was not measured."""
    if plan.metric and plan.metric in metrics:
        return plan.metric
    return HELD_OUT_LOSS if HELD_OUT_LOSS in metrics else next(iter(metrics))


def _until_first_look(arms: TrialsByArm, plan: AnalysisPlan) -> TrialsByArm:
    """Return the trials until the first planned look. Their means determine margins, which must not change later."""
    if not plan.has_planned_looks:
        return arms
    seeds = plan.seeds[: plan.looks[0]]
    return {arm: {seed: trials[seed] for seed in seeds if seed in trials} or trials for arm, trials in arms.items()}


def _resolved(
    options: ComparisonOptions,
    declared: ComparisonOptions,
    primary: str,
    metrics: Mapping[str, Metric],
    arms: TrialsByArm,
    baseline: str,
    base_scores: Mapping[str, float | None] | None,
) -> ComparisonOptions:
    """Return the options with the margin of each metric in its unit, and the chosen metric, if any, by its key.

    Margins of the options take precedence over declared ones.
    """
    chosen = replace(options, margins={**declared.margins, **options.margins})
    margins = {key: chosen.margin(metric, arms, baseline, base_scores) for key, metric in metrics.items()}
    return replace(options, metric=options.metric and primary, margins=margins)


def _is_about_noise(arms: TrialsByArm, baseline: str, plan: AnalysisPlan) -> bool:
    """Return whether the baseline has no noise, and all other arms but controls have noise and the same recipe.

    Recipes of runs of other tools are the same if the names of their arms state no difference.
    """
    reference = first_trial(arms, baseline)
    others = [first_trial(arms, arm) for arm in arms if arm != baseline and arm not in plan.controls]
    return reference.alpha == 0 and all(one.alpha and one.stated_recipe == reference.stated_recipe for one in others)


def _error_sources(
    arms: TrialsByArm, baseline: str, base: Measurements | None, assessed: Mapping[str, Assessment]
) -> ErrorSources | None:
    return error_sources(
        {arm: one.paired for arm, one in assessed.items() if arm in arms},
        {arm: [one.seconds for one in trials.values() if one.seconds is not None] for arm, trials in arms.items()},
        baseline=baseline,
        evaluation_seconds=base.seconds if base else None,
    )


def _timed(base: Measurements | None, evidence: Evidence) -> Measurements | None:
    """Return the base model if its time is that of one evaluation on the items, without tasks of a harness."""
    return None if any(metric.section == TASKS_TABLE for metric in evidence.metrics.values()) else base


def _trials_by_arm(evidence: Evidence) -> dict[str, dict[int, Measurements]]:
    arms: dict[str, dict[int, Measurements]] = {}
    for trial in evidence.trials:
        if trial.is_base or trial.seed is None:
            continue
        first = arms.setdefault(trial.arm, {}).setdefault(trial.seed, trial)
        if first is not trial:
            raise UsageError(_duplicate_trial(evidence.name, first, trial))
    if arms:
        return arms
    if evidence.trials and not evidence.origin.is_sweep:  # runs of another tool
        raise NothingToCompareError(f"'{evidence.name}' has the base model only. Add runs of trained models.")
    what = f"No trained trial of sweep '{evidence.name}' has finished"
    if not (failed := evidence.origin.failed_trials):
        raise NothingToCompareError(f"{what}. Run the same `neftune sweep` again to finish it.")
    reasons = (line.rstrip(".") for line in evidence.unfinished if line.startswith(f"{failed[0]} failed"))
    retry = f"Run the same `neftune sweep` with --retry failed to run {'it' if len(failed) == 1 else 'them'} again."
    sentences = (f"{what}: {counted(len(failed), 'trial')} failed", *islice(reasons, 1), retry)
    raise NothingToCompareError(". ".join(sentences))


def _duplicate_trial(sweep: str, first: Measurements, second: Measurements) -> Problem:
    ids = f"{first.trial_id} and {second.trial_id}"
    return Problem(
        f"Sweep '{sweep}' has two trials of arm '{first.arm}', seed {first.seed}: {ids}.",
        "They differ in more than the seed. Move the trial that does not belong to the sweep out of its folder.",
    )


def _baseline(sweep: str, arms: TrialsByArm, default: str, wanted: str | None) -> str:
    """Return the arm that is wanted as the baseline, or the default one, or the first one if that has no trial."""
    if wanted is None:
        return default if default in arms else next(iter(arms))
    matches = arms_named(wanted, {name: first_trial(arms, name).alpha for name in arms})
    if len(matches) == 1:
        return matches[0]
    found = f"{len(matches)} arms" if matches else "no trained arm"
    names = ", ".join(f"'{name}'" for name in matches or arms)
    raise UsageError(
        Problem(f"--baseline {wanted}: sweep '{sweep}' has {found} with this name or alpha.", f"Use one of {names}.")
    )


def _measured_metrics(evidence: Evidence) -> dict[str, Metric]:
    """Return the measured metrics. Those that neftune does not declare have the decimals that their values need.

    Raises:
        NothingToCompareError: there is none, for example because no document was evaluated in every run.
    """
    if metrics := evidence.measured_metrics:
        return {
            key: metric if key in METRICS else metric.showing(_largest_score(evidence.trials, key))
            for key, metric in metrics.items()
        }
    notes = " ".join(evidence.notes)
    raise NothingToCompareError(f"The runs of '{evidence.name}' have no score that can be compared. {notes}".strip())


def _largest_score(trials: Sequence[Measurements], key: str) -> float:
    scores = (trial.scores.get(key) for trial in trials)
    return max((abs(score) for score in scores if score is not None and are_finite(score)), default=math.nan)


def _primary_metric(sweep: str, metrics: Mapping[str, Metric], default: str, wanted: str | None) -> str:
    """Return the key of the metric that is wanted by its key or its name, or the default one."""
    if not wanted:
        return default
    named = [key for key, one in metrics.items() if wanted.casefold() == one.name.casefold()]
    if wanted in metrics or len(named) == 1:
        return wanted if wanted in metrics else named[0]
    found = "several metrics have this name" if named else "no metric with this key was measured"
    known = ", ".join(f"{key} ({metrics[key].name_within})" for key in named or metrics)
    raise UsageError(Problem(f"--metric {wanted!r}: {found} in sweep '{sweep}'.", f"Use one of {known}."))


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
    # the interval is that of a repeated look, as those of the arms: of the last look that all of them have
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
    differences = {seed: value - baseline[seed] for seed, value in values.items() if seed in baseline}
    paired = DifferenceBySeed(differences, *_mean_and_sd(list(differences.values()))) if differences else None
    return Estimate(values, *_mean_and_sd(list(values.values())), difference=paired, assessment=assessment)


def _mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    # for infinite values, fmean and stdev raise different errors
    if not are_finite(values):
        return math.nan, None
    return fmean(values), stdev(values) if len(values) > 1 else None
