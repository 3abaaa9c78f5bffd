"""Settings in the logs of inspect (0.3.285) that separate runs, and those that do not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from neftune_cli.errors import UsageError
from neftune_cli.evidence.inspect_ai import inspect_evidence
from tests.inspect_logs import log, write_json

Parts = Mapping[str, Any]


def quiz(**parts: Any) -> dict[str, Any]:
    return log({"a": ["C"], "b": ["I"]}, metrics={"accuracy": 0.5}, **parts)


def difference(root: Path, one: Parts, other: Parts) -> str | None:
    """Return the difference between two runs with these parts of the log; None if they are compared."""
    for arm, parts in (("alpha=0", one), ("alpha=5", other)):
        write_json(root / arm / "log.json", quiz(**parts))
    _, *others = inspect_evidence(root)
    return others[0].difference_from_first.partition("because more than the noise differs: ")[2] if others else None


def generation(**settings: Any) -> dict[str, Any]:
    return {"plan": {"steps": [{"solver": "generate"}], "config": settings}}


GRADERS = [{"eval": {"model_roles": {"grader": {"model": name, "base_url": "http://x"}}}} for name in ("gpt", "tiny")]
SCORERS = [{"eval": {"scorers": [{"name": "graded", "options": {"model": name}}]}} for name in ("gpt", "tiny")]


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (*SCORERS, 'quiz: scorer graded {"model": "tiny"} instead of {"model": "gpt"}.'),
        (*GRADERS, 'quiz: model roles {"grader": "tiny"} instead of {"grader": "gpt"}.'),
        ({}, GRADERS[1], 'quiz: model roles {"grader": "tiny"} instead of none.'),
        ({}, generation(frequency_penalty=2.0), "quiz: frequency penalty 2.0 instead of none."),
        (generation(num_choices=1), generation(num_choices=5), "quiz: num choices 5 instead of 1."),
        (
            generation(repetition_penalty=1.5),
            {},
            'quiz: other generation settings none instead of {"repetition_penalty": 1.5}.',
        ),
        ({}, generation(system_message=100 * "x"), "quiz: different system message."),
        ({}, {"eval": {"config": {"time_limit": 9}}}, "quiz: time limit 9 instead of none."),
    ],
)
def test_runs_with_other_settings_are_separate(tmp_path: Path, one: Parts, other: Parts, words: str) -> None:
    assert difference(tmp_path, one, other) == words


def test_runs_with_other_numbers_of_epochs_are_separate(tmp_path: Path) -> None:
    for arm, epochs in (("alpha=0", 1), ("alpha=5", 3)):
        write_json(tmp_path / arm / "log.json", log({"a": epochs * ["C"]}, metrics={"accuracy": 1}))
    _, second = inspect_evidence(tmp_path)
    assert second.difference_from_first.endswith("because more than the noise differs: quiz: epochs 3 instead of 1.")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"eval": {"scorers": SCORERS[0]["eval"]["scorers"]}}),
        ({"eval": {"config": {}}}, {"eval": {"config": {"epochs": 1, "max_samples": 4, "log_images": True}}}),
        (generation(seed=1, max_connections=5, timeout=9), generation(seed=2, max_retries=3, batch=True)),
        (generation(temperature=None), {"eval": {"model_generate_config": {"top_p": None}}}),
        (
            {**generation(temperature=0.5), "eval": {"model_generate_config": {"temperature": None}}},
            {**generation(temperature=0.5), "eval": {"model_generate_config": {"temperature": 1}}},
        ),
        (
            {"eval": {"scorers": [{"name": "f", "options": {"by": "<function f at 0x7f21>"}}]}},
            {"eval": {"scorers": [{"name": "f", "options": {"by": "<function f at 0x55ab>"}}]}},
        ),
    ],
    ids=["unknown scorers", "defaults", "operation", "null", "the plan takes precedence", "addresses"],
)
def test_runs_with_the_same_known_settings_are_compared(tmp_path: Path, one: Parts, other: Parts) -> None:
    assert difference(tmp_path, one, other) is None


def test_older_logs_have_the_options_of_a_scorer_in_its_scores(tmp_path: Path) -> None:
    for arm, name in (("alpha=0", "gpt"), ("alpha=5", "tiny")):
        content = quiz()
        content["results"]["scores"][0]["params"] = {"model": name}
        write_json(tmp_path / arm / "log.json", content)
    _, second = inspect_evidence(tmp_path)
    assert second.difference_from_first.endswith('quiz: scorer match {"model": "tiny"} instead of {"model": "gpt"}.')


@pytest.mark.parametrize("change", [{"target": "no"}, {"choices": ["no", "yes"]}])
def test_another_target_or_other_choices_under_the_same_id_are_refused(tmp_path: Path, change: Parts) -> None:
    for arm, parts in (("alpha=0", {}), ("alpha=5", change)):
        content = quiz()
        content["samples"][1] |= {"choices": ["yes", "no"], **parts}
        write_json(tmp_path / arm / "log.json", content)
    with pytest.raises(UsageError, match="sample b has different content from"):
        inspect_evidence(tmp_path)


def test_no_choices_are_written_in_two_ways(tmp_path: Path) -> None:
    for arm, choices in (("alpha=0", None), ("alpha=5", [])):
        content = quiz()
        content["samples"][0]["choices"] = choices
        write_json(tmp_path / arm / "log.json", content)
    assert len(inspect_evidence(tmp_path)) == 1
