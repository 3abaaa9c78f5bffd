"""Sources of the standard error, and expected intervals with more data: against expected mean squares by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from neftune_cli.analysis.crossed_factors import CrossedMean, crossed_mean
from neftune_cli.analysis.error_sources import ErrorSources, error_sources, with_more_data
from neftune_cli.analysis.paired import PairedComparison, paired_comparison
from neftune_cli.evidence.measurements import Floats

SEEDS, ITEMS = 4, 50
OF_SEEDS, OF_ITEMS, OF_REST = 0.5, 4.0, 2.0
"""Variance components of `expected_mean`."""
MORE_ITEMS = {"item_factor": 2}


def expected_mean(seeds: int = SEEDS, items: int = ITEMS) -> CrossedMean:
    """Return the mean of a table whose mean squares have their expected values (Cornfield and Tukey 1956)."""
    mean_squares = OF_REST + items * OF_SEEDS, OF_REST + seeds * OF_ITEMS, OF_REST
    of_seeds, of_items, rest = mean_squares
    share = of_seeds / (of_seeds + of_items - rest)
    variances = of_seeds / items, (of_items - rest) / (seeds * items)
    return CrossedMean(0.3, *variances, seeds, items, seeds - 1, share, of_seeds / rest, rest / items)


def comparison(mean: CrossedMean) -> PairedComparison:
    return replace(
        paired_comparison(np.zeros((3, 2)), np.eye(3, 2)), crossed=mean, seeds=mean.seeds, clusters=mean.clusters
    )


def found(mean: CrossedMean, seconds: float | None = 60.0, evaluation: float | None = 12.0) -> ErrorSources:
    times = {arm: [] if seconds is None else [seconds, 3 * seconds] for arm in ("alpha=0", "alpha=5")}
    one = error_sources({"alpha=5": comparison(mean)}, times, baseline="alpha=0", evaluation_seconds=evaluation)
    assert one is not None
    return one


@pytest.mark.parametrize(("seeds", "factor"), [(SEEDS + 2, 1), (SEEDS, 2), (SEEDS + 5, 3)])
def test_mean_with_more_data_has_the_same_variance_components(seeds: int, factor: int) -> None:
    more, expected = (
        with_more_data(expected_mean(), seeds=seeds - SEEDS, item_factor=factor),
        expected_mean(seeds, ITEMS * factor),
    )

    for name in ("seed_variance", "item_variance", "seeds", "clusters", "seed_degrees", "seed_share"):
        assert getattr(more, name) == pytest.approx(getattr(expected, name)), name
    by_hand = OF_SEEDS / seeds + OF_ITEMS / (ITEMS * factor) + OF_REST / (seeds * ITEMS * factor)
    assert more.standard_error**2 == pytest.approx(by_hand)


def test_shares_of_the_squared_standard_error() -> None:
    (arm,) = found(expected_mean()).arms

    squared = OF_SEEDS / SEEDS + OF_ITEMS / ITEMS + OF_REST / (SEEDS * ITEMS)
    assert arm.seed_share == pytest.approx(OF_SEEDS / SEEDS / squared)
    assert arm.item_share == pytest.approx(OF_ITEMS / ITEMS / squared)
    assert arm.residual_share == pytest.approx(OF_REST / (SEEDS * ITEMS) / squared)


def test_narrowing_with_two_more_seeds_of_a_metric_without_items() -> None:
    (arm,) = found(crossed_mean(np.array([[0.1], [0.4], [0.3]]))).arms

    before, after = (stats.t.ppf(0.975, seeds - 1) / math.sqrt(seeds) for seeds in (3, 5))
    assert arm.narrowing_by_seeds == pytest.approx(1 - after / before)
    assert arm.narrowing_by_items is None
    assert (arm.seed_share, arm.item_share, arm.residual_share) == (1, 0, 0)


def test_more_items_help_only_if_items_vary() -> None:
    table = np.random.default_rng(0).normal(size=(5, 1)) + np.random.default_rng(1).normal(0, 1e-6, (5, 40))

    (arm,) = found(crossed_mean(table)).arms

    assert arm.narrowing_by_items == pytest.approx(0, abs=1e-6)
    assert arm.narrowing_by_seeds > 0.2


def test_predicted_narrowing_is_found_in_new_data() -> None:
    def table(seeds: int, items: int, draw: int) -> Floats:
        draws = np.random.default_rng(draw)
        of_seeds, of_items = draws.normal(0, 1, (seeds, 1)), draws.normal(0, 5, (1, items))
        return np.asarray(of_seeds + of_items + draws.normal(0, 5, (seeds, items)))

    def width(seeds: int, items: int) -> float:
        squared = [crossed_mean(table(seeds, items, draw)).standard_error ** 2 for draw in range(400)]
        return math.sqrt(float(np.mean(squared)))

    before = [crossed_mean(table(12, 40, draw)) for draw in range(400)]
    predicted = [
        math.sqrt(
            float(np.mean([with_more_data(one, seeds=more, item_factor=factor).standard_error ** 2 for one in before]))
        )
        for more, factor in ((4, 1), (0, 2))
    ]

    assert predicted == pytest.approx([width(16, 40), width(12, 80)], rel=0.03)


def test_few_clusters_narrow_the_interval_as_in_new_data() -> None:
    """The interval of the clusters alone has the standard error of all cluster means and no more."""

    def table(seeds: int, clusters: int, draw: int) -> Floats:
        draws = np.random.default_rng(draw)
        return np.asarray(draws.normal(0, 1, (1, clusters)) + draws.normal(0, 2, (seeds, clusters)))

    def squared(several: list[CrossedMean]) -> float:
        return float(np.mean([one.cluster_variance for one in several]))

    few = [crossed_mean(table(5, 4, draw)) for draw in range(2000)]
    more_seeds, more_items = ([with_more_data(one, **more) for one in few] for more in ({"seeds": 15}, MORE_ITEMS))

    # by hand: (1 + 4 / seeds) / clusters. Negative components of the clusters count as zero, so more seeds help less.
    assert squared(few) == pytest.approx((1 + 4 / 5) / 4, rel=0.05)
    assert (1 + 4 / 20) / 4 * 0.95 < squared(more_seeds) < (1 + 4 / 20) / 4 * 1.3
    assert squared(more_items) == pytest.approx((1 + 4 / 5) / 8, rel=0.05)
    assert {with_more_data(one, item_factor=3).cluster_variance for one in few} == {0}


def test_more_items_have_the_same_inequality_of_weights() -> None:
    draws, weights = np.random.default_rng(3), np.array([8.0, *[1.0] * 15])
    few = crossed_mean(draws.normal(size=(5, 16)), weights=np.tile(weights, (5, 1)))
    effective = 23**2 / (64 + 15)
    assert few.effective_clusters == pytest.approx(effective)
    assert few.cluster_variance > 0
    more = with_more_data(few, item_factor=2)
    assert more.effective_clusters == pytest.approx(2 * effective)
    assert more.cluster_variance == 0
    assert with_more_data(few, seeds=5).cluster_variance > 0


def test_times_are_those_of_two_seeds_and_of_one_evaluation() -> None:
    one = found(expected_mean())

    assert one.seed_seconds == 2 * (120 + 120)  # two seeds of two arms, each 60 s or 180 s
    assert one.item_seconds == 12
    assert one.trials == 2 * SEEDS
    assert found(expected_mean(), seconds=None).seed_seconds is None
    assert found(expected_mean(), evaluation=None).item_seconds is None
    assert found(crossed_mean(np.array([[0.1], [0.4], [0.3]]))).item_seconds is None


def test_choice_for_the_same_time() -> None:
    (arm,) = found(expected_mean()).arms
    assert arm.narrowing_by_items is not None
    # two seeds take 480 s; twice the items take `evaluation` seconds in each of 8 trials
    equal = arm.narrowing_by_items / arm.narrowing_by_seeds * 480 / 8

    assert found(expected_mean(), evaluation=0.9 * equal).narrows_most == "items"
    assert found(expected_mean(), evaluation=1.1 * equal).narrows_most == "seeds"
    assert found(expected_mean(), evaluation=None).narrows_most is None


def test_no_precision_without_a_standard_error_over_seeds() -> None:
    two = paired_comparison(np.zeros((2, 5)), np.random.default_rng(0).normal(size=(2, 5)))
    constant = paired_comparison(np.zeros((3, 5)), np.ones((3, 5)))

    assert error_sources({"a": two, "b": constant}, {}, baseline="c", evaluation_seconds=1.0) is None


def test_agreement_of_seeds_is_flagged() -> None:
    table = np.random.default_rng(0).normal(size=(3, 200))
    table -= table.mean(axis=1, keepdims=True)

    (agreeing,) = found(crossed_mean(table + np.array([[0.0], [0.001], [0.002]]))).arms
    (differing,) = found(crossed_mean(table + np.array([[0.0], [1.0], [2.0]]))).arms

    assert (agreeing.seeds_agree_too_well, differing.seeds_agree_too_well) == (True, False)
