"""Evidence from lm-evaluation-harness, compared with the scores that it printed.

`recorded/lm_eval` has the files of version 0.4.13 for five questions and a model with random answers, without
environment and paths. The harness printed these scores: sums acc 0.5; sums_mc acc and acc_norm 0.8; sums_mc2 acc and
acc_norm 0.2; sums_gen exact_match 0 with strict-match and 0.2 with flexible-extract, bleu 0 with both; sums_ppl
word_perplexity 1.1559 and bits_per_byte 0.0514.
"""

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neftune_cli.evidence.lm_eval import lm_eval_evidence
from neftune_cli.metrics import Margin
from tests.lm_eval_logs import FIX, LATER, TIME, only, problem, sample, write

RECORDED = Path(__file__).parent / "recorded" / "lm_eval"
MODEL = "out__alpha-5_seed-0"


def recorded(root: Path, arm: str = "") -> Path:
    """Copy the recorded files to the folder that the harness uses for `--output_path root/arm`."""
    folder = root / arm / (MODEL if not arm else "model")
    shutil.copytree(RECORDED, folder)
    return folder


def change(folder: Path, time: str = TIME, **parts: Mapping[str, Any]) -> None:
    """Change parts of a results file, by task or field."""
    path = folder / f"results_{time}.json"
    values = json.loads(path.read_text())
    for part, new in parts.items():
        values[part.replace("_", "-") if part.startswith("n_") else part] |= new
    path.write_text(json.dumps(values))


def test_scores_equal_those_that_the_harness_printed(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "evals")
    evidence = only(tmp_path / "evals")
    (trial,) = evidence.trials
    assert (trial.trial_id, trial.arm, trial.alpha, trial.seed) == (str(folder), "alpha=5", 5.0, 0)
    assert {key: round(score or 0, 4) for key, score in trial.scores.items()} == {
        "sums_gen/exact_match (strict-match)": 0.0,
        "sums_gen/bleu (strict-match)": 0.0,
        "sums_gen/exact_match (flexible-extract)": 0.2,
        "sums_gen/bleu (flexible-extract)": 0.0,
        "sums_ppl/word_perplexity": 1.1559,
        "sums_ppl/bits_per_byte": 0.0514,
        "sums/acc": 0.5,
        "sums_mc/acc": 0.8,
        "sums_mc/acc_norm": 0.8,
        "sums_mc2/acc": 0.2,
        "sums_mc2/acc_norm": 0.2,
    }
    assert list(evidence.metrics) == list(trial.scores)


def test_scores_that_are_means_have_documents_as_items(tmp_path: Path) -> None:
    recorded(tmp_path / "evals")
    (trial,) = only(tmp_path / "evals").trials
    assert set(trial.scores) - set(trial.items) == {
        "sums_gen/bleu (strict-match)",
        "sums_gen/bleu (flexible-extract)",
        "sums_ppl/word_perplexity",
        "sums_ppl/bits_per_byte",
    }
    for key, values in trial.items.items():
        assert np.average(values.values, weights=values.weights) == pytest.approx(trial.scores[key])
        assert len(set(values.items)) == len(values.items) == len(values.clusters)
    by_filter = [trial.items[f"sums_gen/exact_match ({name})"] for name in ("strict-match", "flexible-extract")]
    assert [list(values.values) for values in by_filter] == [[0, 0, 0, 0, 0], [0, 0, 0, 1, 0]]
    assert by_filter[0].items == ("0", "1", "2", "3", "4")
    # the fifth question is the same as the first
    assert by_filter[0].clusters[4] == by_filter[0].clusters[0]
    assert len(set(by_filter[0].clusters)) == 4
    assert len(trial.items["sums/acc"].items) == 10


def test_direction_and_margin_of_metrics(tmp_path: Path) -> None:
    recorded(tmp_path / "evals")
    metrics = only(tmp_path / "evals").metrics
    exact = metrics["sums_gen/exact_match (strict-match)"]
    assert (exact.name, exact.title, exact.unit, exact.goal, exact.decimals, exact.margin, exact.section) == (
        "sums_gen exact_match (strict-match)",
        "sums_gen exact_match (strict-match) ↑",
        "",
        "higher",
        3,
        Margin(0.02),
        "lm-eval",
    )
    perplexity = metrics["sums_ppl/word_perplexity"]
    assert (perplexity.title, perplexity.unit, perplexity.margin) == (
        "sums_ppl word_perplexity ↓",
        "",
        Margin(0.01, True),
    )


