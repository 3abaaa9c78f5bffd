"""Sequential tests at planned looks, compared with published and independently computed levels and with scipy."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t, ttest_1samp

from neftune_cli.analysis import sequential
from neftune_cli.analysis.sequential import FIXED, SequentialTest, null_minima

LOOKS = (5, 8, 12, 20)
PLANNED = SequentialTest(LOOKS)


@pytest.mark.parametrize(("smallest", "expected"), [(0.0281, 0.05), (0.0133, 0.025), (0.0087, 0.0167), (0.01, 0.019)])
def test_distribution_of_the_smallest_weighted_p_value(smallest: float, expected: float) -> None:
    assert PLANNED.p_value([1.0, 1.0, 1.0, smallest]) == pytest.approx(expected, abs=5e-4)


def test_critical_values_of_the_looks() -> None:
    critical = [t.isf(PLANNED.level(0.05, look) / 2, seeds - 1) for look, seeds in enumerate(LOOKS)]
    assert critical == pytest.approx([5.09, 3.41, 2.81, 2.38], abs=0.01)


@pytest.mark.parametrize("looks", [(3, 5), LOOKS])
def test_level_holds_for_independent_paths(looks: tuple[int, ...]) -> None:
    values = np.random.default_rng(77).normal(size=(40_000, looks[-1]))
    p_values = np.stack([ttest_1samp(values[:, :seeds], 0, axis=1).pvalue for seeds in looks], axis=1)
    levels = [SequentialTest(looks).level(0.05, look) for look in range(len(looks))]
    assert (p_values <= levels).any(axis=1).mean() == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / 40_000))


def test_one_look_is_the_test_itself() -> None:
    for test in (FIXED, SequentialTest((7,))):
        assert test.p_value([0.0123]) == 0.0123
        assert test.p_one_sided([0.0123]) == pytest.approx(0.0123)
        assert test.level(0.05, 0) == 0.05


def test_p_value_falls_with_each_look_and_counts_the_best_one() -> None:
    p_values = [0.2, 0.004, 0.5, 0.03]
    found = [PLANNED.p_value(p_values[:looks]) for looks in range(1, 5)]
    assert found == sorted(found, reverse=True)
    assert found[1] == found[2]  # 0.5 of 12 seeds is weaker evidence than 0.004 of 8
    later = PLANNED.p_value([1.0, 1.0, 1.0, 0.004])
    assert later < PLANNED.p_value([0.004])  # an early look has a smaller weight


def test_p_value_rises_with_the_p_values_of_the_test() -> None:
    grid = np.linspace(0, 1, 200)
    found = [PLANNED.p_value([1.0, 1.0, 1.0, p]) for p in grid]
    assert all(earlier <= later for earlier, later in pairwise(found))
    assert 0 < found[0] < 1e-4
    assert found[-1] == 1


def test_levels_and_p_values_agree() -> None:
    for significance in (0.01, 0.05, 0.1):
        for look in range(len(LOOKS)):
            p_values = [1.0] * look + [PLANNED.level(significance, look)]
            assert PLANNED.p_value(p_values) == pytest.approx(significance, abs=1e-5)
    assert PLANNED.level(0.05, 9) == PLANNED.level(0.05, 3)


def test_one_sided_p_value_is_half_of_the_two_sided_one() -> None:
    assert PLANNED.p_one_sided([0.3, 0.01]) == pytest.approx(PLANNED.p_value([0.6, 0.02]) / 2)


def test_looks_without_a_p_value_are_no_evidence() -> None:
    assert PLANNED.p_value([math.nan, 0.01]) == PLANNED.p_value([1.0, 0.01])
    assert PLANNED.p_value([math.nan]) == PLANNED.p_value([]) == 1


def test_null_distribution_is_the_same_in_every_run() -> None:
    again = null_minima.__wrapped__((3, 5))
    assert np.array_equal(null_minima((3, 5)), again)
    assert SequentialTest((3, 5)).level(0.05, 1) < 0.05


def test_minima_are_read_from_the_cache_unless_the_file_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    expected = sequential.null_minima.__wrapped__((3, 4))
    (file,) = tmp_path.rglob("*.npy")
    monkeypatch.setattr(sequential, "_minima", None)  # fails if it is called
    np.testing.assert_array_equal(sequential.null_minima.__wrapped__((3, 4)), expected)
    for damaged in (b"", file.read_bytes()[:1000], file.read_bytes()[:-8], b"x" * 100):
        file.write_bytes(damaged)
        assert sequential._read(file) is None
    np.save(file, expected[::-1])
    assert sequential._read(file) is None
