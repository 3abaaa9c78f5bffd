"""`python -m experiments.null_simulations [--repetitions N]` prints all tables, and two commands print some of them.

`... clusters` prints only those of few clusters and unequal weights, `... components FOLDER` variance components.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer

from experiments.null_simulations.alternative_tests import alternative_rates
from experiments.null_simulations.binary_metrics import ITEMS, SHARES, binary_rates
from experiments.null_simulations.error_rates import error_rates
from experiments.null_simulations.few_clusters import LOOKS as CLUSTER_LOOKS
from experiments.null_simulations.few_clusters import cluster_rates, few_clusters, unequal_clusters
from experiments.null_simulations.fixed_designs import EFFECTS as FIXED_EFFECTS
from experiments.null_simulations.fixed_designs import SEEDS as FIXED_SEEDS
from experiments.null_simulations.fixed_designs import adjustment_rates
from experiments.null_simulations.limits import (
    LIMITS,
    LOOKS_LIMITS,
    exceeded_cluster_limits,
    exceeded_limits,
    exceeded_looks,
    exceeded_power,
    exceeded_statements,
    exceeded_tables,
)
from experiments.null_simulations.looks_error_rates import NULL_MODELS, POWER_ROWS, looks_error_rates, looks_power
from experiments.null_simulations.looks_report import (
    adjustment_table,
    item_looks_table,
    looks_power_table,
    looks_table,
    margins_table,
    pooling_table,
    statement_table,
    stopping_table,
)
from experiments.null_simulations.margins import MARGINS as EQUIVALENCE_MARGINS
from experiments.null_simulations.margins import margin_seeds
from experiments.null_simulations.optional_stopping import optional_stopping_rates
from experiments.null_simulations.planned_tables import TABLE_ROWS, table_error_rates
from experiments.null_simulations.planning_statement import STATEMENTS, statement
from experiments.null_simulations.pooled_variances import MODELS as POOLING_MODELS
from experiments.null_simulations.pooled_variances import SEEDS as POOLING_SEEDS
from experiments.null_simulations.pooled_variances import pooling_rates
from experiments.null_simulations.power import power_curve
from experiments.null_simulations.report import (
    alternatives_table,
    binary_table,
    clusters_table,
    components_table,
    error_table,
    floor_table,
    optional_stopping_table,
    power_table,
    seeds_table,
    unequal_table,
    verdicts_table,
)
from experiments.null_simulations.simulated_sweeps import EXACT_MATCH, HELD_OUT_LOSS, SCENARIOS, TRAINING_LOSS
from experiments.null_simulations.stopping_bias import EFFECTS as STOPPING_EFFECTS
from experiments.null_simulations.stopping_bias import stopping_bias
from experiments.null_simulations.variance_components import sweep_components
from experiments.null_simulations.verdict_errors import MARGINS, verdict_error_rates

SEEDS = (3, 5, 10)
MEASURED = (HELD_OUT_LOSS, TRAINING_LOSS, EXACT_MATCH)
"""Scenarios of measured metrics."""
AT_SEED_LEVEL, ON_TABLES = 10, 3
"""Simulated sweeps of a row with one value per seed, and of a row with planned looks on tables, per repetition."""
STATED_SHARE = 40
"""Simulated sweeps of a row with a stated chance, in percent of the repetitions."""

Result = TypeVar("Result")
app = typer.Typer(add_completion=False)


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    repetitions: Annotated[
        int, typer.Option(help="Simulated sweeps per row. With fewer, rates exceed their limits by chance.", min=10)
    ] = 1000,
) -> None:
    """Print error rates and power; takes about ten minutes on two cores. Exits with 1 if a rate exceeds its limits."""
    if context.invoked_subcommand:
        return
    with ProcessPoolExecutor() as pool:
        exceeded = [
            *_print_planned_looks(pool, repetitions),
            *_print_fixed_designs(pool, repetitions),
            *_print_planning(pool, repetitions),
        ]
    _end(exceeded)


@app.command()
def clusters(
    repetitions: Annotated[int, typer.Option(help="A third of the simulated sweeps per row.", min=10)] = 1000,
) -> None:
    """Print error rates with few clusters of items and with unequal weights. Exits with 1 if one exceeds its limits."""
    with ProcessPoolExecutor() as pool:
        _end(_print_clusters(pool, repetitions))


@app.command()
def components(
    folder: Annotated[Path, typer.Argument(help="Folder of a sweep whose first arm is the baseline.")],
) -> None:
    """Print the variance components of a finished sweep."""
    if not (metrics := sweep_components(folder)):
        raise typer.BadParameter(f"{folder} has no sweep with several arms and several shared seeds and items.")
    print(components_table(metrics))


def _print_planned_looks(pool: Executor, repetitions: int) -> Iterator[str]:
    """Print the tables of planned looks. Yield a sentence for each rate outside its limits."""
    sweeps = AT_SEED_LEVEL * repetitions
    rates = dict(
        zip(NULL_MODELS, _each(pool, looks_error_rates, ((title, sweeps) for title in NULL_MODELS)), strict=True)
    )
    _print(f"Planned looks without effects, {sweeps:,} sweeps per row, percent", looks_table(rates))
    print(LOOKS_LIMITS)
    on_tables = _each(pool, table_error_rates, ((share, arms, ON_TABLES * repetitions) for arms, share in TABLE_ROWS))
    title = f"Planned looks on tables of seeds and items, {ON_TABLES * repetitions:,} sweeps per row, percent"
    _print(title, item_looks_table(on_tables))
    powers = _each(pool, looks_power, ((*row, sweeps) for row in POWER_ROWS))
    _print(
        "Chances of a verdict with planned looks, percent; effects and margins in per-seed standard deviations",
        looks_power_table(powers),
    )
    biases = _each(pool, stopping_bias, ((effect, sweeps) for effect in STOPPING_EFFECTS))
    _print("Measured difference of an arm that is shown to differ, divided by the true one", stopping_table(biases))
    stopping = _each(pool, optional_stopping_rates, ((scenario, repetitions) for scenario in MEASURED))
    _print("False positives of one arm with seeds added after a test, percent", optional_stopping_table(stopping))
    yield from (*exceeded_looks(rates), *exceeded_tables(on_tables), *exceeded_power(powers))


def _print_fixed_designs(pool: Executor, repetitions: int) -> Iterator[str]:
    """Print the tables of numbers of seeds that were chosen in advance. Yield the rates outside their limits."""
    places = list(product(SCENARIOS, SEEDS))
    rates = _each(pool, error_rates, ((*place, repetitions) for place in places))
    _print(f"Error rates with a fixed number of seeds, {repetitions:,} sweeps per row, percent", error_table(rates))
    print(LIMITS)
    alternatives = _each(pool, alternative_rates, ((*place, repetitions) for place in places))
    _print("False positives of one arm, percent: as in compare / without the floor", floor_table(rates, alternatives))
    _print("False positives of several tests on the same data, percent", alternatives_table(rates, alternatives))
    verdicts = _each(pool, verdict_error_rates, ((*row, repetitions) for row in product(MEASURED, MARGINS, SEEDS)))
    _print(
        "False verdicts on three arms, one without an effect and two at the margin, percent", verdicts_table(verdicts)
    )
    sweeps = AT_SEED_LEVEL * repetitions
    adjusted = _each(pool, adjustment_rates, ((*row, sweeps) for row in product(FIXED_EFFECTS, FIXED_SEEDS)))
    _print(f"Hommel's and Holm's method, {sweeps:,} sweeps per row, percent", adjustment_table(adjusted))
    pooled = list(product(POOLING_MODELS, POOLING_SEEDS))
    found = _each(pool, pooling_rates, ((*row, sweeps) for row in pooled))
    title = f"Any false positive with variances pooled over arms, {sweeps:,} sweeps per row, percent"
    _print(title, pooling_table(dict(zip(pooled, found, strict=True))))
    binary = _each(pool, binary_rates, ((*row, repetitions) for row in product(SHARES, ITEMS, SEEDS)))
    _print("Share of correct responses with few items, margin 0.02, percent", binary_table(binary))
    yield from (*exceeded_limits(rates), *_print_clusters(pool, repetitions))


def _print_clusters(pool: Executor, repetitions: int) -> Iterator[str]:
    """Print the tables of few clusters and of unequal weights. Yield the rates outside their limits."""
    sweeps = ON_TABLES * repetitions
    few, unequal = (
        _each(pool, cluster_rates, ((*row, sweeps) for row in product(scenarios(), CLUSTER_LOOKS)))
        for scenarios in (few_clusters, unequal_clusters)
    )
    title = f"False positives with few clusters, {sweeps:,} sweeps per rate, percent"
    _print(f"{title}: as in compare / without the third interval", clusters_table(few))
    _print(f"Clusters and items of unequal weight, {sweeps:,} sweeps per row, percent", unequal_table(unequal))
    yield from exceeded_cluster_limits((*few, *unequal))


def _print_planning(pool: Executor, repetitions: int) -> Iterator[str]:
    """Print the tables of chances of a decision and of power. Yield a sentence for each statement that is too wrong."""
    sweeps = repetitions * STATED_SHARE // 100
    stated = _each(pool, statement, ((*row, sweeps) for row in STATEMENTS))
    title = f"Chances of a decision after the first seeds, stated and true, {sweeps:,} sweeps per row, percent"
    _print(title, statement_table(stated))
    margins = _each(pool, margin_seeds, ((margin, AT_SEED_LEVEL * repetitions) for margin in EQUIVALENCE_MARGINS))
    _print("Seeds for equivalence of one arm without an effect", margins_table(margins))
    realistic = [one for one in SCENARIOS if one.realistic]
    curves = dict(zip(realistic, _each(pool, power_curve, ((one, repetitions) for one in realistic)), strict=True))
    title = "Power, percent: paired comparison / Welch's test of arms with different seeds, at equal numbers of trials"
    _print(title, power_table(curves))
    _print("Seeds per arm for 80% power", seeds_table(curves))
    yield from exceeded_statements(stated)


def _each(pool: Executor, function: Callable[..., Result], rows: Iterable[tuple[Any, ...]]) -> list[Result]:
    """Return the results of a function for the arguments of each row."""
    return list(pool.map(function, *zip(*rows, strict=True)))


def _end(exceeded: Iterable[str]) -> NoReturn:
    """Print the rates outside their limits, and exit with 1 if there is one."""
    found = [f"Outside: {one}" for one in exceeded]
    print(*found or ("All rates are within the limits.",), sep="\n")
    raise typer.Exit(code=1 if found else 0)


def _print(title: str, table: str) -> None:
    print(f"{title}\n\n{table}", flush=True)


if __name__ == "__main__":
    app()
