"""Choosing on some seeds and items and measuring on the others, over many splits: no value has a part in its choice."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neftune_cli.evidence.measurements import Floats

Integers = NDArray[np.intp]


def cluster_numbers(labels: Sequence[str]) -> Integers:
    """Return the number of each item's cluster, (items,), counted from zero."""
    return np.unique(np.asarray(labels), return_inverse=True)[1].astype(np.intp)


def random_halves(count: int, pairs: int, draws: np.random.Generator) -> Floats:
    """Return 1 for what is in the half and 0 for the rest, (2 * pairs, count): random halves, then what each left out.

    So everything is left out by one half of each pair. With an odd count the halves of a pair differ by one.
    """
    order = draws.permuted(np.tile(np.arange(count), (pairs, 1)), axis=1)
    halves = (order < count // 2).astype(np.float64)
    return np.concatenate([halves, 1 - halves])


def cluster_sums(
    values: Floats,  # (options, seeds, items)
    weights: Floats,  # (items,)
    numbers: Integers,  # (items,)
) -> Floats:
    """Return the weighted sum of each cluster's values, (options, seeds, clusters)."""
    order = np.argsort(numbers, kind="stable")
    starts = np.searchsorted(numbers[order], np.arange(numbers.max() + 1))
    return np.asarray(np.add.reduceat((values * weights)[..., order], starts, axis=-1))


def measured_elsewhere(
    values: Floats,  # (options, seeds, items)
    picks: Floats,  # (splits, seeds, options)
    unseen: Floats,  # (splits, clusters)
    numbers: Integers,  # (items,)
) -> Floats:
    """Return each cell's value under the options chosen without it, averaged over those splits, (seeds, items).

    Args:
        values: of every option, whatever is chosen.
        picks: 1 for the option that a split chose for a seed; 0 for all options of a seed that its choice has seen.
        unseen: 1 for clusters that a split's choice hasn't seen.
        numbers: cluster of each item.
    """
    counts = np.tensordot(picks, unseen, axes=(0, 0))  # (seeds, options, clusters)
    shares = (counts / counts.sum(axis=1, keepdims=True)).transpose(1, 0, 2)[:, :, numbers]
    # an option that is never chosen may be infinite
    shared = np.multiply(values, shares, out=np.zeros_like(values), where=shares > 0)
    return np.asarray(shared.sum(axis=0))
