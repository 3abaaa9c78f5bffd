"""A further metric needs one registration: it is then computed, recorded, compared, tabulated and exported."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.errors import UsageError
from neftune_cli.evaluation.generation import item_scores, response_scores
from neftune_cli.metrics import (
    HELD_OUT_ANSWERS,
    METRICS,
    REGISTRY,
    Margin,
    Metric,
    register_metric,
    response_metrics,
)
from neftune_cli.records import EVAL_METRICS, LOSS_METRICS, Generation, TrialRecord
from neftune_cli.reporting.documents import OutputFormat, document
from neftune_cli.reporting.reports import compare_sweep
from neftune_cli.store import SweepFolder
from tests.finished_trials import leave

REFERENCES = ("a b c d", "e f g h")
RESPONSES = {0.0: ("a b x y", "x x x x"), 5.0: ("a b c y", "e f x x")}
"""Responses by alpha. Shared words: 2 and 0 of 4; 3 and 2 of 4."""


def shared_words(response: str, reference: str) -> float:
    return len(set(response.split()) & set(reference.split())) / len(reference.split())


def distinct_words(responses: Sequence[str], _references: Sequence[str]) -> float:
    return float(len({word for response in responses for word in response.split()}))


@pytest.fixture(autouse=True)
def further_metrics() -> Iterator[None]:
    register_metric(
        Metric(
            key="shared_words",
            name="Shared words",
            heading="shared words",
            unit="0 to 1",
            goal="higher",
            decimals=3,
            margin=Margin(0.02),
            section=HELD_OUT_ANSWERS,
            on_training_prompts=True,
            score=shared_words,
        )
    )
    register_metric(
        Metric(
            key="distinct_words",
            name="Distinct words",
            heading="distinct words",
            unit="words",
            goal=None,
            decimals=0,
            margin=Margin(1),
            section=HELD_OUT_ANSWERS,
            per_item=False,
            score=distinct_words,
        )
    )
    yield
    REGISTRY.unregister("shared_words")
    REGISTRY.unregister("distinct_words")


def generations(alpha: float) -> list[Generation]:
    return [
        Generation(
            example=reference,
            cluster=reference,
            kind="",
            prompt="?",
            reference=reference,
            response=response,
            tokens=4,
            truncated=False,
            **item_scores(response, reference),
        )
        for response, reference in zip(RESPONSES[alpha], REFERENCES, strict=True)
    ]


def record(template: TrialRecord, alpha: float, seed: int) -> TrialRecord:
    scores = response_scores(generations(alpha))
    noise = {"alpha": alpha} if alpha else None
    identity = {**template.identity, "noise": noise, "seed": seed}
    return template.model_copy(
        update={
            "trial": f"{alpha}{seed}",
            "arm": f"alpha={alpha:g}",
            "alpha": alpha,
            "seed": seed,
            "eval": scores,
            "identity": identity,
        }
    )


@pytest.fixture
def sweep(tmp_path: Path, hand_made_records: list[TrialRecord]) -> SweepFolder:
    folder = SweepFolder(tmp_path / "sweep")
    folder.open(resolve_sweep(None, {"alphas": [0.0, 5.0], "seeds": [0, 1, 2]}))
    template = hand_made_records[1]
    for alpha in RESPONSES:
        for seed in range(3):
            one = record(template, alpha, seed)
            leave(folder.trial(one.trial, one.arm, one.seed), one, [], generations(alpha), [])
    return folder


def test_scores_are_computed_and_recorded(sweep: SweepFolder) -> None:
    found = {one.alpha: one.eval.model_dump() for one in sweep.records()}
    assert {alpha: scores["shared_words"] for alpha, scores in found.items()} == {0.0: 0.25, 5.0: 0.625}
    assert {alpha: scores["distinct_words"] for alpha, scores in found.items()} == {0.0: 4, 5.0: 7}
    lines = (sweep.trials()[0].path / "generations.jsonl").read_text().splitlines()
    assert [json.loads(line)["shared_words"] for line in lines] in ([0.5, 0.0], [0.75, 0.5])


def test_tables_and_exports_have_the_metrics(sweep: SweepFolder) -> None:
    sweep.write_tables()
    header = (sweep.path / "eval.csv").read_text().splitlines()[0].split(",")
    assert header == ["arm", "alpha", "seed", *EVAL_METRICS, "shared_words", "distinct_words"]
    comparisons = [one.comparison for one in compare_sweep(sweep)]
    for format_ in (OutputFormat.TABLE, OutputFormat.MARKDOWN, OutputFormat.LATEX):
        text = document(comparisons, format_)
        assert "shared words" in text
        assert "distinct words" in text
    rows = list(csv.DictReader(io.StringIO(document(comparisons, OutputFormat.CSV))))
    shared = {row["arm"]: float(row["mean"]) for row in rows if row["metric"] == "shared_words" and row["mean"]}
    assert shared == {"alpha=0": 0.25, "alpha=5": 0.625}
    exported = document(comparisons, OutputFormat.JSON)
    assert '"shared_words"' in exported
    assert '"distinct_words"' in exported


def test_the_per_item_metric_is_paired_by_item(sweep: SweepFolder) -> None:
    (comparison,) = [one.comparison for one in compare_sweep(sweep)]
    (treated,) = [arm for arm in comparison.arms if arm.name == "alpha=5"]
    estimate = treated.estimates["shared_words"]
    assert estimate is not None
    assert estimate.difference is not None
    assert estimate.difference.mean == pytest.approx(0.375)


def test_keys_of_training_prompts_are_derived() -> None:
    assert list(METRICS)[-1] == "probe_shared_words"
    assert METRICS["probe_shared_words"].goal is None
    assert "probe_distinct_words" not in METRICS


def test_a_record_keeps_a_metric_that_is_no_longer_registered(sweep: SweepFolder) -> None:
    REGISTRY.unregister("shared_words")
    try:
        assert {one.eval.model_dump()["shared_words"] for one in sweep.records()} == {0.25, 0.625}
        assert '"shared_words"' not in document([one.comparison for one in compare_sweep(sweep)], OutputFormat.JSON)
    finally:
        REGISTRY.register(Metric("shared_words", "x", "x", "", None, 1, Margin(1), score=shared_words))


def test_declared_metrics_are_those_of_records() -> None:
    assert tuple(metric.key for metric in response_metrics())[: len(EVAL_METRICS)] == EVAL_METRICS
    assert tuple(METRICS)[: len(LOSS_METRICS)] == LOSS_METRICS


def test_a_metric_without_a_score_is_refused() -> None:
    with pytest.raises(UsageError, match="has no score"):
        register_metric(Metric("x", "X", "x", "", None, 1, Margin(1), section=HELD_OUT_ANSWERS))
