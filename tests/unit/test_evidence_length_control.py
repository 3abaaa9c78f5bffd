"""Win rates at equal length compared with scipy's maximum of the likelihood, and with simulated judges."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from neftune_cli.evidence.judgments import length_controlled_win_rate

DIFFERENCES = np.random.default_rng(0).normal(120, 200, size=3000)


def test_a_judge_who_prefers_length_does_not_change_the_rate_at_equal_length() -> None:
    draws = np.random.default_rng(1)
    chances = expit(-0.5 + 2.0 * np.tanh(DIFFERENCES / DIFFERENCES.std()))
    wins = (draws.random(len(chances)) < chances).astype(float)
    found = length_controlled_win_rate(wins, DIFFERENCES)
    assert found == pytest.approx(expit(-0.5), abs=0.03)
    assert wins.mean() > expit(-0.5) + 0.1


def test_the_rate_is_that_of_the_most_likely_regression() -> None:
    draws = np.random.default_rng(2)
    wins, differences = draws.choice([0.0, 0.25, 0.5, 1.0], size=60), DIFFERENCES[:60]
    feature = np.tanh(differences / differences.std())

    def loss(weights: np.ndarray) -> float:
        logits = weights[0] + weights[1] * feature
        unlikeliness = wins * np.logaddexp(0, -logits) + (1 - wins) * np.logaddexp(0, logits)
        return float(unlikeliness.sum() + 0.01 * weights[1] ** 2 / 2)

    best = minimize(loss, np.zeros(2), tol=1e-10).x
    assert length_controlled_win_rate(wins, differences) == pytest.approx(expit(best[0]), abs=1e-4)


def test_without_a_difference_in_length_it_is_the_win_rate() -> None:
    wins = np.array([1.0, 0.5, 0.0, 1.0])
    assert length_controlled_win_rate(wins, np.zeros(4)) == wins.mean()
    assert length_controlled_win_rate(np.ones(4), np.arange(4.0)) == 1.0


def test_a_constant_difference_in_length_has_no_rate() -> None:
    assert length_controlled_win_rate(np.array([1.0, 0.0, 1.0]), np.full(3, 50.0)) is None
