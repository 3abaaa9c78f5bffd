"""Paired comparison: agreement with scipy, invariances, and refused inputs."""

import doctest
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from neftune_cli.analysis import paired
from neftune_cli.analysis.crossed_factors import clustered_mean, crossed_mean
from neftune_cli.analysis.paired import (
    PairedComparison,
    cluster_table,
    paired_comparison,
)
from neftune_cli.evidence.measurements import Floats

EXACT = 1e-12
SIZES = (1,) * 20 + (2,) * 8 + (3,) * 4 + (5,) * 2


def arms(seeds: int, items: int, draw: int = 0) -> tuple[Floats, Floats]:
    draws = np.random.default_rng(draw)
    return draws.normal(size=(seeds, items)), draws.normal(0.3, size=(seeds, items)) + draws.normal(size=(seeds, 1))


def clustered(seeds: int = 3, draw: int = 0) -> tuple[Floats, Floats, list[int], Floats]:
    """Return two arms with dependent items in clusters of unequal size, the clusters, and numbers of tokens."""
    draws = np.random.default_rng(draw)
    clusters = np.repeat(np.arange(len(SIZES)), SIZES)
    baseline, treated = arms(seeds, len(clusters), draw)
    treated += draws.normal(size=len(SIZES))[clusters]
    return baseline, treated, clusters.tolist(), draws.integers(5, 30, len(clusters)).astype(float)


def numbers(comparison: PairedComparison) -> tuple[float, ...]:
    return comparison.difference, comparison.ci_low, comparison.ci_high, comparison.p_value


def same(one: PairedComparison, other: PairedComparison) -> bool:
    return numbers(one) == pytest.approx(numbers(other), rel=1e-10)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_metric_without_items_gives_a_paired_t_test(confidence: float) -> None:
    baseline, treated = arms(6, 1)
    expected = stats.ttest_rel(treated[:, 0], baseline[:, 0])
    ours = paired_comparison(baseline, treated, confidence=confidence)
    assert ours.p_value == pytest.approx(expected.pvalue, rel=EXACT)
    assert (ours.ci_low, ours.ci_high) == pytest.approx(tuple(expected.confidence_interval(confidence)), rel=EXACT)
    assert ours.difference == pytest.approx((treated - baseline).mean(), rel=EXACT)
    assert (ours.about, ours.seeds, ours.items, ours.clusters) == ("method", 6, 1, 1)


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_give_a_t_test_over_items(seeds: int) -> None:
    baseline, treated = arms(seeds, 40)
    expected = stats.ttest_1samp((treated - baseline).mean(axis=0), 0)
    ours = paired_comparison(baseline, treated)
    assert ours.about == "checkpoints"
    assert ours.p_value == pytest.approx(expected.pvalue, rel=EXACT)
    assert (ours.ci_low, ours.ci_high) == pytest.approx(tuple(expected.confidence_interval()), rel=EXACT)


def test_three_seeds_generalize_to_the_method_with_a_larger_p_value() -> None:
    baseline, treated = arms(3, 40)
    about_method = paired_comparison(baseline, treated)
    of_items = stats.ttest_1samp((treated - baseline).mean(axis=0), 0)
    assert about_method.about == "method"
    assert about_method.p_value > of_items.pvalue


def test_single_value_has_no_interval() -> None:
    alone = paired_comparison([[1.0]], [[1.5]])
    assert alone.difference == 0.5
    assert all(map(math.isnan, (alone.ci_low, alone.ci_high, alone.p_value)))


@pytest.mark.parametrize("shape", [(3, 1), (3, 40), (5, 200), (2, 40)])
@pytest.mark.parametrize("step", [0.0, 0.1, 1.0])
def test_constant_differences_have_no_interval(step: float, shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).normal(7, 3, shape)
    ours = paired_comparison(values, values + step)  # the sums have rounding errors
    assert ours.difference == pytest.approx(step)
    assert ours.crossed.standard_error == 0
    assert all(map(math.isnan, (ours.ci_low, ours.ci_high, ours.p_value)))


