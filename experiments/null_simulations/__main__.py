"""`python -m experiments.null_simulations [--repetitions N]`, and `... components FOLDER` for a sweep's variances."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.null_simulations.components import sweep_components
from experiments.null_simulations.counts import ITEMS, RATES, count_rates
from experiments.null_simulations.error_rates import ErrorRates, error_rates
from experiments.null_simulations.looks import look_rates
from experiments.null_simulations.power import power_curve
from experiments.null_simulations.promises import WORDS, broken_promises
from experiments.null_simulations.report import (
    components_table,
    counts_table,
    looks_table,
    power_table,
    promises_table,
    rivals_table,
    seeds_table,
    words_table,
)
from experiments.null_simulations.rivals import rival_rates
from experiments.null_simulations.scenarios import EXACT_MATCH, HELD_OUT_LOSS, SCENARIOS, TRAINING_LOSS
from experiments.null_simulations.words import MARGINS, word_rates

SEEDS = (3, 5, 10)
LOOKED_AT = ((HELD_OUT_LOSS, "eval_loss"), (TRAINING_LOSS, "train_loss_clean"), (EXACT_MATCH, "exact_match"))
"""Scenarios of records, and the metric whose margin is theirs."""

app = typer.Typer(add_completion=False)


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    repetitions: Annotated[
        int, typer.Option(help="Simulated sweeps of each kind; with fewer, chance breaks promises.", min=10)
    ] = 1000,
) -> None:
    """Simulate and print; takes about six minutes on one core. Exits with 1 where a promise is broken."""
    if context.invoked_subcommand:
        return
    rates = [error_rates(scenario, seeds, repetitions) for scenario in SCENARIOS for seeds in SEEDS]
    broken = list(broken_promises(rates))
    print(f"Of {repetitions:,} simulated sweeps each: percent ± Monte Carlo standard error\n")
    print(promises_table(rates))
    print(WORDS)
    print(*(f"Broken: {sentence}" for sentence in broken) if broken else ("All kept.",), sep="\n", end="\n\n")
    _print_words(repetitions)
    _print_looks(repetitions)
    _print_counts(repetitions)
    _print_rivals(rates, repetitions)
    _print_power(repetitions)
    raise typer.Exit(code=1 if broken else 0)


@app.command()
def components(folder: Annotated[Path, typer.Argument(help="Of a sweep, its first arm the baseline.")]) -> None:
    """Print the variance components of a finished sweep's records."""
    if not (metrics := sweep_components(folder)):
        raise typer.BadParameter(f"{folder} holds no sweep with several arms, seeds and items that all of them share.")
    print(components_table(metrics))


def _print_words(repetitions: int) -> None:
    rates = [
        word_rates(scenario, margin, seeds, repetitions)
        for scenario, _ in LOOKED_AT
        for margin in MARGINS
        for seeds in SEEDS
    ]
    print("False words on three arms, one without an effect and two at the margin, percent of sweeps\n")
    print(words_table(rates))


def _print_looks(repetitions: int) -> None:
    print("False positives of one arm where seeds are added after a look, percent of sweeps\n")
    print(looks_table(look_rates(scenario, metric, repetitions) for scenario, metric in LOOKED_AT))


def _print_counts(repetitions: int) -> None:
    rates = [count_rates(share, items, seeds, repetitions) for share in RATES for items in ITEMS for seeds in SEEDS]
    print("Shares of right answers among few items, margin 0.02, percent\n")
    print(counts_table(rates))


def _print_rivals(rates: list[ErrorRates], repetitions: int) -> None:
    rivals = [rival_rates(one.scenario, one.seeds, repetitions) for one in rates]
    print("False positives of several tests of the same values, percent\n")
    print(rivals_table(rates, rivals))


def _print_power(repetitions: int) -> None:
    curves = {one: power_curve(one, repetitions) for one in SCENARIOS if one.realistic}
    print("Power, percent: ours / Welch's test of arms that have seeds of their own, at equal numbers of trials\n")
    print(power_table(curves))
    print("Seeds an arm for a power of 80%\n")
    print(seeds_table(curves))


if __name__ == "__main__":
    app()
