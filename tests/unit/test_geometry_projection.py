"""The joint map of tokens before and after the noise: methods, seeds, and invalid options."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from neftune_cli.config.choices import ProjectionMethod
from neftune_cli.errors import UsageError
from neftune_cli.geometry.projection import token_map as mapping
from neftune_cli.geometry.projection.token_map import check_perplexity, project

RNG = np.random.default_rng(0)
CLUSTERS: NDArray[np.float32] = np.concatenate([RNG.normal(0, 1, (15, 60)), RNG.normal(0, 1, (15, 60)) + 20]).astype(
    np.float32
)
NOISY: NDArray[np.float32] = CLUSTERS + RNG.normal(0, 0.1, CLUSTERS.shape).astype(np.float32)


def test_pca_equals_the_singular_value_decomposition_of_all_points() -> None:
    token_map = project(CLUSTERS, NOISY, "pca", perplexity=30, seed=0)

    both = np.concatenate([CLUSTERS, NOISY]).astype(np.float64)
    left, values, _ = np.linalg.svd(both - both.mean(0), full_matrices=False)
    expected = left[:, :2] * values[:2]
    found = np.concatenate([token_map.before, token_map.after])
    assert np.abs(found) == pytest.approx(np.abs(expected), abs=1e-6)  # the signs of components are arbitrary


def test_tsne_separates_clusters_and_keeps_each_token_near_itself() -> None:
    token_map = project(CLUSTERS, NOISY, "tsne", perplexity=8, seed=0)

    gaps = cdist(token_map.after, token_map.before)
    assert (gaps.argmin(1) == np.arange(30)).mean() > 0.9
    assert ((gaps.argsort(1)[:, :10] < 15) == (np.arange(30) < 15)[:, None]).all()


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_without_noise_the_map_has_no_shift(method: ProjectionMethod) -> None:
    token_map = project(CLUSTERS, CLUSTERS.copy(), method, perplexity=8, seed=0)
    assert np.abs(token_map.before - token_map.after).max() < 1e-3 * np.ptp(token_map.before)


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_the_same_seed_gives_the_same_map(method: ProjectionMethod) -> None:
    one, other = (project(CLUSTERS, NOISY, method, perplexity=8, seed=3) for _ in range(2))

    assert np.array_equal(one.before, other.before)
    assert np.array_equal(one.after, other.after)


@pytest.mark.parametrize(
    ("perplexity", "message"),
    [
        (30.0, "t-SNE with --perplexity 30 needs more than 30 tokens, but there are 12."),
        (12.0, "t-SNE with --perplexity 12 needs more than 12 tokens, but there are 12."),
        (0.0, "--perplexity must be 1 or larger; 0 was given."),
        (float("nan"), "--perplexity must be 1 or larger; nan was given."),
    ],
)
def test_an_invalid_perplexity_raises(perplexity: float, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        check_perplexity("tsne", perplexity, 12)
    assert raised.value.problems[0].what == message


def test_the_suggested_perplexity_is_valid() -> None:
    with pytest.raises(UsageError) as raised:
        check_perplexity("tsne", 30, 12)
    assert raised.value.problems[0].fix == "Use --perplexity 4, more --points per group, or --projection pca."
    check_perplexity("tsne", 4, 12)
    check_perplexity("pca", 30, 12)


def test_embeddings_that_are_not_finite_are_refused() -> None:
    damaged = CLUSTERS.copy()
    damaged[0, 0] = np.inf
    with pytest.raises(UsageError, match="Some embeddings are not finite"):
        project(damaged, damaged, "pca", perplexity=30, seed=0)


def test_umap_without_its_library_raises_with_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapping, "find_spec", lambda _: None)

    with pytest.raises(UsageError) as raised:
        project(CLUSTERS, NOISY, "umap", perplexity=30, seed=0)

    assert raised.value.problems[0].fix == "Run `pip install umap-learn`, or use --projection tsne or pca."
