"""Turns in text: JSON and Python lists that are read as turns, and text with objects that stays text."""

import json
from collections.abc import Callable
from typing import Any, cast

import pytest

from neftune_cli.data.json_text import object_of_line
from neftune_cli.errors import UsageError
from tests.unit.test_data_turns import ANSWER, PLAIN, USER, reading_of


@pytest.mark.parametrize("role_key", ["role", "from", "speaker"])
def test_turns_of_every_spelling_are_turns_in_every_form(role_key: str) -> None:
    turns = [{role_key: turn["role"], "text": turn["content"]} for turn in (USER, ANSWER)]
    forms: list[dict[str, Any]] = [
        {"prompt": turns[:1], "completion": turns[1:]},
        {"prompt": json.dumps(turns[:1]), "completion": json.dumps(turns[1:])},
        {"prompt": str(turns[:1]), "completion": str(turns[1:])},
        {"prompt": turns[0], "completion": turns[1]},
        {"prompt": {"messages": turns[:1]}, "completion": {"conversations": turns[1:]}},
        cast(dict[str, Any], object_of_line(json.dumps(turns), "")),
    ]
    assert [reading_of(row).examples[0].id for row in forms] == [PLAIN.id] * len(forms)


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (
            {"messages": '[{"role": "user", "content": "A", "content": "B"}]'},
            "'messages': the key 'content' occurs twice",
        ),
        (
            {"messages": "[{'role': 'user', 'content': 'A', 'content': 'B'}]"},
            "'messages': the key 'content' occurs twice",
        ),
        ({"prompt": '[{"role": "user", "role": "tool"}]', "completion": "x"}, "'prompt': the key 'role' occurs twice"),
        ({"messages": [USER, ANSWER], "tools": '[{"name": "f", "name": "g"}]'}, "'tools': the key 'name' occurs twice"),
        (
            {"messages": [USER, {"role": "assistant", "tool_calls": [{"name": "f", "arguments": '{"a": 1, "a": 2}'}]}]},
            "turn 2: the arguments of 'f': the key 'a' occurs twice in one object. Rename or remove one of them.",
        ),
    ],
)
def test_keys_that_occur_twice_in_json_text_are_named(row: dict[str, Any], what: str) -> None:
    with pytest.raises(UsageError) as error:
        reading_of(row)
    assert what in str(error.value)


def test_text_that_is_json_but_no_list_of_turns_is_text() -> None:
    texts = [
        *('[{"a": 1, "a": 2}]', "[{'a': 1, 'a': 2}]", "[]", '[{"name": "x"}]', "{}", '{"role": "assistant"}'),
        *('{"name": "Bob", "role": "model"}', '{"role": "engineer", "text": "x"}', '{"messages": "role"}'),
        json.dumps({"model": "gpt", "messages": [USER]}),
        json.dumps({**ANSWER, "score": 3}),
    ]
    for text in texts:
        (example,) = reading_of({"prompt": "Write JSON.", "completion": text}).examples
        assert example.completion == text


@pytest.mark.parametrize(
    "text",
    [
        "[{'content': 'Write {x} code', 'role': 'user'}\n {'content': 'b', 'role': 'assistant'}]",
        '[{"content": "Write f() { return \\"}\\" }", "role": "user"}, {"content": "cut he',
        '[{"content": [{"type": "text", "text": "}"}], "from": "human"},',
        '[{"content": "Say "hi", it\'s me", "role": "user"}]',
    ],
)
def test_turns_that_cannot_be_read_are_not_trained_as_text(text: str) -> None:
    for row in ({"prompt": text, "completion": "x"}, {"prompt": "x", "completion": text}):
        with pytest.raises(UsageError, match="starts as a list of turns, but is neither JSON nor a list as Python"):
            reading_of(row)


@pytest.mark.parametrize(
    "text",
    [
        '[{"from": "Paris", "to": "Rome"}]',
        '[{"name": "Bob", "role": "engineer"}, {"name": "Eve", "role": null}]',
        '[{"a": "{"}, {"role": "user"}',
        "[{x} for x in y] # {'role': 'user'}",
        '[{"a": "role", "b": "user"}',
    ],
)
def test_text_with_other_objects_is_text(text: str) -> None:
    (example,) = reading_of({"instruction": "List them.", "output": text}).examples
    assert example.completion == text


