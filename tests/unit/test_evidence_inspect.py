"""Evidence from inspect_ai, compared with the scores that it printed and with means that were computed by hand.

`recorded/inspect/sums.eval` is a log of version 0.3.285: three questions in two epochs, answered "2", "4", "5" and then
"no", "4", "6". The scorer `graded` grades 2 as correct, 4 as partially correct, "no" as no answer, and others as
incorrect. The program printed: match accuracy 0.6667, graded accuracy 0.3333, length mean 1.1667, even mean 0.6667.
"""

import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from neftune_cli.analysis.comparison import compare_arms
from neftune_cli.errors import UsageError
from neftune_cli.evidence.gathering import gather
from neftune_cli.evidence.inspect_ai import inspect_evidence
from neftune_cli.evidence.measurements import Evidence
from neftune_cli.reporting.next_step import details_command
from tests.inspect_logs import log, sample, write_eval, write_json

RECORDED = Path(__file__).parent / "recorded" / "inspect" / "sums.eval"
DAMAGED_FIX = "Copy the log again, evaluate again, or remove the file."
ACCURACY = "quiz/match/accuracy"


def only(root: Path, **options: Any) -> Evidence:
    (evidence,) = inspect_evidence(root, **options)
    return evidence


def problem(root: Path, **options: Any) -> str:
    with pytest.raises(UsageError) as raised:
        inspect_evidence(root, **options)
    return str(raised.value).replace(f"{root}/", "")


def arms(root: Path, *logs: Mapping[str, Any]) -> Path:
    """Write logs of the arms alpha=0, alpha=5, ..., alternately as `.eval` and `.json`."""
    for place, content in enumerate(logs):
        folder = root / f"alpha={5 * place},seed=0"
        write_json(folder / "log.json", content) if place % 2 else write_eval(folder / "log.eval", content)
    return root


