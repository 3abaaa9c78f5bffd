"""Joint projection of token embeddings before and after the noise to two dimensions."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neftune_cli.config.choices import ProjectionMethod
from neftune_cli.errors import Problem, UsageError

_TSNE_DIMENSIONS: Final = 50
"""Largest number of principal components that t-SNE receives, as its authors recommend."""
_MIN_PERPLEXITY: Final = 1.0


@dataclass(frozen=True)
class TokenMap:
    """Coordinates of tokens before and after the noise on one map, without units."""

    method: ProjectionMethod
    perplexity: float
    """Used by t-SNE only."""
    before: NDArray[np.float64]  # (tokens, 2)
    after: NDArray[np.float64]  # (tokens, 2)


def check_method(method: ProjectionMethod) -> None:
    """Check that the library of a method is installed.

    Raises:
        UsageError: the method is UMAP and umap-learn is not installed.
    """
    if method == "umap" and find_spec("umap") is None:
        what = "--projection umap needs the Python package umap-learn, which is not installed."
        raise UsageError(Problem(what, "Run `pip install umap-learn`, or use --projection tsne or pca."))


def check_perplexity(method: ProjectionMethod, perplexity: float, tokens: float) -> None:
    """Check the perplexity of t-SNE, its effective number of neighbors per point.

    Args:
        method: the projection.
        perplexity: its value.
        tokens: number of tokens; infinite if it is not known yet.

    Raises:
        UsageError: it is below 1 or not below the number of tokens.
    """
    if method != "tsne":
        return
    if not (math.isfinite(perplexity) and perplexity >= _MIN_PERPLEXITY):
        raise UsageError(Problem(f"--perplexity must be 1 or larger; {perplexity:g} was given.", "Use 5 to 50."))
    if perplexity >= tokens:
        what = f"t-SNE with --perplexity {perplexity:g} needs more than {perplexity:g} tokens, but there are {tokens}."
        fix = f"Use --perplexity {max(1, tokens // 3)}, more --points per group, or --projection pca."
        raise UsageError(Problem(what, fix))


def project(
    before: NDArray[np.float32],  # (tokens, dim)
    after: NDArray[np.float32],  # (tokens, dim)
    method: ProjectionMethod,
    *,
    perplexity: float,
    seed: int,
) -> TokenMap:
    """Return the coordinates of tokens before and after the noise on one map; the same seed gives the same map.

    The coordinates have no unit. PCA preserves distances along two directions; t-SNE and UMAP preserve neighborhoods
    only.

    Raises:
        UsageError: t-SNE has too few tokens for its perplexity, UMAP is not installed, or a number is not finite.
    """
    check_method(method)
    check_perplexity(method, perplexity, len(before))
    both = np.concatenate([before, after]).astype(np.float64)
    if not np.isfinite(both).all():
        fix = "Use a smaller --alpha. If that does not help, the model's weights are damaged."
        raise UsageError(Problem("Some embeddings are not finite.", fix))
    with _one_thread():
        points = _project_all(both, method, perplexity, seed)
    return TokenMap(method, perplexity, before=points[: len(before)], after=points[len(before) :])


def _project_all(
    points: NDArray[np.float64], method: ProjectionMethod, perplexity: float, seed: int
) -> NDArray[np.float64]:
    if not np.ptp(points, axis=0).any():
        return np.zeros((len(points), 2))  # t-SNE and PCA would divide by a variance of 0
    if method == "pca":
        return _principal_components(points, 2)
    return _tsne(points, perplexity, seed) if method == "tsne" else _umap(points, seed)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Fix the order of sums, so that the map does not depend on the number of cores. Small maps are not slower."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


def _principal_components(points: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    from sklearn.decomposition import PCA

    components: NDArray[np.float64] = PCA(min(count, *points.shape), svd_solver="full").fit_transform(points)
    return components


def _tsne(points: NDArray[np.float64], perplexity: float, seed: int) -> NDArray[np.float64]:
    from sklearn.manifold import TSNE

    reduced = _principal_components(points, _TSNE_DIMENSIONS)
    tsne = TSNE(init="pca", learning_rate="auto", perplexity=perplexity, random_state=seed)
    return np.asarray(tsne.fit_transform(reduced), dtype=np.float64)


def _umap(points: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    neighbours = min(15, len(points) - 1)
    umap = import_module("umap").UMAP(n_neighbors=neighbours, random_state=seed, n_jobs=1)
    return np.asarray(umap.fit_transform(points), dtype=np.float64)
