"""What pairing is worth: the chance to find a true effect, ours beside an unpaired t-test of as many trials."""

from dataclasses import dataclass

import numpy as np

from experiments.null_simulations.error_rates import LEVEL, compare, generator
from experiments.null_simulations.records import seed_means, simulate
from experiments.null_simulations.rivals import t_test
from experiments.null_simulations.scenarios import Scenario

SEEDS = (3, 5, 8, 10, 12, 15, 20, 25, 30)
"""Of each arm."""
EFFECTS = (0.5, 1.0, 2.0)
"""In shifts of the scenario."""
POWER = 0.8


@dataclass(frozen=True)
class Power:
    """Shares of simulated sweeps, 0 to 1, in which the test at the 5% level finds the effect."""

    seeds: int
    ours: tuple[float, ...]
    """By effect, in the order of `EFFECTS`."""
    unpaired: tuple[float, ...]
    """Of Welch's test of the seed means of two arms that have other seeds each."""


def power_curve(scenario: Scenario, repetitions: int) -> tuple[Power, ...]:
    """Return the power for each number in `SEEDS`; the same call gives the same curve."""
    return tuple(_power(scenario, seeds, repetitions) for seeds in SEEDS)


def seeds_needed(curve: tuple[Power, ...], effect: int, *, paired: bool) -> float | None:
    """Return the seeds an arm needs to find an effect, of this place in `EFFECTS`, four times out of five.

    Between the numbers that were simulated it is interpolated; None where the most were too few.
    """
    powers = [(one.ours if paired else one.unpaired)[effect] for one in curve]
    reached = next((place for place, power in enumerate(powers) if power >= POWER), None)
    if reached is None:
        return None
    if reached == 0:
        return float(curve[0].seeds)
    low, high = curve[reached - 1 : reached + 1]
    return float(np.interp(POWER, powers[reached - 1 : reached + 1], (low.seeds, high.seeds)))


def _power(scenario: Scenario, seeds: int, repetitions: int) -> Power:
    draws = generator(scenario, seeds)
    shifts = [effect * scenario.shift for effect in EFFECTS]
    found, means = [], []
    for _ in range(repetitions):
        paired = simulate(scenario, arms=2, seeds=seeds, draws=draws)
        found.append([compare(paired, shift=shift)[0].p_value <= LEVEL for shift in shifts])
        unpaired = simulate(scenario, arms=2, seeds=seeds, draws=draws, own_seeds=True)
        means.append([seed_means(unpaired, shift) for shift in shifts])
    baseline, treated = np.moveaxis(np.array(means), 2, 0)  # (repetitions, effects, seeds) each
    found_unpaired = t_test(treated, baseline, paired=False) <= LEVEL
    return Power(seeds, tuple(np.mean(found, axis=0)), tuple(np.mean(found_unpaired, axis=0)))
