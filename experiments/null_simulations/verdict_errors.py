"""False verdicts in both families of tests: one arm without an effect, and others that differ by the margin."""

from dataclasses import dataclass

import numpy as np

from experiments.null_simulations.error_rates import ARMS, LEVEL, WIDE_MARGIN, Rate, generator, rate
from experiments.null_simulations.simulated_sweeps import Scenario, simulate
from neftune_cli.analysis.paired import paired_comparison
from neftune_cli.analysis.verdicts import assess
from neftune_cli.metrics import METRICS

_METRIC = METRICS["eval_loss"]
"""A metric with a direction of improvement, so that verdicts are better or worse."""
MARGINS = (1.5, WIDE_MARGIN)
"""Margins in shifts of the scenario. With the wide margin, arms without an effect are mostly equivalent. With the
other margin, both kinds of error are likely at ten seeds."""


@dataclass(frozen=True)
class VerdictErrorRates:
    """Rates in simulated sweeps of three treated arms, at the 5% level."""

    scenario: Scenario
    margin: float
    """In shifts of the scenario."""
    seeds: int
    difference: Rate
    """The arm without an effect has the verdict better or worse."""
    equivalence: Rate
    """An arm that differs by the margin has the verdict equivalent."""
    either: Rate


def verdict_error_rates(scenario: Scenario, margin: float, seeds: int, repetitions: int) -> VerdictErrorRates:
    """Return the rates in simulated sweeps. Results are deterministic."""
    draws = generator(scenario, seeds)
    false = [_false_verdicts(scenario, margin, seeds, draws) for _ in range(repetitions)]
    return VerdictErrorRates(
        scenario,
        margin,
        seeds,
        difference=rate([[different] for different, _ in false]),
        equivalence=rate([[equivalent] for _, equivalent in false]),
        either=rate([[any(kinds)] for kinds in false]),
    )


def _false_verdicts(scenario: Scenario, margin: float, seeds: int, draws: np.random.Generator) -> tuple[bool, bool]:
    sweep = simulate(scenario, arms=ARMS, seeds=seeds, draws=draws)
    shift = margin * scenario.shift
    treated = [sweep.treated()[0], *sweep.treated(shift)[1:]]
    comparisons = {
        str(number): paired_comparison(
            sweep.baseline, values, confidence=1 - LEVEL, clusters=scenario.clusters, weights=sweep.weights
        )
        for number, values in enumerate(treated)
    }
    verdicts = [one.verdict for one in assess(comparisons, _METRIC, scenario.effect(shift)).values()]
    return verdicts[0] in ("better", "worse"), "equivalent" in verdicts[1:]
