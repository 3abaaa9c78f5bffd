"""What the noise does to chosen tokens: how far each one moves, and whether it ends up beside another group."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from rich import box
from rich.table import Table

from neftune_cli.geometry.projection.token_groups import GroupedTokens
from neftune_cli.geometry.projection.token_map import TokenMap
from neftune_cli.models.embeddings import first_layer_embeddings
from neftune_cli.noise.draws import unit_noise
from neftune_cli.noise.lengths import token_noise_scale

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class ShownNoise:
    """One draw: the noise that tokens get which stand in an example of this length."""

    alpha: float
    length: int
    """Tokens of the example."""
    distribution: str = "uniform"
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


CSV_COLUMNS = ("token", "group", "before_x", "before_y", "after_x", "after_y", "noise_norm", "moved")


@dataclass(frozen=True)
class GroupShift:
    """What the noise did to one group, or to all tokens."""

    group: str
    tokens: int
    embedding_norm: float
    """Median L2 norm without noise."""
    noise_norm: float
    """Median distance moved."""
    beside_own_group: float
    """Share of tokens whose nearest neighbour, before the noise, is of their own group: 0 to 1."""
    moved: float
    """Share of tokens whose nearest neighbour is of another group than before: 0 to 1."""


def summarize(shift: Shift) -> list[GroupShift]:
    """Return a row for each group, and one for all tokens at the end."""
    names = np.asarray(shift.tokens.group_names)
    rows = [_summarized(group.name, shift, names == group.name) for group in shift.tokens.groups]
    return [*rows, _summarized("all", shift, np.ones(len(names), dtype=bool))]


def to_table(shift: Shift) -> Table:
    """Return the summary as it is printed."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("\ngroup", no_wrap=True)
    for heading in ("\ntokens", "median\nnorm", "median\nshift", "beside\nown group", "moved to\nanother"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in summarize(shift):
        numbers = (
            f"{row.embedding_norm:.3f}",
            f"{row.noise_norm:.3f}",
            f"{row.beside_own_group:.1%}",
            f"{row.moved:.1%}",
        )
        table.add_row(row.group, str(row.tokens), *numbers, style="bold" if row.group == "all" else "")
    return table


def to_json(shift: Shift, noise: ShownNoise) -> dict[str, Any]:
    """Return the noise and the summary as plain values."""
    *groups, all_tokens = (asdict(row) for row in summarize(shift))
    return {**asdict(noise), "neighbour_distance": shift.neighbour_distance, "groups": groups, "all": all_tokens}


def to_csv(shift: Shift, token_map: TokenMap) -> str:
    """Return a row a token; coordinates on the map have no unit, the norm is the embedding's."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    writer.writerows(_rows(shift, token_map))
    return text.getvalue()


def _summarized(name: str, shift: Shift, chosen: NDArray[np.bool_]) -> GroupShift:
    return GroupShift(
        group=name,
        tokens=int(chosen.sum()),
        embedding_norm=float(np.median(shift.embedding_norms[chosen])),
        noise_norm=float(np.median(shift.noise_norms[chosen])),
        beside_own_group=float(shift.beside_own_group[0][chosen].mean()),
        moved=float(shift.moved[chosen].mean()),
    )


def _rows(shift: Shift, token_map: TokenMap) -> Iterator[tuple[str, ...]]:
    places = np.concatenate([token_map.before, token_map.after], axis=1)
    named = zip(shift.tokens.texts, shift.tokens.group_names, strict=True)
    for (text, group), place, norm, moved in zip(named, places, shift.noise_norms, shift.moved, strict=True):
        yield text, group, *(f"{value:.6g}" for value in (*place, norm)), str(bool(moved)).lower()


PANELS: Final = {
    "Before": "Each mark is a token of the model's vocabulary.\nThe map puts similar tokens side by side.",
    "After": "The same tokens with noise, on the same map.\nGrey lines lead from where they were before.",
    "Shift": "Arrows show how far tokens moved, to the scale of the bar.\n"
    "Black: the nearest neighbour is now of another group.",
}
"""Each panel's name and what is to be seen in it."""

_LONGEST_NAME: Final = 40
_MAP_NAMES: Final = {"tsne": "t-SNE", "umap": "UMAP", "pca": "the first two principal components"}


def title(model: str, noise: ShownNoise) -> str:
    """Return the picture's title, with the end of a long path."""
    name = model if len(model) <= _LONGEST_NAME else f"…{model[1 - _LONGEST_NAME :]}"
    return f"What NEFTune noise of alpha {noise.alpha:g} does to the token embeddings of {name}"


def size_words(shift: Shift) -> str:
    """Return how large the shift is beside what it is to be compared with, as a sentence."""
    norm, moved = float(np.median(shift.embedding_norms)), float(np.median(shift.noise_norms))
    gap = shift.neighbour_distance
    if not norm:
        return f"A token moves by {moved:.2f}. Most embeddings shown are zero: there is nothing to compare that with."
    of_norm = f"A token moves by {moved:.2f}: that is {moved / norm:.0%} of an embedding's norm ({norm:.2f})"
    if not gap:
        return f"{of_norm}. {_COLLAPSED}"
    return f"{of_norm}, and {moved / gap:.0%} of the way to the nearest other token ({gap:.2f})."


_COLLAPSED: Final = "Most tokens shown are equal to another: which is nearest is left to chance."


def bar_words(shift: Shift) -> str:
    """Return what the bar beside the arrows stands for."""
    return "this long would reach the nearest other token" if shift.neighbour_distance else "the longest of the shifts"


def moved_words(shift: Shift) -> str:
    """Return how many tokens' nearest neighbour changed group, beside how many were with their own group at all."""
    moved, tokens = int(shift.moved.sum()), len(shift.moved)
    count = f"{moved} of the {tokens} tokens ({moved / tokens:.1%})" if moved else f"none of the {tokens} tokens"
    before, after = (float(own.mean()) for own in shift.beside_own_group)
    return (
        f"The noise gave {count} a nearest neighbour of another group than before. "
        f"Beside their own group: {before:.0%} before, {after:.0%} after."
    )


def footnote(shift: Shift, token_map: TokenMap, noise: ShownNoise) -> str:
    """Return three lines: what may be read from the map, where distances are measured, and which noise it is."""
    dim = shift.before.shape[1]
    return (
        f"{_map_words(shift, token_map)}\n"
        f"Distances (medians), lengths of arrows and nearest neighbours are those in all {dim} dimensions, "
        f"among the tokens shown; only the directions of arrows are the map's.\n"
        f"One draw (seed {noise.seed}) of {noise.distribution} noise, as in an example of {noise.length} tokens."
    )


def _map_words(shift: Shift, token_map: TokenMap) -> str:
    together = f"Map: {_MAP_NAMES[token_map.method]} of all tokens before and after, together"
    if token_map.method == "pca":
        variance = _variance(shift.before, shift.after)
        share = _variance(token_map.before, token_map.after) / variance if variance else 1.0
        return (
            f"{together}: {share:.0%} of their variance, each stretched to fill the panel. The rest can't be seen here."
        )
    settings = f" (perplexity {token_map.perplexity:g})" if token_map.method == "tsne" else ""
    return f"{together}{settings}. It shows who is near whom; distances between clusters and the axes mean little."


def _variance(before: NDArray[np.floating], after: NDArray[np.floating]) -> float:
    return float(np.concatenate([before, after]).astype(np.float64).var(axis=0).sum())
