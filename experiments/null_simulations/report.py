"""The tables that the simulations print, as text of 120 columns."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple

from rich import box
from rich.console import Console
from rich.table import Table

from experiments.null_simulations.components import Components, MetricComponents
from experiments.null_simulations.counts import ENOUGH, CountRates
from experiments.null_simulations.error_rates import ErrorRates, Rate
from experiments.null_simulations.looks import LOOKS, LookRates
from experiments.null_simulations.power import EFFECTS, Power, seeds_needed
from experiments.null_simulations.rivals import Rivals
from experiments.null_simulations.scenarios import Scenario
from experiments.null_simulations.words import WordRates

PAGE_WIDTH = 120
SHOWN_SEEDS = (3, 5, 10, 20)
"""Rows of the power tables."""


def promises_table(rates: Iterable[ErrorRates]) -> str:
    """Return how often the paired comparison errs, in percent with the Monte Carlo standard error."""
    head = ("scenario", "seeds", "false positives", "family-wise", "coverage", "false equivalence")
    lines = [
        (*_place(one), *_percents(one.false_positives, one.family_wise, one.coverage, one.false_equivalence))
        for one in rates
    ]
    return _table(head, lines)


def rivals_table(rates: Iterable[ErrorRates], rivals: Iterable[Rivals]) -> str:
    """Return false positives, ours and those of other ways to test the same values, in percent."""
    head = ("scenario", "seeds", "ours", "Satterthwaite", "sign-flip", "bootstrap", "t of seeds", "Welch")
    others = ((one.satterthwaite, one.sign_flip, one.bootstrap, one.t_of_seeds, one.welch) for one in rivals)
    lines = [
        (*_place(ours), *_percents(ours.false_positives, *several)) for ours, several in zip(rates, others, strict=True)
    ]
    return _table(head, lines)


def power_table(curves: Mapping[Scenario, tuple[Power, ...]]) -> str:
    """Return the chance, in percent, to find effects of several sizes: ours / unpaired, with as many trials."""
    head = ("scenario", "seeds an arm", *(f"effect x {effect:g}" for effect in EFFECTS))
    lines = [
        (scenario.name, str(one.seeds), *(f"{ours:.0%} / {other:.0%}" for ours, other in _both(one)))
        for scenario, curve in curves.items()
        for one in curve
        if one.seeds in SHOWN_SEEDS
    ]
    return _table(head, lines)


def seeds_table(curves: Mapping[Scenario, tuple[Power, ...]]) -> str:
    """Return how many seeds find the realistic effect four times out of five, ours and unpaired."""
    head = ("scenario", "effect x 1", "correlation over seeds", "seeds, ours", "seeds, unpaired", "unpaired / ours")
    lines = []
    for scenario, curve in curves.items():
        needed = [seeds_needed(curve, EFFECTS.index(1.0), paired=paired) for paired in (True, False)]
        ours, unpaired = needed
        ratio = f"{unpaired / ours:.2f}" if ours and unpaired else ""
        seeds = (f"{one:.1f}" if one else f"over {curve[-1].seeds}" for one in needed)
        correlation = scenario.variances.seed / (scenario.variances.seed + scenario.variances.arm_seed)
        lines.append((scenario.name, f"{scenario.effect(scenario.shift):.2g}", f"{correlation:.2f}", *seeds, ratio))
    return _table(head, lines)


def counts_table(rates: Iterable[CountRates]) -> str:
    """Return how often the paired comparison errs on shares of few items, in percent."""
    head = (
        "right answers",
        "items",
        "seeds",
        "false positives",
        "false equivalence",
        f"and {ENOUGH} items differ",
        "no verdict",
    )
    lines = [
        (
            f"{one.share:.0%}",
            str(one.items),
            str(one.seeds),
            *_percents(one.false_positives, one.false_equivalence, one.many_differ, one.unmeasured),
        )
        for one in rates
    ]
    return _table(head, lines)


def words_table(rates: Iterable[WordRates]) -> str:
    """Return how often an arm without effect is called better or worse, or one at the margin equivalent, in percent."""
    head = ("scenario", "margin", "seeds", "false difference", "false equivalence", "either")
    lines = [
        (
            one.scenario.name,
            f"{one.scenario.effect(one.margin * one.scenario.shift):.2g}",
            str(one.seeds),
            *_percents(one.difference, one.equivalence, one.either),
        )
        for one in rates
    ]
    return _table(head, lines)


def looks_table(rates: Iterable[LookRates]) -> str:
    """Return false positives of looking more than once, in percent, and the seeds that following the advice takes."""
    every = ", ".join(map(str, LOOKS))
    head = ("scenario", f"{LOOKS[0]} seeds", f"any of {every}", "advice followed", "its seeds", "new seeds alone")
    lines = [
        (
            one.scenario.name,
            *_percents(one.first_look, one.any_look, one.advised),
            f"{one.seeds:.1f}",
            *_percents(one.new_seeds_alone),
        )
        for one in rates
    ]
    return _table(head, lines)


def components_table(metrics: Mapping[str, MetricComponents]) -> str:
    """Return the variance components of a sweep's records."""
    head = ("metric", "variances of", "seed", "cluster", "rest")
    rows: list[tuple[str, ...]] = []
    for key, one in metrics.items():
        rows.append((key, "values", *_variances(one.values)))
        rows.extend(("", f"{arm} - baseline", *_variances(difference)) for arm, difference in one.differences.items())
    sharing = ("metric", "baseline mean", "variance over seeds", "covariance with baseline", "correlation")
    shared = [
        (key, *(f"{value:.3g}" for value in (one.level, one.variance, one.covariance, one.correlation)))
        for key, one in metrics.items()
    ]
    return _table(head, rows) + "\n" + _table(sharing, shared)


def _place(one: ErrorRates) -> tuple[str, str]:
    return one.scenario.name, str(one.seeds)


def _percents(*rates: Rate) -> tuple[str, ...]:
    return tuple(f"{100 * one.value:.1f} ± {100 * one.error:.1f}" for one in rates)


def _both(one: Power) -> Iterable[tuple[float, float]]:
    return zip(one.ours, one.unpaired, strict=True)


def _variances(components: Components) -> tuple[str, ...]:
    return tuple(f"{value:.2g}" for value in astuple(components))


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, title in enumerate(head):
        table.add_column(title, justify="left" if number == 0 else "right")
    before = ""
    for first, *rest in lines:
        table.add_row("" if first == before else first, *rest)
        before = first
    text = io.StringIO()
    Console(file=text, width=PAGE_WIDTH, color_system=None).print(table)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())
