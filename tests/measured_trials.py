"""Measured trials whose differences, intervals and margins can be computed by hand."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from neftune_cli.analysis.alignment import TrialsByArm
from neftune_cli.analysis.options import ComparisonOptions
from neftune_cli.analysis.paper_claims import examine_claims
from neftune_cli.analysis.results import ClaimResult, EarlyStopping
from neftune_cli.evidence.measurements import Floats, ItemValues, Measurements
from neftune_cli.metrics import METRICS, Margin

SEED_EFFECTS = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
"""The standard error of their mean is sqrt(0.5). Half-width of the interval: 1.963 at 95%, 1.507 at 90%."""
ITEMS = 20
MARGINS = {
    "train_loss_clean": 0.01,
    "eval_loss": 0.01,
    "probe_rouge_l": 0.02,
    "probe_bleu": 2.0,
    "response_chars": 5.0,
    "repetition_2gram": 1.0,
    "log_diversity": 0.4,
    "train_loss": 0.01,
    "rouge_l": 0.02,
    "exact_match": 0.02,
}
"""Equivalence margins in these tests, in the metric's unit, independent of the defaults."""
OPTIONS = ComparisonOptions(margins={key: Margin(size) for key, size in MARGINS.items()})

Values = Mapping[str, ArrayLike]
"""Metric key to values, (seeds, items), or (seeds,) for a metric without items."""


def arm(name: str, alpha: float | None, values: Values, details: tuple[str, ...] | None = None) -> TrialsByArm:
    """Return one arm with one trial per row of the values."""
    arrays = {key: np.asarray(one, dtype=np.float64) for key, one in values.items()}
    seeds = range(max(len(one) for one in arrays.values()))
    return {name: {seed: _trial(name, alpha, seed, arrays, details) for seed in seeds}}


def with_items(by_seed: ArrayLike) -> Floats:
    """Return values of items, (seeds, ITEMS), with these means by seed. The effects of items are equal in all arms."""
    return np.asarray(by_seed, dtype=np.float64)[:, None] + np.linspace(-0.01, 0.01, ITEMS)


def joined(*arms: TrialsByArm) -> TrialsByArm:
    """Return all arms in one mapping."""
    return {name: trials for one in arms for name, trials in one.items()}


def examine(
    arms: TrialsByArm,
    *,
    baseline: str = "alpha=0",
    stopping: EarlyStopping | None = None,
    options: ComparisonOptions = OPTIONS,
) -> dict[str, ClaimResult]:
    """Return the results of the claims by key."""
    trials = [trial for of_arm in arms.values() for trial in of_arm.values()]
    metrics = {key: one for key, one in METRICS.items() if any(key in trial.scores for trial in trials)}
    return {one.key: one for one in examine_claims(arms, baseline, metrics, stopping, options)}


def _trial(
    name: str, alpha: float | None, seed: int, arrays: Mapping[str, Floats], details: tuple[str, ...] | None
) -> Measurements:
    here = {key: values[seed] for key, values in arrays.items() if seed < len(values)}
    return Measurements(
        trial_id=f"{name}-{seed}",
        arm=name,
        alpha=alpha,
        seed=seed,
        scores={key: float(values.mean()) for key, values in here.items()},
        items={key: item_values(values) for key, values in here.items() if values.ndim},
        held_out_by_epoch={},
        details=details,
    )


def item_values(
    values: ArrayLike,  # (items,)
    names: Sequence[str] = (),
    clusters: Sequence[str] = (),
    weights: Sequence[float] = (),
) -> ItemValues:
    """Return values of items, by default with the names `item 0`, ..., without clusters, and with equal weights."""
    array = np.asarray(values, dtype=np.float64)
    items = tuple(names) or tuple(f"item {number}" for number in range(len(array)))
    return ItemValues(items, tuple(clusters) or items, array, np.array(weights or [1.0] * len(items)))
