"""Planned looks of many simulated sweeps at once: the same decisions as those of `Design`, with arrays for speed.

`tests/invariant/test_planned_looks.py` compares them with `Design` sweep by sweep.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from experiments.null_simulations.error_rates import LEVEL
from neftune_cli.analysis.sequential import SequentialTest, null_minima
from neftune_cli.config.spec import DEFAULT_LOOKS
from neftune_cli.evidence.measurements import Floats

Flags = NDArray[np.bool_]
ALPHA_STEP = 5.0
"""Difference of the alphas of two neighboring arms."""


@dataclass(frozen=True)
class TTests:
    """One-sample t-tests, one for each row of values."""

    mean: Floats
    """(...)."""
    error: Floats
    """Standard error of the mean, (...)."""
    degrees: int

    @classmethod
    def of(cls, values: Floats) -> "TTests":
        """Return the tests of values, (..., seeds)."""
        seeds = values.shape[-1]
        return cls(values.mean(axis=-1), values.std(axis=-1, ddof=1) / np.sqrt(seeds), seeds - 1)

    def p_different(self) -> Floats:
        """Return two-sided p-values for a mean of zero, (...)."""
        return np.asarray(2 * stdtr(self.degrees, -np.abs(self.mean) / self.error))

    def p_equivalent(self, margin: float) -> Floats:
        """Return p-values of two one-sided tests for a mean beyond the margin, (...)."""
        return np.asarray(stdtr(self.degrees, (np.abs(self.mean) - margin) / self.error))

    def half_width(self, level: float) -> Floats:
        """Return half the width of the intervals with this error probability, (...)."""
        return np.asarray(stdtrit(self.degrees, 1 - level / 2) * self.error)


@dataclass(frozen=True)
class Replay:
    """Results of sweeps in which an arm stops at the first look at which it is decided."""

    p_adjusted: Floats
    """Of the tests for difference, (sweeps, arms)."""
    p_equivalent: Floats
    """Of the tests for equivalence, adjusted, (sweeps, arms)."""
    p_noise: Floats
    """Of the test whether any arm differs, (sweeps,). 0 for one arm, which has no such test."""
    seeds: NDArray[np.int64]
    """Seeds of each arm at its last look, (sweeps, arms)."""
    interval: Floats
    """Simultaneous interval of each arm at its last look, (sweeps, arms, 2)."""

    @property
    def different(self) -> Flags:
        """Return whether a difference is shown, (sweeps, arms)."""
        return np.asarray(self.p_adjusted <= LEVEL)

    @property
    def equivalent(self) -> Flags:
        """Return whether equivalence is shown, (sweeps, arms)."""
        return np.asarray(self.p_equivalent <= LEVEL)

    def misses(self, effects: Floats) -> Flags:
        """Return whether the interval of an arm misses its true effect, (sweeps, arms)."""
        outside = (self.interval[..., 0] > effects) | (self.interval[..., 1] < effects)
        return np.asarray(outside | ((effects == 0) & self.different))

    @property
    def decided(self) -> Flags:
        """Return whether an arm is decided, (sweeps, arms)."""
        return self.different | self.equivalent


def replay(
    differences: Floats,  # (sweeps, arms, seeds)
    margin: float,
    looks: tuple[int, ...] = DEFAULT_LOOKS,
    *,
    gate: bool = True,
) -> Replay:
    """Return the results of the planned looks. One look is a fixed design.

    Args:
        differences: treated minus baseline.
        margin: equivalence margin.
        looks: number of seeds at each look.
        gate: whether the test of any noise limits the p-values for difference, as in `compare`.
    """
    sweeps, arms, _ = differences.shape
    going_on = np.ones((sweeps, arms), dtype=bool)
    different, equivalent = np.full((2, sweeps, arms), np.inf)
    noise, seeds = np.full((sweeps, 1), np.inf), np.zeros((sweeps, arms), dtype=np.int64)
    centers, half_widths = np.zeros((2, sweeps, arms))
    test = SequentialTest(looks)
    for look, count in enumerate(looks):
        found, weight = TTests.of(differences[..., :count]), count / looks[-1]
        different = np.where(going_on, np.minimum(different, found.p_different() / weight), different)
        equivalent = np.where(going_on, np.minimum(equivalent, found.p_equivalent(margin) / weight), equivalent)
        noise = np.minimum(noise, noise_p_values(differences[..., :count], going_on)[:, None] / weight)
        seeds = np.where(going_on, count, seeds)
        centers = np.where(going_on, found.mean, centers)
        half_widths = np.where(going_on, found.half_width(test.level(LEVEL / arms, look)), half_widths)
        p_noise = sequential(looks, noise) if arms > 1 else np.zeros((sweeps, 1))
        p_adjusted = np.maximum(hommel_rows(sequential(looks, different)), p_noise if gate else 0.0)
        one_sided = np.where(equivalent < 0.5, sequential(looks, 2 * equivalent) / 2, np.minimum(1.0, equivalent))
        p_equivalent = hommel_rows(one_sided)
        going_on = going_on & (p_adjusted > LEVEL) & (p_equivalent > LEVEL)
    interval = _agreeing(centers, half_widths, p_adjusted <= LEVEL)
    return Replay(p_adjusted, p_equivalent, p_noise[:, 0], seeds, interval)


def sequential(looks: tuple[int, ...], smallest: Floats) -> Floats:
    """Return sequential p-values of the smallest p / weight over the looks, as `SequentialTest.p_value` does."""
    if len(looks) == 1:
        return np.minimum(1.0, smallest)
    minima = null_minima(looks)
    found = (1 + np.searchsorted(minima, smallest, side="right")) / (1 + len(minima))
    return np.where(smallest >= 1, 1.0, found)


def noise_p_values(
    differences: Floats,  # (sweeps, arms, seeds)
    present: Flags,  # (sweeps, arms)
) -> Floats:
    """Return Simes' p-values of mean, trend and each of the present arms, (sweeps,); infinite without an arm.

    The number of tests is that of all arms, because results decide which arms are present.
    """
    count = present.sum(axis=1)
    shares = present / np.maximum(count, 1)[:, None]
    alphas = ALPHA_STEP * np.arange(1.0, differences.shape[1] + 1)
    centered = np.where(present, alphas - (shares @ alphas)[:, None], 0.0)
    of_mean, of_trend = (np.einsum("ka,kas->ks", weights, differences) for weights in (shares, centered))
    with np.errstate(invalid="ignore", divide="ignore"):
        contrasts = np.stack([TTests.of(one).p_different() for one in (of_mean, of_trend)], axis=1)
    tests = np.concatenate([contrasts, TTests.of(differences).p_different()], axis=1)
    is_test = np.column_stack([count > 0, count > 1, present])
    return simes_rows(np.where(is_test, tests, np.inf))


def simes_rows(
    p_values: Floats,  # (sweeps, tests)
) -> Floats:
    """Return the p-value of Simes of each row, (sweeps,). The p-value of a test that is not made is infinite."""
    tests = p_values.shape[1]
    return np.asarray((np.sort(p_values, axis=1) * tests / np.arange(1, tests + 1)).min(axis=1))


def hommel_rows(
    p_values: Floats,  # (sweeps, tests)
) -> Floats:
    """Return the adjusted p-values of Hommel of each row, (sweeps, tests)."""
    tests = p_values.shape[1]
    columns = [_hommel_column(p_values, index) for index in range(tests)]
    return np.stack(columns, axis=1)


def holm_rows(
    p_values: Floats,  # (sweeps, tests)
) -> Floats:
    """Return the adjusted p-values of Holm of each row, (sweeps, tests)."""
    tests = p_values.shape[1]
    order = np.argsort(p_values, axis=1)
    ordered = np.take_along_axis(p_values, order, axis=1) * np.arange(tests, 0, -1)
    adjusted = np.empty_like(p_values)
    np.put_along_axis(adjusted, order, np.minimum(1.0, np.maximum.accumulate(ordered, axis=1)), axis=1)
    return adjusted


def _hommel_column(p_values: Floats, index: int) -> Floats:
    others = -np.sort(-np.delete(p_values, index, axis=1), axis=1)
    sets = (np.column_stack([p_values[:, index], others[:, :size]]) for size in range(p_values.shape[1]))
    return np.asarray(np.max([simes_rows(one) for one in sets], axis=0))


def _agreeing(centers: Floats, half_widths: Floats, different: Flags) -> Floats:
    """Return the intervals (sweeps, arms, 2), with zero as an end where they disagree with the test about zero."""
    low, high = centers - half_widths, centers + half_widths
    shown = (low > 0) | (high < 0)
    low = np.where(different & ~shown & (centers > 0) | (~different & (low > 0)), 0.0, low)
    high = np.where(different & ~shown & (centers <= 0) | (~different & (high < 0)), 0.0, high)
    return np.stack([low, high], axis=-1)
