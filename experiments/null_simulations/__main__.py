"""`python -m experiments.null_simulations [--repetitions N]`, and `... components FOLDER` for variance components."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.null_simulations.alternative_tests import alternative_rates
from experiments.null_simulations.binary_metrics import ITEMS, SHARES, binary_rates
from experiments.null_simulations.error_rates import LIMITS, ErrorRates, error_rates, exceeded_limits
from experiments.null_simulations.optional_stopping import optional_stopping_rates
from experiments.null_simulations.power import power_curve
from experiments.null_simulations.report import (
    alternatives_table,
    binary_table,
    components_table,
    error_table,
    optional_stopping_table,
    power_table,
    seeds_table,
    verdicts_table,
)
from experiments.null_simulations.simulated_sweeps import EXACT_MATCH, HELD_OUT_LOSS, SCENARIOS, TRAINING_LOSS
from experiments.null_simulations.variance_components import sweep_components
from experiments.null_simulations.verdict_errors import MARGINS, verdict_error_rates

SEEDS = (3, 5, 10)
MEASURED = ((HELD_OUT_LOSS, "eval_loss"), (TRAINING_LOSS, "train_loss_clean"), (EXACT_MATCH, "exact_match"))
"""Scenarios of measured metrics, and the metric whose margin applies."""

app = typer.Typer(add_completion=False)


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    repetitions: Annotated[
        int, typer.Option(help="Simulated sweeps per row. With fewer, rates exceed their limits by chance.", min=10)
    ] = 1000,
) -> None:
    """Print error rates and power; takes about six minutes on one core. Exits with 1 if a rate exceeds its limits."""
    if context.invoked_subcommand:
        return
    rates = [error_rates(scenario, seeds, repetitions) for scenario in SCENARIOS for seeds in SEEDS]
    exceeded = list(exceeded_limits(rates))
    print(f"Error rates in {repetitions:,} simulated sweeps per row: percent ± Monte Carlo standard error\n")
    print(error_table(rates))
    print(LIMITS)
    print(*(f"Outside: {one}" for one in exceeded) if exceeded else ("All rates are within the limits.",), sep="\n")
    print()
    _print_verdict_errors(repetitions)
    _print_optional_stopping(repetitions)
    _print_binary_metrics(repetitions)
    _print_alternative_tests(rates, repetitions)
    _print_power(repetitions)
    raise typer.Exit(code=1 if exceeded else 0)


@app.command()
def components(
    folder: Annotated[Path, typer.Argument(help="Folder of a sweep whose first arm is the baseline.")],
) -> None:
    """Print the variance components of a finished sweep."""
    if not (metrics := sweep_components(folder)):
        raise typer.BadParameter(f"{folder} has no sweep with several arms and several shared seeds and items.")
    print(components_table(metrics))


def _print_verdict_errors(repetitions: int) -> None:
    rates = [
        verdict_error_rates(scenario, margin, seeds, repetitions)
        for scenario, _ in MEASURED
        for margin in MARGINS
        for seeds in SEEDS
    ]
    print("False verdicts on three arms, one without an effect and two at the margin, percent of sweeps\n")
    print(verdicts_table(rates))


def _print_optional_stopping(repetitions: int) -> None:
    print("False positives of one arm with seeds added after a test, percent of sweeps\n")
    print(
        optional_stopping_table(optional_stopping_rates(scenario, metric, repetitions) for scenario, metric in MEASURED)
    )


def _print_binary_metrics(repetitions: int) -> None:
    rates = [binary_rates(share, items, seeds, repetitions) for share in SHARES for items in ITEMS for seeds in SEEDS]
    print("Share of correct responses with few items, margin 0.02, percent\n")
    print(binary_table(rates))


def _print_alternative_tests(rates: list[ErrorRates], repetitions: int) -> None:
    alternatives = [alternative_rates(one.scenario, one.seeds, repetitions) for one in rates]
    print("False positives of several tests on the same data, percent\n")
    print(alternatives_table(rates, alternatives))


def _print_power(repetitions: int) -> None:
    curves = {one: power_curve(one, repetitions) for one in SCENARIOS if one.realistic}
    print("Power, percent: paired comparison / Welch's test of arms with different seeds, at equal numbers of trials\n")
    print(power_table(curves))
    print("Seeds per arm for 80% power\n")
    print(seeds_table(curves))


if __name__ == "__main__":
    app()
