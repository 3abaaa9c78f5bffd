"""The live display: layout for every terminal size, plain output without colors or Unicode, and closed terminals."""

import errno
import io
import os
import pty
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from neftune_cli.store import SweepFolder
from neftune_cli.sweeps.progress import live
from neftune_cli.sweeps.progress.live import (
    HINT,
    WATCH_HINT,
    LiveObserver,
    LiveScreen,
    can_draw,
    watch_sweeps,
)
from neftune_cli.sweeps.progress.screen import MultiSweepScreen, SweepScreen
from neftune_cli.sweeps.progress.status import StatusReader
from neftune_cli.sweeps.progress.views import SweepStatus
from tests.sweep_in_progress import FakeSweep, falling_losses, sweep_in_every_state


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[FakeSweep]:
    with sweep_in_every_state(tmp_path / "bios") as one:
        yield one


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeSweep]:
    """20 arms and 30 seeds. The arm alpha=6 runs at the last seeds, and ten trials have failed."""
    with FakeSweep(tmp_path_factory.mktemp("crowd"), [f"alpha={alpha}" for alpha in range(20)], 30) as one:
        for alpha in range(10):
            one.fail(f"alpha={alpha}", 0, f"reason {alpha}")
        for seed in range(22, 30):
            one.run("alpha=6", seed, 30, falling_losses(30), seconds=5.0)
        yield one


def drawn(
    status: SweepStatus, width: int, height: int, *, footer: Text | None = HINT, elapsed: float | None = 63
) -> list[str]:
    return printed(SweepScreen(status, elapsed=elapsed, footer=footer), width, height)


def printed(content: SweepScreen | MultiSweepScreen, width: int, height: int) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width, height=height, color_system=None).print(content)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_large_terminal_shows_everything(sweep: FakeSweep) -> None:
    assert drawn(sweep.status(), 120, 40) == [
        "bios  3 of 10 done, 2 running, 1 failed, 1 stopped, 1 stalled, 2 waiting",
        "held-out loss; while training: step and training loss",
        "arm       seed 0            seed 1            seed 2",
        "base      4.2012",
        "alpha=0   1.5012            40/120 █▇▆▅▄▃▂▁   stalled 12/120",
        "alpha=5   1.4987            generating        ·",
        "alpha=10  failed            stopped 60/120    ·",
        "",
        "alpha=0, seed 1  training 40/120  loss 1.234  5,120 tokens/s  about 15 s left",
        "alpha=5, seed 1  generating                                   about 5 s left",
        "alpha=10, seed 0 failed: out of memory; give a lower --batch-size, or --on-oom halve-batch",
        "",
        "about 1 min left, 1 min 3 s so far, 2 trials in parallel",
        "Ctrl-C stops after the current step and keeps all work",
    ]


def test_a_narrow_terminal_shortens_lines(sweep: FakeSweep) -> None:
    lines = drawn(sweep.status(), 50, 20)

    assert "alpha=0   1.5012        40/120 █▆▅▃▁  stalled" in lines
    assert "alpha=0, seed 1  training 40/120  about 15 s left" in lines
    assert "alpha=10, seed 0 failed: out of memory; give a lo…" in lines


def test_a_terminal_narrower_than_its_label_shows_which_trial_runs(sweep: FakeSweep) -> None:
    assert len("alpha=5, seed 0") == 15
    assert "alpha=5, se…" in drawn(sweep.status(), 12, 30)


@pytest.mark.parametrize("width", [12, 30, 50, 80, 120, 250])
@pytest.mark.parametrize("height", [3, 7, 12, 20, 40, 80])
def test_a_sweep_fits_every_terminal_size(crowd: FakeSweep, width: int, height: int) -> None:
    lines = drawn(crowd.status(), width, height)

    assert max(cell_len(line) for line in lines) <= width
    assert len(lines) < max(height, 4)
    if height >= 7:
        assert any(line.startswith("alpha=9, seed 0 failed: reason 9"[: width - 1]) for line in lines)