def record(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return Path(shutil.copy(RECORDED, folder))


def test_a_recorded_log_has_the_printed_scores(tmp_path: Path) -> None:
    record(tmp_path / "alpha=5,seed=1")
    evidence = only(tmp_path)
    (trial,) = evidence.trials
    assert (trial.arm, trial.alpha, trial.seed) == ("alpha=5", 5.0, 1)
    assert {key: round(score or 0, 4) for key, score in trial.scores.items()} == {
        "sums/match/accuracy": 0.6667,
        "sums/graded/accuracy": 0.3333,
        "sums/length/mean": 1.1667,
        "sums/even/mean": 0.6667,
    }
    assert {key: (*values.items, *values.values) for key, values in trial.items.items()} == {
        "sums/match/accuracy": ("1", "2", "3", 0.5, 1.0, 0.5),
        "sums/graded/accuracy": ("1", "2", "3", 0.5, 0.5, 0.0),
        "sums/length/mean": ("1", "2", "3", 1.5, 1.0, 1.0),
        "sums/even/mean": ("1", "2", "3", 0.5, 1.0, 0.5),
    }
    assert evidence.setting.description == f"the models of {tmp_path.name} on sums"


def test_metrics_are_named_like_in_the_log(tmp_path: Path) -> None:
    record(tmp_path / "alpha=0")
    metrics = only(tmp_path).metrics
    assert [(metric.title, metric.section) for metric in metrics.values()] == [
        ("sums match accuracy ↑", "inspect"),
        ("sums graded accuracy ↑", "inspect"),
        ("sums length mean", "inspect"),
        ("sums even mean", "inspect"),
    ]


def test_items_are_named_by_the_tool(tmp_path: Path) -> None:
    evidence = only(arms(tmp_path, log({"a": [1.0, 0.0]}, metrics={"accuracy": 0.5})))

    assert {metric.item for metric in evidence.metrics.values()} == {"sample"}


def test_a_metadata_field_forms_clusters(tmp_path: Path) -> None:
    record(tmp_path / "alpha=0")
    evidence = only(tmp_path, cluster_by="topic")
    assert evidence.trials[0].items["sums/match/accuracy"].clusters == ('"odd"', '"even"', '"odd"')
    assert evidence.notes[1:] == ("Samples with the same topic in their metadata form a cluster.",)
    assert details_command(compare_arms(evidence)) == f"neftune compare {tmp_path}/alpha=0 --cluster-by topic --full"
    assert only(tmp_path).trials[0].items["sums/match/accuracy"].clusters == ("1", "2", "3")


def test_unknown_metadata_fields_are_refused(tmp_path: Path) -> None:
    record(tmp_path / "alpha=0")
    what = "no sample has this field in its metadata"
    assert problem(tmp_path, cluster_by="topics") == f"--cluster-by topics: {what}. Did you mean 'topic'?"
    assert problem(tmp_path, cluster_by="level") == f"--cluster-by level: {what}. Use topic."


def test_samples_without_the_field_are_counted(tmp_path: Path) -> None:
    content = log({"a": ["C"], "b": ["I"], "c": ["C"]}, metrics={"accuracy": 2 / 3})
    content["samples"][0]["metadata"] = {"topic": 1}
    evidence = only(arms(tmp_path, content), cluster_by="topic")
    assert evidence.trials[0].items[ACCURACY].clusters == ("1", "b", "c")
    assert evidence.notes[2] == "2 of 3 samples of quiz have no topic. Each of them is a cluster of its own."


def test_clusters_need_inspect_logs(tmp_path: Path) -> None:
    state = {"global_step": 1, "max_steps": 1, "log_history": [{"step": 1, "loss": 1.0}]}
    write_json(tmp_path / "alpha=0" / "trainer_state.json", state)
    with pytest.raises(UsageError, match="--cluster-by topic: there are no inspect logs in"):
        gather([tmp_path], cluster_by="topic")


@pytest.mark.parametrize(
    ("value", "number"),
    [("C", 1), ("I", 0), ("P", 0.5), ("N", 0), (True, 1), ("Yes", 1), ("false", 0), ("2.5", 2.5), (3, 3), ("B", 0)],
)
def test_values_are_numbers_as_in_inspect(tmp_path: Path, value: Any, number: float) -> None:
    evidence = only(arms(tmp_path, log({"a": [value]}, metrics={"accuracy": number})))
    assert list(evidence.trials[0].items[ACCURACY].values) == [number]


@pytest.mark.parametrize(("write", "name"), [(write_eval, "log.eval"), (write_json, "log.json")])
def test_epochs_are_averaged(tmp_path: Path, write: Callable[..., Path], name: str) -> None:
    values = {"a": ["C", "I", "C", "C"], "b": ["I", "I", "P", "N"]}
    write(tmp_path / "alpha=0" / name, log(values, metrics={"accuracy": 0.4375, "stderr": 0.1}))
    (trial,) = only(tmp_path).trials
    assert trial.scores == {ACCURACY: 0.4375}
    assert list(trial.items[ACCURACY].values) == [0.75, 0.125]


def test_other_reducers_use_the_reductions_of_the_log(tmp_path: Path) -> None:
    content = log({"a": ["C", "I"], "b": ["I", "I"]})
    scores = [
        {"name": "match", "scorer": "match", "reducer": name, "metrics": {"accuracy": {"value": value}}}
        for name, value in (("mean", 0.25), ("pass_at_2", 0.5))
    ]
    content["results"]["scores"] = scores
    values = {"a": 1.0, "b": 0.0}
    reduced = [{"sample_id": name, "value": value} for name, value in values.items()]
    content["reductions"] = [{"scorer": "match", "reducer": "pass_at_2", "samples": reduced}]
    first, second = only(arms(tmp_path, content, content)).trials
    assert first.scores == second.scores == {f"{ACCURACY} (mean)": 0.25, f"{ACCURACY} (pass_at_2)": 0.5}
    assert list(first.items[f"{ACCURACY} (pass_at_2)"].values) == [1, 0]
    assert list(second.items[f"{ACCURACY} (mean)"].values) == [0.5, 0]


def test_scorers_with_the_same_value_names_are_told_apart(tmp_path: Path) -> None:
    content = log({"a": ["C"]})
    content["samples"] = [sample("a", 1, {name: {"value": {"tone": 2, "x": "C"}} for name in ("human", "model")})]
    content["results"]["scores"] = [
        {"name": "tone", "scorer": name, "metrics": {"mean": {"value": 2.0}}} for name in ("human", "model")
    ]
    assert list(only(arms(tmp_path, content)).trials[0].items) == ["quiz/human.tone/mean", "quiz/model.tone/mean"]


def test_samples_that_one_arm_lacks_or_that_failed_are_left_out_for_all(tmp_path: Path) -> None:
    first = log({"a": ["C"], "b": ["I"], "c": ["C"], "d": ["I"]}, metrics={"accuracy": 0.5})
    second = log({"d": ["C"], "a": ["C"], "b": ["I"]}, metrics={"accuracy": 2 / 3})
    third = log({"a": ["I"], "b": ["C"], "c": ["C"], "d": [math.nan]}, metrics={"accuracy": 2 / 3})
    fourth = log({"a": ["I"], "b": ["C"], "c": ["C"], "d": ["C"]}, metrics={"accuracy": 2 / 3})
    fourth["samples"][3] |= {"scores": None, "error": {"message": "out of memory"}}
    evidence = only(arms(tmp_path, first, second, third, fourth))
    assert [trial.items[ACCURACY].items for trial in evidence.trials] == 4 * [("a", "b")]
    assert [trial.scores[ACCURACY] for trial in evidence.trials] == [0.5, 0.5, 0.5, 0.5]
    assert evidence.notes[1:] == ("Left out in all runs, because they are not in every run: 2 of 4 samples of quiz.",)


@pytest.mark.parametrize(("write", "name"), [(write_eval, "log.eval"), (write_json, "log.json")])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_repeated_samples_are_refused(tmp_path: Path, write: Callable[..., Path], name: str) -> None:
    content = log({"a": ["C", "I"], "b": ["I", "I"]}, metrics={"accuracy": 0.25})
    content["samples"].append(content["samples"][3])
    write(tmp_path / name, content)
    what = f"{name}: sample b occurs several times."
    assert problem(tmp_path) == f"{what} Remove the repeated entries, or evaluate again."


def test_another_input_under_the_same_id_is_refused(tmp_path: Path) -> None:
    first, second = (log({"a": ["C"], "b": ["I"]}, metrics={"accuracy": 0.5}) for _ in range(2))
    second["samples"][1]["input"] = "Another question?"
    assert problem(arms(tmp_path, first, second)) == (
        "alpha=5,seed=0/log.json: sample b has different content from alpha=0,seed=0/log.eval, in task quiz. "
        "Evaluate all runs on the same data set, or compare fewer runs."
    )


def test_random_ids_and_attachments_are_no_difference_of_the_input(tmp_path: Path) -> None:
    first, second = (log({"a": ["C"]}, metrics={"accuracy": 1}) for _ in range(2))
    first["samples"][0]["input"] = [{"id": "x1", "role": "user", "content": "A long question?"}]
    second["samples"][0] |= {
        "input": [{"content": "attachment://5f", "role": "user", "id": "z9"}],
        "attachments": {"5f": "A long question?"},
    }
    assert len(only(arms(tmp_path, first, second)).trials) == 2


def test_logs_that_are_not_complete_are_named(tmp_path: Path) -> None:
    content = log({"a": ["C"]}, metrics={"accuracy": 1})
    arms(tmp_path, content, {**content, "status": "error"}, content)
    write_json(tmp_path / "alpha=10,seed=0" / "earlier.json", {**content, "status": "cancelled"})
    evidence = only(tmp_path)
    assert [trial.arm for trial in evidence.trials] == ["alpha=0", "alpha=10"]
    path = tmp_path / "alpha=5,seed=0" / "log.json"
    assert evidence.unfinished == (f"{path} is not complete (status error)",)


def test_logs_without_a_header_are_not_complete(tmp_path: Path) -> None:
    path = write_eval(tmp_path / "whole.eval", log({"a": ["C"]}, metrics={"accuracy": 1}))
    with ZipFile(path) as whole, ZipFile(tmp_path / "a.eval", "w") as cut:
        for name in whole.namelist()[:2]:
            cut.writestr(name, whole.read(name))
    path.unlink()
    assert problem(tmp_path) == (
        "a.eval is not complete (status started). Run `inspect eval-retry` with the log, or remove it."
    )


def test_damaged_logs_are_named(tmp_path: Path) -> None:
    content = log({"a": ["C"]}, metrics={"accuracy": 1})
    for name in ("cut.eval", "empty.eval"):
        write_eval(tmp_path / name, content)
    (tmp_path / "cut.eval").write_bytes((tmp_path / "cut.eval").read_bytes()[:-40])
    (tmp_path / "empty.eval").write_bytes(b"")
    damaged = bytearray(RECORDED.read_bytes())
    damaged[1200] ^= 255
    (tmp_path / "flipped.eval").write_bytes(damaged)
    with ZipFile(tmp_path / "other.eval", "w") as archive:
        archive.writestr("header.json", "{}")
    path = write_json(tmp_path / "2026-11-27T10-00-00-00-00_quiz_x.json", content)
    path.write_text(path.read_text()[:-5])
    lines = problem(tmp_path).splitlines()
    assert [line.partition(" (")[0] for line in lines] == [
        f"{name} is not a valid inspect log"
        for name in (path.name, "cut.eval", "empty.eval", "flipped.eval", "other.eval")
    ]
    assert all(line.endswith(DAMAGED_FIX) for line in lines)


def test_other_json_files_give_no_evidence(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"eval": 1, "status": "success", "task": "none"}')
    (tmp_path / "cut.json").write_text('{"eval": {"task": "quiz"}, "status": "suc')
    assert inspect_evidence(tmp_path) == []


def test_the_order_of_keys_and_new_fields_do_not_matter(tmp_path: Path) -> None:
    content = log({"a": ["C"], "b": ["I"]}, metrics={"accuracy": 0.5})
    other = {"schema": {"new": 1}, **dict(reversed(content.items()))}
    other["samples"] = [{"trace": 1, **dict(reversed(one.items()))} for one in reversed(content["samples"])]
    first, second = only(arms(tmp_path, content, other)).trials
    assert first.items[ACCURACY].items == second.items[ACCURACY].items
    assert list(first.items[ACCURACY].values) == list(second.items[ACCURACY].values) == [1, 0]


def test_scores_that_are_no_means_have_no_items(tmp_path: Path) -> None:
    evidence = only(
        arms(tmp_path, log({"a": [1], "b": [3]}, metrics={"mean": 2.0, "f1": 0.9, "bootstrap_stderr": 1.0}))
    )
    (trial,) = evidence.trials
    assert trial.scores == {"quiz/match/mean": 2.0, "quiz/match/f1": 0.9}
    assert list(trial.items) == ["quiz/match/mean"]
    assert [metric.goal for metric in evidence.metrics.values()] == [None, None]


def test_logs_without_samples_have_scores(tmp_path: Path) -> None:
    content = log({"a": ["C"], "b": ["I"]}, metrics={"accuracy": 0.5})
    evidence = only(arms(tmp_path, *(2 * [{**content, "samples": []}])))
    assert [trial.scores for trial in evidence.trials] == 2 * [{ACCURACY: 0.5}]
    assert evidence.notes[1:] == (
        "These tasks have logs without samples, so their intervals are over seeds only: quiz.",
    )


def test_samples_in_an_unknown_format_are_read_from_their_summaries(tmp_path: Path) -> None:
    content = log({"a": ["C"], "b": ["I"]}, metrics={"accuracy": 0.5})
    path = write_eval(tmp_path / "old.eval", content)
    (tmp_path / "alpha=0").mkdir()
    with ZipFile(path) as old, ZipFile(tmp_path / "alpha=0" / "new.eval", "w") as new:
        for name in old.namelist():
            new.writestr(name.replace("epoch_1.json", "epoch_1/sample.json"), old.read(name))
    path.unlink()
    write_json(tmp_path / "alpha=5" / "log.json", content)
    assert [list(trial.items[ACCURACY].values) for trial in only(tmp_path).trials] == [[1, 0], [1, 0]]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"eval": {"model_generate_config": {"temperature": 1}}}, "quiz: temperature 1 instead of none"),
        ({"eval": {"task_args": {"shots": 5}}}, 'quiz: arguments {"shots": 5} instead of none'),
        ({"plan": {"steps": [{"solver": "chain_of_thought"}]}}, "quiz: different solvers"),
        ({"eval": {"task": "riddle"}}, "tasks riddle instead of quiz"),
    ],
)
def test_runs_with_other_settings_are_separate(tmp_path: Path, parts: Mapping[str, Any], words: str) -> None:
    values = {"a": ["C"], "b": ["I"]}
    contents = [log(values, metrics={"accuracy": 0.5}, **one) for one in ({}, {}, parts)]
    _, second = inspect_evidence(arms(tmp_path, *contents))
    assert second.difference_from_first.endswith(f"because more than the noise differs: {words}.")


