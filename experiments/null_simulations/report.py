"""Tables of the simulations, as text of 120 columns."""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table

from experiments.null_simulations.alternative_tests import AlternativeRates
from experiments.null_simulations.binary_metrics import MIN_DIFFERING_ITEMS, BinaryRates
from experiments.null_simulations.error_rates import ErrorRates, Rate
from experiments.null_simulations.few_clusters import ClusterRates
from experiments.null_simulations.optional_stopping import BY_HAND, OptionalStoppingRates
from experiments.null_simulations.power import EFFECTS, Power, seeds_needed
from experiments.null_simulations.simulated_sweeps import Scenario
from experiments.null_simulations.variance_components import MetricComponents, VarianceComponents
from experiments.null_simulations.verdict_errors import VerdictErrorRates
from neftune_cli.config.spec import DEFAULT_LOOKS

PAGE_WIDTH = 120
SHOWN_SEEDS = (3, 5, 10, 20)
"""Numbers of seeds in the power table."""


def error_table(rates: Iterable[ErrorRates]) -> str:
    """Return the error rates of the paired comparison, in percent with the Monte Carlo standard error."""
    head = ("scenario", "seeds", "one arm", "family-wise", "coverage", "all intervals", "false equivalence")
    lines = [
        (
            *_place(one),
            *percents(one.false_positives, one.family_wise, one.coverage, one.all_covered, one.false_equivalence),
        )
        for one in rates
    ]
    return text_table(head, lines)


def floor_table(rates: Sequence[ErrorRates], alternatives: Sequence[AlternativeRates]) -> str:
    """Return false positives of the paired comparison in percent: with / without the floor of the seeds alone."""
    numbers = sorted({one.seeds for one in rates})
    pairs = {(one.scenario.name, one.seeds): (one, other) for one, other in zip(rates, alternatives, strict=True)}
    lines = [
        (name, *(_with_and_without(*pairs[name, seeds]) for seeds in numbers))
        for name in dict.fromkeys(one.scenario.name for one in rates)
    ]
    return text_table(("scenario", *(f"{seeds} seeds" for seeds in numbers)), lines)


def alternatives_table(rates: Iterable[ErrorRates], alternatives: Iterable[AlternativeRates]) -> str:
    """Return false positives of the paired comparison and of alternative tests, in percent."""
    head = ("scenario", "seeds", "crossed t", "Satterthwaite", "sign-flip", "bootstrap", "t of seeds", "Welch")
    others = ((one.satterthwaite, one.sign_flip, one.bootstrap, one.t_of_seeds, one.welch) for one in alternatives)
    lines = [
        (*_place(one), *percents(one.false_positives, *several)) for one, several in zip(rates, others, strict=True)
    ]
    return text_table(head, lines)


def power_table(curves: Mapping[Scenario, tuple[Power, ...]]) -> str:
    """Return the power for several effects in percent: paired / unpaired, with equal numbers of trials."""
    head = ("scenario", "seeds per arm", *(f"effect x {effect:g}" for effect in EFFECTS))
    lines = [
        (scenario.name, str(one.seeds), *(f"{paired:.0%} / {unpaired:.0%}" for paired, unpaired in _both(one)))
        for scenario, curve in curves.items()
        for one in curve
        if one.seeds in SHOWN_SEEDS
    ]
    return text_table(head, lines)


def seeds_table(curves: Mapping[Scenario, tuple[Power, ...]]) -> str:
    """Return the seeds for 80% power at a difference of one standard deviation, paired and unpaired."""
    head = (
        "scenario",
        "true difference",
        "correlation over seeds",
        "seeds, paired",
        "seeds, unpaired",
        "unpaired / paired",
    )
    lines = []
    for scenario, curve in curves.items():
        needed = [seeds_needed(curve, EFFECTS.index(2.0), paired=paired) for paired in (True, False)]
        paired_seeds, unpaired_seeds = needed
        ratio = f"{unpaired_seeds / paired_seeds:.2f}" if paired_seeds and unpaired_seeds else ""
        seeds = (f"{one:.1f}" if one else f"over {curve[-1].seeds}" for one in needed)
        correlation = scenario.variances.seed / scenario.variances.of_seed
        lines.append((scenario.name, f"{scenario.effect(2 * scenario.shift):.2g}", f"{correlation:.2f}", *seeds, ratio))
    return text_table(head, lines)


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
            *percents(one.false_positives, one.false_equivalence, one.many_differ, one.unmeasured),
        )
        for one in rates
    ]
    return text_table(head, lines)


