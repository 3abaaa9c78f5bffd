"""Means over crossed random factors, compared with scipy and with the analysis of variance and TOST of statsmodels."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.weightstats import ttost_paired

from neftune_cli.analysis.crossed_factors import clustered_mean, crossed_mean, weighted_degrees
from neftune_cli.evidence.measurements import Floats

EXACT = 1e-12


def table_of(
    *, seeds: int = 4, clusters: int = 12, of_seeds: float = 1.0, of_clusters: float = 1.0, draw: int = 0
) -> Floats:
    draws = np.random.default_rng(draw)
    return np.asarray(
        0.3
        + math.sqrt(of_seeds) * draws.normal(size=(seeds, 1))
        + math.sqrt(of_clusters) * draws.normal(size=(1, clusters))
        + draws.normal(size=(seeds, clusters))
    )


def mean_squares(table: Floats) -> tuple[float, float, float]:
    """Return the mean squares of seeds, clusters and residual."""
    seed, cluster = np.indices(table.shape)
    frame = pd.DataFrame({"value": table.ravel(), "seed": seed.ravel(), "cluster": cluster.ravel()})
    of_source = anova_lm(ols("value ~ C(seed) + C(cluster)", frame).fit())["mean_sq"]
    return of_source["C(seed)"], of_source["C(cluster)"], of_source["Residual"]


def test_variance_components_match_the_analysis_of_variance() -> None:
    table = table_of()
    by_seed, by_cluster, residual = mean_squares(table)
    mean = crossed_mean(table)
    assert mean.mean == pytest.approx(table.mean(), rel=EXACT)
    assert mean.seed_variance == pytest.approx(by_seed / 12, rel=EXACT)
    assert mean.item_variance == pytest.approx((by_cluster - residual) / 48, rel=EXACT)
    assert mean.standard_error == pytest.approx(math.sqrt((by_seed + by_cluster - residual) / 48), rel=EXACT)


def test_negative_cluster_component_does_not_reduce_the_standard_error() -> None:
    table = table_of(of_clusters=0.0, draw=1)
    by_seed, by_cluster, residual = mean_squares(table)
    assert by_cluster < residual
    assert crossed_mean(table).standard_error == pytest.approx(math.sqrt(by_seed / 48), rel=EXACT)
    assert crossed_mean(table).degrees_of_freedom == 3


def test_few_differences_raise_the_seed_variance_to_the_residual() -> None:
    table = table_of(of_seeds=0.0, draw=1)
    table -= table.mean(axis=1, keepdims=True)  # all seeds have the same mean
    _, by_cluster, residual = mean_squares(table)
    assert crossed_mean(table).seed_variance == pytest.approx(0, abs=EXACT)
    assert crossed_mean(table, few_differ=True).seed_variance == pytest.approx(residual / 12, rel=EXACT)
    expected = math.sqrt((residual + max(0.0, by_cluster - residual)) / 48)
    assert crossed_mean(table, few_differ=True).standard_error == pytest.approx(expected, rel=EXACT)
    spread = table_of(of_seeds=9.0)
    assert crossed_mean(spread, few_differ=True) == crossed_mean(spread)


def test_negative_seed_component_keeps_its_weight_in_the_degrees_of_freedom() -> None:
    table = table_of(of_seeds=0.0, of_clusters=4.0)
    table -= table.mean(axis=1, keepdims=True)
    _, by_cluster, residual = mean_squares(table)
    assert by_cluster > residual
    share = residual / by_cluster
    assert crossed_mean(table).degrees_of_freedom == pytest.approx(1 / (share / 3 + (1 - share) / 11), rel=1e-10)


def test_one_column_gives_the_t_interval_over_seeds() -> None:
    column = table_of(clusters=1)
    expected = stats.ttest_1samp(column[:, 0], 0.1)
    mean = crossed_mean(column)
    assert mean.p_value(0.1) == pytest.approx(expected.pvalue, rel=EXACT)
    assert mean.interval(0.9) == pytest.approx(tuple(expected.confidence_interval(0.9)), rel=EXACT)


@pytest.mark.parametrize("seeds", [1, 2])
def test_clustered_mean_gives_the_t_interval_over_clusters(seeds: int) -> None:
    table = table_of(seeds=seeds)
    expected = stats.ttest_1samp(table.mean(axis=0), 0)
    mean = clustered_mean(table)
    assert mean.p_value() == pytest.approx(expected.pvalue, rel=EXACT)
    assert mean.interval(0.95) == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=EXACT)
    assert mean.degrees_of_freedom == 11


def test_one_seed_is_not_a_random_factor() -> None:
    table = table_of(seeds=1)
    assert crossed_mean(table) == clustered_mean(table)


def test_one_sided_p_values_match_tost() -> None:
    draws = np.random.default_rng(5)
    baseline, treated = draws.normal(size=6), draws.normal(0.2, size=6)
    _, above, below = ttost_paired(treated, baseline, -0.5, 0.7)
    mean = crossed_mean((treated - baseline)[:, None])
    assert mean.p_above(-0.5) == pytest.approx(above[1], rel=EXACT)
    assert mean.p_below(0.7) == pytest.approx(below[1], rel=EXACT)


def test_interval_bounds_have_a_p_value_equal_to_the_level() -> None:
    mean = crossed_mean(table_of())
    for bound in mean.interval(0.95):
        assert mean.p_value(bound) == pytest.approx(0.05, rel=1e-9)


def test_squared_standard_error_is_unbiased() -> None:
    # true squared error of the mean: 0.5 / 5 of seeds, 4 / 30 of clusters, 1 / 150 of the rest
    squares = [
        crossed_mean(table_of(seeds=5, clusters=30, of_seeds=0.5, of_clusters=4, draw=draw)).standard_error ** 2
        for draw in range(2000)
    ]
    error = float(np.std(squares)) / math.sqrt(len(squares))
    assert np.mean(squares) == pytest.approx(0.5 / 5 + 4 / 30 + 1 / 150, abs=4 * error)
    assert error < 0.003


def test_degrees_of_freedom_are_between_those_of_the_components_and_below_satterthwaite() -> None:
    for share in (0.1, 0.5, 0.9):
        satterthwaite = 1 / (share**2 / 2 + (1 - share) ** 2 / 143)
        assert 2 < weighted_degrees(share, 2, 143) < min(143, satterthwaite)
    assert weighted_degrees(0.5, 2, 6) == pytest.approx(3, rel=EXACT)  # by hand: 1 / (1/4 + 1/12)
    assert weighted_degrees(1, 2, 143) == 2
    assert weighted_degrees(0, 2, 143) == 143


@pytest.mark.parametrize("draw", range(30))
def test_interval_is_never_narrower_than_that_of_the_seeds_alone(draw: int) -> None:
    draws = np.random.default_rng(draw)
    of_seeds, of_clusters = draws.exponential(size=2)
    table = table_of(seeds=3, clusters=200, of_seeds=of_seeds, of_clusters=of_clusters, draw=draw)
    alone = stats.ttest_1samp(table.mean(axis=1), 0.2)
    mean = crossed_mean(table)
    (low, high), (low_of_seeds, high_of_seeds) = mean.interval(0.95), alone.confidence_interval(0.95)
    assert high - low >= (high_of_seeds - low_of_seeds) * (1 - EXACT)
    assert mean.p_value(0.2) >= alone.pvalue * (1 - EXACT)


def test_interval_is_that_of_the_seeds_alone_if_items_would_narrow_it() -> None:
    # items add little variance and 199 degrees of freedom, which would reduce the factor t of the standard error
    table = table_of(seeds=3, clusters=200, of_seeds=0.01, of_clusters=1.0, draw=14)
    mean = crossed_mean(table)
    alone = stats.ttest_1samp(table.mean(axis=1), 0)
    half = stats.t.ppf(0.975, mean.degrees_of_freedom) * mean.standard_error
    low, high = alone.confidence_interval(0.95)
    assert half < (high - low) / 2
    assert mean.interval(0.95) == pytest.approx((low, high), rel=EXACT)
    assert mean.p_value(low) == pytest.approx(0.05, rel=1e-9)


FEW = range(2, 10)


@pytest.mark.parametrize("clusters", FEW)
@pytest.mark.parametrize("draw", range(5))
def test_interval_of_few_clusters_is_never_narrower_than_that_of_the_clusters_alone(clusters: int, draw: int) -> None:
    of_seeds, of_clusters = np.random.default_rng(draw).exponential(size=2)
    table = table_of(seeds=20, clusters=clusters, of_seeds=of_seeds, of_clusters=of_clusters, draw=draw)
    mean, alone = crossed_mean(table), stats.ttest_1samp(table.mean(axis=0), 0.2)
    (low, high), (low_of_clusters, high_of_clusters) = mean.interval(0.95), alone.confidence_interval(0.95)
    assert high - low >= (high_of_clusters - low_of_clusters) * (1 - EXACT)
    assert mean.p_value(0.2) >= alone.pvalue * (1 - EXACT)


def test_interval_is_that_of_few_clusters_if_many_seeds_would_narrow_it() -> None:
    # the mean square of clusters is below the residual, so the clusters have no share of the standard error
    table = table_of(seeds=20, clusters=3, of_seeds=0.0, of_clusters=0.1, draw=1)
    by_seed, by_cluster, residual = mean_squares(table)
    assert by_cluster < residual
    of_seeds = stats.t.ppf(0.975, 19) * math.sqrt(max(by_seed, residual) / 60)
    mean, alone = crossed_mean(table, few_differ=True), stats.ttest_1samp(table.mean(axis=0), 0)
    low, high = alone.confidence_interval(0.95)
    assert (high - low) / 2 > 1.2 * of_seeds
    assert mean.interval(0.95) == pytest.approx((low, high), rel=1e-10)
    assert mean.p_value() == pytest.approx(alone.pvalue, rel=1e-10)


@pytest.mark.parametrize("clusters", [10, 11, 40])
def test_ten_or_more_clusters_have_the_interval_of_both_factors(clusters: int) -> None:
    # that of the clusters alone would be wider
    table = table_of(seeds=20, clusters=clusters, of_seeds=0.0, of_clusters=0.1, draw=1)
    by_seed, by_cluster, residual = mean_squares(table)
    mean, alone = crossed_mean(table), stats.ttest_1samp(table.mean(axis=0), 0)
    share = max(by_seed, residual) / (max(by_seed, residual) + by_cluster - residual)
    degrees = 1 / (share / 19 + (1 - share) / (clusters - 1))
    error = math.sqrt((by_seed + by_cluster - residual) / table.size)
    half = stats.t.ppf(0.975, degrees) * error
    low, high = alone.confidence_interval(0.95)
    assert (high - low) / 2 > half
    assert mean.interval(0.95) == pytest.approx((mean.mean - half, mean.mean + half), rel=1e-10)
    assert mean.p_value() == pytest.approx(2 * stats.t.sf(abs(mean.mean) / error, degrees), rel=1e-10)
    assert mean.cluster_variance == 0


def test_few_clusters_without_variation_leave_the_interval_of_the_seeds() -> None:
    table = np.repeat([[0.1], [0.4], [0.3], [0.7]], 3, axis=1)
    expected = stats.ttest_1samp(table[:, 0], 0)
    mean = crossed_mean(table)
    assert mean.interval(0.95) == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=EXACT)
    assert mean.p_value() == pytest.approx(expected.pvalue, rel=EXACT)


def test_residual_variance_and_ratio_of_seeds_match_the_analysis_of_variance() -> None:
    table = table_of()
    by_seed, _, residual = mean_squares(table)
    assert crossed_mean(table).seed_ratio == pytest.approx(by_seed / residual, rel=1e-10)
    assert crossed_mean(table).residual_variance == pytest.approx(residual / 12, rel=1e-10)


@pytest.mark.parametrize("level", [0.05, 0.1])
def test_seeds_agree_too_well_below_the_quantile_of_the_f_distribution(level: float) -> None:
    table = table_of(seeds=3, clusters=50, of_seeds=0.0)
    centered = table - table.mean(axis=1, keepdims=True)
    _, _, residual = mean_squares(centered)
    quantile = stats.f.ppf(level, 2, 2 * 49)
    for factor, agree in ((0.99, True), (1.01, False)):
        # seed means -d, 0, d have the mean square 50 * d ** 2
        shift = math.sqrt(factor * quantile * residual / 50)
        shifted = crossed_mean(centered + np.array([[-shift], [0.0], [shift]]))
        assert shifted.seed_ratio == pytest.approx(factor * quantile)
        assert shifted.seeds_agree_too_well(level) is agree


def test_agreement_of_seeds_has_the_degrees_of_freedom_of_the_effective_number_of_clusters() -> None:
    table, weights = table_of(seeds=3, clusters=20, of_seeds=0.01), np.array([9.0] * 2 + [1.0] * 18)
    mean = crossed_mean(table, weights=np.tile(weights, (3, 1)))
    probability = stats.f.cdf(mean.seed_ratio, 2, 2 * (36**2 / (2 * 81 + 18) - 1))
    assert not mean.seeds_agree_too_well(0.999 * probability)
    assert mean.seeds_agree_too_well(1.001 * probability)


@pytest.mark.parametrize("seeds", [5, 20])
def test_seeds_without_an_effect_have_a_mean_square_like_the_residual_with_unequal_weights(seeds: int) -> None:
    """The values of a cluster are means over its size, and its weight is its size, or all variances are equal."""
    draws, sizes = np.random.default_rng(1), np.array([60.0, 40, 30, 20, 10, 10, *[5.0] * 6])
    weights, shares = np.tile(sizes, (seeds, 1)), sizes / sizes.sum()
    for spread in (1 / np.sqrt(sizes), np.ones(12)):
        found = []
        for _ in range(400):
            values = spread * draws.normal(size=(seeds, 12))
            means = (values @ shares)[:, None]
            found.append(crossed_mean(means + 12 * shares * (values - means), weights=weights))
        ratio = np.mean([one.residual_variance for one in found]) / np.square(shares * spread).sum()
        assert 1 < ratio < 1.25  # a jackknife errs on the safe side
        assert np.mean([one.seed_variance for one in found]) == pytest.approx(np.square(shares * spread).sum(), rel=0.1)


def test_agreement_of_seeds_is_unknown_with_one_factor() -> None:
    for mean in (crossed_mean(table_of(clusters=1)), clustered_mean(table_of(seeds=2)), crossed_mean(np.zeros((3, 5)))):
        assert not mean.seeds_agree_too_well()


CONSTANT = [0.1, 0.1 + 0.2, 1e-9, 1e9]  # the mean of several 0.1 is not 0.1


@pytest.mark.parametrize("value", [0.0, *CONSTANT])
@pytest.mark.parametrize("shape", [(3, 1), (3, 50), (1, 50), (7, 3)])
def test_constant_values_have_no_standard_error(value: float, shape: tuple[int, int]) -> None:
    for mean in (crossed_mean(np.full(shape, value)), clustered_mean(np.full((2, 50), value))):
        assert mean.mean == pytest.approx(value)
        assert mean.standard_error == 0
        assert not mean.is_measured
        numbers = (mean.p_value(value), mean.p_value(), mean.p_above(0.1), mean.p_below(0.1), *mean.interval(0.95))
        assert all(map(math.isnan, numbers))


@pytest.mark.parametrize("value", CONSTANT)
def test_variation_above_rounding_error_counts(value: float) -> None:
    table = np.full((3, 4), value)
    table[0] *= 1 + 1e-9
    assert crossed_mean(table).standard_error == pytest.approx(value * 1e-9 / 3, rel=1e-5)  # 1, 0, 0: sd 1 / sqrt(3)
    assert crossed_mean(table, scale=1e5 * value).standard_error == 0
    assert clustered_mean(table.T, scale=1e5 * value).standard_error == 0


def test_single_observation_has_no_interval() -> None:
    mean = crossed_mean(np.array([[0.4]]))
    assert mean.mean == 0.4
    assert all(map(math.isnan, (*mean.interval(0.95), mean.standard_error)))