@pytest.mark.parametrize("value", [{"age": 4, "role": "user", "text": "x"}, {"users": [{"role": "user", "id": 4}]}])
def test_other_objects_are_text(value: dict[str, Any]) -> None:
    for text in (json.dumps(value), json.dumps(value)[:-1]):
        (example,) = reading_of({"prompt": "Write it.", "completion": text}).examples
        assert example.completion == text


@pytest.mark.parametrize("form", [json.dumps, str])
@pytest.mark.parametrize(
    "value",
    [
        *({"speaker": name, "text": "Hi."} for name in ("AI", "Ann", "assistant")),
        {"from": "user", "text": "Hi."},
        {"role": "user", "content": "Hi."},
        {"messages": [USER, ANSWER]},
        {"conversations": [ANSWER]},
    ],
)
def test_text_of_one_object_is_text(value: dict[str, Any], form: Callable[[Any], str]) -> None:
    """Answers in JSON, as for the attribution of speech, must not be rewritten if a value happens to be a role."""
    text = form(value)
    reading = reading_of({"prompt": text, "completion": "spam"}, {"prompt": "Answer in JSON.", "completion": text})
    assert [example.prompt[0]["content"] for example in reading.examples] == [text, "Answer in JSON."]
    assert [example.completion for example in reading.examples] == ["spam", text]
    assert reading.notes[1:] == ()


@pytest.mark.parametrize("column", ["messages", "conversations"])
@pytest.mark.parametrize("value", [ANSWER, {"messages": [USER, ANSWER]}])
def test_text_of_one_object_is_no_conversation(column: str, value: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as error:
        reading_of({column: json.dumps(value)})
    assert str(error.value) == (
        f"chats.jsonl, line 1: column '{column}' contains text, not a list of turns. "
        'Write [{"role": "user", "content": "..."}, ...].'
    )


def test_dialogues_with_unknown_roles_are_not_trained_as_text() -> None:
    for text in ('[{"speaker": "Ann", "text": "Hi."}]', '[{"role": "user"}, {"role": "Ann"}]'):
        with pytest.raises(UsageError, match=r"column 'output' \(JSON text, read as turns\), turn "):
            reading_of({"instruction": "Write a dialogue.", "output": text})


@pytest.mark.parametrize(
    "end", ['"' + '\\"' * 500_000, "\"'" * 500_000, '"}' + '"role"' * 200_000, '"role"' + " " * 10**6]
)
def test_the_search_for_roles_takes_linear_time(end: str) -> None:
    """The square of these lengths would take hours."""
    (example,) = reading_of({"prompt": "x", "completion": "[{" + end}).examples
    assert example.completion == "[{" + end


@pytest.mark.parametrize("key", ["1", "[]", "{}", "(1, 2)"])
def test_lists_of_python_with_keys_that_are_not_text_are_refused(key: str) -> None:
    calling = f"{{'role': 'assistant', 'tool_calls': [{{'name': 'f', 'arguments': {{'city': 'Oslo', {key}: 2}}}}]}}"
    with pytest.raises(UsageError, match="column 'messages' contains text, not a list of turns"):
        reading_of({"messages": f"[{USER}, {calling}]"})
    with pytest.raises(UsageError, match="column 'tools': the text is not valid JSON"):
        reading_of({"messages": [USER, ANSWER], "tools": f"[{{'name': 'f', {key}: 2}}]"})


def test_numbers_of_any_size_in_json_text_that_is_not_read() -> None:
    turns = json.dumps([{**USER, "id": 0}, ANSWER]).replace("0", "9" * 5000, 1)
    assert [example.id for example in reading_of({"messages": turns}, {"messages": turns}).examples] == [PLAIN.id] * 2
    (example,) = reading_of({"prompt": turns[: turns.index("}") + 1] + "]", "completion": ANSWER["content"]}).examples
    assert example.id == PLAIN.id
