"""Paired comparison of two arms: a difference with interval and p-value, for crossed seeds and items."""

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neftune_cli.analysis.clusters import Indices, indices_by_first_item
from neftune_cli.analysis.crossed_factors import (
    MIN_INFORMATIVE_CLUSTERS,
    ROUNDING,
    CrossedMean,
    clustered_mean,
    crossed_mean,
)
from neftune_cli.config.spec import MIN_SEEDS
from neftune_cli.evidence.measurements import Floats


@dataclass(frozen=True)
class PairedComparison:
    """Treated minus baseline, in the unit of the compared values."""

    difference: float
    ci_low: float
    """NaN, like `ci_high` and `p_value`, if the standard error is unknown: a single value, differences that do not
    vary, or one cluster with nearly all of the weight."""
    ci_high: float
    p_value: float
    """Two-sided, for the null hypothesis of no difference; unadjusted."""
    seeds: int
    items: int
    clusters: int
    """Number of independent groups of items."""
    about: Literal["method", "checkpoints"]
    """Scope: `method` generalizes to other seeds and items, `checkpoints` (the trained models, with fewer than three
    seeds) to other items."""
    confidence: float
    crossed: CrossedMean
    """The difference as a mean over seeds and items, with its variances: for equivalence and planning."""

    @property
    def has_enough_seeds(self) -> bool:
        """Return whether there are enough seeds to generalize to other seeds, and not only to other items."""
        return self.about == "method"


def paired_comparison(
    baseline: ArrayLike,  # (seeds, items)
    treated: ArrayLike,  # (seeds, items)
    *,
    confidence: float = 0.95,
    clusters: Iterable[object] | None = None,
    weights: ArrayLike | None = None,
) -> PairedComparison:
    """Compare two arms that share their seeds (rows) and items (columns).

    With three seeds or more the comparison is about the method: seeds and clusters of items are crossed random factors,
    see `crossed_mean`. With fewer seeds it is about these trained models, and clusters are the only random factor. If
    the differences do not vary, for example because both arms have a few items all correct, or if one of several
    clusters has nearly all of the weight, the standard error is unknown, and the result has neither an interval nor a
    p-value.

    >>> without = [[1.0, 2.0], [1.1, 2.1], [0.9, 2.2]]  # three seeds, two items
    >>> with_noise = [[1.2, 2.1], [1.2, 2.4], [1.3, 2.3]]
    >>> one = paired_comparison(without, with_noise)
    >>> f"{one.difference:+.2f} ({one.ci_low:+.2f} to {one.ci_high:+.2f}), p = {one.p_value:.2f}"
    '+0.20 (-0.22 to +0.62), p = 0.11'

    Args:
        baseline: values of the baseline arm, (seeds, items). A metric without per-item values has one column.
        treated: values of the other arm, with the same shape.
        confidence: confidence level of the interval, between 0 and 1.
        clusters: label of each item. Items with the same label, such as questions about one person, are dependent. By
            default all items are independent.
        weights: weights of the items, such as their numbers of tokens, (items,) or (seeds, items). Default: equal.
            Items whose weights are all zero are left out.

    Raises:
        ValueError: the shapes differ, a value is not finite or masked, a weight is negative, the weights of a seed have
            no positive and finite sum, `confidence` is not between 0 and 1, or pandas DataFrames have different labels,
            or the same labels in another order.
    """
    _check_labels(baseline, treated=treated, weights=weights, clusters=clusters)
    first, second = _values(baseline, treated, confidence)
    weighted = _weights(weights, first.shape)
    cluster = indices_by_first_item(None if clusters is None else _cluster_labels(clusters), first.shape[1])
    if not (has_weight := weighted.any(axis=0)).all():
        cluster = indices_by_first_item(cluster[has_weight].tolist(), int(has_weight.sum()))
        first, second, weighted = (one[:, has_weight] for one in (first, second, weighted))
    difference = second - first
    scale = float(np.abs([first, second]).max())
    with np.errstate(over="ignore", invalid="ignore"):  # without a finite square, the standard error is unknown
        table, of_clusters = _linearized(difference, weighted, cluster), _cluster_sums(weighted, cluster)
        about_method = len(table) >= MIN_SEEDS
        if about_method:
            differ = _clusters_that_differ(np.abs(difference) > ROUNDING * scale, cluster)
            few_differ = differ < MIN_INFORMATIVE_CLUSTERS
            mean = crossed_mean(table, weights=of_clusters, few_differ=few_differ, scale=scale)
        else:
            mean = clustered_mean(table, weights=of_clusters, scale=scale)
    low, high = mean.interval(confidence)
    return PairedComparison(
        difference=mean.mean,
        ci_low=low,
        ci_high=high,
        p_value=mean.p_value(),
        seeds=difference.shape[0],
        items=difference.shape[1],
        clusters=table.shape[1],
        about="method" if about_method else "checkpoints",
        confidence=confidence,
        crossed=mean,
    )


