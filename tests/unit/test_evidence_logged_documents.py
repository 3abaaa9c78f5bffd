"""Scores of runs of which some logged no documents or other documents; the expected means are computed by hand."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from neftune_cli.evidence.inspect_ai import inspect_evidence
from neftune_cli.evidence.lm_eval import lm_eval_evidence
from neftune_cli.evidence.measurements import Evidence
from tests.inspect_logs import log, write_json
from tests.lm_eval_logs import TIME, sample, write, write_samples

Scores = Mapping[int, float] | None
"""Logged document to score; None without a log."""


def of_lm_eval(root: Path, mean: float, scores: Scores, documents: int) -> None:
    results = {"quiz": {"acc,none": mean}}
    counts: dict[str, Any] = {"n-samples": {"quiz": {"original": 9, "effective": documents}}}
    folder = write(root, [mean], results=results, **counts)
    if scores is None:
        (folder / f"samples_quiz_{TIME}.jsonl").unlink()
    else:
        write_samples(folder, [sample(number, score) for number, score in scores.items()])


def of_inspect(root: Path, mean: float, scores: Scores, documents: int) -> None:
    content = log({str(number): [score] for number, score in (scores or {0: 1}).items()}, metrics={"accuracy": mean})
    content["results"]["total_samples"] = documents
    write_json(root / "log.json", content if scores is not None else {**content, "samples": []})


Write = Callable[[Path, float, Scores, int], None]
TOOLS = pytest.mark.parametrize(
    ("write_run", "evidence_of", "noun"),
    [(of_lm_eval, lm_eval_evidence, "document"), (of_inspect, inspect_evidence, "sample")],
)


def scores_of(evidence: Evidence) -> list[float | None]:
    return [score for trial in evidence.trials for score in trial.scores.values()]


@TOOLS
def test_a_run_without_logged_documents_has_no_score_over_other_documents(
    tmp_path: Path, write_run: Write, evidence_of: Callable[[Path], Sequence[Evidence]], noun: str
) -> None:
    write_run(tmp_path / "alpha=0", 0.75, {0: 1, 1: 0, 2: 1, 3: 1}, 4)
    write_run(tmp_path / "alpha=5", 0.5, {0: 1, 1: 0}, 4)
    write_run(tmp_path / "alpha=10", 0.75, None, 4)
    (evidence,) = evidence_of(tmp_path)
    assert scores_of(evidence) == [0.5, 0.5, None]
    assert evidence.notes[1:] == (
        f"Left out in all runs with logged {noun}s, because they are not in each of these runs: "
        f"2 of 4 {noun}s of quiz.",
        f"Not compared in quiz: alpha=10, seed 0. Its {noun}s were not logged, so the same {noun}s cannot be left out.",
    )


@TOOLS
def test_scores_are_kept_if_all_logged_documents_are_the_evaluated_ones(
    tmp_path: Path, write_run: Write, evidence_of: Callable[[Path], Sequence[Evidence]], noun: str
) -> None:
    write_run(tmp_path / "alpha=0", 0.75, {0: 1, 1: 0, 2: 1, 3: 1}, 4)
    write_run(tmp_path / "alpha=5", 0.5, None, 4)
    (evidence,) = evidence_of(tmp_path)
    assert scores_of(evidence) == [0.75, 0.5]


def test_corpus_scores_with_texts_as_values_are_not_compared_over_other_documents(tmp_path: Path) -> None:
    """The harness logs the pairs of texts of a corpus score, such as BLEU, not numbers."""
    for arm, documents in (("alpha=0", 3), ("alpha=5", 2)):
        folder = write(tmp_path / arm, [1], results={"quiz": {"bleu,none": 10.0 + documents}})
        write_samples(folder, [sample(number, 1, bleu=["reference", "response"]) for number in range(documents)])
    (evidence,) = lm_eval_evidence(tmp_path)
    assert scores_of(evidence) == [None, None]
    assert evidence.notes[1:] == ("Not compared, because the runs were evaluated on different documents: quiz bleu.",)


def test_corpus_scores_over_failed_samples_are_not_compared(tmp_path: Path) -> None:
    whole, failed = (log({"a": [1], "b": [3], "c": [5]}, metrics={"f1": score}) for score in (0.9, 0.8))
    failed["samples"][2] |= {"scores": {}, "error": {"message": "out of memory"}}
    for arm, content in (("alpha=0", whole), ("alpha=5", failed)):
        write_json(tmp_path / arm / "log.json", content)
    (evidence,) = inspect_evidence(tmp_path)
    assert scores_of(evidence) == [None, None]


def test_the_log_counts_the_samples_of_each_score(tmp_path: Path) -> None:
    """Newer logs count the samples with a value. A mean over other samples than the logged ones is no mean of them."""
    content = log({"a": [1], "b": [0]}, metrics={"mean": 0.75})
    content["results"]["scores"][0] |= {"scored_samples": 2, "unscored_samples": 0}
    content["results"]["total_samples"] = 4
    write_json(tmp_path / "alpha=0" / "log.json", content)
    (trial,) = inspect_evidence(tmp_path)[0].trials
    assert (dict(trial.scores), dict(trial.items)) == ({"quiz/match/mean": 0.75}, {})


def test_a_group_has_no_score_for_a_run_that_logged_not_all_of_its_tasks(tmp_path: Path) -> None:
    def run(arm: str, long: Sequence[int], **parts: Any) -> Path:
        tasks = {"long": {"acc,none": 0.5}, "short": {"acc,none": 1.0}, "both": {"acc,none": 0.75}}
        folder = write(tmp_path / arm, [1], task="short", results=tasks, group_subtasks={"both": ["long", "short"]})
        write_samples(folder, [sample(number, score) for number, score in enumerate(long)], task="long")
        return folder

    run("alpha=0", [1, 0, 1, 0])
    (run("alpha=5", [1, 0]) / f"samples_short_{TIME}.jsonl").unlink()
    (evidence,) = lm_eval_evidence(tmp_path)
    assert {key: [trial.scores[key] for trial in evidence.trials] for key in evidence.metrics} == {
        "both/acc": [0.75, None],
        "long/acc": [0.5, 0.5],
        "short/acc": [1, 1],
    }
