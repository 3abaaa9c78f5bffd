"""Planned looks through the complete analysis (`Design`) on simulated tables of seeds and items."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.null_simulations.error_rates import LEVEL, Rate, rate_of_sweeps
from experiments.null_simulations.seed_level import SeedModel, seed_generator
from neftune_cli.analysis.design import Design
from neftune_cli.analysis.results import MetricAssessment
from neftune_cli.config.spec import DEFAULT_ALPHAS, DEFAULT_LOOKS
from neftune_cli.evidence.measurements import AnalysisPlan, Floats, ItemValues, Measurements
from neftune_cli.metrics import HELD_OUT_LOSS, METRICS

TABLE_ROWS = ((1, 0.1), (1, 1.0), (3, 0.0), (3, 0.1), (3, 0.3), (3, 1.0))
"""Arms with noise, and the variance of a difference that is due to the sample of items, as a share of the variance
of one seed."""
ITEMS = 20
RESIDUAL_SHARE = 0.2
"""Part of the variance of one seed that is due to the residual of its items."""
MARGIN = 4.0
"""In standard errors of a difference after the last look, such that equivalence can be shown with every item share."""
_METRIC = METRICS[HELD_OUT_LOSS]


@dataclass(frozen=True)
class TableErrorRates:
    """Error rates of planned looks on tables with items."""

    item_share: float
    arms: int
    family_wise: Rate
    """Any adjusted p-value of a difference below 5% without an effect."""
    any_noise: Rate | None
    """p-value of the any-noise test below 5% without an effect; None with one arm."""
    false_equivalence: Rate
    """Any arm equivalent if all but the first differ by the margin."""
    any_false: Rate
    """Any false verdict in the same sweeps, in which the first of several arms has no effect."""
    seeds: float
    """Mean number of seeds of an arm without an effect."""


def table_error_rates(item_share: float, arms: int, sweeps: int) -> TableErrorRates:
    """Return the rates in simulated sweeps of 20 items. Results are deterministic."""
    model = SeedModel(arms) if arms > 1 else SeedModel(1, (1.0,), 1.0)
    draws = seed_generator(item_share, arms)
    margin = MARGIN * model.difference_sd * math.sqrt(1 / DEFAULT_LOOKS[-1] + item_share)
    effects = np.array([0.0, *[margin] * arms])
    if arms > 1:
        effects[1] = 0.0
    none, beyond = [], []
    for _ in range(sweeps):
        values = _table(model, item_share, draws)
        none.append(_assess(values, margin))
        beyond.append(_assess(values + effects[:, None, None], margin))
    equivalent, false = zip(*(_false_verdicts(one) for one in beyond), strict=True)
    return TableErrorRates(
        item_share,
        arms,
        family_wise=rate_of_sweeps([min(_p_values(one)) <= LEVEL for one in none]),
        any_noise=_any_noise(none),
        false_equivalence=rate_of_sweeps(equivalent),
        any_false=rate_of_sweeps(false),
        seeds=float(np.mean([[arm.paired.seeds for arm in one.arms.values()] for one in none])),
    )


def planned_design(
    values: Floats,  # (arms, seeds, items)
    looks: tuple[int, ...] = DEFAULT_LOOKS,
) -> Design:
    """Return these values as the trials of a sweep with alphas 0, 5, ... that has taken all planned looks."""
    trials = {
        f"alpha={alpha:g}": {seed: _trial(alpha, seed, one) for seed, one in enumerate(of_arm)}
        for alpha, of_arm in zip(DEFAULT_ALPHAS, values, strict=False)
    }
    plan = AnalysisPlan(looks=looks, seeds=tuple(range(values.shape[1])), looks_taken=len(looks))
    return Design(trials, "alpha=0", 1 - LEVEL, plan, about_noise=True)


def _table(model: SeedModel, item_share: float, draws: np.random.Generator) -> Floats:
    """Return simulated values, (arms, seeds, items)."""
    of_seeds = np.sqrt(1 - RESIDUAL_SHARE) * model.values(1, DEFAULT_LOOKS[-1], draws)[0]
    of_items = np.sqrt(item_share * ITEMS) * model.values(1, ITEMS, draws)[0]
    # the residual has the same correlations as the effects of seeds, such that a difference of one seed has variance 1
    residual = np.sqrt(RESIDUAL_SHARE * ITEMS) * model.values(ITEMS, DEFAULT_LOOKS[-1], draws)
    return np.asarray(of_seeds[:, :, None] + of_items[:, None, :] + np.moveaxis(residual, 0, -1))


def _trial(alpha: float, seed: int, values: Floats) -> Measurements:
    names = tuple(map(str, range(len(values))))
    items = ItemValues(names, names, values, np.ones(len(values)))
    scores = {HELD_OUT_LOSS: float(values.mean())}
    return Measurements(f"{alpha:g}-{seed}", f"alpha={alpha:g}", alpha, seed, scores, {HELD_OUT_LOSS: items}, {})


def _assess(values: Floats, margin: float) -> MetricAssessment:
    design = planned_design(values)
    return design.assess(_METRIC, margin, design.looks_by_arm(_METRIC, margin))


def _p_values(found: MetricAssessment) -> Sequence[float]:
    return [one.p_adjusted for one in found.arms.values()]


def _any_noise(found: Sequence[MetricAssessment]) -> Rate | None:
    tests = [one.noise_test for one in found if one.noise_test]
    return rate_of_sweeps([one.p_value <= LEVEL for one in tests]) if tests else None


def _false_verdicts(found: MetricAssessment) -> tuple[bool, bool]:
    """Return whether an arm at the margin is equivalent, and whether any verdict is false."""
    verdicts = [one.verdict for one in found.arms.values()]
    beyond = verdicts[1:] if len(verdicts) > 1 else verdicts
    false_difference = len(verdicts) > 1 and verdicts[0] in ("better", "worse")
    return "equivalent" in beyond, "equivalent" in beyond or false_difference
