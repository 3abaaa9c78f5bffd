"""What a shift says in numbers: a table by group for the terminal, a row a token for other programs, and a summary."""

import csv
import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table

from neftune_cli.geometry.projection.shift import Shift, ShownNoise
from neftune_cli.geometry.projection.token_map import TokenMap

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
