"""Preference data: pairs of preferred and rejected answers, and labels that say whether a completion is good."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from neftune_cli.config.values import parse_columns
from tests.instruction_rows import ANSWER, QUESTION, read_one, reading_of, refusal_of, turn

PAIR = {"prompt": QUESTION, "completion": ANSWER}


@pytest.mark.parametrize(
    ("rows", "refused"),
    [
        ([{**PAIR, "label": True}, {**PAIR, "label": False}], 1),
        ([{**PAIR, "label": False}, {**PAIR, "label": False}], 2),
        ([{**PAIR, "label": 1}, {**PAIR, "label": 0}], 1),
        ([{**PAIR, "Label": "True"}, {**PAIR, "Label": "False"}], 1),
        ([{**PAIR, "label": "good"}, {**PAIR, "label": "bad"}], 1),
        ([{"instruction": QUESTION, "output": ANSWER, "kto_tag": False}], 1),
        ([{"messages": [turn("user", QUESTION), turn("assistant", ANSWER)], "label": False}], 1),
        ([{**PAIR, "accepted": True}, {**PAIR, "accepted": None}, {**PAIR, "accepted": False}], 1),
    ],
)
def test_completions_that_a_label_rejects_are_refused(rows: list[dict[str, Any]], refused: int) -> None:
    (column,) = {"label", "Label", "kto_tag", "accepted"} & rows[0].keys()
    rejected = f"column '{column}' marks completions as bad ({refused} row{'s' if refused > 1 else ''} in all)"
    message = refusal_of(*rows)
    assert f": {rejected}, but all rows would be trained on. Remove these rows, or use --columns " in message
    option = message.partition("--columns ")[2].partition(" to train")[0]
    named = parse_columns(option)
    assert len(reading_of(*rows, columns=named).examples) == len(rows)


@pytest.mark.parametrize(
    "rows",
    [
        [{**PAIR, "label": True}, {**PAIR, "label": None}],
        [{**PAIR, "label": 0}, {**PAIR, "label": 2}, {**PAIR, "label": 1}],
        [{**PAIR, "label": "bad"}, {**PAIR, "label": "neutral"}],
        [{**PAIR, "verified": True}, {**PAIR, "verified": False}],
        [{"text": ANSWER, "label": 0}, {"text": QUESTION, "label": 1}],
    ],
)
def test_other_labels_are_named_only(rows: list[dict[str, Any]]) -> None:
    assert "is not read" in reading_of(*rows).notes[1]


CHOSEN = [turn("user", QUESTION), turn("assistant", ANSWER)]
REJECTED = [turn("user", QUESTION), turn("assistant", "?")]


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"prompt": QUESTION, "chosen": CHOSEN, "rejected": REJECTED}, "messages=chosen"),
        ({"chosen": CHOSEN, "rejected": REJECTED}, "messages=chosen"),
        ({"prompt": QUESTION, "chosen": ANSWER, "rejected": "?"}, "prompt=prompt,completion=chosen"),
        ({"Question": QUESTION, "Chosen": ANSWER, "Rejected": "?"}, "prompt=Question,completion=Chosen"),
        ({"prompt": CHOSEN[:1], "chosen": CHOSEN[1:], "rejected": REJECTED[1:]}, "prompt=prompt,completion=chosen"),
        ({"prompt": QUESTION, "chosen": json.dumps(CHOSEN), "rejected": json.dumps(REJECTED)}, "messages=chosen"),
        ({"prompt": QUESTION, "chosen": CHOSEN[1], "rejected": REJECTED[1]}, "prompt=prompt,completion=chosen"),
        (
            {"input": {"messages": CHOSEN[:1]}, "preferred_output": CHOSEN[1:], "non_preferred_output": REJECTED[1:]},
            "prompt=input,completion=preferred_output",
        ),
    ],
)
def test_preference_data_are_recognized(row: Mapping[str, Any], columns: str) -> None:
    message = refusal_of(row)
    assert "mine.jsonl has preference data (columns " in message
    assert f"Use --columns {columns} to train on the preferred answers." in message
    named = parse_columns(columns)
    example = read_one(row, columns=named)
    assert [message["content"] for message in example.turns] == [QUESTION, ANSWER]


OPTIONAL = {"input": "Oslo", "system": "Be kind.", "history": [["a", "b"]], "tools": [{"name": "f"}]}


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"instruction": QUESTION, "input": "Oslo"}, "prompt=instruction,completion=chosen,input=input"),
        ({"instruction": QUESTION, "question": "Oslo"}, "prompt=instruction,completion=chosen,input=question"),
        ({"prompt": QUESTION, "Context": "Oslo"}, "prompt=prompt,completion=chosen,input=Context"),
        ({"question": QUESTION, "System_Prompt": "Be kind."}, "prompt=question,completion=chosen,system=System_Prompt"),
        ({"input": QUESTION, "system": "Be kind."}, "prompt=input,completion=chosen,system=system"),
        (
            {"prompt": QUESTION, **OPTIONAL},
            "prompt=prompt,completion=chosen,system=system,history=history,tools=tools,input=input",
        ),
        ({"prompt": QUESTION, "system": " ", "history": "[]", "tools": "[]"}, "prompt=prompt,completion=chosen"),
    ],
)
def test_the_advised_columns_are_those_that_the_same_data_have_without_preferences(
    row: dict[str, Any], columns: str
) -> None:
    assert f"Use --columns {columns} to train on" in refusal_of({**row, "chosen": ANSWER, "rejected": "?"})
    named = parse_columns(columns)
    answers = {"completion": ANSWER, "chosen": ANSWER, "rejected": "?"}
    assert read_one({**row, **answers}, columns=named) == read_one({**row, "completion": ANSWER})


def test_the_advised_columns_of_whole_conversations_have_their_system_prompt_and_tools() -> None:
    more = {"system": "Be kind.", "tools": [{"name": "f"}]}
    row = {"prompt": QUESTION, "chosen": CHOSEN, "rejected": REJECTED, **more, "history": [["a", "b"]]}
    assert "Use --columns messages=chosen,system=system,tools=tools to train on" in refusal_of(row)
    columns = {"messages": "chosen", "system": "system", "tools": "tools"}
    assert read_one(row, columns=columns) == read_one({"messages": CHOSEN, **more})
    turns = {"prompt": CHOSEN[:1], "input": "Oslo", "chosen": ANSWER, "rejected": "?"}
    assert "Use --columns prompt=prompt,completion=chosen to train on" in refusal_of(turns)


def test_preference_data_that_columns_cannot_name() -> None:
    asked = {"messages": CHOSEN[:1], "parallel_tool_calls": True}
    row = {"input": asked, "preferred_output": CHOSEN[1:], "non_preferred_output": REJECTED[1:]}
    message = refusal_of(row)
    assert "mine.jsonl has preference data (columns preferred_output, non_preferred_output)" in message
    assert 'Write the preferred answers as {"messages": [...]}.' in message


def of_share_gpt(turns: list[dict[str, str]]) -> list[dict[str, str]]:
    names = {"user": "human", "assistant": "gpt"}
    return [{"from": names[one["role"]], "value": one["content"]} for one in turns]


EARLIER = [turn("user", "Hi"), turn("assistant", "Hello")]


@pytest.mark.parametrize("earlier", [[], EARLIER])
@pytest.mark.parametrize("is_text", [False, True])
def test_preference_data_beside_conversations_are_recognized(earlier: list[dict[str, str]], is_text: bool) -> None:
    """LLaMA-Factory's form: the turns up to the question, and one turn for each of the two answers."""
    asked, answers = of_share_gpt([*earlier, *CHOSEN[:1]]), [of_share_gpt(one[1:])[0] for one in (CHOSEN, REJECTED)]
    row: dict[str, Any] = {"conversations": asked, "system": "Be brief.", "chosen": answers[0], "rejected": answers[1]}
    if is_text:
        row.update(conversations=json.dumps(asked), chosen=json.dumps(answers[:1]), rejected=json.dumps(answers[1:]))
    option = "prompt=conversations,completion=chosen,system=system"
    assert refusal_of(row, row) == (
        "mine.jsonl has preference data (columns chosen, rejected), but training needs one completion per prompt. "
        f"Use --columns {option} to train on the preferred answers."
    )
    example = read_one(row, columns=parse_columns(option))
    assert list(example.turns) == [turn("system", "Be brief."), *earlier, *CHOSEN]


