"""False positives of tests that pool variances over arms, which `compare` does not do."""

from dataclasses import dataclass

import numpy as np
from scipy.special import digamma, polygamma, stdtr

from experiments.null_simulations.error_rates import LEVEL, Rate, rate_of_sweeps
from experiments.null_simulations.planned_looks import TTests, hommel_rows
from experiments.null_simulations.seed_level import SeedModel, seed_generator
from neftune_cli.evidence.measurements import Floats

SEEDS = (3, 5, 10)
MODELS = {
    "equal spreads": SeedModel(3, (1.0,), 0.7, 0.3),
    "arms 0.5 x": SeedModel(3, (0.5,), 0.7, 0.3),
    "arms 0.25, 0.5 and 1 x": SeedModel(3, (0.25, 0.5, 1.0), 0.7, 0.3),
    "arms 0.5, 0.5 and 2 x": SeedModel(3, (0.5, 0.5, 2.0), 0.7, 0.3),
}
"""Title to model. Arms with noise correlate by 0.7 with each other and by 0.3 with the baseline."""
_DUNNETT_DRAWS = 400_000


@dataclass(frozen=True)
class PoolingRates:
    """Rates of any false positive on three arms without effects, at the 5% level."""

    separate: Rate
    """t-tests with the variance of each arm, as in `compare` (Hommel)."""
    differences: Rate
    """t-tests with the mean of the variances of the three differences (Hommel)."""
    two_way: Rate
    """Contrasts with the residual of seeds x arms (Dunnett's method)."""
    moderated: Rate
    """t-tests with variances that are shrunk toward a common one by empirical Bayes (Smyth 2004, limma; Hommel)."""


def pooling_rates(title: str, seeds: int, sweeps: int) -> PoolingRates:
    """Return the rates in the model with this title in `MODELS`. Results are deterministic."""
    values = MODELS[title].values(sweeps, seeds, seed_generator(title, seeds))
    differences = values[:, 1:] - values[:, :1]
    variances = differences.var(axis=2, ddof=1)
    pooled = np.broadcast_to(variances.mean(axis=1, keepdims=True), variances.shape)
    arms = variances.shape[1]
    means = differences.mean(axis=2)
    return PoolingRates(
        separate=_family_wise(hommel_rows(TTests.of(differences).p_different())),
        differences=_family_wise(hommel_rows(_p_values(means, pooled / seeds, arms * (seeds - 1)))),
        two_way=_family_wise(_dunnett(values)),
        moderated=_family_wise(hommel_rows(_p_values(means, *_moderated(variances, seeds)))),
    )


def _family_wise(p_values: Floats) -> Rate:
    return rate_of_sweeps(np.atleast_1d((p_values <= LEVEL).any(axis=1)))


def _p_values(means: Floats, squared_errors: Floats, degrees: float | Floats) -> Floats:
    return np.asarray(2 * stdtr(degrees, -np.abs(means) / np.sqrt(squared_errors)))


def _dunnett(
    values: Floats,  # (sweeps, arms + 1, seeds)
) -> Floats:
    """Return p-values adjusted by Dunnett's method with the residual of a table without interaction, (sweeps, arms)."""
    _, arms, seeds = values.shape
    residuals = values - values.mean(axis=1, keepdims=True) - values.mean(axis=2, keepdims=True)
    residuals = residuals + values.mean(axis=(1, 2), keepdims=True)
    degrees = (arms - 1) * (seeds - 1)
    residual = np.square(residuals).sum(axis=(1, 2)) / degrees
    means = values.mean(axis=2)
    statistics = np.abs(means[:, 1:] - means[:, :1]) / np.sqrt(2 * residual / seeds)[:, None]
    largest = np.sort(_largest_statistics(arms - 1, degrees))
    return np.asarray(1 - np.searchsorted(largest, statistics) / len(largest))


def _largest_statistics(arms: int, degrees: int) -> Floats:
    """Return draws of the largest absolute t statistic of several arms with a common baseline and variance."""
    draws = np.random.default_rng(0)
    normal = draws.standard_normal((_DUNNETT_DRAWS, arms + 1))
    spread = np.sqrt(draws.chisquare(degrees, _DUNNETT_DRAWS) / degrees)
    return np.asarray(np.abs(normal[:, 1:] - normal[:, :1]).max(axis=1) / np.sqrt(2) / spread)


def _moderated(
    variances: Floats,  # (sweeps, arms)
    seeds: int,
) -> tuple[Floats, Floats]:
    """Return squared standard errors and degrees of freedom of moderated t-tests, (sweeps, arms) and (sweeps, 1).

    The variances have a scaled inverse chi-square prior, whose two parameters are estimated from the mean and the
    variance of their logarithms (Smyth 2004, section 6.2).
    """
    own = seeds - 1
    logs = np.log(variances) - digamma(own / 2) + np.log(own / 2)
    excess = logs.var(axis=1, ddof=1, keepdims=True) - polygamma(1, own / 2)
    prior = np.where(excess > 0, 2 * _inverse_trigamma(np.maximum(excess, 1e-6)), np.inf)
    with np.errstate(invalid="ignore"):
        center = np.where(np.isinf(prior), 0.0, digamma(prior / 2) - np.log(prior / 2))
        weight = np.where(np.isinf(prior), 1.0, prior / (prior + own))
    common = np.exp(logs.mean(axis=1, keepdims=True) + center)
    shrunk = weight * common + (1 - weight) * variances
    return shrunk / seeds, np.minimum(prior + own, 1e9)


def _inverse_trigamma(values: Floats) -> Floats:
    """Return the arguments at which the trigamma function has these values, by Newton's method (Smyth 2004)."""
    found = 0.5 + 1 / values
    for _ in range(20):
        trigamma = polygamma(1, found)
        found = found + trigamma * (1 - trigamma / values) / polygamma(2, found)
    return np.asarray(found)
