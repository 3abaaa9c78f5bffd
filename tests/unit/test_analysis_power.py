"""Power analysis, compared with statsmodels, with numerical integration and with variances computed by hand."""

import math

import numpy as np
import pytest
from neftune_cli.analysis.power import (
    MAX_SEEDS,
    minimum_detectable_effect,
    power_of_equivalence_test,
    power_of_test,
    required_seeds,
    with_seeds,
)
from scipy import integrate, stats
from statsmodels.stats.power import TTestPower

from neftune_cli.analysis.crossed_factors import CrossedMean

SPREAD = 0.02


def over_seeds(seeds: int, mean: float = 0.0) -> CrossedMean:
    """Return a mean whose only random factor is the seed, as in a paired t-test."""
    return CrossedMean(mean, SPREAD**2, 0.0, seeds, 1, seeds - 1, 1.0)


@pytest.mark.parametrize(("seeds", "level"), [(3, 0.05), (5, 0.05 / 3), (10, 0.05), (40, 0.05 / 3)])
def test_minimum_detectable_effect_matches_statsmodels(seeds: int, level: float) -> None:
    size = TTestPower().solve_power(nobs=seeds, alpha=level, power=0.8)
    assert minimum_detectable_effect(over_seeds(seeds), level=level) == pytest.approx(SPREAD * size, rel=1e-5)


def test_minimum_detectable_effect_has_its_power_where_statsmodels_fails() -> None:
    """With 3 seeds and a level of 5% / 3, scipy's noncentral t distribution is NaN for some shifts."""
    mean = over_seeds(3)
    shift = minimum_detectable_effect(mean, level=0.05 / 3) / mean.standard_error
    assert exact_power(shift, 2, 0.05 / 3) == pytest.approx(0.8, abs=1e-6)


def test_power_for_extreme_shifts_is_one() -> None:
    """Shifts for which scipy's distribution is NaN."""
    mean = over_seeds(10)
    for shift in (40, 60, 80, 1000):
        assert power_of_test(shift * mean.standard_error, mean, level=0.05) == 1
        assert power_of_equivalence_test(0.0, mean, margin=shift * mean.standard_error, level=0.05) == 1


LEVELS = (0.05 / 3, 0.01 / 5, 1e-4, 1e-5 / 3)


@pytest.mark.parametrize("degrees", [1, 2, 3, 4])
@pytest.mark.parametrize("level", LEVELS)
def test_minimum_detectable_effect_has_its_power_at_strict_levels(level: float, degrees: int) -> None:
    mean = over_seeds(degrees + 1)
    shift = minimum_detectable_effect(mean, level=level) / mean.standard_error
    assert power_given_numerator(shift, degrees, level) == pytest.approx(0.8, abs=1e-6)


@pytest.mark.parametrize("degrees", [1, 2, 4, 9])
@pytest.mark.parametrize("level", LEVELS)
def test_power_matches_numerical_integration(level: float, degrees: int) -> None:
    """For some of these shifts scipy's distribution is NaN."""
    mean, critical = over_seeds(degrees + 1), stats.t.ppf(1 - level / 2, degrees)
    for factor in (0.5, 1.0, 2.0, 5.0, 17.0):
        power = power_of_test(factor * critical * mean.standard_error, mean, level=level)
        assert power == pytest.approx(power_given_numerator(factor * critical, degrees, level), abs=1e-6)


def power_given_numerator(shift: float, degrees: int, level: float) -> float:
    """Return the probability that |Z + shift| > t s, integrated over the distribution of Z."""
    critical = stats.t.ppf(1 - level / 2, degrees)

    def given_numerator(z: float) -> float:
        return float(stats.norm.pdf(z) * stats.chi2.cdf(degrees * ((z + shift) / critical) ** 2, degrees))

    return float(integrate.quad(given_numerator, -10, 10, epsabs=1e-12)[0])


def exact_power(shift: float, degrees: int, level: float) -> float:
    """Return the probability that |Z + shift| > t s, integrated over the distribution of s."""
    critical = stats.t.ppf(1 - level / 2, degrees)

    def given_error(s: float) -> float:
        density = stats.chi.pdf(s * math.sqrt(degrees), degrees) * math.sqrt(degrees)
        return float((stats.norm.sf(critical * s - shift) + stats.norm.cdf(-critical * s - shift)) * density)

    return float(integrate.quad(given_error, 0, np.inf)[0])