def test_arms_and_seeds_that_do_not_fit_are_counted_and_running_ones_are_shown(crowd: FakeSweep) -> None:
    lines = drawn(crowd.status(), 80, 24)

    assert lines[2].split() == ["arm", *(f for seed in range(25, 30) for f in ("seed", str(seed))), "25", "more"]
    row = next(line for line in lines if line.startswith("alpha=6 "))
    assert row.split() == ["alpha=6", *["30/120"] * 5, "0/25"]
    assert next(line for line in lines if line.startswith("… 16 more")).split()[3:] == [*["0/15"] * 5, "0/375"]
    assert "… 3 more running" in lines
    assert any(line.startswith("alpha=9, seed 0 failed: reason 9") for line in lines)
    assert any(line.endswith("more failed") for line in lines)


def test_hosts_are_shown_if_there_are_several(sweep: FakeSweep) -> None:
    status = sweep.status()
    elsewhere = replace(status.trials[4], host="node7")
    lines = drawn(replace(status, trials=(*status.trials[:4], elsewhere, *status.trials[5:])), 120, 40)

    assert [line.endswith(" left  on node7") for line in lines if line.startswith("alpha=0, seed 1")] == [True]
    assert not any("node7" in line for line in drawn(status, 120, 40))


def test_markup_is_shown_literally_and_control_characters_are_replaced(tmp_path: Path) -> None:
    with FakeSweep(tmp_path / "s", ["[red]loud[/red]", "bell\x07\x1b[2J"], 1) as sweep:
        sweep.fail("[red]loud[/red]", 0, "said [bold]no\x1b]0;title\x07\nand more")
        text = "\n".join(drawn(sweep.status(), 100, 30))

    assert "[red]loud[/red]" in text
    assert "bell??[2J" in text
    assert "[red]loud[/red], seed 0 failed: said [bold]no?]0;title? and more" in text
    assert "\x1b" not in text


def test_a_terminal_without_unicode_gets_ascii(sweep: FakeSweep) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    for width, height in ((120, 40), (50, 20), (30, 9), (12, 30)):
        Console(file=stream, width=width, height=height).print(SweepScreen(sweep.status(), footer=HINT))
    stream.flush()
    text = stream.buffer.getvalue().decode("ascii")

    assert "40/120 #**=-.._" in text


def test_no_color_disables_colors(sweep: FakeSweep, monkeypatch: pytest.MonkeyPatch) -> None:
    def escapes() -> str:
        stream = io.StringIO()
        Console(file=stream, force_terminal=True, width=100, height=40).print(SweepScreen(sweep.status()))
        return stream.getvalue()

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[31m" in escapes()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in escapes()


def test_the_live_observer_follows_the_folder(sweep: FakeSweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100, height=30, color_system=None)
    with LiveObserver(console, sweep.folder) as view:
        wait_until(lambda: "preparing, " in stream.getvalue())
        view.sweep_started([], [], ["400 examples to train on."])
        wait_until(lambda: "3 of 10 done" in stream.getvalue())
        sweep.finish("alpha=5", 2, 1.2345)
        view.note("Another process runs trials.")
        wait_until(lambda: "1.2345" in stream.getvalue())
        view.stopping()
        wait_until(lambda: "Stopping after" in stream.getvalue())
        during = stream.getvalue()
    last = stream.getvalue()[len(during) :]

    positions = [
        during.index(text)
        for text in (
            "preparing, ",
            "400 examples",
            "3 of 10 done",
            "Another process runs trials",
            "1.2345",
            "Stopping after",
        )
    ]
    assert positions == sorted(positions)
    assert "4 of 10 done" in last
    assert "Stopping" not in last
    assert last.rstrip().endswith("\x1b[?25h")  # the cursor is back


def test_a_sweep_that_does_not_start_leaves_nothing_on_the_screen(sweep: FakeSweep) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100, height=30, color_system=None)
    with pytest.raises(KeyboardInterrupt), LiveObserver(console, sweep.folder):
        raise KeyboardInterrupt

    assert "preparing" not in stream.getvalue()


