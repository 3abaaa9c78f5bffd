"""Compare the arms of comparable trials: means, paired differences to a baseline arm, verdicts and claims."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean, stdev

from neftune_cli.analysis.alignment import TrialsByArm, align, measured_seeds
from neftune_cli.analysis.best_arm import best_arm_gain
from neftune_cli.analysis.early_stopping import early_stopping
from neftune_cli.analysis.options import DEFAULT_OPTIONS, ComparisonOptions
from neftune_cli.analysis.paired import MIN_SEEDS, PairedComparison
from neftune_cli.analysis.paper_claims import examine_claims
from neftune_cli.analysis.results import (
    ArmSummary,
    Assessment,
    BestArm,
    Comparison,
    EarlyStopping,
    Estimate,
    PairedDifference,
)
from neftune_cli.analysis.verdicts import assess
from neftune_cli.errors import NothingToCompareError, Problem, UsageError
from neftune_cli.evidence.measurements import Evidence, Measurements
from neftune_cli.metrics import HELD_OUT_LOSS, Metric

_AssessmentsByArm = Mapping[str, Assessment]


def compare_arms(evidence: Evidence, options: ComparisonOptions = DEFAULT_OPTIONS) -> Comparison:
    """Compare the arms of comparable trials, paired by seed and item.

    Raises:
        NothingToCompareError: no trained trial has finished.
        UsageError: `options.baseline` matches no arm or several, two trials have the same arm and seed, or
            `options.metric` was not measured.
    """
    arms = _trials_by_arm(evidence)
    baseline = _baseline(evidence.name, {name: _alpha(trials) for name, trials in arms.items()}, options.baseline)
    metrics = {key: metric for key, metric in evidence.metrics.items() if _is_measured(evidence.trials, key)}
    primary = _primary(evidence.name, metrics, options.metric)
    assessed = {key: _assessments(arms, baseline, metric, options) for key, metric in metrics.items()}
    summaries = tuple(_summary(name, arms[name], arms[baseline], name == baseline, metrics, assessed) for name in arms)
    stopping = _early_stopping(arms, baseline, metrics, options)
    return Comparison(
        sweep=evidence.name,
        setting=evidence.setting,
        baseline=baseline,
        base=next((trial.scores for trial in evidence.trials if trial.is_base), None),
        arms=summaries,
        metrics=metrics,
        primary=primary,
        confidence=options.confidence,
        best=_best(arms, baseline, metrics[primary], options),
        early_stopping=stopping,
        hypotheses=examine_claims(arms, baseline, metrics, stopping, _with_metric_key(options, primary)),
        apart=evidence.apart,
        attestations=tuple(trial.attestation for trial in evidence.trials if trial.attestation and trial.alpha),
        notes=tuple(dict.fromkeys([*evidence.notes, *_trial_notes(evidence.trials), *_item_notes(arms, metrics)])),
        unfinished=evidence.unfinished,
        manifest_digest=evidence.manifest_digest,
    )


def _trials_by_arm(evidence: Evidence) -> dict[str, dict[int, Measurements]]:
    arms: dict[str, dict[int, Measurements]] = {}
    for trial in evidence.trials:
        if trial.is_base or trial.seed is None:
            continue
        first = arms.setdefault(trial.arm, {}).setdefault(trial.seed, trial)
        if first is not trial:
            raise UsageError(_duplicate_trial(evidence.name, first, trial))
    if not arms:
        raise NothingToCompareError(
            f"No trained trial of sweep '{evidence.name}' has finished. "
            "Run the same `neftune sweep` again to finish it."
        )
    return arms


def _duplicate_trial(sweep: str, first: Measurements, second: Measurements) -> Problem:
    return Problem(
        f"Sweep '{sweep}' has two trials of arm '{first.arm}', seed {first.seed}: {first.trial} and {second.trial}.",
        "They differ in more than the seed. Move the trial that does not belong to the sweep out of its folder.",
    )


def _alpha(trials: Mapping[int, Measurements]) -> float | None:
    return next(iter(trials.values())).alpha


def _baseline(sweep: str, alphas: Mapping[str, float | None], wanted: str | None) -> str:
    if wanted is None:
        return next(iter(alphas))
    for name in (wanted, f"alpha={wanted}"):
        if name in alphas:
            return name
    matches = [name for name, alpha in alphas.items() if alpha == _number(wanted)]
    if len(matches) == 1:
        return matches[0]
    found = f"{len(matches)} arms" if matches else "no trained arm"
    names = ", ".join(f"'{name}'" for name in matches or alphas)
    raise UsageError(
        Problem(f"--baseline {wanted}: sweep '{sweep}' has {found} with this name or alpha.", f"Use one of {names}.")
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _is_measured(trials: Sequence[Measurements], key: str) -> bool:
    return any(trial.scores.get(key) is not None for trial in trials)


def _primary(sweep: str, metrics: Mapping[str, Metric], wanted: str | None) -> str:
    """Return the key of the wanted metric, which can be given by key or by name."""
    if wanted is None:
        return HELD_OUT_LOSS if HELD_OUT_LOSS in metrics else next(iter(metrics))
    named = [key for key, one in metrics.items() if wanted.casefold() == one.name.casefold()]
    if wanted in metrics or len(named) == 1:
        return wanted if wanted in metrics else named[0]
    found = "several metrics have this name" if named else "no metric with this key was measured"
    known = ", ".join(f"{key} ({metrics[key].name_within})" for key in named or metrics)
    raise UsageError(Problem(f"--metric {wanted!r}: {found} in sweep '{sweep}'.", f"Use one of {known}."))


def _with_metric_key(options: ComparisonOptions, primary: str) -> ComparisonOptions:
    """Return the options with the key of the primary metric in place of the name that the user gave."""
    return options if options.metric is None else replace(options, metric=primary)


def _assessments(arms: TrialsByArm, baseline: str, metric: Metric, options: ComparisonOptions) -> _AssessmentsByArm:
    compared: dict[str, PairedComparison] = {}
    margins: dict[str, float] = {}
    for name in arms:
        aligned = align({one: arms[one] for one in (baseline, name)}, metric.key) if name != baseline else None
        found = aligned and aligned.compare(aligned.arm(baseline), aligned.arm(name), confidence=options.confidence)
        if aligned and found:
            compared[name] = found
            margins[name] = options.margin_at(metric, aligned.mean(baseline))
    return assess(compared, metric, margins)


def _best(arms: TrialsByArm, baseline: str, metric: Metric, options: ComparisonOptions) -> BestArm | None:
    """Select among the arms with enough seeds. An arm with few seeds would limit all arms to its seeds."""
    own = measured_seeds(arms[baseline], metric.key)
    enough = {
        name: trials for name, trials in arms.items() if len(own & measured_seeds(trials, metric.key)) >= MIN_SEEDS
    }
    aligned = align(enough, metric.key) if baseline in enough and len(enough) > 2 else None
    return best_arm_gain(aligned, baseline, metric, confidence=options.confidence) if aligned else None


def _early_stopping(
    arms: TrialsByArm, baseline: str, metrics: Mapping[str, Metric], options: ComparisonOptions
) -> EarlyStopping | None:
    metric = metrics.get(HELD_OUT_LOSS)
    if metric is None:
        return None
    margin = options.margin(metric, arms, baseline)
    return early_stopping(arms, baseline, metric, margin=margin, confidence=options.confidence)


def _trial_notes(trials: Sequence[Measurements]) -> Iterator[str]:
    return (note for trial in trials for note in trial.notes)


def _item_notes(arms: TrialsByArm, metrics: Mapping[str, Metric]) -> Iterator[str]:
    """Yield a note for each metric that was measured on different items in different trials."""
    for key, metric in metrics.items():
        measured = [
            trial.items[key].items if key in trial.items else ()
            for trials in arms.values()
            for trial in trials.values()
            if trial.scores.get(key) is not None
        ]
        if len(set(measured)) > 1:
            sizes = sorted({len(items) for items in measured})
            found = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else f"{sizes[0]} different"
            yield f"{metric.name}: trials have {found} items. Each difference uses the items that both arms have."


def _summary(
    name: str,
    trials: Mapping[int, Measurements],
    baseline: Mapping[int, Measurements],
    is_baseline: bool,
    metrics: Mapping[str, Metric],
    assessed: Mapping[str, _AssessmentsByArm],
) -> ArmSummary:
    ratios = [trial.noise_ratio for trial in trials.values() if trial.noise_ratio is not None]
    reference: Mapping[int, Measurements] = {} if is_baseline else baseline
    return ArmSummary(
        name=name,
        alpha=_alpha(trials),
        seeds=tuple(sorted(trials)),
        noise_ratio=fmean(ratios) if ratios else None,
        estimates={
            key: _estimate(_by_seed(key, trials), _by_seed(key, reference), assessed[key].get(name)) for key in metrics
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
    paired = PairedDifference(differences, *_mean_and_sd(list(differences.values()))) if differences else None
    return Estimate(values, *_mean_and_sd(list(values.values())), difference=paired, assessment=assessment)


def _mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    # A diverged trial has an infinite perplexity, for which fmean and stdev raise different errors.
    if not all(math.isfinite(value) for value in values):
        return math.nan, None
    return fmean(values), stdev(values) if len(values) > 1 else None