@pytest.mark.parametrize("seeds", [3, 10])
@pytest.mark.parametrize("difference", [0.0, 0.005, -0.02, 0.05])
def test_power_matches_statsmodels(seeds: int, difference: float) -> None:
    expected = TTestPower().power(difference / SPREAD, seeds, 0.05)
    assert power_of_test(difference, over_seeds(seeds), level=0.05) == pytest.approx(expected, rel=1e-8)


def test_minimum_detectable_effect_has_the_requested_power() -> None:
    mean = CrossedMean(0.0, 4e-4, 1e-4, 4, 50, 3, 0.5)
    for power in (0.5, 0.8, 0.95):
        size = minimum_detectable_effect(mean, level=0.05, power=power)
        assert power_of_test(size, mean, level=0.05) == pytest.approx(power, abs=1e-6)


@pytest.mark.parametrize("item_variance", [0.0, math.nan])
def test_unknown_standard_error_gives_no_power_and_no_seeds(item_variance: float) -> None:
    unmeasured = CrossedMean(0.1, 0.0, item_variance, 3, 1, 2, 1.0)
    assert math.isnan(minimum_detectable_effect(unmeasured, level=0.05))
    assert math.isnan(power_of_test(0.1, unmeasured, level=0.05))
    assert math.isnan(power_of_equivalence_test(0.1, unmeasured, margin=0.2, level=0.05))
    assert required_seeds(unmeasured, margin=0.2, level=0.05) is None


@pytest.mark.parametrize(("difference", "margin"), [(0.0, 0.03), (0.01, 0.03), (0.01, 0.05), (-0.02, 0.06)])
def test_power_of_equivalence_test_matches_numerical_integration(difference: float, margin: float) -> None:
    mean = over_seeds(8)
    exact = exact_equivalence_power(difference, margin, mean.standard_error, 7)
    # exact if both one-sided tests never fail together, which happens only with a standard error near the margin
    assert power_of_equivalence_test(difference, mean, margin=margin, level=0.05) == pytest.approx(exact, abs=0.01)


def exact_equivalence_power(difference: float, margin: float, error: float, degrees: int) -> float:
    """Return the probability that mean +/- t s is within the margin, integrated over the distribution of s."""
    critical = stats.t.ppf(0.95, degrees)

    def given_error(estimated: float) -> float:
        room = margin - critical * estimated
        within = stats.norm.cdf(room, difference, error) - stats.norm.cdf(-room, difference, error)
        density = stats.chi.pdf(estimated / error * math.sqrt(degrees), degrees) * math.sqrt(degrees) / error
        return float(within * density)

    return float(integrate.quad(given_error, 0, margin / critical)[0])


def test_power_of_equivalence_test_at_the_margin_is_zero() -> None:
    assert power_of_equivalence_test(0.03, over_seeds(50), margin=0.03, level=0.05) == 0


def test_more_seeds_reduce_only_the_seed_variance() -> None:
    mean = CrossedMean(0.01, 4e-4, 1e-4, 4, 50, 3, 0.5)
    more = with_seeds(mean, 16)
    assert more.standard_error == pytest.approx(math.sqrt(4e-4 / 16 + 1e-4))
    assert more.seed_share == pytest.approx(0.2)
    assert more.degrees_of_freedom == pytest.approx(1 / (0.2 / 15 + 0.8 / 49))
    assert (more.mean, more.clusters) == (mean.mean, mean.clusters)


@pytest.mark.parametrize("difference", [0.008, 0.012, 0.02])
def test_required_seeds_match_statsmodels(difference: float) -> None:
    size = TTestPower().solve_power(effect_size=difference / SPREAD, alpha=0.05, power=0.8)
    assert required_seeds(over_seeds(3, difference), margin=0.0, level=0.05) == math.ceil(size)


def test_required_seeds_of_a_small_difference_show_equivalence() -> None:
    needed = required_seeds(over_seeds(3, 0.001), margin=0.02, level=0.05)
    assert needed is not None
    powers = [
        exact_equivalence_power(0.001, 0.02, SPREAD / math.sqrt(seeds), seeds - 1) for seeds in (needed - 1, needed)
    ]
    assert powers[0] < 0.8 <= powers[1] + 1e-3
    assert required_seeds(over_seeds(3, 0.001), margin=0.0, level=0.05) is None


def test_no_number_of_seeds_is_enough_if_items_limit_the_precision() -> None:
    limited = CrossedMean(0.01, 4e-4, 1e-4, 4, 50, 3, 0.5)
    assert np.sqrt(limited.item_variance) == pytest.approx(0.01)
    assert required_seeds(limited, margin=0.001, level=0.05) is None
    assert power_of_test(0.01, with_seeds(limited, MAX_SEEDS), level=0.05) < 0.8