def test_zero_variance_of_seeds_and_items_gives_no_interval() -> None:
    """Each of three seeds has as many losses as wins, on its own items, so all seeds have the same mean."""
    treated = np.zeros((3, 60))
    for seed in range(3):
        treated[seed, 20 * seed : 20 * seed + 20] = [1, -1] * 10
    ours = paired_comparison(np.zeros_like(treated), treated)
    assert ours.difference == 0
    assert math.isnan(ours.p_value)
    assert math.isnan(ours.crossed.p_above(-0.1))


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_exchanged_arms_change_only_the_sign(seeds: int) -> None:
    baseline, treated, clusters, tokens = clustered(seeds)
    there = paired_comparison(baseline, treated, clusters=clusters, weights=tokens)
    back = paired_comparison(treated, baseline, clusters=clusters, weights=tokens)
    assert (back.difference, back.ci_low, back.ci_high) == pytest.approx(
        (-there.difference, -there.ci_high, -there.ci_low), rel=EXACT
    )
    assert back.p_value == pytest.approx(there.p_value, rel=EXACT)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_order_of_seeds_and_items_and_names_of_clusters_have_no_effect(seeds: int) -> None:
    baseline, treated, clusters, tokens = clustered(seeds)
    ours = paired_comparison(baseline, treated, clusters=clusters, weights=tokens)
    draws = np.random.default_rng(1)
    rows, columns = draws.permutation(seeds), draws.permutation(len(clusters))
    mixed = np.ix_(rows, columns)
    renamed = [f"person {-clusters[column]}" for column in columns]
    assert same(ours, paired_comparison(baseline[mixed], treated[mixed], clusters=renamed, weights=tokens[columns]))


def test_scale_of_weights_has_no_effect() -> None:
    baseline, treated, clusters, tokens = clustered()
    ours = paired_comparison(baseline, treated, clusters=clusters, weights=tokens)
    assert same(ours, paired_comparison(baseline, treated, clusters=clusters, weights=1000 * tokens))
    by_seed = tokens * np.array([[1.0], [2.0], [7.0]])
    assert same(ours, paired_comparison(baseline, treated, clusters=clusters, weights=by_seed))
    equal = paired_comparison(baseline, treated, clusters=clusters, weights=np.full(len(clusters), 3.0))
    assert same(equal, paired_comparison(baseline, treated, clusters=clusters))


def test_difference_has_the_unit_of_the_values() -> None:
    baseline, treated, clusters, tokens = clustered()
    ours = paired_comparison(baseline, treated, clusters=clusters, weights=tokens)
    scaled = paired_comparison(100 * baseline + 7, 100 * treated + 7, clusters=clusters, weights=tokens)
    assert numbers(scaled)[:3] == pytest.approx([100 * value for value in numbers(ours)[:3]], rel=1e-10)
    assert scaled.p_value == pytest.approx(ours.p_value, rel=1e-10)


def test_difference_is_the_weighted_mean_over_items() -> None:
    baseline, treated, clusters, tokens = clustered()
    expected = np.average(treated - baseline, axis=1, weights=tokens).mean()
    assert paired_comparison(baseline, treated, clusters=clusters, weights=tokens).difference == pytest.approx(expected)


def test_copies_of_items_within_clusters_do_not_reduce_the_standard_error() -> None:
    baseline, treated = arms(3, 40)
    twice = [np.repeat(values, 2, axis=1) for values in (baseline, treated)]
    pairs = np.repeat(np.arange(40), 2).tolist()
    assert same(paired_comparison(baseline, treated), paired_comparison(*twice, clusters=pairs))
    assert paired_comparison(*twice).p_value != pytest.approx(paired_comparison(baseline, treated).p_value)


def test_cluster_table_keeps_the_weighted_means_of_rows() -> None:
    baseline, _, clusters, tokens = clustered(4)
    table = cluster_table(baseline, np.broadcast_to(tokens, baseline.shape), clusters)
    assert table.shape == (4, len(SIZES))
    assert table.mean(axis=1) == pytest.approx(np.average(baseline, axis=1, weights=tokens), rel=EXACT)


def test_items_without_clusters_are_clusters_of_one() -> None:
    values, _ = arms(3, 40)
    assert cluster_table(values, np.ones_like(values), None) == pytest.approx(values, rel=1e-10)


