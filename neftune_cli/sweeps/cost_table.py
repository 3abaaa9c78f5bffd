"""A plan with its price: what of it is done, what is to run, how long that takes and what it costs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from neftune_cli.formatting import PLAIN_WIDTH, duration, printable, rough_duration
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps.estimate import CostEstimate, price
from neftune_cli.sweeps.plan import Plan, missing_trials, place_of, steps_of
from neftune_cli.training.trial import Trial

DONE, FAILED, ELSEWHERE, TO_RESUME, TO_RUN = "done", "failed", "running elsewhere", "to go on", "to run"


@dataclass(frozen=True)
class PlannedTrialCost:
    """One trial of a plan."""

    trial: str
    arm: str
    seed: int | None
    steps: int
    state: str
    tokens: int | None
    """Training tokens; None where nothing tells, as for `seconds`."""
    seconds: float | None
    """What the whole trial takes, where it is still to run."""

    @property
    def is_to_run(self) -> bool:
        """Return whether this command would run it."""
        return self.state in (TO_RUN, TO_RESUME)


@dataclass(frozen=True)
class CostedPlan:
    """All trials of a plan, and what those that are to run take together."""

    folder: str
    lines: tuple[PlannedTrialCost, ...]
    estimate: CostEstimate | None
    """None where nothing is to run, or nothing is known of what is."""
    available_memory: int | None
    """Bytes of main memory that workers can have; None where they need the GPU's."""
    hourly_rate: float | None
    notes: tuple[str, ...]

    @property
    def to_run(self) -> tuple[PlannedTrialCost, ...]:
        """Return the trials that this command would run."""
        return tuple(line for line in self.lines if line.is_to_run)

    @property
    def workers(self) -> int:
        """Return how many trials run side by side."""
        return min(self.estimate.workers, len(self.to_run)) if self.estimate else 0

    @property
    def price(self) -> float | None:
        """Return what the machine costs for what is known, None where no rate was given or nothing is known."""
        if self.hourly_rate is None or self.estimate is None:
            return None
        return price(self.estimate.seconds, self.hourly_rate)

    @property
    def tokens(self) -> int | None:
        """Return the training tokens of what is known, None where nothing is."""
        return sum(line.tokens or 0 for line in self.to_run) if self.estimate else None

    @property
    def without_estimate(self) -> int:
        """Return how many of the trials to run nothing is known of."""
        return sum(line.seconds is None for line in self.to_run)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values; with any `without_estimate` trials, the figures are what it takes at least."""
        return {
            "folder": self.folder,
            "trials": [asdict(line) for line in self.lines],
            "to_run": len(self.to_run),
            "without_estimate": self.without_estimate,
            "steps": sum(line.steps for line in self.to_run),
            "tokens": self.tokens,
            "estimate": self.estimate.as_json() if self.estimate else None,
            "available_memory": self.available_memory,
            "hourly_rate": self.hourly_rate,
            "price": self.price,
            "notes": list(self.notes),
        }


def states_of(plan: Plan, folder: SweepFolder, *, retry_failed: bool) -> dict[str, str]:
    """Return where each trial stands, by id."""
    missing = {trial.id for trial in missing_trials(plan, folder, retry_failed=retry_failed)}
    return {trial.id: _state(trial, folder, is_missing=trial.id in missing) for trial in plan.trials}


def costed_plan(
    plan: Plan,
    folder: SweepFolder,
    states: dict[str, str],
    estimate: CostEstimate | None,
    *,
    hourly_rate: float | None = None,
    available_memory: int | None = None,
    notes: Sequence[str] = (),
) -> CostedPlan:
    """Join a plan with where its trials stand and what they are estimated to take."""
    seconds, tokens = (estimate.trials, estimate.tokens) if estimate else ({}, {})
    return CostedPlan(
        folder=str(folder.path),
        lines=tuple(
            PlannedTrialCost(
                trial=trial.id,
                arm=trial.arm,
                seed=trial.seed,
                steps=steps_of(trial, plan.data.train),
                state=states[trial.id],
                tokens=tokens.get(trial.id),
                seconds=seconds.get(trial.id),
            )
            for trial in plan.trials
        ),
        estimate=estimate if seconds else None,
        available_memory=available_memory,
        hourly_rate=hourly_rate,
        notes=tuple(notes),
    )


def _state(trial: Trial, folder: SweepFolder, *, is_missing: bool) -> str:
    place = place_of(folder, trial)
    if not is_missing:
        return FAILED if place.record() is None else DONE
    if place.is_claimed():
        return ELSEWHERE
    return TO_RESUME if place.kept() else TO_RUN


_GIB = 1 << 30
_GAP = 2
_COLUMNS = ("arm", "seed", "steps", "tokens", "state", "time")
_LEAST_TELLING_FIRST = ("tokens", "steps", "state")
"""The columns that a narrow terminal does without."""
_ALIGNED_LEFT = ("arm", "state")
_UNKNOWN = "?"


def print_costs(priced: CostedPlan, console: Console) -> None:
    """Print the table, the notes and what the trials take together: to fit a terminal, in whole lines elsewhere."""
    fits_terminal = console.file.isatty()
    if not fits_terminal:
        console = Console(file=console.file, width=PLAIN_WIDTH, color_system=None)
    console.print(Text(f"Plan of {printable(priced.folder)}"), soft_wrap=True)
    console.print(cost_table(priced, console.width, ascii_only=console.options.ascii_only))
    console.print()
    for line in (*map(printable, priced.notes), *price_lines(priced)):
        console.print(Text(line), soft_wrap=not fits_terminal)


def cost_table(priced: CostedPlan, width: int = PLAIN_WIDTH, *, ascii_only: bool = False) -> Table:
    """Return a line for each trial, with the time that those take which are to run.

    Columns that say nothing are left out, and so are the least telling ones where `width` characters are too few.
    """
    rows = [_cells(line) for line in priced.lines]
    widths = _fitting(rows, width)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for column, room in widths.items():
        table.add_column(
            column,
            width=room,
            justify="left" if column in _ALIGNED_LEFT else "right",
            no_wrap=True,
            overflow="crop" if ascii_only else "ellipsis",
        )
    for row in rows:
        table.add_row(*(Text(row[column]) for column in widths))
    return table


def price_lines(priced: CostedPlan) -> Iterator[str]:
    """Yield what the trials to run take together, a sentence a line; nothing of what isn't known."""
    to_run, estimate = priced.to_run, priced.estimate
    steps = sum(line.steps for line in to_run)
    yield f"{len(to_run)} of {len(priced.lines)} trials to run, {steps:,} optimizer steps at most."
    if failed := sum(line.state == FAILED for line in priced.lines):
        yield f"{_counted(failed, 'trial')} failed before; --retry failed runs what failed again."
    if not to_run:
        return
    if estimate is None:
        yield "What they take isn't known: no finished trial tells, and no steps were tried out."
        return
    if priced.without_estimate:
        yield f"Nothing is known of {priced.without_estimate} of them; the figures are those of the others."
    about = "at least" if priced.without_estimate else "about"
    yield f"Training tokens: {'at least ' if priced.without_estimate else ''}{priced.tokens:,}, padding left out."
    yield f"Time: {about} {duration(estimate.seconds)} with {_counted(priced.workers, 'worker')}, start included."
    if estimate.peak_memory is not None:
        yield _memory(priced, estimate.peak_memory, about)
    if priced.price is not None:
        yield f"Price: {about} {_amount(priced.price)}, at {priced.hourly_rate:g} an hour."
    yield f"Source of the figures: {_SOURCES.get(estimate.source, estimate.source)}."


