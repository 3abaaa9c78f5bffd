"""The shift of selected token embeddings under noise: its size, and changes of the nearest neighbor's group.

This module also has its forms as table, CSV and JSON, and the texts of its figure.
"""

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
from neftune_cli.noise.draws import unit_noise
from neftune_cli.noise.lengths import token_half_widths
from neftune_cli.noise.placement import first_layer_embeddings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class NoiseDraw:
    """One draw of noise for tokens of an example of a given length."""

    alpha: float
    length: int
    """Tokens of the example."""
    distribution: str = "uniform"
    seed: int = 0


@dataclass(frozen=True)
class Shift:
    """Token embeddings before and after the noise."""

    tokens: GroupedTokens
    before: NDArray[np.float32]  # (tokens, dim)
    after: NDArray[np.float32]  # (tokens, dim)

    @property
    def embedding_norms(self) -> NDArray[np.float64]:
        """Return the L2 norm of every embedding without noise: (tokens,)."""
        return np.asarray(np.linalg.norm(self.before.astype(np.float64), axis=1))

    @property
    def noise_norms(self) -> NDArray[np.float64]:
        """Return the L2 norm of every token's noise: (tokens,)."""
        return np.asarray(np.linalg.norm(self.after.astype(np.float64) - self.before, axis=1))

    @property
    def neighbour_distance(self) -> float:
        """Return the median distance to the nearest other token, both without noise; 0 if most have an equal token."""
        points = self.before.astype(np.float64)
        # The norm of the difference is exactly 0 for equal embeddings; the expanded square is not.
        return float(np.median(np.linalg.norm(points - points[_nearest(self.before, self.before)], axis=1)))

    @property
    def moved(self) -> NDArray[np.bool_]:
        """Return whether the group of the nearest neighbor changed: (tokens,)."""
        before, after = self.neighbour_groups
        return np.asarray(before != after)

    @property
    def beside_own_group(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return whether the nearest neighbor is in the token's group, before and after the noise: each (tokens,)."""
        own = np.asarray(self.tokens.group_names)
        before, after = self.neighbour_groups
        return np.asarray(before == own), np.asarray(after == own)

    @cached_property
    def neighbour_groups(self) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
        """Return the group of each token's nearest neighbor, before and after the noise: each (tokens,)."""
        return neighbour_groups(self.before, self.after, self.tokens.group_names)


def shift_tokens(model: "PreTrainedModel", tokens: GroupedTokens, noise: NoiseDraw) -> Shift:
    """Look up the tokens, scaled as the model's first layer receives them, and add one draw of noise.

    Every token gets the noise for an example of `noise.length` tokens. The number of tokens may exceed that length,
    because the draws are independent.

    Source: section 2 of arXiv 2310.05914.
    """
    embeddings = first_layer_embeddings(model, torch.tensor(tokens.token_ids)).cpu()
    count, dim = embeddings.shape
    half_width = token_half_widths(noise.alpha, dim, shape=(1, noise.length))[0, 0]
    unit = unit_noise(noise.distribution, (count, dim), torch.Generator().manual_seed(noise.seed))
    return Shift(tokens, embeddings.numpy(), (embeddings + half_width * unit).numpy())


def neighbour_groups(
    before: NDArray[np.float32],  # (tokens, dim)
    after: NDArray[np.float32],  # (tokens, dim)
    groups: Sequence[str],  # (tokens,)
) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """Return the group of each token's nearest neighbor, before and after the noise: each (tokens,).

    Neighbors are the other tokens without noise, by Euclidean distance between embeddings. A token's own embedding is
    excluded.
    """
    names = np.asarray(groups)
    return names[_nearest(before, before)], names[_nearest(after, before)]


def _nearest(points: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.asarray(_squared_distances(points, others).argmin(1))


def _squared_distances(points: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the distances from each point to each of the others, infinite on the diagonal: (tokens, tokens)."""
    points_, others_ = points.astype(np.float64), others.astype(np.float64)
    squares = (points_**2).sum(1)[:, None] + (others_**2).sum(1) - 2 * points_ @ others_.T
    np.fill_diagonal(squares, np.inf)
    return np.asarray(squares)


CSV_COLUMNS = ("token", "group", "before_x", "before_y", "after_x", "after_y", "noise_norm", "moved")


@dataclass(frozen=True)
class GroupShift:
    """The shift of one group, or of all tokens."""

    group: str
    tokens: int
    embedding_norm: float
    """Median L2 norm without noise."""
    noise_norm: float
    """Median L2 norm of the noise."""
    beside_own_group: float
    """Share of tokens whose nearest neighbor before the noise is in their own group: 0 to 1."""
    moved: float
    """Share of tokens whose nearest neighbor after the noise is in a different group than before: 0 to 1."""


def summarize(shift: Shift) -> list[GroupShift]:
    """Return one row per group, and a last row for all tokens."""
    names = np.asarray(shift.tokens.group_names)
    rows = [_summarized(group.name, shift, names == group.name) for group in shift.tokens.groups]
    return [*rows, _summarized("all", shift, np.ones(len(names), dtype=bool))]


def to_table(shift: Shift) -> Table:
    """Return the summary as a table for the terminal."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("\ngroup", no_wrap=True)
    for heading in ("\ntokens", "median\nnorm", "median\nshift", "neighbor in\nown group", "neighbor in\nnew group"):
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


def to_json(shift: Shift, noise: NoiseDraw) -> dict[str, Any]:
    """Return the noise and the summary as JSON types."""
    *groups, all_tokens = (asdict(row) for row in summarize(shift))
    return {**asdict(noise), "neighbour_distance": shift.neighbour_distance, "groups": groups, "all": all_tokens}


def to_csv(shift: Shift, token_map: TokenMap) -> str:
    """Return one row per token. Map coordinates have no unit; the norm is in the units of the embeddings."""
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
    "Before": "Each mark is a token of the model's vocabulary.\nThe map places similar tokens close together.",
    "After": "The same tokens with noise, on the same map.\nGray lines start at the positions without noise.",
    "Shift": "Arrow lengths are the sizes of the shifts, to the scale of the bar.\n"
    "Black: the nearest neighbor's group changed.",
}
"""Name and explanation of each panel."""

_MAX_NAME_LENGTH: Final = 40
_MAP_NAMES: Final = {"tsne": "t-SNE", "umap": "UMAP", "pca": "first two principal components"}


def title(model: str, noise: NoiseDraw) -> str:
    """Return the title of the figure; a long path is shortened at its start."""
    name = model if len(model) <= _MAX_NAME_LENGTH else f"…{model[1 - _MAX_NAME_LENGTH :]}"
    return f"Token embeddings of {name} before and after NEFTune noise of alpha {noise.alpha:g}"


def shift_sentence(shift: Shift) -> str:
    """Return the median shift relative to the embedding norm and to the neighbor distance, as a sentence."""
    norm, moved = float(np.median(shift.embedding_norms)), float(np.median(shift.noise_norms))
    gap = shift.neighbour_distance
    if not norm:
        return f"The median shift is {moved:.2f}. Most of these embeddings are zero, so there is no relative shift."
    of_norm = f"The median shift is {moved:.2f}: {moved / norm:.0%} of the embedding norm ({norm:.2f})"
    if not gap:
        return f"{of_norm}. {_COLLAPSED}"
    return f"{of_norm} and {moved / gap:.0%} of the distance to the nearest other token ({gap:.2f})."


_COLLAPSED: Final = "Most of these tokens are equal to another, so their nearest neighbors are arbitrary."


def bar_label(shift: Shift) -> str:
    """Return the label of the scale bar."""
    return "median distance to the nearest other token" if shift.neighbour_distance else "longest shift"


def neighbour_sentences(shift: Shift) -> tuple[str, str]:
    """Return the number of tokens whose neighbor's group changed, and the shares with a neighbor in their group."""
    moved, tokens = int(shift.moved.sum()), len(shift.moved)
    count = f"{moved} of {tokens} tokens ({moved / tokens:.1%})" if moved else f"none of {tokens} tokens"
    before, after = (float(own.mean()) for own in shift.beside_own_group)
    return (
        f"The group of the nearest neighbor changed for {count}.",
        f"Tokens whose nearest neighbor is in their own group: {before:.0%} without noise, {after:.0%} with noise.",
    )


def footnote(shift: Shift, token_map: TokenMap, noise: NoiseDraw) -> str:
    """Return three lines: the interpretation of the map, the definition of distances, and the noise."""
    dim = shift.before.shape[1]
    return (
        f"{_map_note(shift, token_map)}\n"
        f"Distances (medians), arrow lengths and nearest neighbors are computed in all {dim} dimensions, "
        f"among the tokens shown. The directions of the arrows are those on the map.\n"
        f"One draw (seed {noise.seed}) of {noise.distribution} noise for an example of {noise.length} tokens."
    )


def _map_note(shift: Shift, token_map: TokenMap) -> str:
    together = f"Map: joint {_MAP_NAMES[token_map.method]} of all tokens before and after"
    if token_map.method == "pca":
        variance = _variance(shift.before, shift.after)
        share = _variance(token_map.before, token_map.after) / variance if variance else 1.0
        return f"{together} ({share:.0%} of the variance), each stretched to fill the panel."
    settings = f" (perplexity {token_map.perplexity:g})" if token_map.method == "tsne" else ""
    return f"{together}{settings}. It preserves neighborhoods; axes and distances between clusters mean nothing."


def _variance(before: NDArray[np.floating], after: NDArray[np.floating]) -> float:
    return float(np.concatenate([before, after]).astype(np.float64).var(axis=0).sum())
