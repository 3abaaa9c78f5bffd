"""Tables of the simulations, as text of 120 columns."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple

from rich import box
from rich.console import Console
from rich.table import Table

from experiments.null_simulations.alternative_tests import AlternativeRates
from experiments.null_simulations.binary_metrics import MIN_DIFFERING_ITEMS, BinaryRates
from experiments.null_simulations.error_rates import ErrorRates, Rate
from experiments.null_simulations.optional_stopping import TESTED_SEEDS, OptionalStoppingRates
from experiments.null_simulations.power import EFFECTS, Power, seeds_needed
from experiments.null_simulations.simulated_sweeps import Scenario
from experiments.null_simulations.variance_components import MetricComponents, VarianceComponents
from experiments.null_simulations.verdict_errors import VerdictErrorRates

PAGE_WIDTH = 120
SHOWN_SEEDS = (3, 5, 10, 20)
"""Numbers of seeds in the power table."""


def error_table(rates: Iterable[ErrorRates]) -> str:
    """Return the error rates of the paired comparison, in percent with the Monte Carlo standard error."""
    head = ("scenario", "seeds", "false positives", "family-wise", "coverage", "false equivalence")
    lines = [
        (*_place(one), *_percents(one.false_positives, one.family_wise, one.coverage, one.false_equivalence))
        for one in rates
    ]
    return _table(head, lines)


def alternatives_table(rates: Iterable[ErrorRates], alternatives: Iterable[AlternativeRates]) -> str:
    """Return false positives of the paired comparison and of alternative tests, in percent."""
    head = ("scenario", "seeds", "crossed t", "Satterthwaite", "sign-flip", "bootstrap", "t of seeds", "Welch")
    others = ((one.satterthwaite, one.sign_flip, one.bootstrap, one.t_of_seeds, one.welch) for one in alternatives)
    lines = [
        (*_place(one), *_percents(one.false_positives, *several)) for one, several in zip(rates, others, strict=True)
    ]
    return _table(head, lines)


def power_table(curves: Mapping[Scenario, tuple[Power, ...]]) -> str:
    """Return the power for several effects in percent: paired / unpaired, with equal numbers of trials."""
    head = ("scenario", "seeds per arm", *(f"effect x {effect:g}" for effect in EFFECTS))
    lines = [
        (scenario.name, str(one.seeds), *(f"{paired:.0%} / {unpaired:.0%}" for paired, unpaired in _both(one)))
        for scenario, curve in curves.items()
        for one in curve
        if one.seeds in SHOWN_SEEDS
    ]
    return _table(head, lines)


def seeds_table(curves: Mapping[Scenario, tuple[Power, ...]]) -> str:
    """Return the seeds for 80% power at the realistic effect, paired and unpaired."""
    head = ("scenario", "effect x 1", "correlation over seeds", "seeds, paired", "seeds, unpaired", "unpaired / paired")
    lines = []
    for scenario, curve in curves.items():
        needed = [seeds_needed(curve, EFFECTS.index(1.0), paired=paired) for paired in (True, False)]
        paired_seeds, unpaired_seeds = needed
        ratio = f"{unpaired_seeds / paired_seeds:.2f}" if paired_seeds and unpaired_seeds else ""
        seeds = (f"{one:.1f}" if one else f"over {curve[-1].seeds}" for one in needed)
        correlation = scenario.variances.seed / (scenario.variances.seed + scenario.variances.arm_seed)
        lines.append((scenario.name, f"{scenario.effect(scenario.shift):.2g}", f"{correlation:.2f}", *seeds, ratio))
    return _table(head, lines)


def binary_table(rates: Iterable[BinaryRates]) -> str:
    """Return error rates for binary metrics with few items, in percent."""
    head = (
        "share correct",
        "items",
        "seeds",
        "false positives",
        "false equivalence",
        f"{MIN_DIFFERING_ITEMS}+ items differ",
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


def verdicts_table(rates: Iterable[VerdictErrorRates]) -> str:
    """Return the rates of false verdicts, in percent."""
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


def optional_stopping_table(rates: Iterable[OptionalStoppingRates]) -> str:
    """Return false positives of optional stopping in percent, and the seeds that the advice leads to."""
    every = ", ".join(map(str, TESTED_SEEDS))
    head = (
        "scenario",
        f"{TESTED_SEEDS[0]} seeds",
        f"any of {every}",
        "advice followed",
        "mean seeds",
        "new seeds only",
    )
    lines = [
        (
            one.scenario.name,
            *_percents(one.first_test, one.any_test, one.advised),
            f"{one.seeds:.1f}",
            *_percents(one.new_seeds_only),
        )
        for one in rates
    ]
    return _table(head, lines)


def components_table(metrics: Mapping[str, MetricComponents]) -> str:
    """Return the variance components of a sweep."""
    head = ("metric", "variances of", "seed", "cluster", "residual")
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
    return zip(one.paired, one.unpaired, strict=True)


def _variances(components: VarianceComponents) -> tuple[str, ...]:
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
