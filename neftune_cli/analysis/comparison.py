"""Records of one sweep's finished trials become arms with means, spreads and differences to a baseline arm."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from neftune_cli.config.spec import BASE_ARM
from neftune_cli.errors import NothingToCompareError, Problem, UsageError
from neftune_cli.records import EVAL_METRICS, LOSS_METRICS, Attestation, TrialRecord


@dataclass(frozen=True)
class PairedDifference:
    """An arm minus the baseline arm, seed by seed, over the seeds that both have."""

    by_seed: Mapping[int, float]
    mean: float
    sd: float | None
    """Standard deviation of the differences (ddof=1); None for one seed."""

    @property
    def seeds(self) -> int:
        """Return how many seeds are paired."""
        return len(self.by_seed)

    @property
    def lower(self) -> int:
        """Return in how many pairs the arm is lower than the baseline."""
        return sum(difference < 0 for difference in self.by_seed.values())

    @property
    def higher(self) -> int:
        """Return in how many pairs the arm is higher than the baseline."""
        return sum(difference > 0 for difference in self.by_seed.values())


@dataclass(frozen=True)
class Estimate:
    """One metric of one arm over its seeds, in the metric's own unit."""

    by_seed: Mapping[int, float]
    mean: float
    """Not a number where a seed's value isn't finite."""
    sd: float | None
    """Standard deviation over seeds (ddof=1); None for one seed."""
    difference: PairedDifference | None
    """None for the baseline itself, and where no seed is shared with it."""


@dataclass(frozen=True)
class ArmSummary:
    """The trials that share everything but the seed, summarised."""

    name: str
    alpha: float | None
    seeds: tuple[int, ...]
    noise_ratio: float | None
    """Noise norm as a share of the embedding norm at the median length; None where it wasn't measured."""
    estimates: Mapping[str, Estimate | None]
    """Metric key to estimate; None where the metric isn't defined for the data."""


@dataclass(frozen=True)
class Comparison:
    """Everything the tables, plots and sentences about one sweep are made from."""

    sweep: str
    baseline: str
    """Name of the arm that the differences are taken to."""
    base: Mapping[str, float | None] | None
    """Metric key to value before fine-tuning; None where the base wasn't evaluated."""
    arms: tuple[ArmSummary, ...]
    """The trained arms in the sweep's order, the baseline among them."""
    attestations: tuple[Attestation, ...]
    """What the noisy trials measured of their noise."""
    notes: tuple[str, ...]
    """What the trials noted, each note once."""
    unfinished: tuple[str, ...]
    """One sentence for each trial that is missing from the numbers."""

    @property
    def treated(self) -> tuple[ArmSummary, ...]:
        """Return the arms that are compared with the baseline."""
        return tuple(arm for arm in self.arms if arm.name != self.baseline)


def compare_arms(
    sweep: str,
    records: Sequence[TrialRecord],
    baseline: str | None = None,
    unfinished: Sequence[str] = (),
) -> Comparison:
    """Compare the arms of one sweep, paired by seed.

    `baseline` names an arm by name or alpha; by default it is the first trained one. Trials of different sweeps must
    not be mixed: their pairs differ in more than the arm.

    Raises:
        NothingToCompareError: no trained trial has finished.
        UsageError: no arm or more than one answers to `baseline`, or two trials have the same arm and seed.
    """
    arms = _trials_by_arm(sweep, records)
    chosen = _baseline(sweep, {record.arm: record.alpha for record in records if record.arm in arms}, baseline)
    return Comparison(
        sweep=sweep,
        baseline=chosen,
        base=next((_values(record) for record in records if record.arm == BASE_ARM), None),
        arms=tuple(_summary(name, trials, {} if name == chosen else arms[chosen]) for name, trials in arms.items()),
        attestations=tuple(record.attestation for record in records if record.attestation and record.alpha),
        notes=tuple(dict.fromkeys(note for record in records for note in record.notes)),
        unfinished=tuple(unfinished),
    )


_Trials = Mapping[int, TrialRecord]
"""Trials of one arm by seed."""


def _trials_by_arm(sweep: str, records: Sequence[TrialRecord]) -> dict[str, dict[int, TrialRecord]]:
    arms: dict[str, dict[int, TrialRecord]] = {}
    for record in records:
        if record.arm == BASE_ARM or record.seed is None:
            continue
        twin = arms.setdefault(record.arm, {}).setdefault(record.seed, record)
        if twin is not record:
            raise UsageError(_twins(sweep, twin, record))
    if not arms:
        raise NothingToCompareError(
            f"No trained trial of sweep '{sweep}' has finished. Run the same `neftune sweep` again to finish it."
        )
    return arms


def _twins(sweep: str, first: TrialRecord, second: TrialRecord) -> Problem:
    return Problem(
        f"Sweep '{sweep}' has two trials of arm '{first.arm}', seed {first.seed}: {first.trial} and {second.trial}.",
        "They differ in more than the seed, so move the trial that doesn't belong out of the sweep's folder.",
    )


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


def _summary(name: str, trials: _Trials, baseline: _Trials) -> ArmSummary:
    records = list(trials.values())
    ratios = [record.noise.ratio for record in records if record.noise is not None]
    return ArmSummary(
        name=name,
        alpha=records[0].alpha,
        seeds=tuple(sorted(trials)),
        noise_ratio=fmean(ratios) if ratios else None,
        estimates={key: _estimate(_by_seed(key, trials), _by_seed(key, baseline)) for key in _values(records[0])},
    )


def _values(record: TrialRecord) -> dict[str, float | None]:
    loss = {key: getattr(record.loss, key) for key in LOSS_METRICS}
    return loss | {key: getattr(record.eval, key) for key in EVAL_METRICS}


def _by_seed(key: str, trials: _Trials) -> dict[int, float]:
    """Return the metric's value by seed, seeds in order, those without a value left out."""
    values = {seed: _values(trials[seed])[key] for seed in sorted(trials)}
    return {seed: value for seed, value in values.items() if value is not None}


def _estimate(values: Mapping[int, float], baseline: Mapping[int, float]) -> Estimate | None:
    if not values:
        return None
    differences = {seed: value - baseline[seed] for seed, value in values.items() if seed in baseline}
    paired = PairedDifference(differences, *_mean_and_sd(list(differences.values()))) if differences else None
    return Estimate(values, *_mean_and_sd(list(values.values())), difference=paired)


def _mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    # A diverged trial has infinite perplexity, which fsum and stdev refuse in ways of their own.
    if not all(math.isfinite(value) for value in values):
        return math.nan, None
    return fmean(values), stdev(values) if len(values) > 1 else None
