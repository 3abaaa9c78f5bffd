"""Comparable trials become arms with means, spreads, paired differences to a baseline arm, and verdicts on them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean, stdev

from neftune_cli.analysis.aligned import DEFAULT_CHOICES, Choices, TrialsByArm, align, measured_seeds
from neftune_cli.analysis.best_arm import best_arm_gain
from neftune_cli.analysis.early_stopping import early_stopping
from neftune_cli.analysis.paired import FEWEST_SEEDS, PairedComparison
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


def compare_arms(evidence: Evidence, choices: Choices = DEFAULT_CHOICES) -> Comparison:
    """Compare the arms of comparable trials, paired by seed and item.

    Raises:
        NothingToCompareError: no trained trial has finished.
        UsageError: no arm or more than one answers to `choices.baseline`, two trials have the same arm and seed, or
            nobody measured `choices.metric`.
    """
    arms = _trials_by_arm(evidence)
    baseline = _baseline(evidence.name, {name: _alpha(trials) for name, trials in arms.items()}, choices.baseline)
    metrics = {key: metric for key, metric in evidence.metrics.items() if _is_measured(evidence.trials, key)}
    primary = _primary(evidence.name, metrics, choices.metric)
    judged = {key: _assessments(arms, baseline, metric, choices) for key, metric in metrics.items()}
    summaries = tuple(_summary(name, arms[name], arms[baseline], name == baseline, metrics, judged) for name in arms)
    stopping = _early_stopping(arms, baseline, metrics, choices)
    return Comparison(
        sweep=evidence.name,
        setting=evidence.setting,
        baseline=baseline,
        base=next((trial.scores for trial in evidence.trials if trial.is_base), None),
        arms=summaries,
        metrics=metrics,
        primary=primary,
        confidence=choices.confidence,
        best=_best(arms, baseline, metrics[primary], choices),
        early_stopping=stopping,
        hypotheses=examine_claims(arms, baseline, metrics, stopping, _by_key(choices, primary)),
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
        twin = arms.setdefault(trial.arm, {}).setdefault(trial.seed, trial)
        if twin is not trial:
            raise UsageError(_twins(evidence.name, twin, trial))
    if not arms:
        raise NothingToCompareError(
            f"No trained trial of sweep '{evidence.name}' has finished. "
            "Run the same `neftune sweep` again to finish it."
        )
    return arms


def _twins(sweep: str, first: Measurements, second: Measurements) -> Problem:
    return Problem(
        f"Sweep '{sweep}' has two trials of arm '{first.arm}', seed {first.seed}: {first.trial} and {second.trial}.",
        "They differ in more than the seed, so move the trial that doesn't belong out of the sweep's folder.",
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
    what = f"{len(matches)} arms" if matches else "no trained arm"
    names = ", ".join(f"'{name}'" for name in matches or alphas)
    raise UsageError(
        Problem(f"--baseline {wanted}: sweep '{sweep}' has {what} of that name or alpha.", f"Type one of {names}.")
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _is_measured(trials: Sequence[Measurements], key: str) -> bool:
    return any(trial.scores.get(key) is not None for trial in trials)


def _primary(sweep: str, metrics: Mapping[str, Metric], wanted: str | None) -> str:
    """Return the key of the metric that a user means by its key or by a name that the tables show."""
    if wanted is None:
        return HELD_OUT_LOSS if HELD_OUT_LOSS in metrics else next(iter(metrics))
    folded = wanted.casefold()
    named = [key for key, one in metrics.items() if folded in (one.name.casefold(), one.heading.casefold())]
    if wanted in metrics or len(named) == 1:
        return wanted if wanted in metrics else named[0]
    what = f"--metric {wanted!r}: {'several metrics go by that name' if named else 'nothing of that name was measured'}"
    raise UsageError(Problem(f"{what} in sweep '{sweep}'.", f"Type one of {', '.join(named or metrics)}."))


def _by_key(choices: Choices, primary: str) -> Choices:
    """Return the choices with the metric by its key, whatever name the user knows it by."""
    return choices if choices.metric is None else replace(choices, metric=primary)


_Judged = Mapping[str, Assessment]
"""Arm to assessment."""


def _assessments(arms: TrialsByArm, baseline: str, metric: Metric, choices: Choices) -> _Judged:
    compared: dict[str, PairedComparison] = {}
    margins: dict[str, float] = {}
    for name in arms:
        aligned = align({one: arms[one] for one in (baseline, name)}, metric.key) if name != baseline else None
        found = aligned and aligned.compare(aligned.arm(baseline), aligned.arm(name), confidence=choices.confidence)
        if aligned and found:
            compared[name] = found
            margins[name] = choices.margin_beside(metric, aligned.mean(baseline))
    return assess(compared, metric, margins)


def _best(arms: TrialsByArm, baseline: str, metric: Metric, choices: Choices) -> BestArm | None:
    """Choose among the arms that have seeds enough; one with few would leave its few seeds to all."""
    own = measured_seeds(arms[baseline], metric.key)
    enough = {
        name: trials for name, trials in arms.items() if len(own & measured_seeds(trials, metric.key)) >= FEWEST_SEEDS
    }
    aligned = align(enough, metric.key) if baseline in enough and len(enough) > 2 else None
    return best_arm_gain(aligned, baseline, metric, confidence=choices.confidence) if aligned else None


def _early_stopping(
    arms: TrialsByArm, baseline: str, metrics: Mapping[str, Metric], choices: Choices
) -> EarlyStopping | None:
    metric = metrics.get(HELD_OUT_LOSS)
    if metric is None:
        return None
    margin = choices.margin(metric, arms, baseline)
    return early_stopping(arms, baseline, metric, margin=margin, confidence=choices.confidence)


def _trial_notes(trials: Sequence[Measurements]) -> Iterator[str]:
    return (note for trial in trials for note in trial.notes)


def _item_notes(arms: TrialsByArm, metrics: Mapping[str, Metric]) -> Iterator[str]:
    """Yield a note for each metric that not all trials have measured on the same items."""
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
            yield f"{metric.name}: trials have {found} items; each difference is over those that both arms have."


def _summary(
    name: str,
    trials: Mapping[int, Measurements],
    baseline: Mapping[int, Measurements],
    is_baseline: bool,
    metrics: Mapping[str, Metric],
    judged: Mapping[str, _Judged],
) -> ArmSummary:
    ratios = [trial.noise_ratio for trial in trials.values() if trial.noise_ratio is not None]
    beside: Mapping[int, Measurements] = {} if is_baseline else baseline
    return ArmSummary(
        name=name,
        alpha=_alpha(trials),
        seeds=tuple(sorted(trials)),
        noise_ratio=fmean(ratios) if ratios else None,
        estimates={
            key: _estimate(_by_seed(key, trials), _by_seed(key, beside), judged[key].get(name)) for key in metrics
        },
    )


def _by_seed(key: str, trials: Mapping[int, Measurements]) -> dict[int, float]:
    """Return the metric's value by seed, seeds in order, those without a value left out."""
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
    # A diverged trial has infinite perplexity, which fsum and stdev refuse in ways of their own.
    if not all(math.isfinite(value) for value in values):
        return math.nan, None
    return fmean(values), stdev(values) if len(values) > 1 else None
