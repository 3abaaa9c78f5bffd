"""Documents of lm-evaluation-harness that some runs lack, repeat, or have with another content; older versions."""

import json
from pathlib import Path
from typing import Any

import pytest

from neftune_cli.evidence.lm_eval import lm_eval_evidence
from tests.lm_eval_logs import TIME, only, problem, sample, write, write_documents, write_samples


def counts(documents: int) -> dict[str, Any]:
    """Return the part of a results file that counts the evaluated documents."""
    return {"n-samples": {"quiz": {"original": 100, "effective": documents}}}


def test_documents_that_one_arm_lacks_are_left_out_for_all(tmp_path: Path) -> None:
    write_documents(tmp_path / "alpha=0", {0: 1, 1: 0, 2: 1, 3: 1, 7: 0})
    write_documents(tmp_path / "alpha=5", {3: 0, 1: 1, 0: 1, 9: 1})
    write_documents(tmp_path / "alpha=10", {0: 0, 1: 0, 3: 1, 7: 1, 9: 1})
    evidence = only(tmp_path)
    assert [trial.items["quiz/acc"].items for trial in evidence.trials] == 3 * [("0", "1", "3")]
    assert [list(trial.items["quiz/acc"].values) for trial in evidence.trials] == [[1, 0, 1], [1, 1, 0], [0, 0, 1]]
    assert [trial.scores["quiz/acc"] for trial in evidence.trials] == pytest.approx([2 / 3, 2 / 3, 1 / 3])
    assert evidence.notes[1:] == ("Left out in all runs, because they are not in every run: 3 of 6 documents of quiz.",)


def test_a_limit_only_leaves_out_documents(tmp_path: Path) -> None:
    write(tmp_path / "alpha=0", [1, 0, 1, 1], **counts(4))
    write(tmp_path / "alpha=5", [0, 1], **counts(2), config={"model": "hf", "limit": 2})
    evidence = only(tmp_path)
    assert [trial.scores["quiz/acc"] for trial in evidence.trials] == [0.5, 0.5]
    assert evidence.notes[1:] == ("Left out in all runs, because they are not in every run: 2 of 4 documents of quiz.",)


def test_runs_with_another_limit_are_separate_without_logged_documents(tmp_path: Path) -> None:
    for arm, limit in (("alpha=0", None), ("alpha=5", None), ("alpha=10", 100)):
        folder = write(tmp_path / arm, [1, 0], config={"model": "hf", "limit": limit})
        (folder / f"samples_quiz_{TIME}.jsonl").unlink()
    _, second = lm_eval_evidence(tmp_path)
    assert second.difference_from_first.endswith(
        "because more than the noise differs: quiz: limit 100 instead of none."
    )


def test_runs_without_a_common_document_are_separate(tmp_path: Path) -> None:
    write_documents(tmp_path / "alpha=0", {0: 1, 1: 0})
    write_documents(tmp_path / "alpha=5", {2: 1, 3: 0})
    assert len(lm_eval_evidence(tmp_path)) == 2


def test_an_incomplete_log_is_completed_by_no_guess(tmp_path: Path) -> None:
    write(tmp_path / "alpha=0", [1, 0, 1, 0], **counts(4))
    folder = write(tmp_path / "alpha=5", [1, 1, 0, 1], **counts(4))
    write_samples(folder, [sample(0, 1), sample(2, 0)])
    evidence = only(tmp_path)
    assert [list(trial.items["quiz/acc"].values) for trial in evidence.trials] == [[1, 1], [1, 0]]
    assert [trial.scores["quiz/acc"] for trial in evidence.trials] == [1, 0.5]
    assert evidence.notes[1:] == ("Left out in all runs, because they are not in every run: 2 of 4 documents of quiz.",)


def test_scores_are_kept_if_no_log_is_complete(tmp_path: Path) -> None:
    for arm in ("alpha=0", "alpha=5"):
        write_samples(write(tmp_path / arm, [1, 0, 1, 0], **counts(4)), [sample(0, 1), sample(2, 1)])
    evidence = only(tmp_path)
    assert [trial.scores for trial in evidence.trials] == 2 * [{"quiz/acc": 0.5}]
    assert [trial.items for trial in evidence.trials] == [{}, {}]
    assert evidence.notes[1:] == (
        "No log of these scores has every document, so their intervals are over seeds only: quiz acc.",
    )


