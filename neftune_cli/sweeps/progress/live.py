"""The live display in a terminal: redraw the status of sweeps several times per second, as read from their folders."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from neftune_cli.errors import NeftuneError
from neftune_cli.formatting import duration, terminal_text
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps.executors import Finished
from neftune_cli.sweeps.progress.screen import MultiSweepScreen, SweepScreen, is_active
from neftune_cli.sweeps.progress.status import StatusReader
from neftune_cli.sweeps.progress.views import SweepStatus
from neftune_cli.training.trial import Trial

DRAW_SECONDS, READ_SECONDS = 0.25, 0.6
"""Intervals between redraws, and between reads of the folder."""
START_SECONDS = 15.0
"""Time that `--watch` waits for a trial to start."""
HINT = Text("Ctrl-C stops after the current step and keeps all work", style="dim")
WATCH_HINT = Text("Ctrl-C ends this display, not the sweep", style="dim")
STOPPING = Text("Stopping after the current step. Press Ctrl-C again to stop at once.", style="bold yellow")


def can_draw(console: Console) -> bool:
    """Return whether the console can redraw its content. A file cannot, even if FORCE_COLOR makes rich assume so."""
    return console.is_terminal and not console.is_dumb_terminal and console.file.isatty()


def watch_sweeps(readers: Sequence[StatusReader], console: Console) -> None:
    """Draw sweeps until none of them has a running trial, then clear the display.

    If no trial runs at first, wait a short time for one to start, unless all sweeps are over.
    """
    begin = time.monotonic()
    with LiveScreen(console, transient=True) as screen:
        while _worth_watching(statuses := [reader.read() for reader in readers], time.monotonic() - begin):
            screen.show(MultiSweepScreen(statuses, footer=WATCH_HINT))
            time.sleep(READ_SECONDS)


def _worth_watching(statuses: Sequence[SweepStatus], watched: float) -> bool:
    """Return whether a sweep is active or, after `watched` seconds, may still become active."""
    if any(is_active(status) for status in statuses):
        return True
    return watched < START_SECONDS and not all(status.is_over for status in statuses)


class LiveScreen:
    """Context in which a part of the terminal is redrawn.

    Args:
        console: the terminal.
        transient: whether the content is cleared at the end.
    """

    def __init__(self, console: Console, *, transient: bool = False) -> None:
        self._console, self._transient = console, transient
        self._width = console.width
        self._above: list[Text] = []
        self._live = self._new_live()

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(*DISPLAY_ERRORS):  # the terminal may be closed
            self._live.stop()

    def show(self, content: RenderableType) -> None:
        """Replace the content.

        If the width has changed, the terminal has wrapped the old content, whose position is then unknown. The terminal
        is cleared, and the lines above the content are printed again.
        """
        if self._console.width != self._width:
            self._live.stop()
            self._console.clear()
            for text in self._above:
                self._console.print(text)
            self._width = self._console.width
            self._live = self._new_live()
            self._live.start()
        self._live.update(content, refresh=True)

    def print_above(self, text: Text) -> None:
        """Print permanent text above the content."""
        self._above.append(text)
        with suppress(*DISPLAY_ERRORS):
            self._console.print(text)

    def _new_live(self) -> Live:
        # stdout is not redirected, because a program may read it
        return Live(
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            transient=self._transient,
            vertical_overflow="crop",
        )


class LiveObserver:
    """Observer that shows a live table of a sweep, including trials of other processes."""

    def __init__(self, console: Console, folder: SweepFolder) -> None:
        self._console = console
        self._screen = LiveScreen(console)
        self._reader = StatusReader(folder)
        self._ticker = Ticker(self._draw, seconds=DRAW_SECONDS)
        self._drawing = threading.Lock()
        self._status: SweepStatus | None = None
        self._shown: tuple[object, ...] = ()
        self._started = time.monotonic()
        self._next_read = 0.0
        self._has_plan = False
        self._footer = HINT

    def __enter__(self) -> Self:
        self._screen.__enter__()
        self._ticker.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ticker.__exit__(kind, error, trace)
        self._footer = Text("")
        self._next_read = 0.0
        with suppress(*DISPLAY_ERRORS):
            if self._has_plan:
                self._draw()
            else:
                self._screen.show(Text(""))
        self._screen.__exit__(kind, error, trace)

    def sweep_started(self, trials: Sequence[Trial], missing: Sequence[Trial], notes: Sequence[str]) -> None:  # noqa: ARG002
        """Print the notes, and start to read the folder."""
        for note in notes:
            self.note(note)
        with suppress(*DISPLAY_ERRORS):
            self._reader.retry(trial.id for trial in missing)
        self._has_plan = True
        self._next_read = 0.0

    def trial_started(self, trial: Trial) -> None:  # noqa: ARG002
        """Read the folder at the next redraw."""
        self._next_read = 0.0

    def trial_ended(self, end: Finished) -> None:  # noqa: ARG002
        """Read the folder at the next redraw."""
        self._next_read = 0.0

    def note(self, text: str) -> None:
        """Print a sentence above the table."""
        self._screen.print_above(Text(terminal_text(text), style="dim"))

    def stopping(self) -> None:
        """Show in the last line that the sweep is stopping."""
        self._footer = STOPPING

    def _draw(self) -> None:
        with self._drawing:
            elapsed = time.monotonic() - self._started
            if self._has_plan and time.monotonic() >= self._next_read:
                self._next_read = time.monotonic() + READ_SECONDS
                self._status = self._reader.read()
            shown = (self._status, int(elapsed), self._footer, self._console.size)
            if shown != self._shown:
                self._shown = shown
                self._screen.show(self._rendered(elapsed))

    def _rendered(self, elapsed: float) -> RenderableType:
        if self._status is None:
            return Text(f"preparing, {duration(elapsed)}", style="dim")
        return SweepScreen(self._status, elapsed=elapsed, footer=self._footer or None)


DISPLAY_ERRORS = (OSError, ValueError, NeftuneError)
"""Errors that do not stop a sweep: of the disk, of a closed terminal, and of a file that cannot be parsed."""


class Ticker:
    """Context in which a thread calls a function at regular intervals. Display errors of a call are ignored."""

    def __init__(self, tick: Callable[[], None], *, seconds: float) -> None:
        self._tick, self._seconds = tick, seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            with suppress(*DISPLAY_ERRORS):
                self._tick()
