"""Comparison with early stopping: arms against the baseline at its best epoch, selected by cross-fitting."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

import numpy as np

from neftune_cli.analysis.alignment import TrialsByArm, compare_finite, shared_items
from neftune_cli.analysis.clusters import Indices, cluster_sums, indices_by_label, random_halves
from neftune_cli.analysis.results import Assessment, EarlyStopping, StoppedArm
from neftune_cli.analysis.sequential import FIXED, SequentialTest
from neftune_cli.analysis.verdicts import assess
from neftune_cli.evidence.measurements import Floats, ItemValues, Measurements
from neftune_cli.metrics import Metric

EPOCH_SPLIT_PAIRS = 50
"""Number of pairs of splits. The two splits of a pair exchange the halves of the clusters."""


def early_stopping(
    trials: TrialsByArm,
    baseline: str,
    metric: Metric,
    *,
    margin: float,
    confidence: float,
    test: SequentialTest = FIXED,
    looks_by_arm: Mapping[str, int] = MappingProxyType({}),
    seed: int = 0,
) -> EarlyStopping | None:
    """Compare arms after their last epoch and at their best epoch with the baseline at its best epoch.

    Noise that only delays overtraining is better than an overtrained baseline, but not necessarily better than an
    early-stopped one. The lowest of several noisy losses is biased downward. Therefore the best epoch of each seed is
    selected on half of the clusters of held-out items, and its loss is measured on the rest. The value of an item is
    the mean over the splits that measured it. All trials have the same splits. P-values are adjusted over the arms,
    separately for last and for best epochs. The baseline after its last epoch is tested for a rise of its loss only.

    Args:
        trials: trials with held-out losses after each epoch. Arms without such losses and arms that share no seed with
            the baseline are excluded. The epochs of an arm are those that all its seeds have.
        baseline: arm that differences are relative to.
        metric: metric of the held-out loss.
        margin: equivalence margin in nats per completion token.
        confidence: confidence level of the intervals, between 0 and 1.
        test: the planned looks. The losses are tested once, at the level of the last look of an arm.
        looks_by_arm: numbers of looks, one by default.
        seed: random seed of the splits.

    Returns:
        None if the baseline has fewer than two epochs, if there is no other arm, or if the trials share fewer than two
        clusters of items. An assessment is None if a loss is not finite. Epochs with such a loss are not selected.
    """
    runs = _runs(trials, baseline)
    if len(runs) < 2 or len(runs[baseline].epochs) < 2:
        return None
    losses = [one for run in runs.values() for one in run.held_out()]
    shared = losses[0].of(shared_items(losses))  # for its items, clusters and weights
    if len(set(shared.clusters)) < 2:
        return None
    stopped = _stopped(runs, shared, np.random.default_rng(seed))
    assessed = partial(_assess, shared, metric, margin, confidence, test, looks_by_arm)
    own = stopped[baseline]
    others = {arm: (own.best_of(one.seeds), one) for arm, one in stopped.items() if arm != baseline}
    last = assessed({arm: (reference, one.last) for arm, (reference, one) in others.items()})
    best = assessed({arm: (reference, one.best) for arm, (reference, one) in others.items()})
    overtrained = {arm: _tested_for_a_rise(one) for arm, one in assessed({baseline: (own.best, own.last)}).items()}
    return EarlyStopping(
        epochs=runs[baseline].epochs,
        arms=tuple(
            replace(
                _summary(arm, one, shared.weights, (last | overtrained).get(arm), best.get(arm)),
                epochs=() if runs[arm].epochs == runs[baseline].epochs else runs[arm].epochs,
            )
            for arm, one in stopped.items()
        ),
        items=len(shared.weights) if len(shared.weights) < _items_of_last_epochs(runs) else None,
    )


def _items_of_last_epochs(runs: Mapping[str, "_ArmTrials"]) -> int:
    return max(len(trial.held_out_by_epoch[run.epochs[-1]].items) for run in runs.values() for trial in run.trials)


@dataclass(frozen=True)
class _ArmTrials:
    """Trials of one arm that have held-out losses by epoch."""

    seeds: tuple[int, ...]
    epochs: tuple[int, ...]
    trials: tuple[Measurements, ...]

    def held_out(self) -> Iterator[ItemValues]:
        """Yield the losses by epoch, and by seed within an epoch."""
        return (trial.held_out_by_epoch[epoch] for epoch in self.epochs for trial in self.trials)


@dataclass(frozen=True)
class _Stopped:
    """Losses of one arm after its last epoch and at its best epoch."""

    seeds: tuple[int, ...]
    last: Floats
    """(seeds, items)."""
    best: Floats
    """(seeds, items)."""
    best_epoch: float
    """Selected epoch, mean over splits and over the seeds with a finite loss; NaN if there is none."""

    def best_of(self, seeds: tuple[int, ...]) -> Floats:
        """Return the losses of these seeds at their best epochs, (seeds, items)."""
        return self.best[[self.seeds.index(seed) for seed in seeds]]


def _runs(trials: TrialsByArm, baseline: str) -> dict[str, _ArmTrials]:
    """Return the comparable trials by arm, the baseline first. Return nothing if the baseline is not comparable."""
    measured = {
        arm: {seed: trial for seed, trial in by_seed.items() if trial.held_out_by_epoch}
        for arm, by_seed in trials.items()
    }
    own = measured.pop(baseline, {})
    runs = {baseline: _run(own)}
    for arm, by_seed in measured.items():
        runs[arm] = _run({seed: trial for seed, trial in by_seed.items() if seed in own})
    return {arm: run for arm, run in runs.items() if run.epochs} if runs[baseline].epochs else {}


def _run(by_seed: Mapping[int, Measurements]) -> _ArmTrials:
    seeds = tuple(sorted(by_seed))
    trials = tuple(by_seed[seed] for seed in seeds)
    epochs = set.intersection(*(set(trial.held_out_by_epoch) for trial in trials)) if trials else set()
    return _ArmTrials(seeds, tuple(sorted(epochs)), trials)


def _stopped(runs: Mapping[str, _ArmTrials], shared: ItemValues, draws: np.random.Generator) -> dict[str, _Stopped]:
    selection = random_halves(len(set(shared.clusters)), EPOCH_SPLIT_PAIRS, draws)
    return {arm: _stop(run, shared, selection) for arm, run in runs.items()}


def _stop(
    run: _ArmTrials,
    shared: ItemValues,
    selection: Floats,  # (splits, clusters)
) -> _Stopped:
    losses = np.array([one.of(shared.items).values for one in run.held_out()])
    by_epoch = losses.reshape(len(run.epochs), len(run.seeds), -1)
    indices = indices_by_label(shared.clusters)
    sums = cluster_sums(by_epoch, shared.weights, indices)
    selected = _best_epochs(sums, selection)
    picks = np.eye(len(run.epochs))[selected]
    has_best = np.isfinite(sums).all(axis=-1).any(axis=0)
    best_epochs = np.array(run.epochs)[selected[:, has_best]]
    return _Stopped(
        seeds=run.seeds,
        last=by_epoch[-1],
        best=_cross_fitted_values(by_epoch, picks, 1 - selection, indices),
        best_epoch=float(best_epochs.mean()) if best_epochs.size else math.nan,
    )


def _best_epochs(
    losses: Floats,  # (epochs, seeds, clusters)
    selection: Floats,  # (splits, clusters)
) -> Indices:
    """Return the index of the epoch with the lowest loss on the selection data, (splits, seeds).

    It is 0 for a seed without an epoch whose losses are finite.
    """
    finite = np.isfinite(losses).all(axis=-1, keepdims=True)
    sums = np.where(finite, losses, 0.0) @ selection.T
    return np.asarray(np.where(finite, sums, np.inf).argmin(axis=0).T)


def _cross_fitted_values(
    values: Floats,  # (options, seeds, items)
    picks: Floats,  # (splits, seeds, options)
    evaluation: Floats,  # (splits, clusters)
    indices: Indices,  # (items,)
) -> Floats:
    """Return the value of each cell under the options selected without it, mean over those splits, (seeds, items).

    Args:
        values: values of every option.
        picks: 1 for the option that a split selected for a seed, 0 for the other options.
        evaluation: 1 for the clusters that a split did not use for the selection.
        indices: cluster of each item.
    """
    counts = np.tensordot(picks, evaluation, axes=(0, 0))  # (seeds, options, clusters)
    shares = (counts / counts.sum(axis=1, keepdims=True)).transpose(1, 0, 2)[:, :, indices]
    # an option that is never selected may be infinite
    weighted = np.multiply(values, shares, out=np.zeros_like(values), where=shares > 0)
    return np.asarray(weighted.sum(axis=0))


def _assess(
    shared: ItemValues,
    metric: Metric,
    margin: float,
    confidence: float,
    test: SequentialTest,
    looks_by_arm: Mapping[str, int],
    pairs: Mapping[str, tuple[Floats, Floats]],
) -> dict[str, Assessment]:
    """Assess one family of differences. Each pair has the values of reference and arm, (seeds, items) each."""
    most = max(looks_by_arm.values(), default=1)
    counts = {arm: number for arm in pairs if (number := looks_by_arm.get(arm, most))}  # none before the first look
    compare = partial(compare_finite, confidence=confidence, clusters=shared.clusters, weights=shared.weights)
    compared = {arm: compare(*pairs[arm]) for arm in counts}
    at_looks = {arm: [*[None] * (counts[arm] - 1), one] for arm, one in compared.items() if one}
    return assess(at_looks, metric, margin, test=test)


def _tested_for_a_rise(one: Assessment) -> Assessment:
    """Return the assessment of the baseline after its last epoch: the loss can only be shown to rise or be equivalent.

    If no epoch is better than another, the difference of a seed is 0 in the splits that select the last epoch, and
    negative in the others where the selection does not generalize. This skewness gives too many false decreases, and
    too few false rises. The p-value is therefore twice the one-sided one, at most 1.
    """
    if one.paired.difference > 0 or math.isnan(one.p_adjusted):
        return one
    verdict = "inconclusive" if one.verdict == "better" else one.verdict
    return replace(
        one, p_adjusted=1.0, verdict=verdict, interval=replace(one.interval, high=max(0.0, one.interval.high))
    )


def _summary(
    name: str,
    stopped: _Stopped,
    weights: Floats,  # (items,)
    last: Assessment | None,
    best: Assessment | None,
) -> StoppedArm:
    last_loss, best_loss = (
        float(np.average(one, axis=1, weights=weights).mean()) for one in (stopped.last, stopped.best)
    )
    return StoppedArm(name, last_loss, best_loss, stopped.best_epoch, last, best)
