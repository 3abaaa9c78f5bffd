"""Cost table of a plan: the state of each trial, and estimates of time, memory and price of those left to run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from neftune_cli.formatting import PLAIN_WIDTH, counted, duration, local_time, rough_duration, terminal_text
from neftune_cli.store import SweepFolder
from neftune_cli.store.manifest import Cost
from neftune_cli.sweeps.estimate import CALIBRATION, EARLIER
from neftune_cli.sweeps.plan import Plan, missing_in_words, missing_trials, steps_of, trial_folder
from neftune_cli.sweeps.resources import GIB, memory_warning
from neftune_cli.training.trial import Trial

DONE, FAILED, ELSEWHERE, TO_RESUME, TO_RUN = "done", "failed", "running elsewhere", "to resume", "to run"


@dataclass(frozen=True)
class TrialLine:
    """One trial of a plan, with its state and estimated cost."""

    trial: str
    arm: str
    seed: int | None
    steps: int
    """Optimizer steps; 0 for the base model, and if the number is not known before the training."""
    state: str
    tokens: int | None
    """Training tokens; None if unknown."""
    seconds: float | None
    """Estimated time of the whole trial; None if unknown."""

    @property
    def is_to_run(self) -> bool:
        """Return whether this command would run the trial."""
        return self.state in (TO_RUN, TO_RESUME)

    @property
    def has_unknown_steps(self) -> bool:
        """Return whether the number of steps is not known before the training."""
        return self.seed is not None and not self.steps


@dataclass(frozen=True)
class CostedPlan:
    """All trials of a plan, and the total cost of those left to run."""

    folder: str
    lines: tuple[TrialLine, ...]
    estimate: Cost | None
    """None if nothing is left to run, or if no estimate is possible."""
    available_memory: int | None
    """Main memory in bytes for all workers; None if they use a GPU or run on other machines."""
    device: str
    """Device of the trials: `cuda`, `mps` or `cpu`."""
    hourly_rate: float | None
    notes: tuple[str, ...]

    @property
    def to_run(self) -> tuple[TrialLine, ...]:
        """Return the trials that this command would run."""
        return tuple(line for line in self.lines if line.is_to_run)

    @property
    def workers(self) -> int:
        """Return the number of trials that run in parallel."""
        return min(self.estimate.workers, len(self.to_run)) if self.estimate else 0

    @property
    def price(self) -> float | None:
        """Return the price of the machine for trials with an estimate; None without a rate or an estimate."""
        if self.hourly_rate is None or self.estimate is None:
            return None
        return price_of(self.estimate.seconds, self.hourly_rate)

    @property
    def steps(self) -> int | None:
        """Return the optimizer steps of the trials to run; None if those of a trial are not known."""
        has_unknown = any(line.has_unknown_steps for line in self.to_run)
        return None if has_unknown else sum(line.steps for line in self.to_run)

    @property
    def tokens(self) -> int | None:
        """Return the training tokens of trials with an estimate; None if there are none."""
        return sum(line.tokens or 0 for line in self.to_run) if self.estimate else None

    @property
    def without_estimate(self) -> int:
        """Return the number of trials to run without an estimate."""
        return sum(line.seconds is None for line in self.to_run)

    def as_json(self) -> dict[str, Any]:
        """Return plain values for JSON. If there are trials without an estimate, the totals are lower bounds.

        The steps of a trial are 0 if they are not known before the training. Their total is then None.
        """
        return {
            "folder": self.folder,
            "trials": [asdict(line) for line in self.lines],
            "to_run": len(self.to_run),
            "without_estimate": self.without_estimate,
            "steps": self.steps,
            "tokens": self.tokens,
            "estimate": self.estimate.model_dump() if self.estimate else None,
            "available_memory": self.available_memory,
            "hourly_rate": self.hourly_rate,
            "price": self.price,
            "notes": list(self.notes),
        }


def price_of(seconds: float, hourly_rate: float) -> float:
    """Return the price of a machine for a time in seconds at an hourly rate."""
    return seconds / 3600 * hourly_rate


def states_of(plan: Plan, folder: SweepFolder, *, retry_failed: bool) -> dict[str, str]:
    """Return the state of each trial, by id."""
    missing = {trial.id for trial in missing_trials(plan, folder, retry_failed=retry_failed)}
    return {trial.id: _state(trial, folder, is_missing=trial.id in missing) for trial in plan.trials}


def costed_plan(
    plan: Plan,
    folder: SweepFolder,
    states: dict[str, str],
    estimate: Cost | None,
    *,
    hourly_rate: float | None,
    available_memory: int | None,
    notes: Sequence[str],
    training_examples: Mapping[str, int],
) -> CostedPlan:
    """Combine a plan with the states and the estimated costs of its trials.

    Args:
        plan: the trials.
        folder: their results folder.
        states: the state of each trial by its id.
        estimate: estimated costs of the missing trials.
        hourly_rate: price of an hour.
        available_memory: main memory in bytes for all workers; None if they use a GPU or run on other machines.
        notes: notes for the user.
        training_examples: number of training examples by maximum length, as in `LoadedSizes`. For another length, the
            number of examples in the data is used, some of which may be too long.
    """
    seconds, tokens = (estimate.trials, estimate.tokens) if estimate else ({}, {})
    return CostedPlan(
        folder=str(folder.path),
        lines=tuple(
            TrialLine(
                trial=trial.id,
                arm=trial.arm,
                seed=trial.seed,
                steps=steps_of(trial, training_examples, plan.data.train_examples),
                state=states[trial.id],
                tokens=tokens.get(trial.id),
                seconds=seconds.get(trial.id),
            )
            for trial in plan.trials
        ),
        estimate=estimate if seconds else None,
        available_memory=available_memory,
        device=plan.inspection.device,
        hourly_rate=hourly_rate,
        notes=tuple(notes),
    )


def _state(trial: Trial, folder: SweepFolder, *, is_missing: bool) -> str:
    files = trial_folder(folder, trial)
    if not is_missing:
        return FAILED if files.record() is None else DONE
    if files.is_leased():
        return ELSEWHERE
    return TO_RESUME if files.newest_checkpoint() else TO_RUN


_GAP = 2
_COLUMNS = ("arm", "seed", "steps", "tokens", "state", "time")
_LEAST_IMPORTANT_FIRST = ("tokens", "steps", "state")
"""Columns that are left out on a narrow terminal."""
_ALIGNED_LEFT = ("arm", "state")
_UNKNOWN = "?"


def print_costs(costed: CostedPlan, console: Console) -> None:
    """Print the table, the notes and the totals. In a terminal they fit its width."""
    fits_terminal = console.file.isatty()
    if not fits_terminal:
        console = Console(file=console.file, width=PLAIN_WIDTH, color_system=None)
    console.print(Text(f"Plan of {terminal_text(costed.folder)}"), soft_wrap=True)
    console.print(cost_table(costed, console.width, ascii_only=console.options.ascii_only))
    console.print()
    for line in (*map(terminal_text, costed.notes), *total_lines(costed)):
        console.print(Text(line), soft_wrap=not fits_terminal)


def cost_table(costed: CostedPlan, width: int = PLAIN_WIDTH, *, ascii_only: bool = False) -> Table:
    """Return a table with one row per trial.

    Empty columns are left out, and so are the least important ones if `width` characters are too few.
    """
    rows = [_cells(line) for line in costed.lines]
    widths = _fitting_columns(rows, width)
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


def total_lines(costed: CostedPlan) -> Iterator[str]:
    """Yield the totals of the trials to run, one sentence per line, without unknown ones."""
    to_run, estimate = costed.to_run, costed.estimate
    steps = costed.steps
    at_most = "" if steps is None else f", at most {counted(steps, 'optimizer step')}"
    yield f"{missing_in_words(costed.lines, to_run)}{at_most}."
    if failed := sum(line.state == FAILED for line in costed.lines):
        yield f"{counted(failed, 'trial')} failed before. --retry failed runs {'it' if failed == 1 else 'them'} again."
    if not to_run:
        return
    if estimate is None:
        yield "Time and cost are unknown: no trial has finished, and nothing was calibrated."
        return
    if costed.without_estimate:
        has = "has" if costed.without_estimate == 1 else "have"
        yield f"{counted(costed.without_estimate, 'trial')} {has} no estimate. The totals are those of the others."
    is_lower_bound = costed.without_estimate > 0
    yield f"Training tokens: {_at_least(is_lower_bound)}{costed.tokens:,}, without padding."
    yield f"Time: {_time(estimate, is_lower_bound)} with {counted(costed.workers, 'worker')}, including startup."
    if estimate.lowest_seconds is not None:
        yield "The time is a range, because the calibration ended before it had measured every part of a trial."
    yield from _memory(costed, estimate, is_lower_bound)
    if costed.price is not None:
        price = _price(estimate, costed.hourly_rate or 0.0, is_lower_bound)
        yield f"Cost: {price}, at {costed.hourly_rate:g} per hour."
    yield f"Source of the estimates: {_source(estimate)}."


def _about(is_lower_bound: bool) -> str:
    return "at least" if is_lower_bound else "about"


def _at_least(is_lower_bound: bool) -> str:
    """Return the words before a number or range that needs no "about"."""
    return "at least " if is_lower_bound else ""


def _time(estimate: Cost, is_lower_bound: bool) -> str:
    low, high = estimate.lowest_seconds, estimate.highest_seconds
    if low is None or high is None:
        return f"{_about(is_lower_bound)} {duration(estimate.seconds)}"
    return f"{_at_least(is_lower_bound)}{rough_duration(low)} to {rough_duration(high)}"


def _price(estimate: Cost, rate: float, is_lower_bound: bool) -> str:
    low, high = estimate.lowest_seconds, estimate.highest_seconds
    if low is None or high is None:
        return f"{_about(is_lower_bound)} {_amount(price_of(estimate.seconds, rate))}"
    amounts = " to ".join(_amount(price_of(seconds, rate)) for seconds in (low, high))
    return f"{_at_least(is_lower_bound)}{amounts}"


def _source(estimate: Cost) -> str:
    """Return the evidence for the estimates: finished trials first."""
    calibration = (
        f"a remembered calibration of {local_time(estimate.calibrated)}" if estimate.calibrated else _CALIBRATION
    )
    sources = {EARLIER: "finished trials of this sweep", CALIBRATION: calibration}
    found = [text for source, text in sources.items() if source in estimate.sources]
    if len(found) == len(sources) and not estimate.calibrated:
        found[-1] = "a calibration"
    return ", and ".join(found) or estimate.source


_CALIBRATION = "a calibration with a few steps and responses"


def _cells(line: TrialLine) -> dict[str, str]:
    time = _UNKNOWN if line.seconds is None else _rough_time(line.seconds)
    return {
        "arm": terminal_text(line.arm),
        "seed": "" if line.seed is None else str(line.seed),
        "steps": _UNKNOWN if line.has_unknown_steps else f"{line.steps:,}",
        "tokens": "" if line.tokens is None else f"{line.tokens:,}",
        "state": line.state,
        "time": time if line.is_to_run else "",
    }


def _rough_time(seconds: float) -> str:
    return rough_duration(seconds) if seconds >= 4 else "< 5 s"


def _fitting_columns(rows: Sequence[Mapping[str, str]], width: int) -> dict[str, int]:
    """Return the shown columns with their widths. If they do not fit, the column of the arm is narrowed."""
    shown = [name for name in _COLUMNS if any(row[name] not in ("", _UNKNOWN) for row in rows)]
    widths = {name: max(cell_len(text) for text in (name, *(row[name] for row in rows))) for name in shown}
    for name in _LEAST_IMPORTANT_FIRST:
        if _total_width(widths) > width:
            widths.pop(name, None)
    excess = max(0, _total_width(widths) - width)
    return {name: max(1, own - excess) if name == "arm" else own for name, own in widths.items()}


def _total_width(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + _GAP * (len(widths) - 1)


def _memory(costed: CostedPlan, estimate: Cost, is_lower_bound: bool) -> Iterator[str]:
    if estimate.peak_memory is not None:
        yield _peak_memory(costed, estimate.peak_memory, is_lower_bound)
    elif CALIBRATION in estimate.sources:
        yield "Peak memory: unknown, because the calibration ended before its first training steps."


def _peak_memory(costed: CostedPlan, peak: int, is_lower_bound: bool) -> str:
    per_worker = f"Peak memory: {_about(is_lower_bound)} {peak / GIB:.1f} GiB per worker"
    if costed.available_memory is None:
        return f"{per_worker}{', on the GPU' if costed.device == 'cuda' else ''}."
    available = f"{costed.available_memory / GIB:.1f} GiB available"
    warning = memory_warning(peak, costed.workers, costed.available_memory)
    return f"{per_worker}, {peak * costed.workers / GIB:.1f} GiB in all; {available}. {warning}".rstrip()


def _amount(price: float) -> str:
    """Return a sum of money with two decimals, or with two significant digits if it is below 0.1."""
    return f"{price:.2f}" if price >= 0.1 else f"{price:.2g}"
