"""Whether noise is worth more than stopping in time: arms beside the baseline at the baseline's own best epoch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from neftune_cli.analysis.aligned import Aligned, TrialsByArm, stack
from neftune_cli.analysis.best_arm import Integers, cluster_numbers, cluster_sums, measured_elsewhere, random_halves
from neftune_cli.analysis.results import Assessment, EarlyStopping, StoppedArm
from neftune_cli.analysis.verdicts import assess
from neftune_cli.evidence.measurements import Floats, ItemValues, Measurements
from neftune_cli.metrics import Metric

SPLIT_PAIRS = 50
"""Half of the number of splits: in each pair the two halves of the clusters change places."""


def early_stopping(
    trials: TrialsByArm, baseline: str, metric: Metric, *, margin: float, confidence: float, seed: int = 0
) -> EarlyStopping | None:
    """Compare arms after their last and at their best epoch with the baseline at its best.

    Noise that only slows overfitting looks good beside a baseline that was trained for too long. The lowest of several
    noisy losses is too low, so each seed's best epoch is chosen on half of the clusters of held-out items and its loss
    measured on the others; the value of an item is the average over the splits that measured it. All trials are split
    alike. p-values are corrected over the arms, apart for last and for best epochs.

    Args:
        trials: their held-out losses after each epoch. Left out are arms without them and arms that share no seed with
            the baseline. Each arm has its own epochs to choose from, those that all its seeds have.
        baseline: the arm compared with.
        metric: of the held-out loss.
        margin: differences up to it are taken for none, in nats per completion token.
        confidence: of the intervals, between 0 and 1.
        seed: of the random splits.

    Returns:
        None with fewer than two epochs of the baseline, without another arm, and where the trials don't share at least
        two clusters of items. Judgements are None where a loss isn't finite; an epoch in which one isn't is not chosen.
    """
    runs = _runs(trials, baseline)
    if len(runs) < 2 or len(runs[baseline].epochs) < 2:
        return None
    shared = stack({"": [one for run in runs.values() for one in run.held_out()]}, seeds=())
    if shared is None or len(set(shared.clusters)) < 2:
        return None
    stopped = _stopped(runs, shared, np.random.default_rng(seed))
    judged = partial(_judged, shared, metric, margin, confidence)
    own = stopped[baseline]
    others = {arm: (own.best_of(one.seeds), one) for arm, one in stopped.items() if arm != baseline}
    last = judged({arm: (reference, one.last) for arm, (reference, one) in others.items()})
    best = judged({arm: (reference, one.best) for arm, (reference, one) in others.items()})
    overtrained = judged({baseline: (own.best, own.last)})
    return EarlyStopping(
        epochs=runs[baseline].epochs,
        arms=tuple(
            replace(
                _summary(arm, one, shared.weights, (last | overtrained).get(arm), best.get(arm)),
                epochs=() if runs[arm].epochs == runs[baseline].epochs else runs[arm].epochs,
            )
            for arm, one in stopped.items()
        ),
    )


@dataclass(frozen=True)
class _Run:
    """One arm's trials whose losses are known epoch by epoch."""

    seeds: tuple[int, ...]
    epochs: tuple[int, ...]
    trials: tuple[Measurements, ...]

    def held_out(self) -> Iterator[ItemValues]:
        """Yield the losses epoch by epoch, and seed by seed in each."""
        return (trial.held_out_by_epoch[epoch] for epoch in self.epochs for trial in self.trials)


@dataclass(frozen=True)
class _Stopped:
    """One arm after its last and at its best epoch."""

    seeds: tuple[int, ...]
    last: Floats
    """(seeds, items)."""
    best: Floats
    """(seeds, items)."""
    best_epoch: float
    """Mean over seeds and splits."""

    def best_of(self, seeds: tuple[int, ...]) -> Floats:
        """Return the losses at the best epoch of these seeds, (seeds, items)."""
        return self.best[[self.seeds.index(seed) for seed in seeds]]


def _runs(trials: TrialsByArm, baseline: str) -> dict[str, _Run]:
    """Return what can be compared by arm, the baseline first; empty where it isn't among it."""
    measured = {
        arm: {seed: trial for seed, trial in by_seed.items() if trial.held_out_by_epoch}
        for arm, by_seed in trials.items()
    }
    own = measured.pop(baseline, {})
    runs = {baseline: _run(own)}
    for arm, by_seed in measured.items():
        runs[arm] = _run({seed: trial for seed, trial in by_seed.items() if seed in own})
    return {arm: run for arm, run in runs.items() if run.epochs} if runs[baseline].epochs else {}


def _run(by_seed: Mapping[int, Measurements]) -> _Run:
    seeds = tuple(sorted(by_seed))
    trials = tuple(by_seed[seed] for seed in seeds)
    epochs = set.intersection(*(set(trial.held_out_by_epoch) for trial in trials)) if trials else set()
    return _Run(seeds, tuple(sorted(epochs)), trials)


def _stopped(runs: Mapping[str, _Run], shared: Aligned, draws: np.random.Generator) -> dict[str, _Stopped]:
    seen = random_halves(len(set(shared.clusters)), SPLIT_PAIRS, draws)
    sizes = [len(run.epochs) * len(run.seeds) for run in runs.values()]
    losses = np.split(shared.values[0], np.cumsum(sizes)[:-1])
    return {arm: _stop(run, of_arm, shared, seen) for (arm, run), of_arm in zip(runs.items(), losses, strict=True)}


def _stop(
    run: _Run,
    losses: Floats,  # (epochs * seeds, items)
    shared: Aligned,
    seen: Floats,  # (splits, clusters)
) -> _Stopped:
    by_epoch = losses.reshape(len(run.epochs), len(run.seeds), -1)
    numbers = cluster_numbers(shared.clusters)
    chosen = _best_epochs(cluster_sums(by_epoch, shared.weights, numbers), seen)
    picks = np.eye(len(run.epochs))[chosen]
    return _Stopped(
        seeds=run.seeds,
        last=by_epoch[-1],
        best=measured_elsewhere(by_epoch, picks, 1 - seen, numbers),
        best_epoch=float(np.array(run.epochs)[chosen].mean()),
    )


def _best_epochs(
    losses: Floats,  # (epochs, seeds, clusters)
    seen: Floats,  # (splits, clusters)
) -> Integers:
    """Return the place of the epoch with the lowest loss on the clusters seen, the first of equals, (splits, seeds)."""
    finite = np.isfinite(losses).all(axis=-1, keepdims=True)
    sums = np.where(finite, losses, 0.0) @ seen.T
    return np.asarray(np.where(finite, sums, np.inf).argmin(axis=0).T)


def _judged(
    shared: Aligned, metric: Metric, margin: float, confidence: float, pairs: Mapping[str, tuple[Floats, Floats]]
) -> dict[str, Assessment]:
    """Return the verdicts on one family of differences, reference and arm given as (seeds, items) each."""
    compared = {arm: shared.compare(*pair, confidence=confidence) for arm, pair in pairs.items()}
    return assess({arm: one for arm, one in compared.items() if one is not None}, metric, margin)


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
