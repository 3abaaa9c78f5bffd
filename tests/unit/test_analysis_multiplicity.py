"""Hommel's adjustment, compared with statsmodels and with the closed test of all intersections."""

from itertools import combinations

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from neftune_cli.analysis.multiplicity import hommel, hommel_by_key, simes


@pytest.mark.parametrize("tests", [1, 2, 3, 4, 8, 60])
def test_adjusted_p_values_match_statsmodels(tests: int) -> None:
    draws = np.random.default_rng(tests)
    for _ in range(50):
        p_values = (draws.uniform(size=tests) ** 3).tolist()
        assert hommel(p_values) == pytest.approx(multipletests(p_values, method="hommel")[1].tolist(), rel=1e-12)


def test_adjusted_p_values_are_those_of_the_closed_test() -> None:
    p_values = np.random.default_rng(9).uniform(size=5).tolist()
    sets = [one for size in range(1, 6) for one in combinations(range(5), size)]
    expected = [max(simes([p_values[of] for of in one]) for one in sets if index in one) for index in range(5)]
    assert hommel(p_values) == pytest.approx(expected)


def test_adjusted_p_values_are_at_most_those_of_holm() -> None:
    draws = np.random.default_rng(3)
    for _ in range(50):
        p_values = draws.uniform(size=4) ** 2
        holm = multipletests(p_values, method="holm")[1]
        assert all(one <= other + 1e-12 for one, other in zip(hommel(p_values.tolist()), holm, strict=True))


def test_ties_and_ends() -> None:
    assert hommel([]) == []
    assert hommel([0.04]) == [0.04]
    assert hommel([0.04, 0.04, 0.04]) == pytest.approx([0.04] * 3)
    assert hommel([0.0, 1.0]) == [0.0, 1.0]
    assert hommel_by_key({"b": 0.01, "a": 0.5}) == pytest.approx({"b": 0.02, "a": 0.5})


def test_combined_p_value_by_hand() -> None:
    assert simes([0.03, 0.04]) == pytest.approx(0.04)  # the smaller of 2 x 0.03 and 0.04
    assert simes([0.01, 0.9]) == pytest.approx(0.02)
