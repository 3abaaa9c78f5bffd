"""Both families of tests at once: one arm that doesn't differ, and others that differ by the margin."""

from dataclasses import dataclass

import numpy as np

from experiments.null_simulations.error_rates import ARMS, LEVEL, WIDE, Rate, generator, rate
from experiments.null_simulations.records import simulate
from experiments.null_simulations.scenarios import Scenario
from neftune_cli.analysis.paired import paired_comparison
from neftune_cli.analysis.verdicts import assess
from neftune_cli.metrics import METRICS

_METRIC = METRICS["eval_loss"]
"""One of which a way is good, so that a difference is called better or worse."""
MARGINS = (1.5, WIDE)
"""In shifts of the scenario. A wide margin makes arms without an effect equivalent before they can look different; at
the other both kinds of error are likely with ten seeds."""


@dataclass(frozen=True)
class WordRates:
    """Shares of simulated sweeps of three treated arms, at the 5% level."""

    scenario: Scenario
    margin: float
    """In shifts of the scenario."""
    seeds: int
    difference: Rate
    """The arm that doesn't differ is called better or worse."""
    equivalence: Rate
    """An arm that differs by the margin is called equivalent."""
    either: Rate


def word_rates(scenario: Scenario, margin: float, seeds: int, repetitions: int) -> WordRates:
    """Return the rates in as many simulated sweeps; the same call gives the same rates."""
    draws = generator(scenario, seeds)
    false = [_false_words(scenario, margin, seeds, draws) for _ in range(repetitions)]
    return WordRates(
        scenario,
        margin,
        seeds,
        difference=rate([[different] for different, _ in false]),
        equivalence=rate([[equivalent] for _, equivalent in false]),
        either=rate([[any(words)] for words in false]),
    )


def _false_words(scenario: Scenario, margin: float, seeds: int, draws: np.random.Generator) -> tuple[bool, bool]:
    sweep = simulate(scenario, arms=ARMS, seeds=seeds, draws=draws)
    shift = margin * scenario.shift
    treated = [sweep.treated()[0], *sweep.treated(shift)[1:]]
    comparisons = {
        str(number): paired_comparison(
            sweep.baseline, values, confidence=1 - LEVEL, clusters=scenario.clusters, weights=sweep.weights
        )
        for number, values in enumerate(treated)
    }
    words = [one.verdict for one in assess(comparisons, _METRIC, scenario.effect(shift)).values()]
    return words[0] in ("better", "worse"), "equivalent" in words[1:]
