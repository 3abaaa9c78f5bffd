"""Sign-flip test and pigeonhole bootstrap, compared with scipy and with explicit loops."""

import math

import numpy as np
import pytest
from scipy import stats

from experiments.null_simulations.alternative_tests import p_values
from experiments.null_simulations.resampling import RESAMPLES, bootstrap_interval, sign_flip_p_value
from experiments.null_simulations.simulated_sweeps import HELD_OUT_LOSS, SimulatedSweep
from neftune_cli.evidence.measurements import Floats


def differences(seeds: int, draw: int = 0) -> Floats:
    return np.random.default_rng(draw).normal(0.5, size=seeds)


def exact_p_value(values: Floats) -> float:
    test = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    return float(test.pvalue)


@pytest.mark.parametrize("seeds", [2, 3, 6, 10])
def test_sign_flips_are_exhaustive_for_few_seeds(seeds: int) -> None:
    assert sign_flip_p_value(differences(seeds)) == pytest.approx(exact_p_value(differences(seeds)), rel=1e-12)


def test_ties_count_as_extreme() -> None:
    assert sign_flip_p_value(np.array([1.0, 1.0, 1.0])) == 0.25
    assert sign_flip_p_value(np.array([1.0, -1.0, 1.0])) == 1.0
    assert sign_flip_p_value(np.zeros(4)) == 1.0


def test_sampled_sign_flips_approximate_the_exact_p_value() -> None:
    values = differences(13) - 0.3
    exact = exact_p_value(values)
    assert 0.02 < exact < 0.9
    close = 4 * math.sqrt(exact * (1 - exact) / RESAMPLES)
    assert sign_flip_p_value(values) == pytest.approx(exact, abs=close)
    assert sign_flip_p_value(values, seed=1) == sign_flip_p_value(values, seed=1)
    assert sign_flip_p_value(np.ones(40)) == pytest.approx(1 / (RESAMPLES + 1))  # the observed pattern counts too


def test_bootstrap_over_items_matches_scipy() -> None:
    items = np.random.default_rng(2).exponential(size=(1, 60)) - 0.6
    low, high, _ = bootstrap_interval(items, confidence=0.9)
    expected = stats.bootstrap(
        (items[0],), np.mean, n_resamples=20_000, confidence_level=0.9, method="percentile", rng=3
    ).confidence_interval
    close = 0.05 * (expected.high - expected.low)
    assert (low, high) == pytest.approx(tuple(expected), abs=close)


def test_bootstrap_over_seeds_and_items_matches_explicit_resampling() -> None:
    draws = np.random.default_rng(4)
    table = draws.normal(0.3, size=(5, 20)) + draws.normal(size=(5, 1)) + 2 * draws.normal(size=(1, 20))
    means = [table[np.ix_(draws.integers(5, size=5), draws.integers(20, size=20))].mean() for _ in range(20_000)]
    low, high, p_value = bootstrap_interval(table, confidence=0.95)
    expected = np.quantile(means, [0.025, 0.975])
    assert (low, high) == pytest.approx(tuple(expected), abs=0.05 * np.ptp(expected))
    tail = 2 * min(np.mean(np.array(means) <= 0), np.mean(np.array(means) >= 0))
    assert p_value == pytest.approx(tail, abs=4 * math.sqrt(2 * tail / RESAMPLES))


def test_bootstrap_is_deterministic_and_its_p_value_is_positive() -> None:
    table = 100 + np.random.default_rng(5).normal(size=(3, 10))
    assert bootstrap_interval(table, confidence=0.95, seed=7) == bootstrap_interval(table, confidence=0.95, seed=7)
    assert bootstrap_interval(table, confidence=0.95)[2] == pytest.approx(2 / (RESAMPLES + 1))


def test_differences_are_averaged_over_clusters_with_weights() -> None:
    draws = np.random.default_rng(6)
    latent, weights = draws.normal(size=(3, 5, HELD_OUT_LOSS.items)), draws.uniform(1, 9, HELD_OUT_LOSS.items)
    sweep = SimulatedSweep(HELD_OUT_LOSS, latent, weights)
    means = [np.average(arm - latent[0], axis=1, weights=weights).mean() for arm in latent[1:]]
    assert p_values(sweep, lambda table: float(table.mean())) == pytest.approx(means)
    assert p_values(sweep, lambda table: float(table.shape[1])) == [len(set(HELD_OUT_LOSS.clusters))] * 2


def test_differences_that_do_not_vary_have_no_p_value() -> None:
    latent = np.stack([np.ones((10, HELD_OUT_LOSS.items)), np.full((10, HELD_OUT_LOSS.items), 1.5)])
    sweep = SimulatedSweep(HELD_OUT_LOSS, latent, np.ones(HELD_OUT_LOSS.items))
    assert all(map(math.isnan, p_values(sweep, lambda table: sign_flip_p_value(table.mean(axis=1)))))
