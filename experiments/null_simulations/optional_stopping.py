"""False positives of optional stopping: test, add seeds and test again, by fixed steps or by the advice."""

from dataclasses import dataclass

from experiments.null_simulations.error_rates import LEVEL, Rate, generator, rate_of_sweeps
from experiments.null_simulations.simulated_sweeps import Scenario, SimulatedSweep, simulate
from neftune_cli.analysis.decision import MAX_ADDITIONAL_SEEDS
from neftune_cli.analysis.paired import PairedComparison, paired_comparison
from neftune_cli.analysis.results import Assessment
from neftune_cli.analysis.verdicts import assess
from neftune_cli.metrics import METRICS

TESTED_SEEDS = (3, 5, 10)
"""Number of seeds at each test."""
MAX_SEEDS = 100
"""Largest number of seeds that is simulated."""
_DIFFERENT = ("better", "worse", "higher", "lower")


@dataclass(frozen=True)
class OptionalStoppingRates:
    """Rates at the 5% level for one arm without an effect."""

    scenario: Scenario
    first_test: Rate
    """False positives at the first of `TESTED_SEEDS`."""
    any_test: Rate
    """False positives at any of `TESTED_SEEDS`."""
    advised: Rate
    """False verdicts if the advised seeds are added until there is a verdict or no more seeds are advised."""
    new_seeds_only: Rate
    """False verdicts on as many new seeds as the first advice names in total; share of sweeps with such advice."""
    seeds: float
    """Mean number of seeds if the advice is followed to the end."""


def optional_stopping_rates(scenario: Scenario, metric: str, repetitions: int) -> OptionalStoppingRates:
    """Return the rates in simulated sweeps of one treated arm, with the margin of the metric."""
    draws = generator(scenario, MAX_SEEDS)
    significant, advised, seeds, new_only = [], [], [], []
    for _ in range(repetitions):
        sweep = simulate(scenario, arms=2, seeds=MAX_SEEDS, draws=draws)
        significant.append([_compare(sweep, 0, count).p_value <= LEVEL for count in TESTED_SEEDS])
        last = _follow_advice(sweep, metric)
        advised.append(last.verdict in _DIFFERENT)
        seeds.append(last.comparison.seeds)
        first = _assessed(sweep, 0, TESTED_SEEDS[0], metric)
        if _more_seeds(first) and first.seeds_needed:
            stop = TESTED_SEEDS[0] + first.seeds_needed
            new_only.append(_assessed(sweep, TESTED_SEEDS[0], stop, metric).verdict in _DIFFERENT)
    return OptionalStoppingRates(
        scenario,
        first_test=rate_of_sweeps([tests[0] for tests in significant]),
        any_test=rate_of_sweeps([any(tests) for tests in significant]),
        advised=rate_of_sweeps(advised),
        new_seeds_only=rate_of_sweeps(new_only),
        seeds=sum(seeds) / len(seeds),
    )


def _follow_advice(sweep: SimulatedSweep, metric: str) -> Assessment:
    """Return the assessment after all advised seeds were added."""
    assessed = _assessed(sweep, 0, TESTED_SEEDS[0], metric)
    while (more := _more_seeds(assessed)) and assessed.comparison.seeds + more <= MAX_SEEDS:
        assessed = _assessed(sweep, 0, assessed.comparison.seeds + more, metric)
    return assessed


def _more_seeds(assessed: Assessment) -> int:
    """Return the number of additional seeds that are advised."""
    more = (assessed.seeds_needed or 0) - assessed.comparison.seeds
    return more if 0 < more <= MAX_ADDITIONAL_SEEDS else 0


def _assessed(sweep: SimulatedSweep, start: int, stop: int, metric: str) -> Assessment:
    known = METRICS[metric]
    margin = known.margin.at(float(sweep.baseline.mean()))
    return assess({"treated": _compare(sweep, start, stop)}, known, margin)["treated"]


def _compare(sweep: SimulatedSweep, start: int, stop: int) -> PairedComparison:
    return paired_comparison(
        sweep.baseline[start:stop],
        sweep.treated()[0, start:stop],
        confidence=1 - LEVEL,
        clusters=sweep.scenario.clusters,
        weights=sweep.weights,
    )