def _cells(line: PlannedTrialCost) -> dict[str, str]:
    time = _UNKNOWN if line.seconds is None else _rough(line.seconds)
    return {
        "arm": printable(line.arm),
        "seed": "" if line.seed is None else str(line.seed),
        "steps": f"{line.steps:,}",
        "tokens": "" if line.tokens is None else f"{line.tokens:,}",
        "state": line.state,
        "time": time if line.is_to_run else "",
    }


def _rough(seconds: float) -> str:
    return rough_duration(seconds) if seconds >= 4 else "< 5 s"


def _fitting(rows: Sequence[Mapping[str, str]], width: int) -> dict[str, int]:
    """Return the columns to show with the characters of each; what even the last ones lack, the arm goes without."""
    telling = [name for name in _COLUMNS if any(row[name] not in ("", _UNKNOWN) for row in rows)]
    widths = {name: max(cell_len(text) for text in (name, *(row[name] for row in rows))) for name in telling}
    for name in _LEAST_TELLING_FIRST:
        if _total(widths) > width:
            widths.pop(name, None)
    lacking = max(0, _total(widths) - width)
    return {name: max(1, own - lacking) if name == "arm" else own for name, own in widths.items()}


def _total(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + _GAP * (len(widths) - 1)


def _memory(priced: CostedPlan, peak: int, about: str) -> str:
    a_worker = f"Peak memory: {about} {peak / _GIB:.1f} GiB a worker"
    if priced.available_memory is None:
        return f"{a_worker}, of the GPU's."
    total = peak * priced.workers
    scarce = " That is more than there is: use fewer --workers." if total > priced.available_memory else ""
    available = f"{priced.available_memory / _GIB:.1f} GiB available"
    return f"{a_worker}, {total / _GIB:.1f} GiB in all; {available}.{scarce}"


def _amount(price: float) -> str:
    """Return a sum of money with two decimals, with two digits where those would say little or nothing."""
    return f"{price:.2f}" if price >= 0.1 else f"{price:.2g}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


_SOURCES = {
    "calibration": "a few steps and answers that were tried out just now",
    "earlier trials": "trials of this sweep that have finished",
    "earlier trials and calibration": "finished trials of this sweep, and a few steps that were tried out just now",
    "calibration and earlier trials": "finished trials of this sweep, and a few steps that were tried out just now",
}
