"""The live table on a terminal: arms by seeds, each cell the state of one trial."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from neftune_cli.sweeps.executors import Result
from neftune_cli.sweeps.plan import Plan
from neftune_cli.sweeps.progress import Clock, duration
from neftune_cli.training.trial import Trial, TrialProgress


class LiveTable:
    """Redraws itself four times a second while it is entered as a context."""

    def __init__(self, console: Console) -> None:
        self._clock = Clock()
        self._cells: dict[tuple[str, int | None], Text] = {}
        self._failures: list[str] = []
        self._live = Live(console=console, refresh_per_second=4, get_renderable=self._render)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def sweep_started(self, plan: Plan, missing: Sequence[Trial], notes: Sequence[str]) -> None:
        """Lay out the table under the notes: what was done before is marked so."""
        for note in notes:
            self._live.console.print(note, style="dim", highlight=False, markup=False)
        waiting = {trial.id for trial in missing}
        self._clock.start(len(missing))
        for trial in plan.trials:
            mark = Text("·", style="dim") if trial.id in waiting else Text("done", style="green")
            self._cells[trial.arm, trial.seed] = mark

    def trial_started(self, trial: Trial) -> None:
        """Mark the cell."""
        self._cells[trial.arm, trial.seed] = Text("starting", style="cyan")

    def trial_progressed(self, trial: Trial, progress: TrialProgress) -> None:
        """Show step and loss."""
        text = progress.phase
        if progress.steps:
            text = f"{progress.step}/{progress.steps}  {progress.loss:.3f}"
        self._cells[trial.arm, trial.seed] = Text(text, style="cyan")

    def trial_ended(self, result: Result) -> None:
        """Show the held-out loss, or the failure."""
        trial = result.trial
        self._clock.tick(trial)
        if result.record is None:
            self._cells[trial.arm, trial.seed] = Text("failed", style="red")
            self._failures.append(f"{trial.label}: {result.reason}")
        else:
            self._cells[trial.arm, trial.seed] = Text(f"{result.record.loss.eval_loss:.4f}", style="green")

    def _render(self) -> Group:
        if not self._cells:
            return Group(Text("preparing", style="dim"))
        seeds = [seed for seed in dict.fromkeys(seed for _, seed in self._cells) if seed is not None]
        table = Table()
        table.add_column("arm")
        for seed in seeds:
            table.add_column(f"seed {seed}", justify="right", min_width=14)
        for arm in dict.fromkeys(arm for arm, _ in self._cells):
            base = self._cells.get((arm, None))
            cells = [base] if base is not None else [self._cells.get((arm, seed), Text("")) for seed in seeds]
            table.add_row(arm, *cells)
        status = Text(f"{self._clock}, {duration(self._clock.elapsed)} so far", style="dim")
        heading = Text("held-out loss, nats per token (while running: step, training loss)", style="dim")
        return Group(heading, table, *(Text(failure, style="red") for failure in self._failures), status)