@pytest.mark.parametrize("asked", [{"conversations": json.dumps(CHOSEN[:1])}, {"prompt": QUESTION}])
def test_no_option_is_advised_that_trains_on_the_json_text_of_a_turn(asked: dict[str, str]) -> None:
    message = refusal_of({**asked, "chosen": json.dumps(CHOSEN[1]), "rejected": json.dumps(REJECTED[1])})
    assert message.endswith('one completion per prompt. Write the preferred answers as {"messages": [...]}.')


@pytest.mark.parametrize("column", ["response", "completion", "Answer", "output"])
def test_an_answer_beside_conversations_that_end_with_a_question_is_not_left_out(column: str) -> None:
    row = {"messages": [*EARLIER, *CHOSEN[:1]], "system": "Be brief.", column: ANSWER}
    option = f"prompt=messages,completion={column},system=system"
    assert refusal_of(row, row, {**row, column: None}) == (
        f"mine.jsonl: in 2 rows, column 'messages' ends with a question, and its answer is in column '{column}', which "
        f"this layout does not read. Use --columns {option} to train on it, or --columns "
        "messages=messages,system=system to leave it out."
    )
    example = read_one(row, columns=parse_columns(option))
    assert list(example.turns) == [turn("system", "Be brief."), *EARLIER, *CHOSEN]
    named = {"messages": "messages", "system": "system"}
    assert read_one(row, columns=named).turns[-1] == EARLIER[-1]