class ClosingTerminal(io.StringIO):
    """A terminal that can be closed, and that counts the failed writes."""

    is_closed = False
    failed_writes = 0

    def write(self, text: str) -> int:
        if self.is_closed:
            self.failed_writes += 1
            raise OSError(errno.EIO, "Input/output error")
        return super().write(text)


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_drawing_continues_after_the_terminal_is_closed(sweep: FakeSweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(live, "DRAW_SECONDS", 0.01)
    stream = ClosingTerminal()
    with LiveObserver(Console(file=stream, force_terminal=True, width=80, height=24), sweep.folder) as view:
        view.sweep_started([], [], [])
        stream.is_closed = True
        for footer in ("one", "two", "three"):
            failed = stream.failed_writes
            view._footer = Text(footer)  # changes the content, so that the thread of the observer draws again
            wait_until(lambda: stream.failed_writes > failed)  # noqa: B023
        view.note("A note.")
        view.stopping()


def test_a_resized_terminal_is_cleared_and_keeps_the_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80, height=24, color_system=None)
    with LiveScreen(console) as screen:
        screen.print_above(Text("a note"))
        screen.show(Text("before"))
        at_first = len(stream.getvalue())
        console.width = 40
        screen.show(Text("after"))
    later = stream.getvalue()[at_first:]

    cleared = later.index("\x1b[2J")
    assert cleared < later.index("a note") < later.index("after")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, SweepStatus]]:
    """Return an active, an interrupted and a finished sweep."""
    folder = tmp_path_factory.mktemp("others")
    with ExitStack() as stack:
        running = stack.enter_context(sweep_in_every_state(folder / "running"))
        interrupted, over = (
            stack.enter_context(FakeSweep(folder / name, ["alpha=0"], 1)) for name in ("interrupted", "over")
        )
        interrupted.stop("alpha=0", 0, 60, seconds=9.0)
        over.finish("base", None, 4.0)
        over.finish("alpha=0", 0, 1.25)
        yield {one.folder.name: one.status() for one in (running, interrupted, over)}


def test_of_several_sweeps_the_active_ones_are_drawn_in_full(others: dict[str, SweepStatus]) -> None:
    over = [replace(others["over"], name=f"over {number}") for number in range(11)]
    screen = MultiSweepScreen([*over[:6], others["running"], *over[6:], others["interrupted"]], WATCH_HINT)
    alone = drawn(others["running"], 100, 40, footer=None, elapsed=None)

    for height in (24, 26, 29):  # without the explanation and without empty lines
        assert printed(screen, 100, height) == [
            *(line for line in alone if line and not line.startswith("held-out loss;")),
            "interrupted  0 of 2 done, 1 stopped, 1 waiting",
            *(f"over {number}  2 of 2 done" for number in range(11)),
            "Ctrl-C ends this display, not the sweep",
        ]
    large = printed(screen, 100, 50)
    assert large[: len(alone) + 2] == [*alone, "", "interrupted  0 of 2 done, 1 stopped, 1 waiting"]


def test_without_active_sweeps_the_unfinished_ones_are_drawn_in_full(others: dict[str, SweepStatus]) -> None:
    lines = printed(MultiSweepScreen([others["over"], others["interrupted"]], WATCH_HINT), 100, 12)

    assert lines == [
        "interrupted  0 of 2 done, 1 stopped, 1 waiting",
        "arm      seed 0",
        "base     ·",
        "alpha=0  stopped 60/120",
        "over  2 of 2 done",
        "Ctrl-C ends this display, not the sweep",
    ]


def test_a_sweep_between_two_trials_counts_as_active(others: dict[str, SweepStatus]) -> None:
    between = replace(others["interrupted"], name="between", workers=1)
    lines = printed(MultiSweepScreen([others["interrupted"], between], WATCH_HINT), 100, 24)

    assert lines[0].startswith("between ")
    assert [line.split()[0] for line in lines if "stopped" in line] == ["between", "alpha=0", "interrupted"]


