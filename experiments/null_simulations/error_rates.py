"""How often the paired comparison errs on simulated records."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.null_simulations.records import Records, simulate
from experiments.null_simulations.scenarios import Scenario
from neftune_cli.analysis.paired import InferenceMethod, PairedComparison, paired_comparison
from neftune_cli.analysis.verdicts import equivalence_p_value, holm

LEVEL = 0.05
ARMS = 4
"""The baseline and three others that are compared with it."""
WIDE = 4
"""The effect that is put in for coverage and equivalence, in shifts of the scenario: so wide a margin, within which
three seeds can show a difference to lie, is where they are likeliest to show it falsely."""


@dataclass(frozen=True)
class Rate:
    """A share of repetitions, 0 to 1, with its Monte Carlo standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class ErrorRates:
    """Of one scenario and number of seeds, at the 5% level."""

    scenario: Scenario
    seeds: int
    false_positives: Rate
    family_wise: Rate
    """Of any claim about three arms, after Holm's correction."""
    coverage: Rate
    """Of the 95% interval, with a true effect; where none is given, it misses nothing."""
    false_equivalence: Rate
    """Of a true difference as large as the margin."""


def error_rates(scenario: Scenario, seeds: int, repetitions: int) -> ErrorRates:
    """Return the rates in as many simulated sweeps; the same call gives the same rates."""
    draws = generator(scenario, seeds)
    p_values = [
        [one.p_value for one in compare(simulate(scenario, arms=ARMS, seeds=seeds, draws=draws))]
        for _ in range(repetitions)
    ]
    effect = scenario.effect(WIDE * scenario.shift)
    shifted = [
        compare(simulate(scenario, arms=ARMS, seeds=seeds, draws=draws), shift=WIDE * scenario.shift)
        for _ in range(repetitions)
    ]
    return ErrorRates(
        scenario,
        seeds,
        false_positives=rate(np.array(p_values) <= LEVEL),
        family_wise=rate([[_smallest(of_arms) <= LEVEL] for of_arms in p_values]),
        coverage=rate([[not (effect < one.ci_low or effect > one.ci_high) for one in arms] for arms in shifted]),
        false_equivalence=rate([[equivalence_p_value(one, effect) <= LEVEL for one in arms] for arms in shifted]),
    )


def generator(scenario: Scenario, seeds: int) -> np.random.Generator:
    """Return a source of draws that is the scenario's own, so that adding one leaves the others' tables as they are."""
    return np.random.default_rng((seeds, *scenario.name.encode()))


def compare(sweep: Records, *, shift: float = 0.0, method: InferenceMethod = "t") -> list[PairedComparison]:
    """Compare every other arm, shifted by a true effect, with the baseline."""
    return [
        paired_comparison(
            sweep.baseline,
            treated,
            confidence=1 - LEVEL,
            clusters=sweep.scenario.clusters,
            weights=sweep.weights,
            method=method,
        )
        for treated in sweep.treated(shift)
    ]


def rate(happened: Sequence[Sequence[bool]] | NDArray[np.bool_]) -> Rate:
    """Return the rate over (repetitions, arms); arms of one repetition share a baseline, so they count as one."""
    shares = np.asarray(happened, dtype=np.float64).mean(axis=1)
    return Rate(float(shares.mean()), float(shares.std(ddof=1) / np.sqrt(len(shares))))


def _smallest(p_values: Sequence[float]) -> float:
    """Return the smallest adjusted p-value of the arms that have one."""
    return min(holm([p_value for p_value in p_values if math.isfinite(p_value)]), default=math.nan)
