"""What the noise does to chosen tokens: how far each one moves, and whether it ends up beside another group."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from neftune_cli.geometry.projection.token_groups import GroupedTokens
from neftune_cli.models.first_layer import first_layer_embeddings
from neftune_cli.noise.draws import Noise, unit_noise
from neftune_cli.noise.lengths import token_noise_scale

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class ShownNoise:
    """One draw: the noise that tokens get which stand in an example of this length."""

    alpha: float
    length: int
    """Tokens of the example."""
    distribution: Noise = "uniform"
    seed: int = 0


@dataclass(frozen=True)
class Shift:
    """Tokens before and after the noise, in the embedding's own space."""

    tokens: GroupedTokens
    before: NDArray[np.float32]  # (tokens, dim)
    after: NDArray[np.float32]  # (tokens, dim)

    @property
    def embedding_norms(self) -> NDArray[np.float64]:
        """L2 norm of every embedding without noise: (tokens,)."""
        return np.asarray(np.linalg.norm(self.before.astype(np.float64), axis=1))

    @property
    def noise_norms(self) -> NDArray[np.float64]:
        """How far every token moved, as an L2 norm: (tokens,)."""
        return np.asarray(np.linalg.norm(self.after.astype(np.float64) - self.before, axis=1))

    @property
    def neighbour_distance(self) -> float:
        """Median distance from a token to the nearest other one, both without noise; 0 if most have an equal."""
        points = self.before.astype(np.float64)
        # of the difference, as rounding would put equal embeddings at a distance above zero
        return float(np.median(np.linalg.norm(points - points[_nearest(self.before, self.before)], axis=1)))

    @property
    def moved(self) -> NDArray[np.bool_]:
        """Whether the nearest neighbour's group changed: (tokens,)."""
        before, after = self.neighbour_groups
        return np.asarray(before != after)

    @property
    def beside_own_group(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Whether the nearest neighbour is of the token's own group, before and after the noise: each (tokens,)."""
        own = np.asarray(self.tokens.group_names)
        before, after = self.neighbour_groups
        return np.asarray(before == own), np.asarray(after == own)

    @cached_property
    def neighbour_groups(self) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
        """The group of each token's nearest neighbour before and after the noise: each (tokens,)."""
        return neighbour_groups(self.before, self.after, self.tokens.group_names)


def shift_tokens(model: "PreTrainedModel", tokens: GroupedTokens, noise: ShownNoise) -> Shift:
    """Look the tokens up, scaled as the model's first layer gets them, and add a draw of noise to each of them.

    Every token gets the noise of section 2 of arXiv 2310.05914 for an example of that length; it doesn't matter that
    more tokens are shown than stand in one example, as the draws are independent.
    """
    embeddings = first_layer_embeddings(model, torch.tensor(tokens.token_ids)).cpu()
    count, dim = embeddings.shape
    scale = token_noise_scale(noise.alpha, dim, shape=(1, noise.length))[0, 0]
    unit = unit_noise(noise.distribution, (count, dim), torch.Generator().manual_seed(noise.seed))
    return Shift(tokens, embeddings.numpy(), (embeddings + scale * unit).numpy())


def neighbour_groups(
    before: NDArray[np.float32],  # (tokens, dim)
    after: NDArray[np.float32],  # (tokens, dim)
    groups: Sequence[str],  # (tokens,)
) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """Return the group of each token's nearest neighbour, before and after the noise: each (tokens,).

    Neighbours are the other tokens without noise, by Euclidean distance in the embedding's space; a token's own
    embedding is none of them.
    """
    names = np.asarray(groups)
    return names[_nearest(before, before)], names[_nearest(after, before)]


def _nearest(points: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.asarray(_squared_distances(points, others).argmin(1))


def _squared_distances(points: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (tokens, tokens): from each point to each of the others; infinite to the one at its own place."""
    points_, others_ = points.astype(np.float64), others.astype(np.float64)
    squares = (points_**2).sum(1)[:, None] + (others_**2).sum(1) - 2 * points_ @ others_.T
    np.fill_diagonal(squares, np.inf)
    return np.asarray(squares)
