"""Stopping in time, on curves made by hand: what is chosen, where it is measured, and what it is compared with."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from neftune_cli.analysis.alignment import TrialsByArm
from neftune_cli.analysis.early_stopping import early_stopping
from neftune_cli.analysis.paired import paired_comparison
from neftune_cli.analysis.results import Assessment, EarlyStopping, StoppedArm
from neftune_cli.evidence.measurements import ItemValues, Measurements
from neftune_cli.metrics import METRICS

OVERFITTING, NOISY = (1.0, 0.8, 1.2), (1.1, 0.85, 0.9)
SEEDS, ITEMS = 5, 24


def trials(
    losses: Mapping[str, ArrayLike],  # (epochs, seeds, items) each
    *,
    seeds: Mapping[str, Sequence[int]] | None = None,
    clusters: Sequence[str] = (),
    tokens: Sequence[float] = (),
) -> TrialsByArm:
    """Return trials with these held-out losses after epochs 1, 2, ...; seeds are 0, 1, ... where none are given."""
    arms = {arm: np.asarray(values, dtype=np.float64) for arm, values in losses.items()}
    return {
        arm: {
            seed: trial(arm, seed, values[:, row], clusters, tokens)
            for row, seed in enumerate((seeds or {}).get(arm, range(values.shape[1])))
        }
        for arm, values in arms.items()
    }


def trial(
    arm: str, seed: int, losses: NDArray[np.float64], clusters: Sequence[str] = (), tokens: Sequence[float] = ()
) -> Measurements:
    items = tuple(f"item {number}" for number in range(losses.shape[1]))
    groups, weights = tuple(clusters) or items, np.array(tokens or [1.0] * len(items))
    return Measurements(
        trial=f"{arm} {seed}",
        arm=arm,
        alpha=None,
        seed=seed,
        scores={},
        items={},
        held_out_by_epoch={epoch: ItemValues(items, groups, row, weights) for epoch, row in enumerate(losses, start=1)},
    )


def curves(means: Sequence[float], spread: float = 0.001, draws: int = 0) -> NDArray[np.float64]:
    """Return losses with these means an epoch and small differences between seeds and items, (epochs, seeds, items)."""
    table = np.random.default_rng(draws).normal(0, spread, (len(means), SEEDS, ITEMS))
    return np.asarray(table - table.mean(axis=(1, 2), keepdims=True) + np.array(means)[:, None, None])


def stopped(of_trials: TrialsByArm, baseline: str = "none", seed: int = 0) -> dict[str, StoppedArm]:
    found = early_stopping(of_trials, baseline, METRICS["eval_loss"], margin=0.01, confidence=0.95, seed=seed)
    assert isinstance(found, EarlyStopping)
    assert found.arms[0].name == baseline
    return {arm.name: arm for arm in found.arms}


def judged(assessment: Assessment | None) -> Assessment:
    assert assessment is not None
    return assessment


def test_noise_that_only_slows_overfitting_is_worse_than_stopping_in_time() -> None:
    arms = stopped(trials({"noisy": curves(NOISY, draws=1), "none": curves(OVERFITTING)}))
    last, best, overtrained = (judged(one) for one in (arms["noisy"].last, arms["noisy"].best, arms["none"].last))
    assert arms["noisy"].last_loss < arms["none"].last_loss  # which is all that the last epochs tell
    assert last.comparison.difference == pytest.approx(0.9 - 0.8)
    assert best.comparison.difference == pytest.approx(0.85 - 0.8)
    assert overtrained.comparison.difference == pytest.approx(1.2 - 0.8)
    assert (last.verdict, best.verdict, overtrained.verdict) == ("worse", "worse", "worse")
    assert arms["none"].best is None


def test_losses_and_epochs_are_told_of_every_arm() -> None:
    arms = stopped(trials({"none": curves(OVERFITTING), "noisy": curves(NOISY, draws=1)}))
    told = [(arm.last_loss, arm.best_loss, arm.best_epoch) for arm in arms.values()]
    assert np.array(told) == pytest.approx(np.array([(1.2, 0.8, 2.0), (0.9, 0.85, 2.0)]))


def test_an_epoch_is_measured_on_the_clusters_that_did_not_choose_it() -> None:
    # Two clusters choose for each other: x is lowest at epoch 1, so y is measured there, and the other way round.
    x, y = [[1.0, 2.0], [5.0, 6.0]], [[9.0], [3.0]]
    losses = [[[x[epoch][0], y[epoch][0], x[epoch][1]]] for epoch in range(2)]
    arms = stopped(trials({"none": losses, "noisy": losses}, clusters=("x", "y", "x")))
    assert arms["none"].best_loss == pytest.approx((5 + 9 + 6) / 3)
    assert arms["none"].best_epoch == pytest.approx(1.5)


def test_tokens_weigh_the_choice_and_the_mean() -> None:
    # In each cluster the item of 10 tokens is lowest at epoch 2, that of 1 token by far lowest at epoch 1.
    losses = [[[3.0, 0.0, 3.0, 0.0]], [[2.0, 9.0, 2.0, 9.0]]]
    arms = stopped(trials({"none": losses, "noisy": losses}, clusters=("x", "x", "y", "y"), tokens=(10, 1, 10, 1)))
    assert arms["none"].best_epoch == 2
    assert arms["none"].best_loss == pytest.approx((2 * 10 + 9) / 11)


def test_the_best_of_equal_epochs_is_no_better_than_the_others() -> None:
    # 400 seeds, each with five epochs of pure noise about 1: the lowest mean is too low, the loss told is not.
    noise = np.random.default_rng(0).normal(1.0, 0.5, (5, 400, 30))
    arms = stopped(trials({"none": noise, "noisy": noise[:, ::-1]}))
    standard_error = 0.5 / (400 * 30) ** 0.5
    naive = noise.mean(axis=2).min(axis=0).mean()
    assert naive < 1 - 10 * standard_error
    assert abs(arms["none"].best_loss - 1) < 3 * standard_error
    assert arms["none"].best_epoch == pytest.approx(3, abs=0.2)


def test_last_and_best_epochs_are_two_families_corrected_over_the_arms() -> None:
    losses = {arm: curves((1.0, 0.8), spread=0.3, draws=draws) for draws, arm in enumerate(("none", "a", "b"))}
    losses["a"][1] += np.linspace(0, 0.1, SEEDS)[:, None]
    arms = stopped(trials(losses))
    for assessments in ([arms[arm].last for arm in "ab"], [arms[arm].best for arm in "ab"]):
        smaller, larger = sorted(judged(one).comparison.p_value for one in assessments)
        adjusted = sorted(judged(one).p_adjusted for one in assessments)
        assert adjusted == pytest.approx([min(1, 2 * smaller), max(min(1, 2 * smaller), larger)])
    alone = judged(stopped({arm: one for arm, one in trials(losses).items() if arm != "b"})["a"].last)
    assert alone.p_adjusted == alone.comparison.p_value


def test_the_comparison_is_that_of_seeds_and_clusters() -> None:
    losses, clusters = (
        {"none": curves(OVERFITTING, 0.05), "noisy": curves(NOISY, 0.05, 1)},
        [str(n % 12) for n in range(ITEMS)],
    )
    tokens = np.arange(1.0, ITEMS + 1)
    last = judged(stopped(trials(losses, clusters=clusters, tokens=tokens.tolist()))["noisy"].last).comparison
    truth = paired_comparison(losses["none"][1], losses["noisy"][2], clusters=clusters, weights=tokens)
    assert last == truth


def test_arms_without_epochs_or_shared_seeds_are_left_out() -> None:
    given = {arm: curves(NOISY, draws=draws) for draws, arm in enumerate(("a", "b", "c"))} | {
        "none": curves(OVERFITTING)
    }
    of_trials = dict(trials(given, seeds={"b": range(90, 95), "c": (3, 4, 5, 6, 7)}))
    of_trials["bare"] = {0: trial("bare", 0, np.empty((0, ITEMS)))}
    arms = stopped(of_trials)
    assert list(arms) == ["none", "a", "c"]
    assert judged(arms["a"].last).comparison.seeds == 5
    assert judged(arms["c"].last).comparison.seeds == 2
    assert judged(arms["c"].last).verdict is None


def test_an_arm_of_fewer_epochs_ends_at_its_own_last() -> None:
    given = {
        "none": curves(OVERFITTING),
        "short": curves((0.95,), draws=1),
        "long": curves((1, 0.9, 0.9, 0.7), draws=2),
    }
    arms = stopped(trials(given))
    assert arms["short"].best_epoch == 1
    assert (arms["short"].last_loss, arms["long"].last_loss) == pytest.approx((0.95, 0.7))
    assert judged(arms["short"].best).comparison.difference == pytest.approx(0.95 - 0.8)
    assert arms["long"].best_epoch == 4


@pytest.mark.parametrize("broken", [np.inf, np.nan])
def test_a_diverged_epoch_is_not_chosen_and_not_judged(broken: float) -> None:
    noisy = curves(NOISY, draws=1)
    noisy[2, 0, 3] = broken
    arms = stopped(trials({"none": curves(OVERFITTING), "noisy": noisy, "well": curves(NOISY, draws=2)}))
    assert arms["noisy"].last is None
    assert not np.isfinite(arms["noisy"].last_loss)
    assert judged(arms["noisy"].best).comparison.difference == pytest.approx(0.05)
    well = judged(arms["well"].last)
    assert well.p_adjusted == well.comparison.p_value  # a family of one


def test_against_a_baseline_that_never_was_finite_nothing_is_judged() -> None:
    arms = stopped(trials({"none": curves((np.inf, np.inf)), "noisy": curves((1.0, 0.9))}))
    assert [(arm.last, arm.best) for arm in arms.values()] == [(None, None)] * 2
    assert arms["noisy"].best_loss == pytest.approx(0.9)


@pytest.mark.parametrize(
    "of_trials",
    [
        trials({"none": curves((1.0,)), "noisy": curves(NOISY)}),
        trials({"none": curves(OVERFITTING)}),
        trials({"noisy": curves(NOISY), "other": curves(NOISY)}),
        trials({"none": curves(OVERFITTING), "noisy": curves(NOISY)}, seeds={"noisy": range(10, 15)}),
        trials({"none": curves(OVERFITTING), "noisy": curves(NOISY)}, clusters=("x",) * ITEMS),
    ],
    ids=["one epoch", "no other arm", "no baseline", "no shared seed", "one cluster"],
)
def test_where_nothing_can_be_chosen_measured_or_compared_nothing_is_said(of_trials: TrialsByArm) -> None:
    assert early_stopping(of_trials, "none", METRICS["eval_loss"], margin=0.01, confidence=0.95) is None