@pytest.mark.parametrize("height", [4, 7, 12, 24, 40])
@pytest.mark.parametrize(("running", "over"), [(1, 0), (1, 3), (1, 40), (2, 5), (12, 0), (12, 40), (0, 2)])
def test_several_sweeps_fit_every_terminal_size(
    running: int, over: int, height: int, others: dict[str, SweepStatus]
) -> None:
    names = ["over"] * over + ["running"] * running + ["interrupted"] * 2
    statuses = [replace(others[name]) for name in names]
    lines = printed(MultiSweepScreen(statuses, WATCH_HINT), 60, height)

    assert len(lines) < height
    assert max(map(cell_len, lines)) <= 60
    assert lines[0].startswith("running" if running else "interrupted")
    assert [line for line in lines if "Ctrl-C" in line] == lines[-1:]
    if height >= 12:
        named = [line.split()[0] for line in lines if " done, " in line or line.endswith(" done")]
        uncounted = [int(line.split()[1]) for line in lines if line.endswith(" more sweeps")]
        assert len(named) + sum(uncounted) == len(statuses)
        assert named == sorted(named, key=["running", "interrupted", "over"].index)
        assert sum(line.startswith("arm ") for line in lines) >= 1


class ScriptedReader(StatusReader):
    """Return given statuses one after the other, then the last one repeatedly."""

    def __init__(self, *statuses: SweepStatus) -> None:
        super().__init__(SweepFolder(Path("nowhere")))
        self._statuses = statuses
        self.reads = 0

    def read(self) -> SweepStatus:
        self.reads += 1
        return self._statuses[min(self.reads, len(self._statuses)) - 1]


def watched(monkeypatch: pytest.MonkeyPatch, readers: Sequence[ScriptedReader], start: float) -> list[int]:
    """Return the number of reads of each status, by a watch that waits `start` seconds for a trial to start."""
    monkeypatch.setattr(live, "START_SECONDS", start)
    monkeypatch.setattr(live, "READ_SECONDS", 0.001)
    watch_sweeps(readers, Console(file=io.StringIO(), force_terminal=True, width=80, height=24))
    return [reader.reads for reader in readers]


def test_a_watch_ends_when_no_trial_runs(others: dict[str, SweepStatus], monkeypatch: pytest.MonkeyPatch) -> None:
    running, interrupted, over = others["running"], others["interrupted"], others["over"]
    between = replace(interrupted, workers=1)
    forever = 1e9

    assert watched(monkeypatch, [ScriptedReader(over), ScriptedReader(over)], forever) == [1, 1]
    assert watched(monkeypatch, [ScriptedReader(running, between, running, over)], 0.0) == [4]
    assert watched(monkeypatch, [ScriptedReader(running, running, interrupted)], 0.0) == [3]
    assert watched(monkeypatch, [ScriptedReader(interrupted), ScriptedReader(running, running, over)], 0.0) == [3, 3]
    assert watched(monkeypatch, [ScriptedReader(interrupted, interrupted, running, over)], forever) == [4]


def test_a_watch_waits_a_limited_time_for_a_trial_to_start(
    others: dict[str, SweepStatus], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = time.monotonic()
    watched(monkeypatch, [ScriptedReader(others["interrupted"]), ScriptedReader(others["over"])], 0.2)

    assert 0.2 <= time.monotonic() - begin < 5


@pytest.mark.parametrize("pretence", ["FORCE_COLOR", "TTY_COMPATIBLE"])
def test_a_file_is_not_drawn_on_even_if_rich_takes_it_for_a_terminal(
    pretence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(pretence, "1")
    with (tmp_path / "file").open("w") as stream:
        console = Console(file=stream)

        assert console.is_terminal
        assert not can_draw(console)


@pytest.mark.parametrize(("kind", "drawable"), [("xterm", True), ("dumb", False)])
def test_a_terminal_is_drawn_on_unless_it_is_dumb(kind: str, drawable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", kind)
    terminal, program = pty.openpty()
    with os.fdopen(terminal), os.fdopen(program, "w") as stream:
        assert can_draw(Console(file=stream)) is drawable
