"""Renderable status of sweeps: table of arms and seeds, running trials, failures and times, cut to fit the terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from neftune_cli.formatting import duration, rough_duration, terminal_text
from neftune_cli.records import Phase
from neftune_cli.sweeps.progress.grid import GAP, grid, screen_line
from neftune_cli.sweeps.progress.views import ObservedState, SweepStatus, TrialView

_EXPLAINED_FROM, _SPACED_FROM = 16, 30
"""Terminal heights from which the table has an explanation, and empty lines between its parts."""
_MIN_SWEEP_LINES = 8
"""Minimum number of lines of a sweep when several are shown."""
_LINES_PER_OTHER = 4
"""One of this number of lines is reserved for the sweeps that are not drawn in full."""


@dataclass(frozen=True)
class SweepScreen:
    """Renderable status of one sweep."""

    status: SweepStatus
    is_cut: bool = True
    """Whether the view is cut to the height of the terminal, and each failure to one line."""
    elapsed: float | None = None
    """Seconds since the start of the command."""
    footer: Text | None = None
    lines: int | None = None
    """Maximum number of lines; by default the height of the terminal minus one."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines for the size and the character set of the terminal."""
        status, width = self.status, options.max_width
        height = self._height(options)
        yield screen_line(_heading(status), options, cut=self.is_cut)
        if height is None or height >= _EXPLAINED_FROM:
            yield screen_line(Text("held-out loss; while training: step and training loss", style="dim"), options)
        running, failures = status.of(ObservedState.RUNNING), status.failures
        room = None if height is None else height - self._fixed_lines(height)
        rows, runs, fails = _shares(room, len({trial.arm for trial in status.trials}), len(running), len(failures))
        space = [Text("")] if height is None or height >= _SPACED_FROM else []
        if rows:
            yield grid(status, width, rows - 1, ascii_only=options.ascii_only)
        yield from space if running or failures else []
        yield from _running(running, runs, options)
        yield from _failed(failures, fails, options, cut=self.is_cut)
        yield from space
        for line in (self._times(), self.footer):
            if line is not None:
                yield screen_line(line, options, cut=self.is_cut)

    def _height(self, options: ConsoleOptions) -> int | None:
        if not self.is_cut:
            return None
        return options.size.height - 1 if self.lines is None else self.lines

    def _times(self) -> Text | None:
        status, parts = self.status, []
        if status.seconds_left is not None and not status.is_over:
            parts.append(f"about {rough_duration(status.seconds_left)} left")
        elif status.work_left is not None and not status.is_over:
            parts.append(f"about {rough_duration(status.work_left)} of work left for one worker")
        if self.elapsed is not None:
            parts.append(f"{duration(self.elapsed)} so far")
        if status.workers > 1 and not status.is_over:
            parts.append(f"{status.workers} trials in parallel")
        return Text(", ".join(parts), style="bold") if parts else None

    def _fixed_lines(self, height: int) -> int:
        empty = 2 * (height >= _SPACED_FROM)
        return 1 + (height >= _EXPLAINED_FROM) + empty + (self._times() is not None) + (self.footer is not None)