def test_metrics_in_percent_have_margins_in_percent(tmp_path: Path) -> None:
    write(tmp_path / "alpha=0", [40.0, 60.0])
    write(tmp_path / "alpha=5", [0.5, 0.25])
    metric = only(tmp_path).metrics["quiz/acc"]
    assert (metric.decimals, metric.margin) == (2, Margin(2.0))


def test_ratings_are_no_percentages(tmp_path: Path) -> None:
    write(tmp_path / "alpha=0", [4.0, 5.0])
    write(tmp_path / "alpha=5", [3.0, 4.0])
    assert only(tmp_path).metrics["quiz/acc"].margin == Margin(0.01, relative=True)


def test_a_metric_without_a_known_direction_has_no_goal(tmp_path: Path) -> None:
    write(tmp_path / "alpha=0", [1.0, 0.0], higher_is_better={"quiz": {"acc": None}})
    assert only(tmp_path).metrics["quiz/acc"].goal is None


def test_runs_are_ordered_and_have_the_same_items(tmp_path: Path) -> None:
    for arm in ("alpha=5,seed=1", "alpha=0,seed=0", "alpha=5,seed=0", "base"):
        recorded(tmp_path, arm)
    evidence = only(tmp_path)
    assert [(trial.arm, trial.seed) for trial in evidence.trials] == [
        ("base", None),
        ("alpha=0", 0),
        ("alpha=5", 0),
        ("alpha=5", 1),
    ]
    assert len({trial.items["sums_mc/acc"].items for trial in evidence.trials}) == 1
    assert evidence.name == tmp_path.name
    assert evidence.setting.description == f"the models of {tmp_path.name} on sums_gen, sums_ppl, sums (0-shot)"
    assert evidence.notes == (
        "These runs come from lm-evaluation-harness, whose files do not show whether the runs differ only in noise and "
        "seed. Arm and seed come from folder names or run files.",
    )


def test_items_are_independent_of_the_order_of_logged_documents(tmp_path: Path) -> None:
    write(tmp_path / "alpha=0", [1.0, 0.0, 0.5])
    shuffled = write(tmp_path / "alpha=5", [1.0, 0.0, 0.5]) / f"samples_quiz_{TIME}.jsonl"
    shuffled.write_text("".join(shuffled.read_text().splitlines(keepends=True)[::-1]))
    first, second = only(tmp_path).trials
    assert first.items["quiz/acc"].items == second.items["quiz/acc"].items == ("0", "1", "2")
    assert list(second.items["quiz/acc"].values) == [1.0, 0.0, 0.5]


def test_boolean_scores_are_read_as_one_and_zero(tmp_path: Path) -> None:
    folder = write(tmp_path / "alpha=0", [1.0, 0.0])
    (folder / f"samples_quiz_{TIME}.jsonl").write_text(sample(0, True) + sample(1, False))
    assert list(only(tmp_path).trials[0].items["quiz/acc"].values) == [1.0, 0.0]


def test_a_group_score_can_be_a_mean_over_tasks(tmp_path: Path) -> None:
    folder = tmp_path / "alpha=0"
    write(folder, [1.0, 1.0, 1.0, 0.0], task="long")
    results = {
        "long": {"acc,none": 0.75},
        "short": {"acc,none": 0.5},
        "both": {"acc,none": (0.75 + 0.5) / 2},
        "median": {"acc,none": 1.0},
    }
    subtasks = {"both": ["long", "short"], "median": ["long", "short"]}
    write(folder, [1.0, 0.0], task="short", results=results, group_subtasks=subtasks)
    (trial,) = only(tmp_path).trials
    values = trial.items["both/acc"]
    assert values.items == ("long/0", "long/1", "long/2", "long/3", "short/0", "short/1")
    assert np.average(values.values, weights=values.weights) == pytest.approx(0.625)
    assert "median/acc" not in trial.items
    assert list(trial.scores) == ["both/acc", "median/acc", "long/acc", "short/acc"]


