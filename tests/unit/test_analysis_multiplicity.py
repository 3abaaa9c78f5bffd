"""Holm's correction, against statsmodels and worked out by hand."""

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from neftune_cli.analysis.verdicts import holm, holm_by_key


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_adjusted_p_values_are_those_of_statsmodels(count: int) -> None:
    for draw in range(5):
        p_values = (np.random.default_rng(draw).random(count) ** 3).tolist()
        assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1].tolist(), rel=1e-12)


def test_three_by_hand() -> None:
    assert holm([0.03, 0.01, 0.04]) == pytest.approx([0.06, 0.03, 0.06])


def test_ties_are_adjusted_alike_and_nothing_exceeds_one() -> None:
    assert holm([0.02, 0.02, 0.9, 0.9]) == pytest.approx([0.08, 0.08, 1.0, 1.0])


def test_one_p_value_stays_and_none_is_nothing() -> None:
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


def test_keys_keep_their_values_and_order() -> None:
    adjusted = holm_by_key({"alpha=5": 0.03, "alpha=10": 0.01, "alpha=15": 0.04})
    assert list(adjusted) == ["alpha=5", "alpha=10", "alpha=15"]
    assert list(adjusted.values()) == pytest.approx([0.06, 0.03, 0.06])
