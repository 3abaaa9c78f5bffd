"""Registration of metrics: one call is enough to compute, record, compare, tabulate and export a metric."""

import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neftune_cli.analysis.comparison import compare_all, compare_sweep
from neftune_cli.analysis.options import ComparisonOptions, parse_margins
from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.errors import UsageError
from neftune_cli.evaluation.generation import aggregate_scores, item_scores
from neftune_cli.evidence.sweeps import sweep_evidence
from neftune_cli.metrics import (
    HELD_OUT_RESPONSES,
    LOSS_TABLE,
    METRICS,
    REGISTERED_METRICS,
    RESERVED_KEYS,
    Margin,
    Metric,
    register_metric,
    response_metrics,
)
from neftune_cli.records import EVAL_METRICS, HELD_OUT_SPLIT, LOSS_METRICS, PROBE_SPLIT, Generation, TrialRecord
from neftune_cli.reporting.output_formats import OutputFormat, document
from neftune_cli.store import SweepFolder
from tests.finished_trials import write_trial
from tests.registries import restored, without

TEXT_FORMATS = (OutputFormat.TABLE, OutputFormat.MARKDOWN, OutputFormat.LATEX)
REFERENCES = ("a b c d", "e f g h")
RESPONSES = {0.0: ("a b x y", "x x x x"), 5.0: ("a b c y", "e f x x")}
"""Alpha to responses. They share 2 and 0 of 4 words with the references, and 3 and 2 of 4 words."""


def shared_words(response: str, reference: str) -> float:
    return len(set(response.split()) & set(reference.split())) / len(reference.split())


def distinct_words(responses: Sequence[str], _references: Sequence[str]) -> float:
    return float(len({word for response in responses for word in response.split()}))


SHARED_WORDS = Metric(
    key="shared_words",
    name="Shared words",
    unit="0 to 1",
    goal="higher",
    decimals=3,
    margin=Margin(0.02),
    section=HELD_OUT_RESPONSES,
    on_training_prompts=True,
    score=shared_words,
)
DISTINCT_WORDS = Metric(
    key="distinct_words",
    name="Distinct words",
    unit="words",
    goal=None,
    decimals=0,
    margin=Margin(1),
    section=HELD_OUT_RESPONSES,
    per_item=False,
    score=distinct_words,
)


@pytest.fixture(autouse=True)
def registered_metrics() -> Iterator[None]:
    with restored(REGISTERED_METRICS):
        register_metric(SHARED_WORDS)
        register_metric(DISTINCT_WORDS)
        yield


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
    """Return a record with all registered metrics; the responses to probe prompts are those to held-out prompts."""
    scores = aggregate_scores(generations(alpha))
    noise = {"alpha": alpha} if alpha else None
    identity = {**template.identity, "noise": noise, "seed": seed}
    return template.model_copy(
        update={
            "trial": f"{alpha}{seed}",
            "arm": f"alpha={alpha:g}",
            "alpha": alpha,
            "seed": seed,
            "eval": scores,
            "probe_eval": scores,
            "identity": identity,
        }
    )


@pytest.fixture
def unstarted(tmp_path: Path) -> SweepFolder:
    folder = SweepFolder(tmp_path / "sweep")
    folder.open(resolve_sweep(None, {"alphas": [0.0, 5.0], "seeds": [0, 1, 2]}))
    return folder


@pytest.fixture
def sweep(unstarted: SweepFolder, hand_made_records: list[TrialRecord]) -> SweepFolder:
    for alpha in RESPONSES:
        write_trials(unstarted, hand_made_records[1], alpha)
    return unstarted


def write_trials(folder: SweepFolder, template: TrialRecord, alpha: float) -> None:
    for seed in range(3):
        one = record(template, alpha, seed)
        answers = [
            *generations(alpha),
            *(each.model_copy(update={"split": PROBE_SPLIT}) for each in generations(alpha)),
        ]
        write_trial(folder.trial(one.trial, one.arm, one.seed), one, [], answers, [])