def cluster_table(
    values: Floats,  # (seeds, items)
    weights: Floats,  # (seeds, items)
    clusters: Sequence[object] | None,  # of the items; None if items are independent
) -> Floats:
    """Return one value per cluster, (seeds, clusters), such that each row keeps its weighted mean.

    A weighted mean over clusters of unequal size is a ratio estimator. Its linearization is an unweighted mean over
    clusters with the same variance, if no cluster has a large part of the weight (Cochran 1977, section 6.3). Clusters
    are in the order of their first items.
    """
    return _linearized(values, weights, indices_by_first_item(clusters, values.shape[1]))


def _linearized(
    values: Floats,  # (seeds, items)
    weights: Floats,  # (seeds, items)
    cluster: Indices,  # (items,)
) -> Floats:
    total = weights.sum(axis=1, keepdims=True)
    means: Floats = (weights * values).sum(axis=1, keepdims=True) / total
    sums = _cluster_sums(weights * (values - means) / total, cluster)
    table: Floats = means + sums.shape[1] * sums
    return table


def _cluster_sums(
    values: Floats,  # (seeds, items)
    cluster: Indices,  # (items,)
) -> Floats:
    """Return the sum of the values of each cluster, (seeds, clusters).

    Unlike `clusters.cluster_sums`, it adds in the order of the items. The last digits of the sums can differ.
    """
    count = int(cluster.max()) + 1
    sums: Floats = np.stack([np.bincount(cluster, weights=row, minlength=count) for row in values])
    return sums


def _clusters_that_differ(
    differs: NDArray[np.bool_],  # (seeds, items)
    cluster: Indices,  # (items,)
) -> int:
    # counted before the linearization, which gives nonzero values to clusters without a difference
    return len(np.unique(cluster[differs.any(axis=0)]))


def _values(baseline: ArrayLike, treated: ArrayLike, confidence: float) -> tuple[Floats, Floats]:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, not {confidence}")
    first, second = _unmasked(baseline), _unmasked(treated)
    if first.ndim != 2 or first.shape != second.shape or not first.size:
        raise ValueError(f"baseline {first.shape} and treated {second.shape} do not have the same shape (seeds, items)")
    if not np.isfinite(second - first).all():
        raise ValueError("a value is not finite")
    return first, second


def _weights(weights: ArrayLike | None, shape: tuple[int, ...]) -> Floats:
    weighted = np.broadcast_to(_unmasked(1.0 if weights is None else weights), shape)
    with np.errstate(over="ignore"):
        total = weighted.sum(axis=1)
    if not np.isfinite(total).all():
        raise ValueError("the sum of the weights is not finite")
    if (weighted < 0).any() or not (total > 0).all():
        raise ValueError("a weight is negative, or all weights of a seed are zero")
    return weighted


def _unmasked(values: ArrayLike) -> Floats:
    """Return the values of an array, or of a sequence of arrays.

    Raises:
        ValueError: a value is masked.
    """
    masked = np.ma.array(values, dtype=np.float64)
    if np.ma.is_masked(masked):
        raise ValueError("a value is masked")
    return np.asarray(masked)


def _cluster_labels(clusters: Iterable[object]) -> list[object]:
    """Return the labels of an array, a tensor, a table column or any other iterable.

    Raises:
        ValueError: a label is masked or missing, or not hashable, such as a list.
    """
    if np.ma.is_masked(clusters):
        raise ValueError("a cluster label is masked")
    try:
        # scalars of PyTorch hash by identity
        labels = [one.item() if hasattr(one, "item") else one for one in clusters]
        hash(tuple(labels))
    except (TypeError, ValueError, RuntimeError) as error:  # the last two are those of rows of arrays and tensors
        raise ValueError(f"a cluster label is not a number or a text: {error}") from error
    if any(map(_is_missing, labels)):
        raise ValueError("a cluster label is missing")
    return labels


def _is_missing(label: object) -> bool:
    """Return whether a label is None or differs from itself, as NaN does."""
    try:
        return label is None or bool(operator.ne(label, label))
    except TypeError:  # pandas.NA has no truth value
        return True


def _check_labels(baseline: Any, **others: Any) -> None:
    """Raise a `ValueError` if tables of pandas have other labels than the baseline, because positions are compared."""
    if not hasattr(baseline, "iloc") or baseline.ndim != 2:
        return
    for name, other in others.items():
        if hasattr(other, "iloc"):
            rows = other.index if other.ndim == 2 else baseline.index
            columns = other.columns if other.ndim == 2 else other.index
            if not (rows.equals(baseline.index) and columns.equals(baseline.columns)):
                fix = "use the same labels in the same order, or arrays, whose positions are compared"
                raise ValueError(f"{name} and baseline have different labels of seeds or items; {fix}")