def test_standard_error_over_unequal_clusters_matches_the_jackknife() -> None:
    baseline, treated, clusters, tokens = clustered(1)
    ours = paired_comparison(baseline, treated, clusters=clusters, weights=tokens).crossed.standard_error
    jackknife = _jackknife_error((treated - baseline)[0], tokens, clusters)
    assert ours == pytest.approx(jackknife, rel=EXACT)
    of_items = paired_comparison(baseline, treated, weights=tokens).crossed.standard_error
    assert of_items != pytest.approx(jackknife, rel=0.15)


def _jackknife_error(values: Floats, weights: Floats, clusters: Sequence[int]) -> float:
    """Return the jackknife standard error of a weighted mean: deviations from the mean of all clusters."""
    left = _without_each_cluster(values, weights, clusters)
    return float(np.sqrt((len(left) - 1) * np.mean((left - np.average(values, weights=weights)) ** 2)))


def _without_each_cluster(values: Floats, weights: Floats, clusters: Sequence[int]) -> Floats:
    """Return the weighted mean without each cluster in turn, (clusters,)."""
    labels = np.array(clusters)
    return np.array(
        [np.average(values[labels != one], weights=weights[labels != one]) for one in dict.fromkeys(clusters)]
    )


def _effective(weights: Floats, clusters: Sequence[int]) -> float:
    """Return the effective number of clusters (Kish)."""
    labels = np.array(clusters)
    sums = [weights[labels == one].sum() for one in set(clusters)]
    return float(sum(sums) ** 2 / sum(one**2 for one in sums))


@pytest.mark.parametrize("seeds", [3, 4, 10])
@pytest.mark.parametrize("sizes", [SIZES, (30, 20, 12, 4, 2, 1, 1, 1, 1, 1, 1, 1)], ids=["34 clusters", "12 clusters"])
def test_variances_over_unequal_clusters_match_the_jackknife(seeds: int, sizes: tuple[int, ...]) -> None:
    baseline, treated, _, tokens = clustered(seeds)
    clusters = np.repeat(np.arange(len(sizes)), sizes).tolist()
    items = len(clusters)
    tokens = np.resize(tokens, items)
    baseline, treated = (np.resize(one, (seeds, items)) for one in (baseline, treated))
    treated = treated + 4 * np.random.default_rng(7).normal(size=len(sizes))[clusters]
    count, difference = len(sizes), treated - baseline
    # changes of the mean of each seed without one cluster, (seeds, clusters), and their analysis of variance
    changes = np.array(
        [_without_each_cluster(row, tokens, clusters) - np.average(row, weights=tokens) for row in difference]
    )
    of_clusters = (count - 1) / count * np.square(changes.mean(axis=0)).sum()
    residual = (count - 1) / count * np.square(changes - changes.mean(axis=0)).sum() / (seeds - 1)
    of_seeds = np.average(difference, axis=1, weights=tokens).var(ddof=1)
    of_items = max(0.0, of_clusters - residual / seeds)
    effective = _effective(tokens, clusters)
    share = max(of_seeds, residual) / seeds / (max(of_seeds, residual) / seeds + of_items)
    degrees = 1 / (share / (seeds - 1) + (1 - share) / (effective - 1))

    ours = paired_comparison(baseline, treated, clusters=clusters, weights=tokens)

    found = ours.crossed
    assert found.effective_clusters == pytest.approx(effective, rel=EXACT)
    assert (found.seed_variance, found.residual_variance) == pytest.approx((of_seeds, residual), rel=1e-10)
    assert found.item_variance == pytest.approx(of_items, rel=1e-10)
    assert found.degrees_of_freedom == pytest.approx(degrees, rel=1e-10)
    assert of_items > 0
    alone = stats.t.ppf(0.975, effective - 1) * np.sqrt(of_clusters) if effective < 10 else 0.0
    both = stats.t.ppf(0.975, degrees) * np.sqrt(of_seeds / seeds + of_items)
    seeds_alone = stats.t.ppf(0.975, seeds - 1) * np.sqrt(of_seeds / seeds)
    assert ours.ci_high - ours.difference == pytest.approx(max(both, seeds_alone, alone), rel=1e-10)


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_have_the_degrees_of_freedom_of_the_effective_number_of_clusters(seeds: int) -> None:
    baseline, treated, clusters, tokens = clustered(seeds)
    error = _jackknife_error((treated - baseline).mean(axis=0), tokens, clusters)
    ours = paired_comparison(baseline, treated, clusters=clusters, weights=tokens)
    degrees = _effective(tokens, clusters) - 1
    assert degrees < len(SIZES) - 5
    assert ours.p_value == pytest.approx(2 * stats.t.sf(abs(ours.difference) / error, degrees), rel=1e-10)