def test_scores_are_computed_and_recorded(sweep: SweepFolder) -> None:
    found = {one.alpha: one.eval.model_dump() for one in sweep.records()}
    assert {alpha: scores["shared_words"] for alpha, scores in found.items()} == {0.0: 0.25, 5.0: 0.625}
    assert {alpha: scores["distinct_words"] for alpha, scores in found.items()} == {0.0: 4, 5.0: 7}
    lines = (sweep.trials()[0].path / "generations.jsonl").read_text().splitlines()
    held_out = [line for line in map(json.loads, lines) if line["split"] == HELD_OUT_SPLIT]
    assert [line["shared_words"] for line in held_out] in ([0.5, 0.0], [0.75, 0.5])
    assert all("distinct_words" not in line for line in held_out)


def test_tables_and_exports_have_the_metrics(sweep: SweepFolder) -> None:
    sweep.write_tables()
    header = (sweep.path / "eval.csv").read_text().splitlines()[0].split(",")
    assert header == ["arm", "alpha", "seed", *EVAL_METRICS, "shared_words", "distinct_words"]
    compared = compare_sweep(sweep)
    for text in (document(compared, format_) for format_ in (*TEXT_FORMATS, OutputFormat.HTML)):
        assert "shared words" in text
        assert "distinct words" in text
    rows = list(csv.DictReader(io.StringIO(document(compared, OutputFormat.CSV))))
    shared = {row["arm"]: float(row["mean"]) for row in rows if row["metric"] == "shared_words" and row["mean"]}
    assert shared == {"alpha=0": 0.25, "alpha=5": 0.625}
    exported = document(compared, OutputFormat.JSON)
    assert '"shared_words"' in exported
    assert '"distinct_words"' in exported


def difference(sweep: SweepFolder, key: str) -> float | None:
    """Return the estimated difference of alpha 5 and alpha 0."""
    (comparison,) = [one.comparison for one in compare_sweep(sweep)]
    (treated,) = [arm for arm in comparison.arms if arm.name == "alpha=5"]
    estimate = treated.estimates[key]
    return estimate.difference.mean if estimate and estimate.difference else None


@pytest.mark.parametrize("key", ["shared_words", "probe_shared_words"])
def test_a_per_item_metric_is_paired_by_item(sweep: SweepFolder, key: str) -> None:
    assert difference(sweep, key) == pytest.approx(0.375)
    (evidence,) = sweep_evidence([sweep])
    assert all(len(trial.items[key].items) == 2 for trial in evidence.trials)


def test_a_corpus_level_metric_is_paired_by_seed(sweep: SweepFolder) -> None:
    assert difference(sweep, "distinct_words") == pytest.approx(3)
    (evidence,) = sweep_evidence([sweep])
    assert all("distinct_words" not in trial.items for trial in evidence.trials)


def test_a_registered_metric_can_be_the_primary_metric_with_a_margin(sweep: SweepFolder) -> None:
    margins = parse_margins(["shared_words=0.05"], list(METRICS))
    options = ComparisonOptions(metric="shared_words", margins=margins)
    (comparison,) = [one.comparison for one in compare_all(sweep_evidence([sweep]), options)[0]]
    assert comparison.primary == "shared_words"


def test_metrics_of_training_prompts_are_derived() -> None:
    assert list(METRICS)[-1] == "probe_shared_words"
    assert METRICS["probe_shared_words"].goal is None
    assert "probe_distinct_words" not in METRICS


def test_trials_from_before_the_registration_lack_the_metric(
    unstarted: SweepFolder, hand_made_records: list[TrialRecord]
) -> None:
    with without(REGISTERED_METRICS, "shared_words"):
        write_trials(unstarted, hand_made_records[1], alpha=0.0)
    write_trials(unstarted, hand_made_records[1], alpha=5.0)
    unstarted.write_tables()
    rows = list(csv.DictReader(io.StringIO((unstarted.path / "eval.csv").read_text())))
    assert [row["shared_words"] for row in rows] == ["", "", "", "0.625", "0.625", "0.625"]
    assert difference(unstarted, "shared_words") is None
    assert difference(unstarted, "distinct_words") == pytest.approx(3)


