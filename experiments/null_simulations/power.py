"""Power of the paired comparison, and of an unpaired t-test with the same number of trials."""

from dataclasses import dataclass

import numpy as np

from experiments.null_simulations.alternative_tests import t_test
from experiments.null_simulations.error_rates import LEVEL, compare, generator
from experiments.null_simulations.simulated_sweeps import Scenario, seed_means, simulate
from neftune_cli.analysis.outlook import POWER

SEEDS = (3, 5, 8, 10, 12, 15, 20, 25, 30)
"""Numbers of seeds per arm."""
EFFECTS = (0.5, 1.0, 2.0)
"""True effects in shifts of the scenario."""


@dataclass(frozen=True)
class Power:
    """Power at the 5% level, 0 to 1, by effect in the order of `EFFECTS`."""

    seeds: int
    paired: tuple[float, ...]
    unpaired: tuple[float, ...]
    """Welch's test of the seed means of two arms with different seeds."""


def power_curve(scenario: Scenario, repetitions: int) -> tuple[Power, ...]:
    """Return the power for each number in `SEEDS`. Results are deterministic."""
    return tuple(_power(scenario, seeds, repetitions) for seeds in SEEDS)


def seeds_needed(curve: tuple[Power, ...], effect: int, *, paired: bool) -> float | None:
    """Return the number of seeds per arm for 80% power at the effect with this index in `EFFECTS`.

    The number is interpolated between the simulated ones. Return None if the largest is not enough.
    """
    powers = [(one.paired if paired else one.unpaired)[effect] for one in curve]
    reached = next((index for index, power in enumerate(powers) if power >= POWER), None)
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
