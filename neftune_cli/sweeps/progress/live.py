"""The live view on a terminal: a sweep's status, drawn anew several times a second from what its folder says."""

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
from neftune_cli.formatting import duration, printable
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps.progress import Planned, Result
from neftune_cli.sweeps.progress.screen import SweepScreen, SweepsScreen, is_active
from neftune_cli.sweeps.progress.status import StatusReader
from neftune_cli.sweeps.progress.views import SweepStatus
from neftune_cli.training.trial import Trial

DRAW_SECONDS, READ_SECONDS = 0.25, 0.6
START_SECONDS = 15.0
"""For so long a watch waits for something to start."""
HINT = Text("Ctrl-C finishes the step and keeps everything", style="dim")
WATCH_HINT = Text("Ctrl-C ends this view, not the sweep", style="dim")
STOPPING = Text("Stopping after this step; Ctrl-C again stops at once", style="bold yellow")


def can_draw(console: Console) -> bool:
    """Return whether a picture can be drawn over again; not in a file, which FORCE_COLOR makes a terminal for rich."""
    return console.is_terminal and not console.is_dumb_terminal and console.file.isatty()


def watch_sweeps(readers: Sequence[StatusReader], console: Console) -> None:
    """Draw sweeps until nothing runs in any of them any more; nothing of it stays on the screen.

    Where nothing runs from the beginning, it waits a moment for something to start, unless all of them are over.
    """
    begin = time.monotonic()
    with LivePicture(console, transient=True) as picture:
        while _worth_watching(statuses := [reader.read() for reader in readers], time.monotonic() - begin):
            picture.show(SweepsScreen(statuses, footer=WATCH_HINT))
            time.sleep(READ_SECONDS)


def _worth_watching(statuses: Sequence[SweepStatus], watched: float) -> bool:
    """Return whether something runs or, after so many seconds of watching, may still be about to start."""
    if any(is_active(status) for status in statuses):
        return True
    return watched < START_SECONDS and not all(status.is_over for status in statuses)


class LivePicture:
    """A part of the terminal that is drawn over again, while it is entered as a context.

    Args:
        console: the terminal.
        transient: whether nothing of it stays.
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
        with suppress(*HARMLESS):  # the terminal may be gone
            self._live.stop()

    def show(self, picture: RenderableType) -> None:
        """Draw a picture over the last one.

        A terminal whose width has changed has rewrapped the last one, and nobody knows where it begins: it is cleared.
        """
        if self._console.width != self._width:
            self._live.stop()
            self._console.clear()
            for text in self._above:
                self._console.print(text)
            self._width = self._console.width
            self._live = self._new_live()
            self._live.start()
        self._live.update(picture, refresh=True)

    def print_above(self, text: Text) -> None:
        """Print something that stays."""
        self._above.append(text)
        with suppress(*HARMLESS):
            self._console.print(text)

    def _new_live(self) -> Live:
        # stdout is left alone: what is printed there may be read by a program
        return Live(
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            transient=self._transient,
            vertical_overflow="crop",
        )


class LiveTable:
    """Observer that shows a live table of a sweep, including trials of other processes."""

    def __init__(self, console: Console, folder: SweepFolder) -> None:
        self._console = console
        self._picture = LivePicture(console)
        self._reader = StatusReader(folder)
        self._ticker = Ticker(self._draw, seconds=DRAW_SECONDS)
        self._drawing = threading.Lock()
        self._status: SweepStatus | None = None
        self._shown: tuple[object, ...] = ()
        self._started = time.monotonic()
        self._read_next = 0.0
        self._has_plan = False
        self._footer = HINT

    def __enter__(self) -> Self:
        self._picture.__enter__()
        self._ticker.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ticker.__exit__(kind, error, trace)
        self._footer = Text("")
        self._read_next = 0.0
        with suppress(*HARMLESS):
            if self._has_plan:
                self._draw()
            else:
                self._picture.show(Text(""))
        self._picture.__exit__(kind, error, trace)

    def sweep_started(self, plan: Planned, missing: Sequence[Trial], notes: Sequence[str]) -> None:  # noqa: ARG002
        """Print the notes, and start to read the folder."""
        for note in notes:
            self.note(note)
        with suppress(*HARMLESS):
            self._reader.retry(trial.id for trial in missing)
        self._has_plan = True
        self._read_next = 0.0

    def trial_started(self, trial: Trial) -> None:  # noqa: ARG002
        """Read the folder at the next update."""
        self._read_next = 0.0

    def trial_ended(self, result: Result) -> None:  # noqa: ARG002
        """Read the folder at the next update."""
        self._read_next = 0.0

    def note(self, text: str) -> None:
        """Print a sentence above the table."""
        self._picture.print_above(Text(printable(text), style="dim"))

    def stopping(self) -> None:
        """Show in the footer that the sweep is stopping."""
        self._footer = STOPPING

    def _draw(self) -> None:
        with self._drawing:
            elapsed = time.monotonic() - self._started
            if self._has_plan and time.monotonic() >= self._read_next:
                self._read_next = time.monotonic() + READ_SECONDS
                self._status = self._reader.read()
            shown = (self._status, int(elapsed), self._footer, self._console.size)
            if shown != self._shown:
                self._shown = shown
                self._picture.show(self._rendered(elapsed))

    def _rendered(self, elapsed: float) -> RenderableType:
        if self._status is None:
            return Text(f"preparing, {duration(elapsed)}", style="dim")
        return SweepScreen(self._status, elapsed=elapsed, footer=self._footer or None)


HARMLESS = (OSError, ValueError, NeftuneError)
"""Errors of the disk, of a closed terminal, or of an invalid file, which must not stop the display."""


class Ticker:
    """Context manager that calls a function periodically in a thread. Harmless errors of a call are ignored."""

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
            with suppress(*HARMLESS):
                self._tick()