def test_answers_beside_conversations_that_have_one_are_named_only() -> None:
    whole = {"messages": CHOSEN, "chosen": CHOSEN, "rejected": REJECTED, "answer": "noon"}
    unfinished = {**whole, "messages": [*EARLIER, *CHOSEN[:1]]}
    notes = reading_of(whole, whole, unfinished).notes
    assert notes[1] == (
        "Columns that are not read in this layout: 'chosen' (3 rows), 'rejected' (3 rows), 'answer' (3 rows)."
    )
    assert notes[2] == "Turns after the last assistant turn to learn are not read: 1 row."


def test_completion_that_repeats_the_prompt_is_an_unusable_row() -> None:
    row = {"prompt": f"{QUESTION} ", "chosen": CHOSEN, "rejected": REJECTED}
    assert refusal_of(row, columns={"prompt": "prompt", "completion": "chosen"}) == (
        "mine.jsonl, line 1: column 'chosen' repeats the prompt in column 'prompt'. Use --columns messages=chosen if "
        "it has whole conversations, or remove the prompt from it."
    )
    several = {"prompt": CHOSEN[:1], "completion": [*CHOSEN, *REJECTED]}
    assert "column 'completion' repeats the prompt" in refusal_of(several)
    later = {"prompt": QUESTION, "completion": [*CHOSEN[1:], *CHOSEN]}
    assert [message["role"] for message in read_one(later).turns] == ["user", "assistant", "user", "assistant"]


def test_list_of_texts_is_no_completion() -> None:
    assert refusal_of({"instruction": QUESTION, "output": [ANSWER, "?"]}) == (
        "mine.jsonl, line 1: column 'output' has a list of 2 texts, not one text or a list of turns. "
        "Write one text, for example the preferred answer."
    )
