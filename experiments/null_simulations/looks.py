"""What it costs to look at the p-value, train more seeds and look again, and to do so as the advice says."""

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.null_simulations.error_rates import LEVEL, Rate, generator, rate
from experiments.null_simulations.records import Records, simulate
from experiments.null_simulations.scenarios import Scenario
from neftune_cli.analysis.decision import MAX_ADDITIONAL_SEEDS
from neftune_cli.analysis.paired import PairedComparison, paired_comparison
from neftune_cli.analysis.results import Assessment
from neftune_cli.analysis.verdicts import assess
from neftune_cli.metrics import METRICS

LOOKS = (3, 5, 10)
"""Seeds at each look."""
MOST_LOOKED_AT = 100
"""Nobody trains more seeds."""
_CHANGES = ("better", "worse", "higher", "lower")


@dataclass(frozen=True)
class LookRates:
    """Of one arm that doesn't differ from the baseline, at the 5% level."""

    scenario: Scenario
    first_look: Rate
    """False positives at the first of `LOOKS`, and no other."""
    any_look: Rate
    """At any of `LOOKS`."""
    advised: Rate
    """False verdicts where as many seeds as are advised are added until there is a verdict, or no such advice."""
    new_seeds_alone: Rate
    """Of as many new seeds as the first advice says it takes in all, judged without those that led to it; a share of
    the sweeps that got such advice."""
    seeds: float
    """Mean number of seeds where the advice is followed to its end."""


def look_rates(scenario: Scenario, metric: str, repetitions: int) -> LookRates:
    """Return the rates in as many simulated sweeps of one treated arm, judged by the metric's own margin."""
    draws = generator(scenario, MOST_LOOKED_AT)
    looked, advised, seeds, alone = [], [], [], []
    for _ in range(repetitions):
        sweep = simulate(scenario, arms=2, seeds=MOST_LOOKED_AT, draws=draws)
        looked.append([_compare(sweep, 0, count).p_value <= LEVEL for count in LOOKS])
        last = _advised(sweep, metric)
        advised.append(last.verdict in _CHANGES)
        seeds.append(last.comparison.seeds)
        first = _judged(sweep, 0, LOOKS[0], metric)
        if _more_seeds(first) and first.seeds_needed:
            alone.append(_judged(sweep, LOOKS[0], LOOKS[0] + first.seeds_needed, metric).verdict in _CHANGES)
    return LookRates(
        scenario,
        first_look=_rate([looks[0] for looks in looked]),
        any_look=_rate([any(looks) for looks in looked]),
        advised=_rate(advised),
        new_seeds_alone=_rate(alone),
        seeds=sum(seeds) / len(seeds),
    )


def _advised(sweep: Records, metric: str) -> Assessment:
    """Return the last verdict."""
    judged = _judged(sweep, 0, LOOKS[0], metric)
    while (more := _more_seeds(judged)) and judged.comparison.seeds + more <= MOST_LOOKED_AT:
        judged = _judged(sweep, 0, judged.comparison.seeds + more, metric)
    return judged


def _more_seeds(judged: Assessment) -> int:
    """Return how many more seeds are advised, 0 where none are."""
    more = (judged.seeds_needed or 0) - judged.comparison.seeds
    return more if 0 < more <= MAX_ADDITIONAL_SEEDS else 0


def _judged(sweep: Records, start: int, stop: int, metric: str) -> Assessment:
    known = METRICS[metric]
    margin = known.margin.at(float(sweep.baseline.mean()))
    return assess({"treated": _compare(sweep, start, stop)}, known, margin)["treated"]


def _compare(sweep: Records, start: int, stop: int) -> PairedComparison:
    return paired_comparison(
        sweep.baseline[start:stop],
        sweep.treated()[0, start:stop],
        confidence=1 - LEVEL,
        clusters=sweep.scenario.clusters,
        weights=sweep.weights,
    )


def _rate(happened: Sequence[bool]) -> Rate:
    return rate([[one] for one in happened])