def test_corpus_scores_of_different_documents_are_not_compared(tmp_path: Path) -> None:
    for arm, scores in (("alpha=0", [1.0, 0.0, 1.0]), ("alpha=5", [1.0, 0.0])):
        results = {"quiz": {"acc,none": sum(scores) / len(scores), "bleu,none": 11.0 + len(scores)}}
        folder = write(tmp_path / arm, scores, results=results, **counts(len(scores)))
        lines = [sample(number, score, bleu=12.0) for number, score in enumerate(scores)]
        write_samples(folder, lines)
    evidence = only(tmp_path)
    assert [trial.scores for trial in evidence.trials] == 2 * [{"quiz/acc": 0.5, "quiz/bleu": None}]
    assert evidence.notes[1:] == (
        "Left out in all runs, because they are not in every run: 1 of 3 documents of quiz.",
        "Not compared, because the runs were evaluated on different documents: quiz bleu.",
    )


def test_a_group_is_a_mean_over_the_documents_of_its_tasks_that_all_runs_have(tmp_path: Path) -> None:
    for arm, short in (("alpha=0", {0: 1, 1: 0}), ("alpha=5", {1: 1})):
        folder = write(tmp_path / arm, [1, 1, 1, 0], task="long")
        mean = sum(short.values()) / len(short)
        results = {"long": {"acc,none": 0.75}, "short": {"acc,none": mean}, "both": {"acc,none": (0.75 + mean) / 2}}
        write_documents(folder, short, task="short", results=results, group_subtasks={"both": ["long", "short"]})
    evidence = only(tmp_path)
    assert [trial.scores["both/acc"] for trial in evidence.trials] == [(0.75 + 0) / 2, (0.75 + 1) / 2]
    assert [trial.scores["short/acc"] for trial in evidence.trials] == [0, 1]
    assert evidence.notes[1:] == (
        "Left out in all runs, because they are not in every run: 1 of 2 documents of short.",
    )


def test_repeated_documents_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "alpha=0", [1, 0, 1])
    write_samples(folder, [sample(number, 1) for number in (0, 1, 2, 1)])
    write_samples(write(tmp_path / "alpha=5", [1]), 2 * [sample(number, 0) for number in range(5)])
    assert problem(tmp_path).splitlines() == [
        f"alpha=0/samples_quiz_{TIME}.jsonl: doc_id 1 occurs several times. "
        "Remove the repeated entries, or evaluate again.",
        f"alpha=5/samples_quiz_{TIME}.jsonl: doc_id 0, 1, 2 and 2 more occur several times. "
        "Remove the repeated entries, or evaluate again.",
    ]


def test_a_document_has_a_line_for_each_filter(tmp_path: Path) -> None:
    results = {"quiz": {"acc,strict": 0.5, "acc,flexible": 1.0}}
    folder = write(tmp_path / "alpha=0", [1, 0], results=results)
    write_samples(folder, [sample(0, 1, filter="strict"), sample(1, 0, filter="strict")])
    with (folder / f"samples_quiz_{TIME}.jsonl").open("a") as file:
        file.writelines([sample(0, 1, filter="flexible"), sample(1, 1, filter="flexible")])
    (trial,) = only(tmp_path).trials
    assert list(trial.items["quiz/acc (strict)"].values) == [1, 0]
    assert list(trial.items["quiz/acc (flexible)"].values) == [1, 1]


def test_another_content_under_the_same_id_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "alpha=0", [1, 0, 1])
    write_samples(write(tmp_path / "alpha=5", [1, 0, 1]), [sample(number, 1, doc_hash="new") for number in range(3)])
    folder = write(tmp_path / "alpha=2", [1, 0, 1])
    write_samples(folder, [sample(0, 1), sample(1, 0, doc_hash="other", prompt_hash="q"), sample(2, 1)])
    first = f"alpha=0/samples_quiz_{TIME}.jsonl, in task quiz"
    fix = "Evaluate all runs on the same data set, or compare fewer runs."
    assert problem(tmp_path).splitlines() == [
        f"alpha=2/samples_quiz_{TIME}.jsonl: document 1 has different content from {first}. {fix}",
        f"alpha=5/samples_quiz_{TIME}.jsonl: 3 documents (0, 1, 2) have different content from {first}. {fix}",
    ]


