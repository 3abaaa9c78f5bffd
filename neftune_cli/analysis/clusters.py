"""Clusters of items: their order, weighted sums over each, and random halves, of which one selects an arm or epoch."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neftune_cli.evidence.measurements import Floats

Indices = NDArray[np.intp]


def indices_by_label(labels: Sequence[str]) -> Indices:
    """Return the index of each item's cluster, (items,), from zero, in the order of the labels.

    Random halves of the clusters depend on this order.
    """
    return np.unique(np.asarray(labels), return_inverse=True)[1].astype(np.intp)


def indices_by_first_item(labels: Sequence[object] | None, items: int) -> Indices:
    """Return the index of each item's cluster, (items,), from zero, in the order of the first items of the clusters.

    Labels may be of any hashable type, which need not have an order. Without labels, each item is a cluster.

    Raises:
        ValueError: the number of labels is not that of the items.
    """
    if labels is None:
        return np.arange(items)
    if len(labels) != items:
        raise ValueError(f"{len(labels)} cluster labels for {items} items")
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    return np.array([numbers[label] for label in labels], dtype=np.intp)


def random_halves(count: int, pairs: int, draws: np.random.Generator) -> Floats:
    """Return 1 for the members of a half and 0 for the rest, (2 * pairs, count): random halves, then their complements.

    Each unit is outside of one half of each pair. With an odd count the sizes of the halves differ by one.
    """
    order = draws.permuted(np.tile(np.arange(count), (pairs, 1)), axis=1)
    halves = (order < count // 2).astype(np.float64)
    return np.concatenate([halves, 1 - halves])


def cluster_sums(
    values: Floats,  # (options, seeds, items)
    weights: Floats,  # (items,)
    indices: Indices,  # (items,)
) -> Floats:
    """Return the weighted sum of the values of each cluster, (options, seeds, clusters)."""
    order = np.argsort(indices, kind="stable")
    starts = np.searchsorted(indices[order], np.arange(indices.max() + 1))
    return np.asarray(np.add.reduceat((values * weights)[..., order], starts, axis=-1))
