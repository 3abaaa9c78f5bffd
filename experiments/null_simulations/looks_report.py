"""Tables of planned looks, planning statements, margins, stopping, adjustments and pooled variances."""

from collections.abc import Iterable, Mapping, Sequence

from experiments.null_simulations.error_rates import Rate
from experiments.null_simulations.fixed_designs import AdjustmentRates
from experiments.null_simulations.looks_error_rates import LooksErrorRates, LooksPower
from experiments.null_simulations.margins import MarginSeeds
from experiments.null_simulations.planned_tables import TableErrorRates
from experiments.null_simulations.planning_statement import Statement
from experiments.null_simulations.pooled_variances import PoolingRates
from experiments.null_simulations.report import percents, text_table
from experiments.null_simulations.stopping_bias import StoppingBias
from neftune_cli.config.spec import DEFAULT_LOOKS


def looks_table(rates: Mapping[str, LooksErrorRates]) -> str:
    """Return the error rates of planned looks, in percent."""
    head = ("arms with noise", "family-wise", "any noise", "equivalence", "any false verdict", "intervals", "seeds")
    lines = [
        (
            title,
            *percents(one.family_wise, one.any_noise, one.false_equivalence, one.any_false, one.uncovered),
            f"{one.seeds:.1f}",
        )
        for title, one in rates.items()
    ]
    return text_table(head, lines)


def item_looks_table(rates: Iterable[TableErrorRates]) -> str:
    """Return the error rates of planned looks on tables with items, in percent."""
    head = ("arms", "variance of items / seed", "family-wise", "any noise", "equivalence", "any false verdict", "seeds")
    lines = [
        (
            str(one.arms),
            f"{one.item_share:g}",
            *percents(one.family_wise, one.any_noise, one.false_equivalence, one.any_false),
            f"{one.seeds:.1f}",
        )
        for one in rates
    ]
    return text_table(head, lines)


def looks_power_table(found: Iterable[LooksPower]) -> str:
    """Return the chances of planned looks for true effects, in percent, and the mean number of seeds."""
    head = (
        "true effects",
        "margin",
        "significant",
        "arms alone",
        "equivalent",
        "decided",
        "null arms",
        "intervals",
        "seeds",
    )
    lines = [
        (
            ", ".join(f"{effect:g}" for effect in one.effects),
            f"{one.margin:g}" if one.margin else "none",
            *(f"{100 * of.value:.1f}" if of else "" for of in _chances(one)),
            f"{one.seeds:.1f}",
        )
        for one in found
    ]
    return text_table(head, lines)


def statement_table(statements: Iterable[Statement]) -> str:
    """Return stated and true chances of a decision by the next look and by the last one, in percent."""
    head = (
        "arms",
        "seeds",
        "margin",
        "true effect",
        "open",
        "next: stated",
        "true",
        "last: stated",
        "true",
        "largest error",
        "within 10",
    )
    lines = [
        (
            str(one.arms),
            str(one.measured),
            f"{one.margin:g}",
            f"{one.effect:g} x margin",
            f"{100 * one.open:.0f}",
            *(f"{100 * chance:.0f}" for pair in zip(one.stated, one.happened, strict=True) for chance in pair),
            f"{100 * max(one.errors, key=abs):+.0f}",
            f"{100 * one.right:.0f}",
        )
        for one in statements
    ]
    return text_table(head, lines)


def margins_table(margins: Iterable[MarginSeeds]) -> str:
    """Return seeds for equivalence by margin, for one arm without an effect."""
    head = (
        "margin / sd",
        "seeds for 80%",
        "stated seeds",
        "looks: equivalent",
        "looks: mean seeds",
        "false equivalence",
    )
    lines = [
        (
            f"{one.margin:g}",
            *(str(seeds) if seeds else "over 200" for seeds in (one.needed, one.stated)),
            *percents(one.equivalent),
            f"{one.seeds:.1f}",
            *percents(one.false_equivalence),
        )
        for one in margins
    ]
    return text_table(head, lines)


def stopping_table(found: Iterable[StoppingBias]) -> str:
    """Return the differences of arms that are shown to differ, relative to the true ones, by look."""
    head = ("true difference", "shown", "all looks", *(f"{seeds} seeds" for seeds in DEFAULT_LOOKS))
    lines = [
        (
            f"{one.effect:g}",
            f"{100 * one.shown:.1f}",
            f"{one.ratio:.2f}",
            *("" if ratio is None else f"{ratio:.2f}" for ratio in one.by_look),
        )
        for one in found
    ]
    return text_table(head, lines)


def adjustment_table(rates: Iterable[AdjustmentRates]) -> str:
    """Return false positives and power of Hommel's and Holm's method, in percent."""
    head = ("true effects", "seeds", "Hommel: false", "Holm: false", "Hommel: shown", "Holm: shown")
    lines = [
        (", ".join(f"{effect:g}" for effect in one.effects), str(one.seeds), *percents(*one.false, *one.shown))
        for one in rates
    ]
    return text_table(head, lines)


def pooling_table(rates: Mapping[tuple[str, int], PoolingRates]) -> str:
    """Return the rates of any false positive on three arms if variances are pooled, in percent."""
    head = ("arms with noise", "seeds", "separate", "pooled differences", "two-way pooled", "moderated")
    lines = [
        (title, str(seeds), *percents(one.separate, one.differences, one.two_way, one.moderated))
        for (title, seeds), one in rates.items()
    ]
    return text_table(head, lines)


def _chances(one: LooksPower) -> Sequence[Rate | None]:
    ungated = one.ungated if len(one.effects) > 1 else None
    equivalent = one.equivalent if one.margin else None
    return one.shown, ungated, equivalent, one.decided, one.null_arms, one.uncovered