@pytest.mark.parametrize("seeds", [1, 2, 3, 8])
@pytest.mark.parametrize("weight", [None, 1.0, 0.3, 1e-9])
@pytest.mark.parametrize("size", [1, 3])
def test_clusters_of_equal_weight_give_the_unweighted_analysis_bit_for_bit(
    seeds: int, weight: float | None, size: int
) -> None:
    baseline, treated = arms(seeds, 12 * size)
    clusters = None if size == 1 else np.random.default_rng(1).permutation(np.repeat(np.arange(12), size)).tolist()
    weights = None if weight is None else np.full(12 * size, weight)
    ours = paired_comparison(baseline, treated, clusters=clusters, weights=weights)
    table = cluster_table(treated - baseline, np.full(baseline.shape, weight or 1.0), clusters)
    assert ours.crossed == (crossed_mean(table) if seeds > 2 else clustered_mean(table))
    assert ours.crossed.effective_clusters == 12


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seeds", [1, 2, 3, 10])
@pytest.mark.parametrize("largest", [100.0, 1e20])
def test_one_cluster_with_nearly_all_of_the_weight_gives_no_interval(seeds: int, largest: float) -> None:
    baseline, treated = arms(seeds, 12)
    ours = paired_comparison(baseline, treated, weights=[largest, *[1.0] * 11])
    assert ours.difference == pytest.approx(np.average(treated - baseline, axis=1, weights=[largest] + [1] * 11).mean())
    assert not ours.crossed.is_measured
    assert np.isnan([ours.ci_low, ours.ci_high, ours.p_value]).all()
    assert math.isnan(ours.crossed.p_above(-0.1))


@pytest.mark.filterwarnings("error")
def test_seeds_with_a_single_cluster_of_any_weight_have_an_interval() -> None:
    baseline, treated = arms(3, 4)
    ours = paired_comparison(
        baseline, treated, weights=[[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0]]
    )
    assert math.isfinite(ours.ci_low)


def test_large_cluster_of_less_weight_has_an_interval() -> None:
    baseline, treated = arms(5, 50)
    ours = paired_comparison(baseline, treated, weights=[150.0, *[1.0] * 49])
    assert ours.crossed.effective_clusters == pytest.approx(199**2 / (150**2 + 49))
    assert math.isfinite(ours.ci_low)


def test_effective_number_of_clusters_follows_from_the_mean_weights_over_the_seeds() -> None:
    baseline, treated = arms(3, 20)
    weights = np.ones((3, 20))
    weights[1, :10] = 0
    ours = paired_comparison(baseline, treated, weights=weights)
    assert ours.clusters == 20
    assert ours.crossed.effective_clusters == pytest.approx((10 * 1 + 10 * 2) ** 2 / (10 * 1 + 10 * 4))


def test_rare_events_do_not_make_seeds_look_consistent() -> None:
    """Each of three seeds has one more event, at a different item."""
    treated = np.zeros((3, 200))
    treated[[0, 1, 2], [10, 50, 90]] = 1
    ours = paired_comparison(np.zeros((3, 200)), treated)
    # Sums of squares by hand: 3 - 600/200^2 in total, 3 (3/9 - 1/200) between items, 0 between seeds. The residual is 2
    # with 398 degrees of freedom. The mean square of items, 0.985/199, is smaller, so their component is zero.
    residual = 2 / 398
    assert ours.crossed.standard_error == pytest.approx(np.sqrt(residual / 600), rel=1e-10)
    assert ours.p_value == pytest.approx(2 * stats.t.sf(1 / 200 / np.sqrt(residual / 600), 2), rel=1e-10)
    assert ours.p_value > 0.1


def test_rare_events_are_detected_before_the_linearization() -> None:
    """After the linearization all clusters of unequal weight differ, although only three items differ."""
    clusters = np.repeat(np.arange(len(SIZES)), SIZES)
    baseline, treated = np.zeros((3, len(clusters))), np.zeros((3, len(clusters)))
    treated[[0, 1, 2], [2, 5, 11]] = 1
    ours = paired_comparison(baseline, treated, clusters=clusters.tolist())
    assert ours.p_value > 0.1
    assert ours.crossed.seed_variance > 0


