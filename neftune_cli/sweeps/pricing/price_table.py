"""How a plan with its price is shown: a table of its trials, and under it what they take together."""

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from neftune_cli.sweeps.figures import duration, rough_duration
from neftune_cli.sweeps.pricing.priced_plan import PlannedLine, PricedPlan

_GIB = 1 << 30


def price_table(priced: PricedPlan) -> Table:
    """Return a line for each trial, with the time that those take which are to run."""
    table = Table(title=Text(f"Plan of {priced.folder}"), title_justify="left")
    for name, justify in (("trial", "left"), ("arm", "left"), ("seed", "right"), ("steps", "right")):
        table.add_column(name, justify="right" if justify == "right" else "left", overflow="fold")
    for name in ("tokens", "state", "time"):
        table.add_column(name, justify="left" if name == "state" else "right")
    for line in priced.lines:
        table.add_row(*(Text(cell) for cell in _cells(line)))
    return table


def price_lines(priced: PricedPlan) -> Iterator[str]:
    """Yield what the trials to run take together, a sentence a line."""
    to_run, estimate = priced.to_run, priced.estimate
    steps = sum(line.steps for line in to_run)
    yield f"{len(to_run)} of {len(priced.lines)} trials to run, {steps:,} optimizer steps at most."
    if estimate is None or not to_run:
        return
    yield f"Training tokens: {sum(line.tokens or 0 for line in to_run):,}, padding left out."
    unpriced = f", and {priced.unpriced} trials that nothing is known of" if priced.unpriced else ""
    yield f"Time: about {duration(estimate.seconds)} with {_counted(priced.workers, 'worker')}{unpriced}."
    if estimate.peak_memory is not None:
        yield _memory(priced, estimate.peak_memory)
    if priced.price is not None:
        yield f"Price: about {priced.price:.2f}, at {priced.hourly_rate:g} an hour."
    yield f"Source of the figures: {_SOURCES.get(estimate.source, estimate.source)}."


def _cells(line: PlannedLine) -> Iterator[str]:
    yield from (line.trial, line.arm, "" if line.seed is None else str(line.seed), f"{line.steps:,}")
    yield "" if line.tokens is None else f"{line.tokens:,}"
    yield line.state
    if not line.is_to_run:
        yield ""
    else:
        yield "?" if line.seconds is None else rough_duration(line.seconds)


def _memory(priced: PricedPlan, peak: int) -> str:
    a_worker = f"Peak memory: about {peak / _GIB:.1f} GiB a worker"
    if priced.available_memory is None:
        return f"{a_worker}, of the GPU's."
    total = peak * priced.workers
    scarce = " That is more than there is: use fewer --workers." if total > priced.available_memory else ""
    available = f"{priced.available_memory / _GIB:.1f} GiB available"
    return f"{a_worker}, {total / _GIB:.1f} GiB in all; {available}.{scarce}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


_SOURCES = {
    "calibration": "a few steps and answers that were tried out just now",
    "earlier trials": "trials of this sweep that have finished",
    "earlier trials and calibration": "finished trials of this sweep, and a few steps that were tried out just now",
    "calibration and earlier trials": "finished trials of this sweep, and a few steps that were tried out just now",
}