def test_the_order_of_keys_and_new_fields_do_not_matter(tmp_path: Path) -> None:
    write(tmp_path / "alpha=0", [1, 0])
    folder = write(tmp_path / "alpha=5", [1, 0], schema={"version": 9}, lm_eval_version="0.9")
    path = folder / f"results_{TIME}.json"
    path.write_text(json.dumps(dict(reversed(json.loads(path.read_text()).items()))))
    lines = [json.loads(sample(number, score)) for number, score in ((1, 0), (0, 1))]
    write_samples(folder, [json.dumps({"trace": [1], **dict(reversed(line.items()))}) + "\n" for line in lines])
    first, second = only(tmp_path).trials
    assert first.scores == second.scores
    assert first.items["quiz/acc"].items == second.items["quiz/acc"].items


def test_samples_before_0_4_7_have_no_filter(tmp_path: Path) -> None:
    folder = write(tmp_path / "alpha=0", [1.0, 0.0])
    write_samples(folder, [sample(number, score, filter=None, metrics=None) for number, score in ((0, 1.0), (1, 0.0))])
    assert list(only(tmp_path).trials[0].items["quiz/acc"].values) == [1.0, 0.0]


def test_samples_before_0_4_7_are_in_the_order_of_filters(tmp_path: Path) -> None:
    folder = write(tmp_path / "alpha=0", [1], results={"quiz": {"acc,strict": 0.0, "acc,flexible": 0.5}})
    write_samples(folder, [sample(number, score, filter=None) for number, score in ((0, 0), (1, 0), (0, 0), (1, 1))])
    (trial,) = only(tmp_path).trials
    assert list(trial.items["quiz/acc (strict)"].values) == [0, 0]
    assert list(trial.items["quiz/acc (flexible)"].values) == [0, 1]


def test_files_before_0_4_3_are_read(tmp_path: Path) -> None:
    for arm, scores in (("alpha=0", [1, 0]), ("alpha=5", [0, 0])):
        folder = write(tmp_path / arm, scores)
        values = json.loads((folder / f"results_{TIME}.json").read_text())
        values |= {"configs": {"quiz": {"task": "quiz"}}, "config": {"model": "hf", "model_args": "pretrained=out/m"}}
        (folder / "results.json").write_text(json.dumps(values))
        (folder / f"results_{TIME}.json").unlink()
        (folder / f"samples_quiz_{TIME}.jsonl").unlink()
        samples = [{"doc_id": number, "doc": {}, "acc": score} for number, score in enumerate(scores)]
        (folder / "pretrained__out__m_quiz.jsonl").write_text(json.dumps(samples, indent=2))
    evidence = only(tmp_path)
    assert [list(trial.items["quiz/acc"].values) for trial in evidence.trials] == [[1, 0], [0, 0]]


def test_results_of_other_tools_give_no_evidence(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"results": {"other": {"acc,none": 0.5}}}')
    assert lm_eval_evidence(tmp_path) == []


def test_blank_lines_of_a_log_are_skipped(tmp_path: Path) -> None:
    folder = write(tmp_path / "alpha=0", [1, 0])
    write_samples(folder, [sample(0, 1), "\n", sample(1, 0), " \r\n"])
    assert list(only(tmp_path).trials[0].items["quiz/acc"].values) == [1, 0]


def test_an_empty_log_is_no_log(tmp_path: Path) -> None:
    for arm in ("alpha=0", "alpha=5"):
        write(tmp_path / arm, [1, 0])
    write_samples(tmp_path / "alpha=5", [])
    assert [trial.scores for trial in only(tmp_path).trials] == 2 * [{"quiz/acc": 0.5}]