def test_a_limit_only_leaves_out_samples(tmp_path: Path) -> None:
    first = log({"a": ["C"], "b": ["I"]}, metrics={"accuracy": 0.5})
    second = log({"a": ["I"]}, metrics={"accuracy": 0}, eval={"config": {"limit": 1}})
    assert [trial.scores[ACCURACY] for trial in only(arms(tmp_path, first, second)).trials] == [1, 0]


def test_models_in_one_folder_are_runs(tmp_path: Path) -> None:
    for alpha in (0, 5):
        spec = {"model": "hf/local", "model_args": {"model_path": f"out/alpha-{alpha}_seed-1"}}
        write_eval(tmp_path / f"{alpha}.eval", log({"a": ["C"]}, metrics={"accuracy": 1}, eval=spec))
    assert [(trial.arm, trial.seed) for trial in only(tmp_path).trials] == [("alpha=0", 1), ("alpha=5", 1)]


def test_models_without_an_arm_need_folders(tmp_path: Path) -> None:
    for name in ("first", "second"):
        content = log({"a": ["C"]}, metrics={"accuracy": 1}, eval={"model": f"hf/{name}"})
        write_eval(tmp_path / "logs" / f"{name}.eval", content)
    assert problem(tmp_path) == (
        "logs has logs of 2 models, and the arm of some is unknown: hf__first, hf__second. "
        "Move the logs of each model to a folder of its own, for example alpha=5,seed=0."
    )


