"""The table of a sweep, arms by seeds, in which each cell shows the state of one trial in the available width."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rich.cells import cell_len
from rich.console import ConsoleOptions, OverflowMethod
from rich.table import Table
from rich.text import Text

from neftune_cli.formatting import sparkline, terminal_text
from neftune_cli.records import Phase
from neftune_cli.sweeps.progress.views import ObservedState, SweepStatus, TrialView

T = TypeVar("T")
ArmTrials = Mapping[int | None, TrialView]
"""The trials of one arm by seed; None for the base trial."""

GAP = 2
"""Spaces between columns."""
_MIN_CELL_WIDTH = 8
_MAX_SPARKLINE, _MIN_SPARKLINE = 8, 3
_STYLES = {
    ObservedState.WAITING: "dim",
    ObservedState.RUNNING: "cyan",
    ObservedState.STOPPED: "yellow",
    ObservedState.STALLED: "yellow",
    ObservedState.DONE: "green",
    ObservedState.FAILED: "red",
}


@dataclass(frozen=True)
class _GridSize:
    """The arms, seeds and widths that fit."""

    arms: list[str]
    seeds: list[int | None]
    hidden_seeds: list[int | None]
    label: int
    """Width of the arm's name in characters."""
    column: int
    """Width of a cell in characters."""


def grid(status: SweepStatus, width: int, rows: int, *, ascii_only: bool) -> Table:
    """Return the table in at most `width` characters and, below its header, at most `rows` lines.

    Arms and seeds with running trials are shown first. Those that do not fit are counted.
    """
    arms = _by_arm(status)
    size = _layout(status, list(arms), width, rows)
    table = _empty_table(size, ascii_only=ascii_only)
    for arm in size.arms:
        table.add_row(Text(terminal_text(arm)), *_cells(arms[arm], size, ascii_only=ascii_only))
    hidden = [row for arm, row in arms.items() if arm not in size.arms]
    if hidden and rows > 1:
        table.add_row(*_hidden_arms(hidden, size, ascii_only=ascii_only))
    return table


def screen_line(text: Text, options: ConsoleOptions, *, cut: bool = True) -> Text:
    """Return text that ends in an ellipsis if it is too long for one line, or that wraps if `cut` is false."""
    if not cut:
        return text
    short = text.copy()
    short.no_wrap, short.overflow = True, "crop" if options.ascii_only else "ellipsis"
    return short


def cell(trial: TrialView, width: int, *, ascii_only: bool = False) -> Text:
    """Return the state of a trial, or the held-out loss if it is done, in at most `width` characters."""
    return Text(
        _cell_text(trial, width, ascii_only=ascii_only), style=_STYLES[trial.state], no_wrap=True, overflow="crop"
    )


def _cell_text(trial: TrialView, width: int, *, ascii_only: bool) -> str:
    if trial.state is ObservedState.DONE:
        return f"{trial.eval_loss:.4f}"
    if trial.state is ObservedState.WAITING:
        return "." if ascii_only else "·"
    if trial.state is ObservedState.FAILED:
        return "failed"
    if trial.state is ObservedState.RUNNING:
        is_training = trial.phase == Phase.TRAINING
        return _running(trial, width, ascii_only=ascii_only) if is_training else terminal_text(trial.phase)
    return _first_fitting(width, f"{trial.state} {_steps(trial)}", str(trial.state)) if trial.step else trial.state


def _running(trial: TrialView, width: int, *, ascii_only: bool) -> str:
    steps = _steps(trial)
    percent = f"{100 * trial.step // max(1, trial.steps)}%"
    if (room := min(_MAX_SPARKLINE, width - cell_len(steps) - 1)) >= _MIN_SPARKLINE:
        return f"{steps} {sparkline(trial.losses, room, ascii_only=ascii_only)}"
    return _first_fitting(width, steps, percent)


def _steps(trial: TrialView) -> str:
    return f"{trial.step}/{trial.steps}"


def _first_fitting(width: int, *texts: str) -> str:
    return next((text for text in texts if cell_len(text) <= width), texts[-1])