def test_a_group_has_no_items_if_one_of_its_tasks_was_evaluated_again(tmp_path: Path) -> None:
    folder = write(tmp_path / "alpha=0", [1.0, 0.0], task="first")
    results = {task: {"acc,none": 0.5} for task in ("first", "second", "both")}
    write(folder, [1.0, 0.0], task="second", results=results, group_subtasks={"both": ["first", "second"]})
    assert "both/acc" in only(tmp_path).trials[0].items
    write(folder, [0.0, 1.0], task="second", time=LATER)
    (trial,) = only(tmp_path).trials
    assert trial.scores["both/acc"] == 0.5
    assert set(trial.items) == {"first/acc", "second/acc"}


def test_the_newest_results_of_each_task_are_used(tmp_path: Path) -> None:
    folder = write(tmp_path / "alpha=0", [0.0, 0.0])
    write(folder, [1.0, 1.0], task="other")
    (folder / f"results_{TIME}.json").write_text(
        json.dumps({"results": {"quiz": {"acc,none": 0.0}, "other": {"acc,none": 1.0}}})
    )
    write(folder, [1.0, 0.0], time=LATER)
    evidence = only(tmp_path)
    (trial,) = evidence.trials
    assert trial.scores == {"quiz/acc": 0.5, "other/acc": 1.0}
    assert list(trial.items["quiz/acc"].values) == [1.0, 0.0]
    assert evidence.notes[1:] == ("Several evaluations of quiz are in one folder. The newest results are used.",)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"n-shot": {"quiz": 5}}, "quiz: n-shot 5 instead of 0"),
        ({"versions": {"quiz": 2.0}}, "quiz: version 2.0 instead of 1.0"),
        ({"config": {"model": "vllm", "limit": None}}, "quiz: backend vllm instead of hf"),
        ({"chat_template_sha": 64 * "a"}, "quiz: different chat template"),
    ],
)
def test_runs_with_other_settings_are_separate(tmp_path: Path, parts: Mapping[str, Any], words: str) -> None:
    for arm in ("alpha=0", "alpha=5"):
        write(tmp_path / arm, [1.0, 0.0])
    write(tmp_path / "alpha=10", [1.0, 1.0], **parts)
    first, second = lm_eval_evidence(tmp_path)
    assert [len(first.trials), len(second.trials)] == [2, 1]
    assert (first.name, first.difference_from_first, second.name) == (
        f"{tmp_path.name}, part 1",
        "",
        f"{tmp_path.name}, part 2",
    )
    assert (
        second.difference_from_first == f"Not compared with {first.name}, because more than the noise differs: {words}."
    )


def test_runs_with_other_prompts_are_separate(tmp_path: Path) -> None:
    for arm in ("alpha=0", "alpha=5"):
        write(tmp_path / arm, [1.0, 0.0])
    folder = write(tmp_path / "alpha=10", [1.0, 0.0])
    (folder / f"samples_quiz_{TIME}.jsonl").write_text(sample(0, 1.0) + sample(1, 0.0, prompt_hash="longer"))
    _, second = lm_eval_evidence(tmp_path)
    assert second.difference_from_first.endswith("because more than the noise differs: quiz: different prompts.")


def test_a_difference_in_all_tasks_is_named_once(tmp_path: Path) -> None:
    recorded(tmp_path, "alpha=0")
    recorded(tmp_path, "alpha=5")
    change(recorded(tmp_path, "alpha=10"), config={"limit": 5})
    _, second = lm_eval_evidence(tmp_path)
    assert second.difference_from_first.endswith("because more than the noise differs: limit 5 instead of none.")


def test_runs_on_other_tasks_are_separate(tmp_path: Path) -> None:
    write(tmp_path / "alpha=0", [1.0, 0.0])
    write(tmp_path / "alpha=5", [1.0, 0.0], task="riddle")
    _, second = lm_eval_evidence(tmp_path)
    assert second.difference_from_first.endswith("because more than the noise differs: tasks riddle instead of quiz.")


def test_the_model_of_adapters_is_their_base_model(tmp_path: Path) -> None:
    for arm in ("alpha=0", "alpha=5"):
        arguments = {"pretrained": "HuggingFaceTB/SmolLM2-135M", "peft": f"out/{arm}"}
        write(tmp_path / arm, [1.0, 0.0], config={"model": "hf", "model_args": arguments})
    assert only(tmp_path).setting.description == "SmolLM2-135M on quiz (0-shot)"