def clusters_table(rates: Sequence[ClusterRates]) -> str:
    """Return false positives in percent: with / without the interval of the clusters alone, and false equivalence."""
    looks = list(dict.fromkeys(one.looks for one in rates))
    lines = []
    for name, found in groupby(rates, key=lambda one: one.scenario.name):
        of_looks = list(found)
        pairs = (_pair(one.false_positives, one.without_clusters_alone) for one in of_looks)
        lines.append((name, *pairs, f"{100 * max(one.false_equivalence.value for one in of_looks):.1f}"))
    return text_table(("scenario", *(f"{_seeds(one)} seeds" for one in looks), "false equivalence, at most"), lines)


def unequal_table(rates: Iterable[ClusterRates]) -> str:
    """Return error rates with clusters of unequal weight, in percent."""
    head = ("scenario", "effective", "seeds", "false positives", "as if equal", "false equivalence")
    lines = [
        (
            one.scenario.name,
            f"{one.effective:.1f}",
            _seeds(one.looks),
            *percents(one.false_positives, one.as_if_equal, one.false_equivalence),
        )
        for one in rates
    ]
    return text_table(head, lines)


def _seeds(looks: tuple[int, ...]) -> str:
    return ", ".join(map(str, looks))


def verdicts_table(rates: Iterable[VerdictErrorRates]) -> str:
    """Return the rates of false verdicts, in percent."""
    head = ("scenario", "margin", "seeds", "false difference", "false equivalence", "either")
    lines = [
        (
            one.scenario.name,
            f"{one.scenario.effect(one.margin * one.scenario.shift):.2g}",
            str(one.seeds),
            *percents(one.difference, one.equivalence, one.either),
        )
        for one in rates
    ]
    return text_table(head, lines)


def optional_stopping_table(rates: Iterable[OptionalStoppingRates]) -> str:
    """Return false positives of one arm with seeds added by hand and with planned looks, in percent."""
    by_hand, looks = _seeds(BY_HAND), _seeds(DEFAULT_LOOKS)
    head = (
        "scenario",
        f"{BY_HAND[0]} seeds",
        by_hand,
        looks,
        "planned",
        f"{BY_HAND[0]}, then planned",
        "new seeds",
    )
    lines = [
        (
            one.scenario.name,
            *percents(
                one.first_test, one.by_hand, one.looks_by_hand, one.planned, one.then_planned, one.new_seeds_only
            ),
        )
        for one in rates
    ]
    return text_table(head, lines)


def components_table(metrics: Mapping[str, MetricComponents]) -> str:
    """Return the variance components of a sweep."""
    head = ("metric", "variances of", "seed", "cluster", "residual")
    rows: list[tuple[str, ...]] = []
    for key, one in metrics.items():
        rows.append((key, "values", *_variances(one.values)))
        rows.extend(("", f"{arm} - baseline", *_variances(difference)) for arm, difference in one.differences.items())
    sharing = ("metric", "arm", "mean", "sd over seeds", "correlation with baseline", "seeds' share of SE^2")
    shared = [
        (key, arm, f"{level:.3g}", *(f"{value:.2g}" if math.isfinite(value) else "" for value in numbers))
        for key, one in metrics.items()
        for arm, (level, *numbers) in one.arms.items()
    ]
    between = [
        (key, f"{one.covariance:.2g}", f"{one.correlation:.2f}", f"{one.between_arms:.2f}")
        for key, one in metrics.items()
    ]
    heads = ("metric", "covariance with baseline", "correlation with baseline", "correlation between arms with noise")
    return "\n".join((text_table(head, rows), text_table(sharing, shared), text_table(heads, between)))


def _with_and_without(one: ErrorRates, other: AlternativeRates) -> str:
    return _pair(one.false_positives, other.without_floor)


def _pair(one: Rate, other: Rate) -> str:
    return f"{100 * one.value:.1f} / {100 * other.value:.1f}"


def _place(one: ErrorRates) -> tuple[str, str]:
    return one.scenario.name, str(one.seeds)


def percents(*rates: Rate | None) -> tuple[str, ...]:
    """Return rates in percent with their Monte Carlo standard errors, empty for a rate that does not exist."""
    return tuple(f"{100 * one.value:.1f} ± {100 * one.error:.1f}" if one else "" for one in rates)


def _both(one: Power) -> Iterable[tuple[float, float]]:
    return zip(one.paired, one.unpaired, strict=True)


def _variances(components: VarianceComponents) -> tuple[str, ...]:
    return tuple(f"{value:.2g}" for value in astuple(components))


def text_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table; the first column shows a repeated value once."""
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
