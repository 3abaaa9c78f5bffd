"""Results of a sweep for the user: the first screen of its comparison, or a JSON summary."""

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import typer
from rich.console import Console

from neftune_cli.analysis.comparison import ComparedEvidence, compare_sweep
from neftune_cli.analysis.results import Comparison
from neftune_cli.commands.output import say_line
from neftune_cli.commands.request import PreparedSweep
from neftune_cli.config.process import columns_variable, command_again
from neftune_cli.config.spec import TrainSpec
from neftune_cli.errors import NothingToCompareError
from neftune_cli.formatting import PLAIN_WIDTH, SCREEN_WIDTH, counted
from neftune_cli.reporting.output_formats import FIRST_SCREEN, OutputFormat, ScreenOptions, document, to_text
from neftune_cli.reporting.reports import write_reports
from neftune_cli.reporting.terminal import print_comparisons
from neftune_cli.sweeps.plan import available_examples, examples_per_epoch, steps_per_epoch
from neftune_cli.sweeps.runner import SweepOutcome

NARROWEST = 40
"""Smallest width of lines in characters."""


def print_results(sweep: PreparedSweep, outcome: SweepOutcome, *, as_json: bool) -> list[ComparedEvidence]:
    """Write the reports into the folder, print the first screen and counts of trials, or a JSON summary.

    A sweep that was cut short has no screen. A single training run is compared with the base model instead.

    Returns:
        The comparisons; none if the sweep was cut short or no trained trial has finished.
    """
    compared = _compared(sweep, outcome)
    comparisons = [one.comparison for one in compared]
    if compared:
        write_reports(sweep.folder, compared)
    if as_json:
        exported = json.loads(document(compared, OutputFormat.JSON)) if compared else {"comparisons": []}
        _print_summary(sweep, outcome, exported)
    elif compared:
        _print_first_screens(sweep, comparisons)
        for line in (*_training_amounts(sweep, outcome), *_counts(sweep, outcome)):
            say_line(line)
    elif outcome.was_cut_short:
        for line in (*([_submitted(outcome)] if outcome.submitted else []), *_counts(sweep, outcome)):
            say_line(line)
    return compared


def _print_first_screens(sweep: PreparedSweep, comparisons: Sequence[Comparison]) -> None:
    if not sweep.request.single_trial:
        print_screens(comparisons, ScreenOptions(reported=[str(sweep.folder.path)]))
        return
    for comparison in comparisons:
        _print_against_base(comparison)


def _compared(sweep: PreparedSweep, outcome: SweepOutcome) -> list[ComparedEvidence]:
    """Return the comparisons of a sweep that ran to its end; none if no trained trial has finished."""
    if outcome.was_cut_short:
        return []
    try:
        return compare_sweep(sweep.folder)
    except NothingToCompareError as error:
        if not outcome.failed:  # the failures say more
            say_line(str(error))
        return []


def print_screens(comparisons: Sequence[Comparison], options: ScreenOptions = FIRST_SCREEN) -> None:
    """Print the first screen of comparisons on stdout. In a terminal it is colored and fits its width."""
    if sys.stdout.isatty():
        print_comparisons(Console(), comparisons, options)
    else:
        typer.echo(screens(comparisons, options), nl=False)


def screens(comparisons: Sequence[Comparison], options: ScreenOptions) -> str:
    """Return what `print_screens` prints, for a pipe or a file, in the width of the variable COLUMNS if it is set."""
    width = columns_variable() or (PLAIN_WIDTH if options.full else SCREEN_WIDTH)
    return to_text(comparisons, max(width, NARROWEST), options)


def _print_against_base(comparison: Comparison) -> None:
    """Print the metrics of the trained model and of the base model, with the change."""
    if not comparison.base_scores:
        print_screens([comparison])
        return
    (trained,) = comparison.arms
    rows = [("", "base model", trained.name, "change")]
    for metric in comparison.metrics.values():
        before, estimate = comparison.base_scores.get(metric.key), trained.estimates.get(metric.key)
        if before is not None and estimate is not None:
            change = metric.signed(estimate.mean - before)
            rows.append((metric.name + metric.arrow, metric.number(before), metric.number(estimate.mean), change))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for name, *numbers in rows:
        cells = [number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True)]
        typer.echo("  ".join([name.ljust(widths[0]), *cells]).rstrip())
    typer.echo("\nLosses are in nats per completion token. ↓ lower is better, ↑ higher is better.")
    typer.echo("One training run does not show an effect of the noise. Use neftune sweep to compare alphas.")


def _training_amounts(sweep: PreparedSweep, outcome: SweepOutcome) -> Iterator[str]:
    """Yield the epochs and examples of the recipes that were run and whose length is given in steps."""
    recipes = (trial.spec.train for trial in sweep.plan.trials if not trial.is_base)
    yield from dict.fromkeys(
        _length_of_training(train, available)
        for train in recipes
        if train.max_steps and not train.sft.get("packing")
        if (available := available_examples(train, outcome.training_examples))
    )


def _length_of_training(train: TrainSpec, available: int) -> str:
    """Return the steps, epochs and examples of a recipe with `max_steps`."""
    steps, examples, of_epoch = train.steps(1), train.examples_per_step, steps_per_epoch(train, available)
    epochs = steps / of_epoch  # the last step of an epoch may have fewer examples
    in_epoch = examples_per_epoch(train, available)
    used = min(in_epoch, steps * examples)
    at_least = "At least " if in_epoch < available and steps > of_epoch else ""  # each epoch drops other examples
    return (
        f"Length of training: {counted(steps, 'step')} of up to {counted(examples, 'example')}, "
        f"which are {epochs:.3g} {'epoch' if epochs == 1 else 'epochs'}. "
        f"{at_least}{used} of {available} training examples were used."
    )


def _submitted(outcome: SweepOutcome) -> str:
    trials = "1 trial waits or runs" if outcome.submitted == 1 else f"{outcome.submitted} trials wait or run"
    how = "`neftune status` shows their progress. This command shows the results when they have ended:"
    return f"{trials} on the cluster. {how}\n  {command_again()}"


def _counts(sweep: PreparedSweep, outcome: SweepOutcome) -> Iterator[str]:
    """Yield the number of trials of each kind, and the place of the models if there are any."""
    folder = sweep.folder.path
    elsewhere = f", run by another process: {outcome.run_elsewhere}" if outcome.run_elsewhere else ""
    unrun = outcome.left - outcome.submitted
    left = f", left: {unrun} (the same command runs them)" if unrun > 0 else ""
    counts = f"{outcome.run_now}, done before: {outcome.already_done}{elsewhere}{left}"
    yield f"Trials run, the base model included: {counts}; results in {folder}"
    match outcome.models:
        case [model]:
            yield f"Model: {model}"
        case [_, *_]:
            yield f"{len(outcome.models)} models: {folder / 'trials' / '*' / 'model'}"


def _print_summary(sweep: PreparedSweep, outcome: SweepOutcome, comparisons: dict[str, Any]) -> None:
    summary = {
        "folder": str(sweep.folder.path),
        "already_done": outcome.already_done,
        "run_now": outcome.run_now,
        "run_elsewhere": outcome.run_elsewhere,
        "failed": outcome.failed,
        "left": outcome.left,
        "submitted": outcome.submitted,
        "models": [str(model) for model in outcome.models],
        "halted": outcome.halted,
        "interrupted": outcome.interrupted,
    }
    typer.echo(json.dumps({**summary, **comparisons}, indent=2))