def _by_arm(status: SweepStatus) -> dict[str, dict[int | None, TrialView]]:
    arms: dict[str, dict[int | None, TrialView]] = {}
    for trial in status.trials:
        arms.setdefault(trial.arm, {})[trial.seed] = trial
    return arms


def _layout(status: SweepStatus, arms: list[str], width: int, rows: int) -> _GridSize:
    busy = status.of(ObservedState.RUNNING)
    every_seed: list[int | None] = [trial.seed for trial in status.trials if trial.seed is not None]
    seeds = list(dict.fromkeys(every_seed)) or [None]
    labels = ("arm", f"... {len(arms)} more") if len(arms) > rows else ("arm",)
    label = min(max(cell_len(terminal_text(arm)) for arm in (*labels, *arms)), max(_MIN_CELL_WIDTH, width // 4))
    room = width - label
    shown = seeds
    if room // len(seeds) < _MIN_CELL_WIDTH + GAP:
        fitting = room // (_MIN_CELL_WIDTH + GAP) - 1  # one column has the number of the others
        shown = _window(seeds, max(1, fitting), {trial.seed for trial in busy})
    columns = len(shown) + (len(shown) < len(seeds))
    shown_arms = arms if len(arms) <= rows else _window(arms, max(1, rows - 1), {trial.arm for trial in busy})
    return _GridSize(
        arms=shown_arms,
        seeds=shown,
        hidden_seeds=[seed for seed in seeds if seed not in shown],
        label=label,
        column=max(1, min(_widest_cell(status), room // columns - GAP)),
    )


def _widest_cell(status: SweepStatus) -> int:
    """Return the width of the longest complete cell: steps and curve, or the name of a phase."""
    steps = max(len(str(trial.steps)) for trial in status.trials) if status.trials else 0
    return max(*map(len, Phase), 2 * steps + 2 + _MAX_SPARKLINE)


def _empty_table(size: _GridSize, *, ascii_only: bool) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    overflow: OverflowMethod = "crop" if ascii_only else "ellipsis"
    table.add_column("arm", max_width=size.label, no_wrap=True, overflow=overflow)
    for seed in size.seeds:
        name = "" if seed is None else f"seed {seed}"
        table.add_column(name, width=size.column, no_wrap=True, overflow=overflow)
    if size.hidden_seeds:
        name = f"{len(size.hidden_seeds)} more"
        table.add_column(name, max_width=size.column, no_wrap=True, overflow=overflow)
    return table


def _cells(row: ArmTrials, size: _GridSize, *, ascii_only: bool) -> list[Text]:
    if None in row:  # the base trial has no seed
        return [cell(row[None], size.column, ascii_only=ascii_only)]
    shown = (row.get(seed) for seed in size.seeds)
    cells = [Text("") if trial is None else cell(trial, size.column, ascii_only=ascii_only) for trial in shown]
    hidden = [row[seed] for seed in size.hidden_seeds if seed in row]
    return [*cells, _count(hidden)] if size.hidden_seeds else cells


def _hidden_arms(rows: Sequence[ArmTrials], size: _GridSize, *, ascii_only: bool) -> list[Text]:
    """Return the row with the number of finished trials, for each seed, of the arms that do not fit."""
    groups = [[seed] for seed in size.seeds] + ([size.hidden_seeds] if size.hidden_seeds else [])
    counts = [_count([row[seed] for row in rows for seed in group if seed in row]) for group in groups]
    return [Text(f"{'...' if ascii_only else '…'} {len(rows)} more", style="dim"), *counts]


def _count(trials: Sequence[TrialView]) -> Text:
    failed = sum(trial.state is ObservedState.FAILED for trial in trials)
    done = sum(trial.state is ObservedState.DONE for trial in trials)
    return Text(f"{done}/{len(trials)}", style="red" if failed else "dim", no_wrap=True)


def _window(items: Sequence[T], size: int, busy: set[T]) -> list[T]:
    """Return `size` successive items: the first ones, or those that end with the last busy item."""
    last = max((index for index, item in enumerate(items) if item in busy), default=0)
    begin = max(0, min(last - size + 1, len(items) - size))
    return list(items[begin : begin + size])