@pytest.mark.parametrize(("informative", "few_differ"), [(9, True), (10, False)])
def test_correction_for_few_differences_ends_at_ten_clusters(informative: int, few_differ: bool) -> None:
    draws = np.random.default_rng(0)
    row = np.resize([1.0, -1.0], informative)
    differences = np.zeros((3, 40))
    differences[:, :informative] = draws.permuted(np.tile(row, (3, 1)), axis=1)  # every seed has the same mean
    ours = paired_comparison(np.zeros_like(differences), differences)
    expected = crossed_mean(differences, few_differ=few_differ).seed_variance
    assert ours.crossed.seed_variance == pytest.approx(expected, abs=EXACT)
    assert (expected > 0.001) == few_differ


def test_clusters_that_differ_in_one_seed_are_informative() -> None:
    differences = np.zeros((3, 40))
    differences[0, :5], differences[1, 5:10], differences[2, 10:12] = 1, 1, 1
    ours = paired_comparison(np.zeros_like(differences), differences)
    assert ours.crossed.seed_variance == pytest.approx(crossed_mean(differences).seed_variance, rel=EXACT)
    assert ours.crossed.seed_variance < crossed_mean(differences, few_differ=True).seed_variance * 0.9


@pytest.mark.parametrize(
    ("treated", "options", "error"),
    [
        ([[1.0, 2.0]], {}, r"baseline \(2, 2\) and treated \(1, 2\) do not have the same shape"),
        ([1.0, 2.0], {}, "do not have the same shape"),
        ([[1.0, math.nan], [1.0, 2.0]], {}, "a value is not finite"),
        ([[1.0, math.inf], [1.0, 2.0]], {}, "a value is not finite"),
        ([[1.0, 2.0], [1.0, 2.0]], {"confidence": 1.0}, r"confidence must be between 0 and 1, not 1\.0"),
        ([[1.0, 2.0], [1.0, 2.0]], {"confidence": 95}, "confidence must be between 0 and 1, not 95"),
        ([[1.0, 2.0], [1.0, 2.0]], {"clusters": ["a"]}, "1 cluster labels for 2 items"),
        ([[1.0, 2.0], [1.0, 2.0]], {"clusters": [["a"], ["b"]]}, "a cluster label is not a number or a text"),
        ([[1.0, 2.0], [1.0, 2.0]], {"clusters": np.eye(2)}, "a cluster label is not a number or a text"),
        ([[1.0, 2.0], [1.0, 2.0]], {"clusters": torch.eye(2)}, "a cluster label is not a number or a text"),
        ([[1.0, 2.0], [1.0, 2.0]], {"clusters": np.array([0, math.nan])}, "a cluster label is missing"),
        ([[1.0, 2.0], [1.0, 2.0]], {"clusters": ["a", None]}, "a cluster label is missing"),
        ([[1.0, 2.0], [1.0, 2.0]], {"clusters": pd.Series(["a", pd.NA])}, "a cluster label is missing"),
        ([[1.0, 2.0], [1.0, 2.0]], {"clusters": pd.Series(["2026-01-01", pd.NaT])}, "a cluster label is missing"),
        ([[1.0, 2.0], [1.0, 2.0]], {"clusters": np.ma.array([1, 2], mask=[False, True])}, "a cluster label is masked"),
        ([[1.0, 2.0], [1.0, 2.0]], {"weights": np.ma.array([1, 2], mask=[False, True])}, "a value is masked"),
        (np.ma.array([[1.0, 2.0], [1.0, 2.0]], mask=[[False, True], [False, False]]), {}, "a value is masked"),
        ([np.ma.array([1.0, 2.0], mask=[False, True]), [1.0, 2.0]], {}, "a value is masked"),
        ([[1.0, 2.0], [1.0, 2.0]], {"weights": [1.0, -1.0]}, "a weight is negative"),
        ([[1.0, 2.0], [1.0, 2.0]], {"weights": [[1.0, 1.0], [0.0, 0.0]]}, "all weights of a seed are zero"),
        ([[1.0, 2.0], [1.0, 2.0]], {"weights": [1.0, math.inf]}, "the sum of the weights is not finite"),
        ([[1.0, 2.0], [1.0, 2.0]], {"weights": [1e308, 1e308]}, "the sum of the weights is not finite"),
        ([[1.0, 2.0], [1.0, 2.0]], {"weights": [1.0, math.nan]}, "the sum of the weights is not finite"),
    ],
)
def test_invalid_input_is_refused(treated: object, options: dict[str, object], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        paired_comparison([[0.0, 0.0], [0.0, 0.0]], treated, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("seeds", [2, 5])
def test_items_without_weight_are_left_out(seeds: int) -> None:
    baseline, treated, clusters, tokens = clustered(seeds)
    kept = np.array(clusters) % 3 > 0
    weights = np.broadcast_to(np.where(kept, tokens, 0.0), baseline.shape)
    treated[:, ~kept] += 1e15

    ours = paired_comparison(baseline, treated, clusters=clusters, weights=weights)
    alone = paired_comparison(
        baseline[:, kept], treated[:, kept], clusters=np.array(clusters)[kept].tolist(), weights=tokens[kept]
    )

    assert same(ours, alone)
    assert (ours.items, ours.clusters) == (alone.items, alone.clusters) == (kept.sum(), len(set(clusters)) - 12)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seeds", [2, 4])
def test_values_without_a_finite_square_have_neither_an_interval_nor_a_p_value(seeds: int) -> None:
    baseline, treated = arms(seeds, 6)
    ours = paired_comparison(baseline, treated * 1e160)
    assert math.isfinite(ours.difference)
    assert np.isnan([ours.ci_low, ours.ci_high, ours.p_value]).all()


@pytest.mark.parametrize(
    "as_labels",
    [np.array, torch.tensor, pd.Series, iter, lambda labels: [torch.tensor(label) for label in labels]],
    ids=["array", "tensor", "column of a table", "iterator", "list of tensors"],
)
def test_cluster_labels_may_be_any_iterable(as_labels: Callable[[list[int]], Any]) -> None:
    baseline, treated, clusters, _ = clustered()
    ours = paired_comparison(baseline, treated, clusters=as_labels(clusters))
    assert numbers(ours) == numbers(paired_comparison(baseline, treated, clusters=clusters))
    assert ours.clusters == len(SIZES)


def test_an_array_with_a_mask_that_hides_nothing_is_compared() -> None:
    baseline, treated = arms(3, 6)
    ours = paired_comparison(np.ma.masked_invalid(baseline), treated)
    assert numbers(ours) == numbers(paired_comparison(baseline, treated))


def labeled(values: Floats) -> pd.DataFrame:
    return pd.DataFrame(values, index=[10, 11, 12], columns=list("abcd"))


def test_tables_with_the_same_labels_are_compared_as_arrays() -> None:
    baseline, treated = arms(3, 4)
    weights = [1.0, 2.0, 3.0, 4.0]
    ours = paired_comparison(labeled(baseline), labeled(treated), weights=pd.Series(weights, index=list("abcd")))
    mixed = paired_comparison(labeled(baseline), treated, weights=weights)
    assert numbers(ours) == numbers(mixed) == numbers(paired_comparison(baseline, treated, weights=weights))


@pytest.mark.parametrize(
    ("treated", "options"),
    [
        (labeled(np.eye(3, 4))[list("badc")], {}),
        (labeled(np.eye(3, 4)).iloc[::-1], {}),
        (labeled(np.eye(3, 4)), {"weights": pd.Series([1.0, 2.0, 3.0, 4.0], index=list("badc"))}),
        (labeled(np.eye(3, 4)), {"weights": labeled(np.ones((3, 4))).iloc[::-1]}),
        (labeled(np.eye(3, 4)), {"clusters": pd.Series(list("xxyy"), index=list("badc"))}),
    ],
    ids=["items", "seeds", "weights of items", "weights of seeds", "clusters"],
)
def test_tables_with_labels_in_another_order_are_refused(treated: pd.DataFrame, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="and baseline have different labels of seeds or items; use the same labels"):
        paired_comparison(labeled(np.zeros((3, 4))), treated, **options)


def test_empty_input_is_refused() -> None:
    with pytest.raises(ValueError, match="do not have the same shape"):
        paired_comparison(np.empty((3, 0)), np.empty((3, 0)))


def test_docstring_example_is_correct() -> None:
    found = doctest.testmod(paired)
    assert found.attempted > 0
    assert not found.failed