def test_the_newest_complete_log_of_each_task_is_used(tmp_path: Path) -> None:
    folder = tmp_path / "alpha=0"
    for day, name, value in ((1, "quiz", "C"), (3, "quiz", "I"), (2, "quiz", "C"), (1, "riddle", "C")):
        spec = {"created": f"2026-11-0{day}T10:00:00+00:00", "task": name}
        write_eval(folder / f"{day}-{name}.eval", log({"a": [value]}, metrics={"accuracy": value == "C"}, eval=spec))
    evidence = only(tmp_path)
    assert evidence.trials[0].scores == {ACCURACY: 0, "riddle/match/accuracy": 1}
    assert evidence.notes[1:] == ("Several logs of quiz are in one folder. The newest complete logs are used.",)


def test_a_task_with_several_arguments_in_a_folder_is_several_tasks(tmp_path: Path) -> None:
    for alpha in (0, 5):
        for subject in ("law", "art"):
            content = log({"a": ["C"]}, metrics={"accuracy": 1}, eval={"task_args": {"subject": subject}})
            write_eval(tmp_path / f"alpha={alpha}" / f"{subject}.eval", content)
    first, second = only(tmp_path).trials
    assert (
        set(first.scores)
        == set(second.scores)
        == {
            "quiz (subject=law)/match/accuracy",
            "quiz (subject=art)/match/accuracy",
        }
    )


def test_incomplete_characters_in_responses_are_read(tmp_path: Path) -> None:
    path = write_json(tmp_path / "alpha=0" / "log.json", log({"a": ["C"]}, metrics={"accuracy": 1}))
    path.write_text(path.read_text().replace('"target": "yes"', r'"target": "\ud83d"'))
    assert only(tmp_path).trials[0].scores == {ACCURACY: 1}
