"""False positives with seeds added by hand after a test, and with planned looks, in the same sweeps."""

from dataclasses import dataclass

from experiments.null_simulations.error_rates import LEVEL, Rate, generator, rate_of_sweeps
from experiments.null_simulations.simulated_sweeps import Scenario, SimulatedSweep, simulate
from neftune_cli.analysis.paired import paired_comparison
from neftune_cli.analysis.sequential import SequentialTest
from neftune_cli.config.spec import DEFAULT_LOOKS

BY_HAND = (3, 5, 10)
"""Number of seeds at each test of somebody who adds seeds by hand."""
NEW_SEEDS = 5
"""Number of new seeds that are tested alone after the first test."""


@dataclass(frozen=True)
class OptionalStoppingRates:
    """Rates of false positives at the 5% level, for one arm without an effect."""

    scenario: Scenario
    first_test: Rate
    """At the first number of seeds in `BY_HAND`."""
    by_hand: Rate
    """At any number of seeds in `BY_HAND`, each tested as if it were the only one."""
    looks_by_hand: Rate
    """At any of the default looks, each tested as if it were the only one."""
    planned: Rate
    """At any of the default looks, with the sequential test."""
    then_planned: Rate
    """At the first test, or at any of the default looks with the same seeds."""
    new_seeds_only: Rate
    """In a test of new seeds alone, of the sweeps without a significant first test."""


def optional_stopping_rates(scenario: Scenario, repetitions: int) -> OptionalStoppingRates:
    """Return the rates in simulated sweeps of one treated arm. Results are deterministic."""
    draws = generator(scenario, DEFAULT_LOOKS[-1])
    test = SequentialTest(DEFAULT_LOOKS)
    by_hand, at_looks, planned, new_only = [], [], [], []
    for _ in range(repetitions):
        sweep = simulate(scenario, arms=2, seeds=DEFAULT_LOOKS[-1], draws=draws)
        by_hand.append([_p_value(sweep, 0, seeds) <= LEVEL for seeds in BY_HAND])
        p_values = [_p_value(sweep, 0, seeds) for seeds in DEFAULT_LOOKS]
        at_looks.append(min(p_values) <= LEVEL)
        planned.append(test.p_value(p_values) <= LEVEL)
        if not by_hand[-1][0]:
            new_only.append(_p_value(sweep, BY_HAND[0], BY_HAND[0] + NEW_SEEDS) <= LEVEL)
    return OptionalStoppingRates(
        scenario,
        first_test=rate_of_sweeps([tests[0] for tests in by_hand]),
        by_hand=rate_of_sweeps([any(tests) for tests in by_hand]),
        looks_by_hand=rate_of_sweeps(at_looks),
        planned=rate_of_sweeps(planned),
        then_planned=rate_of_sweeps([tests[0] or later for tests, later in zip(by_hand, planned, strict=True)]),
        new_seeds_only=rate_of_sweeps(new_only),
    )


def _p_value(sweep: SimulatedSweep, start: int, stop: int) -> float:
    return paired_comparison(
        sweep.baseline[start:stop],
        sweep.treated()[0, start:stop],
        confidence=1 - LEVEL,
        clusters=sweep.scenario.clusters,
        weights=sweep.weights,
    ).p_value
