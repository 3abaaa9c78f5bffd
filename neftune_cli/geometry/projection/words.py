"""What the picture of a shift says in words: its title, its finding, and what may be read from the map."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from neftune_cli.geometry.projection.shift import Shift, ShownNoise
from neftune_cli.geometry.projection.token_map import TokenMap

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
