"""Comparison with early stopping on loss curves made by hand: selected epochs, cross-fitted losses, verdicts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray
from statsmodels.stats.multitest import multipletests

from neftune_cli.analysis.alignment import TrialsByArm
from neftune_cli.analysis.early_stopping import early_stopping
from neftune_cli.analysis.paired import paired_comparison
from neftune_cli.analysis.results import Assessment, EarlyStopping, StoppedArm
from neftune_cli.analysis.sequential import SequentialTest
from neftune_cli.evidence.measurements import Measurements
from neftune_cli.metrics import METRICS
from tests.measured_trials import item_values

OVERFITTING, NOISY = (1.0, 0.8, 1.2), (1.1, 0.85, 0.9)
SEEDS, ITEMS = 5, 24


def trials(
    losses: Mapping[str, ArrayLike],  # (epochs, seeds, items) each
    *,
    seeds: Mapping[str, Sequence[int]] | None = None,
    clusters: Sequence[str] = (),
    tokens: Sequence[float] = (),
) -> TrialsByArm:
    """Return trials with these held-out losses after epochs 1, 2, .... Default seeds: 0, 1, ...."""
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
    return Measurements(
        trial_id=f"{arm} {seed}",
        arm=arm,
        alpha=None,
        seed=seed,
        scores={},
        items={},
        held_out_by_epoch={
            epoch: item_values(row, clusters=clusters, weights=tokens) for epoch, row in enumerate(losses, start=1)
        },
    )


def curves(means: Sequence[float], spread: float = 0.001, draws: int = 0) -> NDArray[np.float64]:
    """Return losses with these means by epoch and small variation of seeds and items, (epochs, seeds, items)."""
    table = np.random.default_rng(draws).normal(0, spread, (len(means), SEEDS, ITEMS))
    return np.asarray(table - table.mean(axis=(1, 2), keepdims=True) + np.array(means)[:, None, None])


def stopped(of_trials: TrialsByArm, baseline: str = "none", seed: int = 0) -> dict[str, StoppedArm]:
    found = early_stopping(of_trials, baseline, METRICS["eval_loss"], margin=0.01, confidence=0.95, seed=seed)
    assert isinstance(found, EarlyStopping)
    assert found.arms[0].name == baseline
    return {arm.name: arm for arm in found.arms}


def known(assessment: Assessment | None) -> Assessment:
    assert assessment is not None
    return assessment


def test_noise_that_only_slows_overfitting_is_worse_than_early_stopping() -> None:
    arms = stopped(trials({"noisy": curves(NOISY, draws=1), "none": curves(OVERFITTING)}))
    last, best, overtrained = (known(one) for one in (arms["noisy"].last, arms["noisy"].best, arms["none"].last))
    assert arms["noisy"].last_loss < arms["none"].last_loss  # misleading without early stopping
    assert last.paired.difference == pytest.approx(0.9 - 0.8)
    assert best.paired.difference == pytest.approx(0.85 - 0.8)
    assert overtrained.paired.difference == pytest.approx(1.2 - 0.8)
    assert (last.verdict, best.verdict, overtrained.verdict) == ("worse", "worse", "worse")
    assert arms["none"].best is None


def test_baseline_whose_epochs_are_alike_is_not_better_after_its_last_epoch() -> None:
    """A selected epoch that is no better on the other items gives negative differences, and never positive ones."""
    draws = np.random.default_rng(0)
    found = []
    for _ in range(60):
        of_seeds, of_items = draws.normal(0, 0.1, (1, SEEDS, 1)), draws.normal(0, 0.5, (1, 1, ITEMS))
        losses = 2 + of_seeds + of_items + draws.normal(0, 0.3, (2, SEEDS, ITEMS))
        found.append(known(stopped(trials({"none": losses, "noisy": losses}))["none"].last))
    lower = [one for one in found if one.paired.difference < 0]
    assert any(one.paired.ci_high < 0 for one in lower)  # the unadjusted interval excludes zero
    assert {one.verdict for one in lower} <= {"inconclusive", "equivalent"}
    assert {one.p_adjusted for one in lower} == {1.0}
    assert all(one.interval.low <= 0 <= one.interval.high for one in lower)
    assert all(one.p_adjusted == one.paired.p_value for one in found if one.paired.difference > 0)


def test_every_arm_has_losses_and_a_best_epoch() -> None:
    arms = stopped(trials({"none": curves(OVERFITTING), "noisy": curves(NOISY, draws=1)}))
    found = [(arm.last_loss, arm.best_loss, arm.best_epoch) for arm in arms.values()]
    assert np.array(found) == pytest.approx(np.array([(1.2, 0.8, 2.0), (0.9, 0.85, 2.0)]))


def test_losses_are_measured_on_the_clusters_not_used_for_the_selection() -> None:
    # Each of two clusters selects the epoch for the other: x is lowest at epoch 1, y is lowest at epoch 2.
    x, y = [[1.0, 2.0], [5.0, 6.0]], [[9.0], [3.0]]
    losses = [[[x[epoch][0], y[epoch][0], x[epoch][1]]] for epoch in range(2)]
    arms = stopped(trials({"none": losses, "noisy": losses}, clusters=("x", "y", "x")))
    assert arms["none"].best_loss == pytest.approx((5 + 9 + 6) / 3)
    assert arms["none"].best_epoch == pytest.approx(1.5)


def test_items_that_not_every_epoch_measured_are_left_out() -> None:
    losses = {"none": curves(OVERFITTING, 0.1), "noisy": curves(NOISY, 0.1, draws=1)}
    whole = trials(losses)
    few = tuple(whole["none"][0].held_out_by_epoch[1].items[:7])
    part = {
        arm: {
            seed: replace(one, held_out_by_epoch={**one.held_out_by_epoch, 2: one.held_out_by_epoch[2].of(few)})
            for seed, one in by_seed.items()
        }
        for arm, by_seed in whole.items()
    }
    expected = trials({arm: values[:, :, :7] for arm, values in losses.items()})
    compared, alone = (
        early_stopping(one, "none", METRICS["eval_loss"], margin=0.01, confidence=0.95) for one in (part, expected)
    )
    assert compared is not None
    assert alone is not None
    assert compared == replace(alone, items=7)
    assert alone.items is None


def test_tokens_weight_the_selection_and_the_mean() -> None:
    # In each cluster the item with 10 tokens is lowest at epoch 2, the item with 1 token is much lower at epoch 1.
    losses = [[[3.0, 0.0, 3.0, 0.0]], [[2.0, 9.0, 2.0, 9.0]]]
    arms = stopped(trials({"none": losses, "noisy": losses}, clusters=("x", "x", "y", "y"), tokens=(10, 1, 10, 1)))
    assert arms["none"].best_epoch == 2
    assert arms["none"].best_loss == pytest.approx((2 * 10 + 9) / 11)


def test_seeds_without_a_finite_loss_have_no_best_epoch() -> None:
    losses = np.repeat(np.array([3.0, 2.0, 1.0])[:, None, None], 2, axis=1) + np.zeros((3, 2, 4))
    one_diverged, all_diverged = losses.copy(), np.full_like(losses, np.nan)
    one_diverged[:, 1] = np.inf
    arms = stopped(trials({"none": one_diverged, "noisy": all_diverged}))
    assert arms["none"].best_epoch == 3
    assert math.isnan(arms["noisy"].best_epoch)


def test_best_loss_of_equal_epochs_is_unbiased() -> None:
    # 400 seeds, each with five epochs of pure noise around 1: the lowest mean is biased, the best loss is not.
    noise = np.random.default_rng(0).normal(1.0, 0.5, (5, 400, 30))
    arms = stopped(trials({"none": noise, "noisy": noise[:, ::-1]}))
    standard_error = 0.5 / (400 * 30) ** 0.5
    naive = noise.mean(axis=2).min(axis=0).mean()
    assert naive < 1 - 10 * standard_error
    assert abs(arms["none"].best_loss - 1) < 3 * standard_error
    assert arms["none"].best_epoch == pytest.approx(3, abs=0.2)


def test_last_and_best_epochs_are_separate_families() -> None:
    losses = {arm: curves((1.0, 0.8), spread=0.3, draws=draws) for draws, arm in enumerate(("none", "a", "b"))}
    losses["a"][1] += np.linspace(0, 0.1, SEEDS)[:, None]
    arms = stopped(trials(losses))
    for assessments in ([arms[arm].last for arm in "ab"], [arms[arm].best for arm in "ab"]):
        p_values = [known(one).paired.p_value for one in assessments]
        adjusted = [known(one).p_adjusted for one in assessments]
        assert adjusted == pytest.approx(multipletests(p_values, method="hommel")[1])
    alone = known(stopped({arm: one for arm, one in trials(losses).items() if arm != "b"})["a"].last)
    assert alone.p_adjusted == alone.paired.p_value


def test_losses_at_a_planned_look_are_tested_at_its_level() -> None:
    test = SequentialTest((3, 5))
    curve = {"none": curves((0.8, 1.0), draws=0, spread=0.3), "a": curves((1.0, 0.7), draws=1, spread=0.3)}
    arms = trials(curve)
    found = early_stopping(
        arms, "none", METRICS["eval_loss"], margin=0.01, confidence=0.95, test=test, looks_by_arm={"a": 2}
    )
    before = early_stopping(
        arms, "none", METRICS["eval_loss"], margin=0.01, confidence=0.95, test=test, looks_by_arm={"a": 0}
    )
    assert found is not None
    assert before is not None
    for one in (found.arms[0].last, found.arms[1].last, found.arms[1].best):
        assert known(one).p_adjusted == pytest.approx(test.p_value([np.nan, known(one).paired.p_value]))
        assert known(one).p_adjusted > known(one).paired.p_value
    assert [one.last for one in before.arms] == [None, None]


def test_comparison_uses_seeds_clusters_and_weights() -> None:
    losses, clusters = (
        {"none": curves(OVERFITTING, 0.05), "noisy": curves(NOISY, 0.05, 1)},
        [str(n % 12) for n in range(ITEMS)],
    )
    tokens = np.arange(1.0, ITEMS + 1)
    last = known(stopped(trials(losses, clusters=clusters, tokens=tokens.tolist()))["noisy"].last).paired
    truth = paired_comparison(losses["none"][1], losses["noisy"][2], clusters=clusters, weights=tokens)
    assert last == truth


def test_arms_without_epochs_or_shared_seeds_are_excluded() -> None:
    given = {arm: curves(NOISY, draws=draws) for draws, arm in enumerate(("a", "b", "c"))} | {
        "none": curves(OVERFITTING)
    }
    of_trials = dict(trials(given, seeds={"b": range(90, 95), "c": (3, 4, 5, 6, 7)}))
    of_trials["bare"] = {0: trial("bare", 0, np.empty((0, ITEMS)))}
    arms = stopped(of_trials)
    assert list(arms) == ["none", "a", "c"]
    assert known(arms["a"].last).paired.seeds == 5
    assert known(arms["c"].last).paired.seeds == 2
    assert known(arms["c"].last).verdict is None


def test_arms_keep_their_own_epochs() -> None:
    given = {
        "none": curves(OVERFITTING),
        "short": curves((0.95,), draws=1),
        "long": curves((1, 0.9, 0.9, 0.7), draws=2),
    }
    arms = stopped(trials(given))
    assert arms["short"].best_epoch == 1
    assert (arms["short"].last_loss, arms["long"].last_loss) == pytest.approx((0.95, 0.7))
    assert known(arms["short"].best).paired.difference == pytest.approx(0.95 - 0.8)
    assert arms["long"].best_epoch == 4


@pytest.mark.parametrize("broken", [np.inf, np.nan])
def test_diverged_epoch_is_not_selected_and_not_assessed(broken: float) -> None:
    noisy = curves(NOISY, draws=1)
    noisy[2, 0, 3] = broken
    arms = stopped(trials({"none": curves(OVERFITTING), "noisy": noisy, "well": curves(NOISY, draws=2)}))
    assert arms["noisy"].last is None
    assert not np.isfinite(arms["noisy"].last_loss)
    assert known(arms["noisy"].best).paired.difference == pytest.approx(0.05)
    well = known(arms["well"].last)
    assert well.p_adjusted == well.paired.p_value  # a family of one


def test_diverged_baseline_gives_no_assessments() -> None:
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
def test_too_few_epochs_arms_seeds_or_clusters_give_no_comparison(of_trials: TrialsByArm) -> None:
    assert early_stopping(of_trials, "none", METRICS["eval_loss"], margin=0.01, confidence=0.95) is None