def test_a_record_keeps_a_metric_that_is_no_longer_registered(sweep: SweepFolder) -> None:
    with without(REGISTERED_METRICS, "shared_words"):
        assert {one.eval.model_dump()["shared_words"] for one in sweep.records()} == {0.25, 0.625}
        sweep.write_tables()
        assert "shared_words" in (sweep.path / "eval.csv").read_text()
        assert '"shared_words"' not in document(compare_sweep(sweep), OutputFormat.JSON)


def test_records_without_registered_metrics_have_the_fields_of_the_schema() -> None:
    with without(REGISTERED_METRICS, "shared_words", "distinct_words"):
        assert tuple(aggregate_scores(generations(0.0)).model_dump()) == EVAL_METRICS
        assert tuple(generations(0.0)[0].model_dump()) == tuple(Generation.model_fields)


def test_declared_metrics_are_those_of_records() -> None:
    assert tuple(metric.key for metric in response_metrics())[: len(EVAL_METRICS)] == EVAL_METRICS
    assert tuple(METRICS)[: len(LOSS_METRICS)] == LOSS_METRICS
    assert {*RESERVED_KEYS} == {*Generation.model_fields} - {*EVAL_METRICS}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key": "tokens"}, "cannot have the key 'tokens'"),
        ({"key": "probe_words"}, "cannot have the key 'probe_words'"),
        ({"key": "shared/words"}, "cannot have the key 'shared/words'"),
        ({"key": "rouge_l"}, "registered twice"),
        ({"key": "words", "score": None}, "Nothing computes the metric 'words'"),
        ({"key": "words", "section": LOSS_TABLE}, "Nothing computes the metric 'words'"),
        ({"key": "words", "score": 3}, "Nothing computes the metric 'words'"),
        ({"key": 3}, "cannot have the key 3"),
    ],
)
def test_a_metric_that_cannot_be_used_raises(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        register_metric(replace(SHARED_WORDS, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key": "tokens"}, "cannot have the key 'tokens'"),
        ({"key": "two words"}, "cannot have the key 'two words'"),
        ({"key": "words", "score": None}, "Nothing computes the metric 'words'"),
        ({"key": "words", "section": LOSS_TABLE}, "Nothing computes the metric 'words'"),
    ],
)
def test_a_package_with_a_metric_that_cannot_be_used_is_named(
    changes: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("my_metrics")
    module.METRIC = replace(SHARED_WORDS, **changes)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_metrics", module)
    entry_point = EntryPoint("one", "my_metrics:METRIC", "neftune.metrics")
    monkeypatch.setattr("neftune_cli.config.registry.entry_points_of", lambda _group: (entry_point,))
    monkeypatch.setattr(REGISTERED_METRICS, "_loaded", False)
    with pytest.raises(UsageError, match=f"The entry point 'one' of the package my_metrics:METRIC: .*{message}"):
        list(METRICS)


SIZES = st.floats(min_value=1e-12, max_value=1e12)


@given(size=SIZES, kind=st.sampled_from(["unit", "baseline", "gain"]))
def test_a_margin_is_written_as_the_text_that_gives_it(size: float, kind: str) -> None:
    margin = Margin(size, relative=kind != "unit", of_gain=size if kind == "gain" else None)
    assert Margin.parse(margin.written()) == margin


@pytest.mark.parametrize("text", ["0.02", "10%", "1% of gain", "2.5%"])
def test_a_written_margin_is_short(text: str) -> None:
    margin = Margin.parse(text)
    assert margin is not None
    assert margin.written() == text


def test_metrics_name_their_items() -> None:
    keys = ("train_loss", "train_loss_clean", "probe_rouge_l", "probe_bleu", "eval_loss", "exact_match")

    items = [METRICS[key].item for key in keys]
    assert items == ["training example", *["probe example"] * 3, *["held-out example"] * 2]
