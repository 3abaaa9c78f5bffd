"""The table of a sweep, arms by seeds: each cell the state of one trial, in as many characters as there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rich.console import ConsoleOptions
from rich.table import Table
from rich.text import Text

from neftune_cli.formatting import printable, sparkline
from neftune_cli.sweeps.progress.views import State, SweepStatus, TrialView

T = TypeVar("T")
Row = Mapping[int | None, TrialView]

GAP = 2
"""Spaces between columns."""
_NARROWEST = 8
_SPARKLINE, _SHORTEST_SPARKLINE = 8, 3
_STYLES = {
    State.WAITING: "dim",
    State.RUNNING: "cyan",
    State.STOPPED: "yellow",
    State.STALLED: "yellow",
    State.DONE: "green",
    State.FAILED: "red",
}


@dataclass(frozen=True)
class _Layout:
    """What of a table fits."""

    arms: list[str]
    seeds: list[int | None]
    hidden_seeds: list[int | None]
    label: int
    """Characters for the name of an arm."""
    column: int
    """Characters for a cell."""


def grid(status: SweepStatus, width: int, rows: int, *, ascii_only: bool) -> Table:
    """Return the table in at most `width` characters and, below its header, `rows` lines.

    Arms and seeds that don't fit are counted; those where something runs are shown.
    """
    arms = _by_arm(status)
    layout = _layout(status, list(arms), width, rows)
    table = _empty(layout, ascii_only=ascii_only)
    for arm in layout.arms:
        table.add_row(Text(printable(arm)), *_cells(arms[arm], layout, ascii_only=ascii_only))
    hidden = [row for arm, row in arms.items() if arm not in layout.arms]
    if hidden and rows > 1:
        table.add_row(*_hidden_arms(hidden, layout, ascii_only=ascii_only))
    return table


def one_line(text: Text, options: ConsoleOptions, *, fold: bool = True) -> Text:
    """Return text that ends in an ellipsis where the line does, or that is wrapped if it isn't to be folded."""
    if not fold:
        return text
    short = text.copy()
    short.no_wrap, short.overflow = True, "crop" if options.ascii_only else "ellipsis"
    return short


def cell(trial: TrialView, width: int, *, ascii_only: bool = False) -> Text:
    """Return the state of a trial in at most so many characters: the held-out loss if it is done."""
    return Text(_words(trial, width, ascii_only=ascii_only), style=_STYLES[trial.state], no_wrap=True, overflow="crop")


def _words(trial: TrialView, width: int, *, ascii_only: bool) -> str:
    if trial.state is State.DONE:
        return f"{trial.eval_loss:.4f}"
    if trial.state is State.WAITING:
        return "." if ascii_only else "·"
    if trial.state is State.FAILED:
        return "failed"
    if trial.state is State.RUNNING:
        return _running(trial, width, ascii_only=ascii_only) if trial.phase == "training" else printable(trial.phase)
    return _first_fitting(width, f"{trial.state} {_steps(trial)}", str(trial.state)) if trial.step else trial.state


def _running(trial: TrialView, width: int, *, ascii_only: bool) -> str:
    steps = _steps(trial)
    percent = f"{100 * trial.step // max(1, trial.steps)}%"
    if (room := min(_SPARKLINE, width - len(steps) - 1)) >= _SHORTEST_SPARKLINE:
        return f"{steps} {sparkline(trial.losses, room, ascii_only=ascii_only)}"
    return _first_fitting(width, steps, percent)


def _steps(trial: TrialView) -> str:
    return f"{trial.step}/{trial.steps}"


def _first_fitting(width: int, *texts: str) -> str:
    return next((text for text in texts if len(text) <= width), texts[-1])


def _by_arm(status: SweepStatus) -> dict[str, dict[int | None, TrialView]]:
    arms: dict[str, dict[int | None, TrialView]] = {}
    for trial in status.trials:
        arms.setdefault(trial.arm, {})[trial.seed] = trial
    return arms


def _layout(status: SweepStatus, arms: list[str], width: int, rows: int) -> _Layout:
    busy = status.of(State.RUNNING)
    every_seed: list[int | None] = [trial.seed for trial in status.trials if trial.seed is not None]
    seeds = list(dict.fromkeys(every_seed)) or [None]
    words = ("arm", f"... {len(arms)} more") if len(arms) > rows else ("arm",)
    label = min(max(len(printable(arm)) for arm in (*words, *arms)), max(_NARROWEST, width // 4))
    room = width - label
    shown = seeds
    if room // len(seeds) < _NARROWEST + GAP:
        fitting = room // (_NARROWEST + GAP) - 1  # a column counts the others
        shown = _window(seeds, max(1, fitting), {trial.seed for trial in busy})
    columns = len(shown) + (len(shown) < len(seeds))
    shown_arms = arms if len(arms) <= rows else _window(arms, max(1, rows - 1), {trial.arm for trial in busy})
    return _Layout(
        arms=shown_arms,
        seeds=shown,
        hidden_seeds=[seed for seed in seeds if seed not in shown],
        label=label,
        column=max(1, min(_widest_cell(status), room // columns - GAP)),
    )


def _widest_cell(status: SweepStatus) -> int:
    """Return the characters of a cell that shows all there is: steps and curve, or a word."""
    steps = max(len(str(trial.steps)) for trial in status.trials) if status.trials else 0
    return max(len("generating"), 2 * steps + 2 + _SPARKLINE)


def _empty(layout: _Layout, *, ascii_only: bool) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    table.add_column("arm", max_width=layout.label, no_wrap=True, overflow="crop" if ascii_only else "ellipsis")
    for seed in layout.seeds:
        name = "" if seed is None else f"seed {seed}"
        table.add_column(name, width=layout.column, no_wrap=True)
    if layout.hidden_seeds:
        table.add_column(f"{len(layout.hidden_seeds)} more", max_width=layout.column, no_wrap=True)
    return table


def _cells(row: Row, layout: _Layout, *, ascii_only: bool) -> list[Text]:
    if None in row:  # the base has no seeds
        return [cell(row[None], layout.column, ascii_only=ascii_only)]
    shown = (row.get(seed) for seed in layout.seeds)
    cells = [Text("") if trial is None else cell(trial, layout.column, ascii_only=ascii_only) for trial in shown]
    hidden = [row[seed] for seed in layout.hidden_seeds if seed in row]
    return [*cells, _count(hidden)] if layout.hidden_seeds else cells


def _hidden_arms(rows: Sequence[Row], layout: _Layout, *, ascii_only: bool) -> list[Text]:
    """Return the line that counts, for each seed, the arms that don't fit."""
    groups = [[seed] for seed in layout.seeds] + ([layout.hidden_seeds] if layout.hidden_seeds else [])
    counts = [_count([row[seed] for row in rows for seed in group if seed in row]) for group in groups]
    return [Text(f"{'...' if ascii_only else '…'} {len(rows)} more", style="dim"), *counts]


def _count(trials: Sequence[TrialView]) -> Text:
    failed = sum(trial.state is State.FAILED for trial in trials)
    done = sum(trial.state is State.DONE for trial in trials)
    return Text(f"{done}/{len(trials)}", style="red" if failed else "dim", no_wrap=True)


def _window(items: Sequence[T], size: int, busy: set[T]) -> list[T]:
    """Return so many successive items: the first, or those that end with the last one where something runs."""
    last = max((index for index, item in enumerate(items) if item in busy), default=0)
    begin = max(0, min(last - size + 1, len(items) - size))
    return list(items[begin : begin + size])
