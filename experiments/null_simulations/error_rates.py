"""Error rates of the paired comparison in simulated sweeps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.null_simulations.simulated_sweeps import Scenario, SimulatedSweep, simulate
from neftune_cli.analysis.multiplicity import hommel
from neftune_cli.analysis.paired import PairedComparison, paired_comparison
from neftune_cli.analysis.verdicts import assess, equivalence_p_value
from neftune_cli.metrics import METRICS

LEVEL = 0.05
ARMS = 4
"""The baseline and three treated arms."""
WIDE_MARGIN = 4
"""True effect for coverage and equivalence, in shifts of the scenario. With a margin of this size three seeds can show
equivalence, so false equivalence is most likely."""


@dataclass(frozen=True)
class Rate:
    """A share of repetitions, 0 to 1, with its Monte Carlo standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class ErrorRates:
    """Error rates at the 5% level for one scenario and number of seeds."""

    scenario: Scenario
    seeds: int
    false_positives: Rate
    family_wise: Rate
    """Any false positive on three arms, adjusted by Hommel's method."""
    coverage: Rate
    """Coverage of the unadjusted 95% interval with a true effect. A missing interval counts as covering."""
    all_covered: Rate
    """Share of sweeps in which the simultaneous 95% intervals of all three arms contain the true effect."""
    false_equivalence: Rate
    """For a true difference equal to the margin."""


def error_rates(scenario: Scenario, seeds: int, repetitions: int) -> ErrorRates:
    """Return the error rates in simulated sweeps. Results are deterministic."""
    draws = generator(scenario, seeds)
    p_values = [
        [one.p_value for one in compare(simulate(scenario, arms=ARMS, seeds=seeds, draws=draws))]
        for _ in range(repetitions)
    ]
    effect = scenario.effect(WIDE_MARGIN * scenario.shift)
    shifted = [
        compare(simulate(scenario, arms=ARMS, seeds=seeds, draws=draws), shift=WIDE_MARGIN * scenario.shift)
        for _ in range(repetitions)
    ]
    return ErrorRates(
        scenario,
        seeds,
        false_positives=rate(np.array(p_values) <= LEVEL),
        family_wise=rate([[_smallest(of_arms) <= LEVEL] for of_arms in p_values]),
        coverage=rate([[not (effect < one.ci_low or effect > one.ci_high) for one in arms] for arms in shifted]),
        all_covered=rate_of_sweeps([_all_cover(arms, effect) for arms in shifted]),
        false_equivalence=rate([[equivalence_p_value(one, effect) <= LEVEL for one in arms] for arms in shifted]),
    )


def generator(scenario: Scenario, seeds: int) -> np.random.Generator:
    """Return a generator seeded with the scenario's name, so that new scenarios do not change the results of others."""
    return np.random.default_rng((seeds, *scenario.name.encode()))


def compare(sweep: SimulatedSweep, *, shift: float = 0.0) -> list[PairedComparison]:
    """Compare every treated arm, shifted by a true effect, with the baseline."""
    return [
        paired_comparison(
            sweep.baseline,
            treated,
            confidence=1 - LEVEL,
            clusters=sweep.scenario.clusters,
            weights=sweep.weights,
        )
        for treated in sweep.treated(shift)
    ]


def rate(happened: Sequence[Sequence[bool]] | NDArray[np.bool_]) -> Rate:
    """Return the rate over (repetitions, arms). Arms of one repetition are dependent and count as one observation."""
    shares = np.asarray(happened, dtype=np.float64).mean(axis=1)
    return Rate(float(shares.mean()), float(shares.std(ddof=1) / np.sqrt(len(shares))))


def rate_of_sweeps(happened: Sequence[bool] | NDArray[np.bool_]) -> Rate:
    """Return the rate over repetitions."""
    return rate([[one] for one in happened])


def _smallest(p_values: Sequence[float]) -> float:
    """Return the smallest adjusted p-value of the arms that have one."""
    return min(hommel([p_value for p_value in p_values if math.isfinite(p_value)]), default=math.nan)


def _all_cover(arms: Sequence[PairedComparison], effect: float) -> bool:
    """Return whether no simultaneous interval misses the true effect. A missing interval counts as covering."""
    assessed = assess({str(number): one for number, one in enumerate(arms)}, METRICS["eval_loss"], effect)
    return not any(effect < one.interval.low or effect > one.interval.high for one in assessed.values())