@dataclass(frozen=True)
class MultiSweepScreen:
    """Renderable status of several sweeps, cut to the height of the terminal.

    Active sweeps are drawn in full; if there are none, unfinished sweeps are. Each other sweep has one line.
    """

    statuses: Sequence[SweepStatus]
    footer: Text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines for the size and the character set of the terminal."""
        lines = options.size.height - 2  # one for the footer, and one empty line
        space = [Text("")] if lines >= _SPACED_FROM and len(self.statuses) > 1 else []
        full, others = _in_full(self.statuses, lines - lines // _LINES_PER_OTHER, len(space))
        lines -= len(full) * len(space)
        wanted = [_wanted(status) for status in full]
        for_others = min(len(others), max(0, lines // _LINES_PER_OTHER, lines - sum(wanted)))
        for status, share in zip(full, _filled(lines - for_others, wanted), strict=True):
            yield SweepScreen(status, lines=share)
            yield from space
        yield from _headings(others, for_others, options)
        yield screen_line(self.footer, options)


def is_active(status: SweepStatus) -> bool:
    """Return whether a sweep has active workers and unfinished trials."""
    return status.workers > 0 and not status.is_over


def _heading(status: SweepStatus) -> Text:
    return Text.assemble((terminal_text(status.name), "bold"), "  ", status.summary)


def _in_full(statuses: Sequence[SweepStatus], lines: int, space: int) -> tuple[list[SweepStatus], list[SweepStatus]]:
    """Return the sweeps to draw in full within a number of lines, and the others, active and unfinished ones first.

    Active sweeps are drawn in full; if there are none, unfinished ones. At least one is drawn, even without room.
    """
    drawn = [status for status in statuses if is_active(status)] or [one for one in statuses if not one.is_over]
    used = accumulate(min(_wanted(status), _MIN_SWEEP_LINES) + space for status in drawn)
    full = drawn[: max(1, sum(one <= lines for one in used))]
    others = [status for status in statuses if not any(status is one for one in full)]
    return full, sorted(others, key=lambda status: (not is_active(status), status.is_over))


def _wanted(status: SweepStatus) -> int:
    """Return the lines of a complete view: heading, table, running trials, failures and times."""
    arms = len({trial.arm for trial in status.trials})
    return 1 + 1 + arms + len(status.of(ObservedState.RUNNING)) + len(status.failures) + 1


def _filled(lines: int, wanted: Sequence[int]) -> list[int]:
    """Distribute all lines, including those beyond the wanted numbers."""
    shares = _distributed(lines, wanted)
    return [share + max(0, lines - sum(shares)) // len(shares) for share in shares]


def _headings(statuses: Sequence[SweepStatus], lines: int, options: ConsoleOptions) -> RenderResult:
    """Yield one line per sweep. The last line has the number of sweeps that do not fit."""
    if not lines:
        return
    shown = statuses if len(statuses) <= lines else statuses[: lines - 1]
    for status in shown:
        yield screen_line(_heading(status), options)
    yield from _more(len(statuses) - len(shown), "sweeps", options)


def _shares(lines: int | None, arms: int, running: int, failed: int) -> list[int]:
    """Return the lines for the table, running trials and failures. Without room for two arms there is no table."""
    shares = _distributed(lines, (arms + 1 if arms else 0, running, failed))
    return shares if shares[0] >= min(3, arms + 1) else _distributed(lines, (0, running, failed))


def _distributed(lines: int | None, wanted: Sequence[int]) -> list[int]:
    """Distribute lines evenly among parts, up to the wanted number of each."""
    if lines is None:
        return list(wanted)
    given = [0] * len(wanted)
    while sum(given) < min(lines, sum(wanted)):
        part = min((part for part in range(len(wanted)) if given[part] < wanted[part]), key=given.__getitem__)
        given[part] += 1
    return given


def _running(trials: Sequence[TrialView], lines: int, options: ConsoleOptions) -> RenderResult:
    """Yield one line per running trial, without the least important columns if they do not fit."""
    if not lines:
        return
    shown = trials if len(trials) <= lines else trials[: max(1, lines - 1)]
    with_host = len({trial.host for trial in trials}) > 1
    rows = [_details(trial, with_host=with_host) for trial in shown]
    columns = [column for column in rows[0] if any(row[column] for row in rows)]
    for column in _LEAST_IMPORTANT_FIRST:
        if _width(rows, columns) > options.max_width and column in columns:
            columns.remove(column)
    table = Table.grid(padding=(0, GAP, 0, 0))
    for _ in columns:
        table.add_column(no_wrap=True, overflow="crop" if options.ascii_only else "ellipsis")
    for row in rows:
        table.add_row(*(Text(row[column], style="cyan" if column == "trial" else "") for column in columns))
    yield table
    if lines > 1:
        yield from _more(len(trials) - len(shown), "running", options)


_LEAST_IMPORTANT_FIRST = ("host", "speed", "loss", "phase", "time left")
"""Columns that are left out on a narrow terminal."""


def _details(trial: TrialView, *, with_host: bool) -> dict[str, str]:
    """Return the texts of a running trial by column, in printed order."""
    phase = f"{trial.phase} {trial.step}/{trial.steps}" if trial.phase == Phase.TRAINING else trial.phase
    left = trial.seconds_left
    return {
        "trial": terminal_text(trial.label),
        "phase": terminal_text(phase),
        "loss": f"loss {trial.loss:.3f}" if trial.loss is not None and trial.phase == Phase.TRAINING else "",
        "speed": f"{trial.tokens_per_second:,.0f} tokens/s" if trial.tokens_per_second else "",
        "time left": "" if left is None else _left(trial, left),
        "host": f"on {terminal_text(trial.host)}" if with_host and trial.host else "",
    }


def _left(trial: TrialView, seconds: float) -> str:
    if seconds >= 3:
        return f"about {rough_duration(seconds)} left"
    return "almost done" if trial.step else ""


def _width(rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> int:
    return sum(max((cell_len(row[column]) for row in rows), default=0) + GAP for column in columns) - GAP


def _failed(trials: Sequence[TrialView], lines: int, options: ConsoleOptions, *, cut: bool) -> RenderResult:
    """Yield the failures, the last ones if not all fit."""
    if not lines:
        return
    shown = trials if len(trials) <= lines else trials[-max(1, lines - 1) :]
    if lines > 1:
        yield from _more(len(trials) - len(shown), "failed", options)
    for trial in shown:
        text = Text(f"{terminal_text(trial.label)} failed: {terminal_text(trial.reason)}", style="red")
        yield screen_line(text, options, cut=cut)


def _more(number: int, items: str, options: ConsoleOptions) -> RenderResult:
    if number:
        dots = "..." if options.ascii_only else "…"
        yield Text(f"{dots} {number} more {items}", style="dim", no_wrap=True, overflow="crop")