def test_runs_without_samples_have_scores_and_a_note(tmp_path: Path) -> None:
    for arm in ("alpha=0", "alpha=5"):
        write(tmp_path / arm, [1.0, 0.0])
    (tmp_path / "alpha=5" / f"samples_quiz_{TIME}.jsonl").unlink()
    evidence = only(tmp_path)
    assert [trial.scores for trial in evidence.trials] == 2 * [{"quiz/acc": 0.5}]
    assert [set(trial.items) for trial in evidence.trials] == [{"quiz/acc"}, set()]
    assert evidence.notes[1:] == (
        "These tasks were evaluated without --log_samples, so their intervals are over seeds only: quiz.",
    )


def test_nan_scores_are_kept_and_placeholders_are_not_scores(tmp_path: Path) -> None:
    write(tmp_path / "alpha=0", [1.0], results={"quiz": {"acc,none": math.nan, "bypass,none": 999, "f1,none": "N/A"}})
    (trial,) = only(tmp_path).trials
    assert list(trial.scores) == ["quiz/acc"]
    assert math.isnan(trial.scores["quiz/acc"] or 0)
    assert trial.items == {}


def test_results_of_an_output_path_with_a_file_name_are_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "alpha=5,seed=1", [1.0, 0.0])
    (folder / f"results_{TIME}.json").rename(folder / f"mine_{TIME}.json")
    (folder / f"notes_{TIME}.json").write_text("no JSON at all")
    (folder / f"others_{TIME}.json").write_text("[1, 2]")
    (trial,) = only(tmp_path).trials
    assert (trial.seed, len(trial.items["quiz/acc"].items)) == (1, 2)


def test_separately_given_folders_are_compared(tmp_path: Path) -> None:
    folders = [write(tmp_path / f"alpha={alpha}" / "model", [1.0, 0.0]).parent for alpha in (0, 5)]
    (evidence,) = lm_eval_evidence(*folders)
    assert [trial.arm for trial in evidence.trials] == ["alpha=0", "alpha=5"]


def test_evaluations_of_two_checkpoints_of_a_run_are_duplicates(tmp_path: Path) -> None:
    for checkpoint in ("out__checkpoint-100", "out__checkpoint-200"):
        write(tmp_path / "alpha=5,seed=0" / checkpoint, [1.0, 0.0])
    assert problem(tmp_path).startswith(
        "alpha=5, seed 0 occurs 2 times: alpha=5,seed=0/out__checkpoint-100, alpha=5,seed=0/out__checkpoint-200."
    )


def test_files_of_other_formats_give_no_evidence(tmp_path: Path) -> None:
    (tmp_path / f"results_{TIME}.json").write_text('{"results": {"other|0": {"acc": 0.5}}}')  # as another tool writes
    assert lm_eval_evidence(tmp_path) == []


def test_truncated_files_are_named(tmp_path: Path) -> None:
    first, second = (write(tmp_path / arm, [1.0, 0.0]) for arm in ("alpha=0", "alpha=5"))
    for folder in (first, second):
        path = folder / f"samples_quiz_{TIME}.jsonl"
        path.write_text(path.read_text()[:-30])
    assert problem(tmp_path).splitlines() == [
        f"{arm}/samples_quiz_{TIME}.jsonl: line 2 is not valid (EOF while parsing a string). {FIX}"
        for arm in ("alpha=0", "alpha=5")
    ]
    (first / f"results_{TIME}.json").write_text('{"results": {"quiz"')
    assert problem(tmp_path) == (
        f"alpha=0/results_{TIME}.json is not valid (EOF while parsing an object at line 1 column 19). {FIX}"
    )


def test_a_line_without_a_document_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "alpha=0", [1.0, 0.0])
    (folder / f"samples_quiz_{TIME}.jsonl").write_text(sample(0, 1.0) + '{"question": 1}\n')
    expected = f"alpha=0/samples_quiz_{TIME}.jsonl: line 2 is not valid (it has no doc_id). {FIX}"
    assert problem(tmp_path) == expected
