"""Logs of other tools in which any part is replaced by another kind of value: evidence or a named file, no other error.

Each part is replaced in the log of one of two runs. A value that the reader does not use changes nothing.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from neftune_cli.errors import UsageError
from neftune_cli.evidence.inspect_ai import inspect_evidence
from neftune_cli.evidence.lm_eval import lm_eval_evidence
from neftune_cli.evidence.measurements import Evidence
from tests.inspect_logs import log, write_eval, write_json
from tests.lm_eval_logs import FIX, TIME, sample, write

Keys = tuple[Any, ...]
Write = Callable[[Path, Any], None]

OTHER_VALUES = (None, 10**400, "text", [1], {"a": [1]})


def keys_of(values: Any, before: Keys = ()) -> Iterator[Keys]:
    """Yield the path of each part of a file; only the first entry of a list."""
    entries = values.items() if isinstance(values, dict) else enumerate(values[:1]) if isinstance(values, list) else ()
    for key, part in entries:
        yield (*before, key)
        yield from keys_of(part, (*before, key))


def replaced(values: Any, keys: Keys, value: Any) -> Any:
    changed = part = deepcopy(values)
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    return changed


def results() -> dict[str, Any]:
    """Return a results file with a task, a task that is not logged, and a group of both."""
    return {
        "results": {
            "quiz": {"sample_len": 2, "acc,none": 0.5, "acc_stderr,none": 0.1},
            "short": {"acc,none": 1.0},
            "both": {"acc,none": 0.75},
        },
        "group_subtasks": {"both": ["quiz", "short"]},
        "configs": {"quiz": {"repeats": 1, "metric_list": [{"metric": "acc"}]}},
        "versions": {"quiz": 1.0},
        "n-shot": {"quiz": 0},
        "higher_is_better": {"quiz": {"acc": True}},
        "n-samples": {"quiz": {"original": 2, "effective": 2}},
        "config": {"model": "hf", "model_args": {"peft": "out"}, "limit": None, "gen_kwargs": {"top_p": 1}},
    }


def lines() -> list[Any]:
    return [json.loads(sample(number, score)) for number, score in enumerate([1, 0])]


def write_results(folder: Path, content: Any) -> None:
    (write(folder, [1, 0]) / f"results_{TIME}.json").write_text(json.dumps(content))


def write_lines(folder: Path, content: Any) -> None:
    (write(folder, [1, 0], **results()) / f"samples_quiz_{TIME}.jsonl").write_text("\n".join(map(json.dumps, content)))


def inspect_log() -> dict[str, Any]:
    spec = {
        "config": {"epochs": 2, "limit": 2},
        "dataset": {"name": "questions"},
        "model_args": {"dtype": "float32"},
        "model_roles": {"grader": {"model": "tiny", "config": {"top_p": 1}, "args": {"revision": 1}}},
        "scorers": [{"name": "match", "options": {"location": "end"}}],
        "task_args_passed": {"shots": 0},
    }
    content = log({"a": ["C", "I"], "b": ["C", "C"]}, metrics={"accuracy": 0.75}, eval=spec)
    content["reductions"] = [{"scorer": "match", "reducer": "max", "samples": [{"sample_id": "a", "value": 1}]}]
    content["samples"][0] |= {"attachments": {"5f": "text"}, "metadata": {"topic": "x"}, "choices": ["yes", "no"]}
    return content


def write_inspect(folder: Path, content: Any) -> None:
    write_json(folder / "2026-11-27T10-00-00_quiz.json", content)


def unexplained(evidence_of: Callable[[Path], Sequence[Evidence]], root: Path, damaged: Path) -> list[str]:
    """Return the messages without the damaged file or a fix, or a sentence if the damaged run was skipped."""
    try:
        evidence = evidence_of(root)
    except UsageError as error:
        named = [problem for problem in error.problems if str(damaged) in problem.what and problem.fix]
        return [problem.what for problem in error.problems if problem not in named]
    runs = sum(len(one.trials) + len(one.unfinished) for one in evidence)
    return [] if runs == 2 else [f"{runs} of 2 runs were read"]


@pytest.mark.parametrize(
    ("write_run", "content", "evidence_of"),
    [
        (write_results, results(), lm_eval_evidence),
        (write_lines, lines(), lm_eval_evidence),
        (write_inspect, inspect_log(), inspect_evidence),
    ],
    ids=["results of lm-eval", "documents of lm-eval", "inspect"],
)
def test_a_part_of_another_kind_gives_evidence_or_a_message(
    tmp_path: Path, write_run: Write, content: Any, evidence_of: Callable[[Path], Sequence[Evidence]]
) -> None:
    write_run(tmp_path / "alpha=0", content)
    for keys in keys_of(content):
        for value in OTHER_VALUES:
            write_run(tmp_path / "alpha=5", replaced(content, keys, value))
            assert unexplained(evidence_of, tmp_path, tmp_path / "alpha=5") == [], f"{keys} = {value}"


@pytest.mark.parametrize(
    ("keys", "value", "reason"),
    [
        (("configs", "quiz"), "x", "configs.quiz is not an object"),
        (("higher_is_better", "quiz"), True, "higher_is_better.quiz is not an object"),
        (("higher_is_better", "quiz", "acc"), "yes", "higher_is_better.quiz.acc is not true or false"),
        (("group_subtasks", "both"), ["both"], "group_subtasks.both contains the group itself"),
        (("group_subtasks",), {"a": ["b"], "b": ["a"]}, "group_subtasks.a contains the group itself"),
        (("group_subtasks", "both"), {}, "group_subtasks.both is not a list"),
        (("results", "quiz"), 0.5, "results.quiz is not an object"),
        (("results",), None, "it has no results"),
        (("n-shot",), [1], "n-shot is not an object"),
    ],
)
def test_the_part_of_a_results_file_is_named(tmp_path: Path, keys: Keys, value: Any, reason: str) -> None:
    write_results(tmp_path, replaced(results(), keys, value))
    with pytest.raises(UsageError) as raised:
        lm_eval_evidence(tmp_path)
    assert str(raised.value) == f"{tmp_path}/results_{TIME}.json is not valid ({reason}). {FIX}"


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("filter", ["none"], "filter is not a text"),
        ("doc_hash", 5, "doc_hash is not a text"),
        ("doc_id", "0", "it has no doc_id"),
    ],
)
def test_the_part_of_a_document_is_named(tmp_path: Path, field: str, value: Any, reason: str) -> None:
    write_lines(tmp_path / "alpha=0", replaced(lines(), (1, field), value))
    with pytest.raises(UsageError) as raised:
        lm_eval_evidence(tmp_path)
    assert str(raised.value).endswith(f"samples_quiz_{TIME}.jsonl: line 2 is not valid ({reason}). {FIX}")


@pytest.mark.parametrize(
    ("keys", "value", "reason"),
    [
        (("samples",), 5, "samples is not a list"),
        (("samples", 0), 5, "a sample has no id or no epoch"),
        (("samples", 0, "scores"), ["C"], "sample a: scores is not an object"),
        (("samples", 0, "scores", "match"), "C", "sample a: scores.match is not an object"),
        (("eval",), None, "it has no eval.task"),
        (("eval", "config"), 5, "eval.config is not an object"),
        (("results", "scores", 0, "metrics"), [1], "results.scores.0.metrics is not an object"),
        (("reductions",), {"a": 1}, "reductions is not a list"),
    ],
)
def test_the_part_of_an_inspect_log_is_named(tmp_path: Path, keys: Keys, value: Any, reason: str) -> None:
    write_inspect(tmp_path, replaced(inspect_log(), keys, value))
    with pytest.raises(UsageError) as raised:
        inspect_evidence(tmp_path)
    assert f" is not a valid inspect log ({reason}). " in str(raised.value)


def test_several_parts_are_named_at_once(tmp_path: Path) -> None:
    write_results(tmp_path, {**results(), "configs": 1, "versions": 2, "n-shot": 3, "n-samples": 4})
    with pytest.raises(UsageError, match=r"configs is not an object, n-samples is not an object, .* and 1 more"):
        lm_eval_evidence(tmp_path)


def test_summaries_of_samples_of_another_kind_are_refused(tmp_path: Path) -> None:
    content = inspect_log()
    write_eval(tmp_path / "log.eval", {**content, "samples": []})
    with ZipFile(tmp_path / "log.eval", "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("summaries.json", "[5]")
    with pytest.raises(UsageError, match=r"summaries.0 is not an object"):
        inspect_evidence(tmp_path)
