"""`python -m experiments.null_simulations [--repetitions N]`, and `... components FOLDER` for a sweep's variances."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.null_simulations.components import sweep_components
from experiments.null_simulations.error_rates import ErrorRates, error_rates
from experiments.null_simulations.power import power_curve
from experiments.null_simulations.promises import WORDS, broken_promises
from experiments.null_simulations.report import (
    components_table,
    power_table,
    promises_table,
    rivals_table,
    seeds_table,
)
from experiments.null_simulations.rivals import rival_rates
from experiments.null_simulations.scenarios import SCENARIOS

SEEDS = (3, 5, 10)

app = typer.Typer(add_completion=False)


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    repetitions: Annotated[
        int, typer.Option(help="Simulated sweeps of each kind; with fewer, chance breaks promises.", min=10)
    ] = 1000,
) -> None:
    """Simulate and print; takes about four minutes on one core. Exits with 1 where a promise is broken."""
    if context.invoked_subcommand:
        return
    rates = [error_rates(scenario, seeds, repetitions) for scenario in SCENARIOS for seeds in SEEDS]
    broken = list(broken_promises(rates))
    print(f"Of {repetitions:,} simulated sweeps each: percent ± Monte Carlo standard error\n")
    print(promises_table(rates))
    print(WORDS)
    print(*(f"Broken: {sentence}" for sentence in broken) if broken else ("All kept.",), sep="\n", end="\n\n")
    _print_rivals(rates, repetitions)
    _print_power(repetitions)
    raise typer.Exit(code=1 if broken else 0)


@app.command()
def components(folder: Annotated[Path, typer.Argument(help="Of a sweep, its first arm the baseline.")]) -> None:
    """Print the variance components of a finished sweep's records."""
    if not (metrics := sweep_components(folder)):
        raise typer.BadParameter(f"{folder} holds no sweep with several arms, seeds and items that all of them share.")
    print(components_table(metrics))


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
