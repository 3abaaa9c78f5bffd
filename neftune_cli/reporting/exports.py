"""Export of comparisons for other programs: a JSON document or CSV, with all digits of every number."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence

from neftune_cli.analysis.advice import advice
from neftune_cli.analysis.headline import headline
from neftune_cli.analysis.outlook import Outlook
from neftune_cli.analysis.results import (
    ArmSummary,
    BestArm,
    ClaimResult,
    Comparison,
    EarlyStopping,
    NoiseTest,
    StoppedArm,
)
from neftune_cli.config.spec import BASE_ARM
from neftune_cli.evidence.measurements import AnalysisPlan
from neftune_cli.reporting.columns import CSV_COLUMNS, ExportedEstimate, exported_assessment, exported_estimate, finite
from neftune_cli.reporting.schema import (
    ExportedBestArm,
    ExportedClaim,
    ExportedComparison,
    ExportedComparisons,
    ExportedContrast,
    ExportedEarlyStopping,
    ExportedHeadline,
    ExportedLearning,
    ExportedMargin,
    ExportedNoiseTest,
    ExportedOutlook,
    ExportedPlan,
    ExportedSetting,
    ExportedStoppedArm,
)


def to_json(comparisons: Sequence[Comparison]) -> str:
    """Return the JSON document that `ExportedComparisons` describes, ending with a line break."""
    document = ExportedComparisons(comparisons=tuple(_comparison(comparison) for comparison in comparisons))
    return document.model_dump_json(indent=2) + "\n"


def to_csv(comparisons: Sequence[Comparison]) -> str:
    """Return one row per sweep, arm and metric, including the base; undefined numbers are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for comparison in comparisons:
        writer.writerows(_base_rows(comparison))
        writer.writerows(row for arm in comparison.arms for row in _arm_rows(comparison, arm))
    return text.getvalue()


def _comparison(comparison: Comparison) -> ExportedComparison:
    setting = comparison.setting
    return ExportedComparison(
        sweep=comparison.sweep,
        setting=ExportedSetting(model=setting.model, data=setting.data, recipe=dict(setting.recipe)),
        baseline=comparison.baseline,
        base=None
        if comparison.base_scores is None
        else {key: finite(value) for key, value in comparison.base_scores.items()},
        noise_ratio={arm.name: finite(arm.noise_ratio) for arm in comparison.arms},
        primary=comparison.primary,
        confidence=comparison.confidence,
        headline=_headline(comparison),
        learning=ExportedLearning(
            has_learned=comparison.learning.has_learned, problems=tuple(comparison.learning.problems)
        ),
        plan=_plan(comparison.plan) if comparison.plan else None,
        margins={
            key: ExportedMargin(size=finite(margin.size), rule=margin.rule())
            for key, margin in comparison.margins.items()
        },
        noise_tests={key: _noise_test(test) for key, test in comparison.noise_tests.items()},
        outlooks={arm: tuple(map(_outlook, found)) for arm, found in comparison.outlooks.items()},
        metrics={key: _by_arm(comparison.arms, key) for key in comparison.metrics},
        best_arm=_best_arm(comparison.best) if comparison.best else None,
        early_stopping=_early_stopping(comparison.early_stopping) if comparison.early_stopping else None,
        hypotheses=tuple(_claim(result) for result in comparison.claims),
        advice=advice(comparison),
        notes=comparison.notes,
        unfinished=comparison.unfinished,
        apart=comparison.difference_from_first,
        manifest_digest=comparison.manifest_digest,
    )


def _headline(comparison: Comparison) -> ExportedHeadline:
    found = headline(comparison)
    return ExportedHeadline(word=found.state, sentence=found.sentence)


def _plan(plan: AnalysisPlan) -> ExportedPlan:
    return ExportedPlan(
        metric=plan.metric,
        primary_arm=plan.primary_arm,
        controls=plan.controls,
        looks=plan.looks,
        seeds=plan.seeds,
        taken=plan.looks_taken,
    )


def _noise_test(test: NoiseTest) -> ExportedNoiseTest:
    return ExportedNoiseTest(
        p_value=finite(test.p_value),
        contrasts=tuple(
            ExportedContrast(name=one.name, arms=one.arms, assessment=assessed)
            for one in test.contrasts
            if (assessed := exported_assessment(one.assessment))
        ),
    )


def _outlook(outlook: Outlook) -> ExportedOutlook:
    return ExportedOutlook(
        seeds=outlook.seeds, effect=outlook.effect, chance=outlook.chance, low=outlook.low, high=outlook.high
    )


def _by_arm(arms: Sequence[ArmSummary], key: str) -> dict[str, ExportedEstimate | None]:
    estimates = {arm.name: arm.estimates.get(key) for arm in arms}
    return {name: exported_estimate(estimate) if estimate else None for name, estimate in estimates.items()}


def _best_arm(best: BestArm) -> ExportedBestArm:
    return ExportedBestArm(
        arm=best.arm,
        metric=best.metric,
        seeds=best.advantage.seeds,
        naive=finite(best.naive),
        gain=finite(best.advantage.difference),
        ci_low=finite(best.advantage.ci_low),
        ci_high=finite(best.advantage.ci_high),
        chosen=dict(best.chosen),
        gains={arm: finite(one) for arm, one in best.advantages.items()},
    )


def _early_stopping(stopping: EarlyStopping) -> ExportedEarlyStopping:
    return ExportedEarlyStopping(
        epochs=stopping.epochs, arms=tuple(_stopped_arm(arm, stopping.epochs) for arm in stopping.arms)
    )


def _stopped_arm(arm: StoppedArm, epochs: tuple[int, ...]) -> ExportedStoppedArm:
    return ExportedStoppedArm(
        arm=arm.name,
        epochs=arm.epochs or epochs,
        last_loss=finite(arm.last_loss),
        best_loss=finite(arm.best_loss),
        best_epoch=finite(arm.best_epoch),
        last=exported_assessment(arm.last),
        best=exported_assessment(arm.best),
    )


def _claim(result: ClaimResult) -> ExportedClaim:
    return ExportedClaim(
        key=result.key,
        claim=result.claim,
        status=result.status,
        paper=result.paper,
        here=result.here,
        caveat=result.caveat,
    )


_CsvRow = Mapping[str, str | float | None]


def _base_rows(comparison: Comparison) -> Iterator[_CsvRow]:
    if comparison.base_scores is not None:
        for key in comparison.metrics:
            value = finite(comparison.base_scores.get(key))
            yield {"sweep": comparison.sweep, "arm": BASE_ARM, "metric": key, "mean": value}


def _arm_rows(comparison: Comparison, arm: ArmSummary) -> Iterator[_CsvRow]:
    alpha = "" if arm.alpha is None else f"{arm.alpha:.15g}"
    for key in comparison.metrics:
        row: dict[str, str | float | None] = {"sweep": comparison.sweep, "arm": arm.name, "alpha": alpha, "metric": key}
        if estimate := arm.estimates.get(key):
            exported = exported_estimate(estimate)
            row |= exported.model_dump(include=set(CSV_COLUMNS))
            row["seeds"] = " ".join(map(str, exported.seeds))
        yield row
