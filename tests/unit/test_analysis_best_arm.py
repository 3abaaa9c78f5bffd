"""Gain of the best arm: comparison with splits by hand, and simulations with known effects."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import ArrayLike
from scipy.stats import ttest_1samp

from experiments.winners_curse import BASELINE, SweepModel, simulate
from neftune_cli.analysis.alignment import AlignedMetric
from neftune_cli.analysis.best_arm import best_arm_advantage
from neftune_cli.analysis.paired import paired_comparison
from neftune_cli.analysis.results import BestArm
from neftune_cli.metrics import METRICS

LOSS, ROUGE, LENGTH = (METRICS[key] for key in ("eval_loss", "rouge_l", "response_chars"))
EQUAL = SweepModel("equal arms", (0.0,) * 3, seed_sd=1.0, cluster_sd=3.0, item_sd=3.0)


def aligned(values: ArrayLike, clusters: Sequence[str] = (), weights: ArrayLike | None = None) -> AlignedMetric:
    """Return arms `none`, `a`, `b`, ... with these values, (arms, seeds, items)."""
    table = np.asarray(values, dtype=np.float64)
    arms, seeds, items = table.shape
    return AlignedMetric(
        arms=("none", *"abcdef"[: arms - 1]),
        seeds=tuple(range(seeds)),
        clusters=tuple(clusters) or tuple(map(str, range(items))),
        values=table,
        weights=np.ones(items) if weights is None else np.asarray(weights, dtype=np.float64),
    )


def columns(**by_seed: Sequence[float]) -> AlignedMetric:
    """Return a metric without items: values by seed of each arm, after a baseline of zeros."""
    arms = list(by_seed.values())
    return aligned(np.array([[0.0] * len(arms[0]), *arms])[:, :, None], clusters=("",))


def gain_of(found: BestArm | None) -> BestArm:
    assert found is not None
    return found


@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize("goal", ["lower", "higher"])
def test_gain_is_measured_on_other_seeds_and_the_other_cluster_where_the_arm_was_selected(
    seeds: int, goal: str
) -> None:
    draws = np.random.default_rng(seeds)
    values, weights, clusters = draws.normal(size=(5, seeds, 5)), np.array([1.0, 4, 2, 7, 3]), ("x", "y", "x", "y", "y")
    metric, sign = (LOSS, 1) if goal == "lower" else (ROUGE, -1)
    measured: dict[int, list[float]] = {}
    # with two clusters and two or three seeds, each split leaves one seed and one cluster for the measurement
    for seed in range(seeds):
        for cluster in "xy":
            inside = [item for item in range(5) if clusters[item] == cluster]
            others = [item for item in range(5) if item not in inside]
            means = [np.average(np.delete(one, seed, 0)[:, others].mean(0), weights=weights[others]) for one in values]
            choice = 1 + int(np.argmin(sign * np.array(means[1:])))
            gain = np.average((values[choice] - values[0])[seed, inside], weights=weights[inside])
            measured.setdefault(choice, []).append(float(gain))

    found = gain_of(best_arm_advantage(aligned(values, clusters, weights), "none", metric, confidence=0.9, seed=3))

    # 100 pairs of splits use three selections of seeds 34, 33 and 33 times
    assert found.advantages == pytest.approx(
        {"nabcd"[arm]: np.mean(gains) for arm, gains in measured.items()}, rel=0.05
    )
    assert found.chosen == pytest.approx(
        {"nabcd"[arm]: len(measured.get(arm, ())) / (2 * seeds) for arm in range(1, 5)}, abs=0.01
    )


def test_single_seed_splits_only_clusters() -> None:
    # Cluster x selects b and y selects a. Each arm is measured on the other cluster. On all items b is best.
    found = gain_of(
        best_arm_advantage(
            aligned([[[0.0, 0.0, 0.0]], [[5.0, 1.0, 5.0]], [[2.0, 3.0, 2.0]]], clusters=("x", "y", "x")),
            "none",
            LOSS,
            confidence=0.95,
        )
    )
    assert found.arm == "b"
    assert found.naive == pytest.approx(7 / 3)
    assert found.advantages == pytest.approx({"a": 5.0, "b": 3.0})
    assert found.advantage.difference == pytest.approx(3.0)
    assert found.advantage.about == "checkpoints"


def test_gain_of_the_named_arm_has_the_width_of_its_own_interval() -> None:
    # Each pair of seeds selects the arm for the third seed: {0, 1}: a, {0, 2}: b, {1, 2}: b.
    found = gain_of(best_arm_advantage(columns(a=[1.0, 1.0, 9.0], b=[4.0, 2.0, 3.0]), "none", LOSS, confidence=0.95))
    assert (found.arm, found.metric) == ("b", "eval_loss")
    assert found.naive == pytest.approx(3.0)
    # 100 pairs of splits use the three pairs of seeds in turn
    assert found.chosen == pytest.approx({"a": 34 / 100, "b": 66 / 100})
    assert found.advantages == pytest.approx({"a": 9.0, "b": (2.0 + 4.0) / 2})
    assert found.advantage.difference == pytest.approx(3.0)
    low, high = ttest_1samp([4.0, 2.0, 3.0], 0).confidence_interval(0.95)
    assert (found.advantage.ci_low, found.advantage.ci_high) == pytest.approx((low, high))


def test_arm_that_few_splits_select_has_no_gain() -> None:
    # Each pair of seeds selects the arm that is worst on the third seed. No pair selects d, the best over all seeds.
    found = gain_of(
        best_arm_advantage(
            columns(a=[9.0, -1.0, -1.0], b=[-1.0, 9.0, -1.0], c=[-1.0, -1.0, 9.0], d=[2.0, 2.0, 2.0]),
            "none",
            LOSS,
            confidence=0.95,
        )
    )
    assert (found.arm, found.chosen["d"]) == ("d", 0.0)
    assert all(
        map(
            math.isnan,
            (found.advantage.difference, found.advantage.ci_low, found.advantage.ci_high, found.advantage.p_value),
        )
    )
    assert found.advantages == pytest.approx({"a": 9.0, "b": 9.0, "c": 9.0})
    assert math.isfinite(found.naive)


def test_arm_that_is_always_selected_gains_its_plain_difference() -> None:
    draws = np.random.default_rng(1)
    values = draws.normal(size=(4, 9, 30))
    values[2] += 20
    clusters = tuple(str(item % 12) for item in range(30))
    found = gain_of(best_arm_advantage(aligned(values, clusters), "none", ROUGE, confidence=0.95))
    plain = paired_comparison(values[0], values[2], clusters=clusters)
    assert found.chosen == {"a": 0.0, "b": 1.0, "c": 0.0}
    assert found.arm == "b"
    assert found.naive == pytest.approx(plain.difference)
    # the splits of many seeds are random, so that they do not measure each seed equally often
    assert (found.advantage.ci_low, found.advantage.ci_high) == pytest.approx((plain.ci_low, plain.ci_high), abs=0.02)


def test_splits_depend_only_on_the_random_seed() -> None:
    sweep = EQUAL.sweep(5, np.random.default_rng(2))
    once, again, other = (best_arm_advantage(sweep, BASELINE, LOSS, confidence=0.95, seed=seed) for seed in (4, 4, 5))
    assert once == again
    assert once != other


def test_diverged_arm_is_not_selected() -> None:
    found = gain_of(
        best_arm_advantage(columns(a=[1.0, 1.0], b=[2.0, 2.0], c=[-np.inf, -9.0]), "none", LOSS, confidence=0.95)
    )
    assert found.arm == "a"
    assert set(found.chosen) == {"a", "b"}


@pytest.mark.parametrize(
    "sweep",
    [
        columns(a=[1.0, 2.0]),
        columns(a=[1.0, 2.0], b=[np.nan, 2.0]),
        columns(a=[1.0], b=[2.0]),
        aligned(np.zeros((3, 1, 4)), clusters=("x",) * 4),
        aligned([[[np.inf, 1.0]], [[1.0, 1.0]], [[2.0, 2.0]]]),
        aligned([[[np.inf, 1.0]], [[np.inf, 1.0]], [[2.0, 2.0]]]),
    ],
    ids=["one arm", "one finite arm", "no items", "one seed, one cluster", "diverged baseline", "two diverged arms"],
)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_too_few_arms_or_data_give_no_best_arm(sweep: AlignedMetric) -> None:
    assert best_arm_advantage(sweep, "none", LOSS, confidence=0.95) is None


def test_metric_without_direction_has_no_best_arm() -> None:
    assert best_arm_advantage(columns(a=[1.0, 2.0], b=[2.0, 3.0]), "none", LENGTH, confidence=0.95) is None


def standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / len(values) ** 0.5)


@pytest.mark.parametrize("seeds", [3, 10])
def test_about_half_of_the_bias_remains_if_all_arms_are_equal(seeds: int) -> None:
    found = simulate(EQUAL, seeds, 400)
    assert found.naive.mean() < -5 * standard_error(found.naive)
    assert abs(found.mixture.mean()) < 3 * standard_error(found.mixture)
    assert 0.25 < found.own.mean() / found.naive.mean() < 0.75
    assert 0.915 < found.covered.mean() < 0.985


def test_split_of_items_alone_keeps_the_bias_from_seeds() -> None:
    of_seeds = SweepModel("large effects of seeds", (0.0,) * 3, seed_sd=1.0, cluster_sd=0.0, item_sd=0.1)
    found = simulate(of_seeds, 3, 300)
    assert found.other_items.mean() == pytest.approx(found.naive.mean(), abs=0.01)
    assert found.other_items.mean() < -5 * standard_error(found.other_items)


def test_gain_of_a_better_arm_is_its_true_effect() -> None:
    found = simulate(SweepModel("one better", (-5.0, 0.0, 0.0), seed_sd=1.0, cluster_sd=3.0, item_sd=3.0), 5, 300)
    assert abs(found.own.mean()) < 3 * standard_error(found.own)
    assert found.covered.mean() > 0.92


def test_mixture_over_selections_underestimates_a_better_arm() -> None:
    found = simulate(SweepModel("one better", (-1.5, 0.0, 0.0), seed_sd=1.0, cluster_sd=3.0, item_sd=3.0), 5, 400)
    assert found.mixture.mean() > 0.05
    assert abs(found.own.mean()) < 0.5 * found.mixture.mean()
