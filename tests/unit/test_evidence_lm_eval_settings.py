"""Fields of a task's configuration in lm-evaluation-harness that separate runs, and those that do not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from neftune_cli.evidence.lm_eval import lm_eval_evidence
from tests.lm_eval_logs import TIME, write

F1 = {"metric_list": [{"metric": "f1"}]}
WITHOUT_CASE = {"metric_list": [{"metric": "f1", "fold": True}]}
STRICT = {"filter_list": [{"name": "strict", "filter": [{"function": "regex", "regex_pattern": "#### (.*)"}]}]}


def difference(root: Path, one: Mapping[str, Any], other: Mapping[str, Any], *, logged: bool = True) -> str | None:
    """Return the difference between two runs with these configurations of a task; None if they are compared."""
    for arm, config in (("alpha=0", one), ("alpha=5", other)):
        folder = write(root / arm, [1, 0], configs={"quiz": {"task": "quiz", **config}})
        if not logged:
            (folder / f"samples_quiz_{TIME}.jsonl").unlink()
    _, *others = lm_eval_evidence(root)
    return others[0].difference_from_first.partition("because more than the noise differs: ")[2] if others else None


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (
            F1,
            WITHOUT_CASE,
            'quiz: metric_list [{"fold": true, "metric": "f1"}] instead of [{"metric": "f1"}].',
        ),
        (STRICT, {"filter_list": []}, "quiz: different filter_list."),
        ({"repeats": 1}, {"repeats": 8}, "quiz: repeats 8 instead of 1."),
        (
            {"generation_kwargs": {"until": ["\n"]}},
            {"generation_kwargs": {"until": []}},
            'quiz: generation_kwargs {"until": []} instead of {"until": ["\\n"]}.',
        ),
    ],
)
def test_runs_with_another_scoring_are_separate(
    tmp_path: Path, one: Mapping[str, Any], other: Mapping[str, Any], words: str
) -> None:
    assert difference(tmp_path, one, other) == words


def test_other_prompts_are_known_from_the_configuration_without_logged_documents(tmp_path: Path) -> None:
    prompts = [{"doc_to_text": f"{word}: {{{{question}}}}"} for word in ("Q", "Question")]
    words = "quiz: doc_to_text Question: {{question}} instead of Q: {{question}}."
    assert difference(tmp_path / "unlogged", *prompts, logged=False) == words
    assert difference(tmp_path / "logged", *prompts) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"generation_kwargs": {"a": 1, "b": 2}}, {"generation_kwargs": {"b": 2, "a": 1}}),
        ({"metric_list": [{"metric": "<function f at 0x7f>"}]}, {"metric_list": [{"metric": "<function f at 0x55>"}]}),
        (F1, {}),
        ({"metadata": {"pretrained": "out/a"}}, {"metadata": {"pretrained": "out/b"}}),
    ],
    ids=["order of keys", "addresses", "unknown", "model"],
)
def test_runs_with_the_same_known_settings_are_compared(
    tmp_path: Path, one: Mapping[str, Any], other: Mapping[str, Any]
) -> None:
    assert difference(tmp_path, one, other) is None
