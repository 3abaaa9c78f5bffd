"""Turns: roles, text parts, tool calls, reasoning and weights of conversations, as chat data sets spell them."""

import json
from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from io import BytesIO
from typing import Any, cast

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from trl.data_utils import maybe_convert_to_chatml

from neftune_cli.data.arrow import rows_of_arrow
from neftune_cli.data.examples import Example
from neftune_cli.data.trl_dataset import trl_dataset
from neftune_cli.errors import UsageError
from tests import instruction_rows

USER = {"role": "user", "content": "Is it warm in Oslo?"}
ANSWER = {"role": "assistant", "content": "No, 4 degrees."}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
CALLING = {"role": "assistant", "content": "I will look.", "tool_calls": [CALL]}
RESULT = {"role": "tool", "name": "weather", "content": "4"}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "required": ["city"]}}}


reading_of = partial(instruction_rows.reading_of, source="chats.jsonl")


def read_one(*turns: Mapping[str, Any], **columns: Any) -> Example:
    (example,) = reading_of({"messages": list(turns), **columns}).examples
    return example


def notes_of(*turns: Mapping[str, Any]) -> list[str]:
    return list(reading_of({"messages": list(turns)}).notes[1:])


def through_parquet(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    file = BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    read: list[dict[str, Any]] = parquet.read_table(file).to_pylist()
    return read


PLAIN = read_one(USER, ANSWER)
ROLE_NAMES = {
    "user": ["user", "User", "human", " HUMAN", "prompter"],
    "assistant": ["assistant", "Assistant", "gpt", "model", "bot", "chatgpt", "bard", "bing"],
}


@given(st.data())
def test_spellings_of_a_turn_give_the_same_example(data: st.DataObject) -> None:
    role_key = data.draw(st.sampled_from(["role", "from", "speaker"]))
    content_key = data.draw(st.sampled_from(["content", "value", "text"]))
    turns = [
        {role_key: data.draw(st.sampled_from(ROLE_NAMES[turn["role"]])), content_key: turn["content"]}
        for turn in (USER, ANSWER)
    ]
    column = data.draw(st.sampled_from(["messages", "conversations", "conversation", "dialog", "Messages", " dialog "]))
    value = data.draw(st.sampled_from([turns, json.dumps(turns), str(turns)]))
    (example,) = reading_of({column: value}).examples
    assert example.id == PLAIN.id


def test_sharegpt_is_read_as_trl_reads_it() -> None:
    turns = [{"from": turn["role"], "value": turn["content"]} for turn in (USER, ANSWER, USER, ANSWER)]
    (example,) = reading_of({"conversations": turns}).examples
    assert list(example.turns) == maybe_convert_to_chatml({"conversations": deepcopy(turns)})["messages"]


@pytest.mark.parametrize(("name", "role"), [("developer", "system"), ("System", "system"), ("ipython", "tool")])
def test_roles_of_other_formats(name: str, role: str) -> None:
    example = read_one(USER, {"role": name, "content": "4"}, ANSWER)
    assert example.prompt[1] == {"role": role, "content": "4"}


def test_text_parts_are_joined_in_a_file_with_parts_in_one_row_only() -> None:
    parts = [{"type": "text", "text": "Is it warm"}, {"type": "text", "text": " in Oslo?", "image_url": None}]
    rows: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": parts}, ANSWER]},
        {"messages": [USER, ANSWER]},
    ]
    assert [example.id for example in reading_of(*rows).examples] == [PLAIN.id, PLAIN.id]


@pytest.mark.parametrize(
    ("turn", "what"),
    [
        ({"role": "user", "content": [{"type": "image", "url": "a.png"}]}, "images are not read"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "images are not read"),
        ({"role": "user", "content": [{"type": "input_audio", "data": ""}]}, "audio is not read"),
        ({"role": "user", "content": "a", "images": ["a.png"]}, "has the key 'images': images are not read"),
        ({"role": "user", "content": [{"type": "tool_use"}]}, "a part has the type 'tool_use', which is not text"),
        ({"role": "user", "content": [4]}, "a part has the type None"),
        ({"role": "user", "content": [{"text": "a", "image": "a.png"}]}, "a part has the key 'image': images are not"),
        ({"role": "assistant", "content": [{"text": "a", "train": False}]}, "a part has the weight 0, but a turn is"),
        ({"role": "assistant", "content": [{"text": "a", "weight": 0.5}]}, "a part has the weight 0.5: weights other"),
        ({"role": "assistant", "content": [{"text": "a", "train_detail": [1]}]}, "a part has the key 'train_detail'"),
        ({"role": "system", "content": "a", "functions": "[{}]"}, "has the key 'functions', which changes the meaning"),
        ({"role": "assistant", "content": "a", "function_calls": "f(x=1)"}, "has the key 'function_calls', which"),
        ({"role": "model", "parts": [{"text": "a"}]}, "has no text: its key 'parts' is not read"),
        ({"role": "user", "content": [{"type": "text", "text": None}]}, "turn 1: the text of a part is null."),
        ({"role": "user", "content": []}, "turn 1 is empty"),
        ({"role": "narrator", "content": "a"}, "turn 1 has the unknown role 'narrator'"),
        ({"role": "assistant", "content": "a", "weight": 0.5}, "weights other than 0 and 1 are not supported"),
        ({"role": "assistant", "content": "", "tool_calls": [{}]}, "a tool call has no function name"),
        ({"role": "assistant", "tool_calls": "f(x)"}, "the text is not valid JSON"),
        ({"role": "assistant", "tool_calls": 4}, "a number in place of a list"),
        ({"role": "function_call", "content": "weather"}, "the text is not valid JSON"),
        (
            {"role": "assistant", "function_call": {"name": "f", "arguments": "[1]"}},
            "the arguments of 'f' are not a JSON object",
        ),
        ({"role": "tool", "name": 4, "content": "4"}, "the name contains a number, not text"),
    ],
)
def test_unusable_turn(turn: dict[str, Any], what: str) -> None:
    with pytest.raises(UsageError) as error:
        read_one(turn, USER, ANSWER)
    (problem,) = error.value.problems
    assert problem.what.startswith("chats.jsonl, line 1: column 'messages', turn 1")
    assert what in problem.what
    assert problem.fix


def test_causes_are_listed_once_with_their_rows() -> None:
    empty = {"role": "user", "content": ""}
    rows = [{"messages": [empty, ANSWER]}, {"messages": [USER, empty, ANSWER]}, {"messages": [USER]}]
    with pytest.raises(UsageError) as error:
        reading_of(*rows, *rows[:1] * 3)
    assert [problem.what for problem in error.value.problems] == [
        "chats.jsonl, line 1, line 2, line 4 and 2 more rows: column 'messages', a turn is empty. "
        "First row: column 'messages', turn 1 is empty.",
        "chats.jsonl, line 3: column 'messages' has no assistant turn (turns: user).",
    ]


# Tool calls


def test_tool_calls_of_the_last_turn_are_learned() -> None:
    example = read_one(USER, CALLING)
    assert example.completion == "I will look."
    assert example.final_turn == CALLING
    without = {**cast(dict[str, Any], CALLING), "tool_calls": None}
    assert example.id != read_one(USER, without).id


def test_tool_call_without_text_is_a_turn_of_the_prompt() -> None:
    silent = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    example = read_one(USER, silent, RESULT, ANSWER)
    assert list(example.prompt) == [USER, {**silent, "content": ""}, RESULT]
    assert example.completion == "No, 4 degrees."


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "assistant", "tool_calls": json.dumps([CALL])},
        {"role": "assistant", "tool_calls": str([CALL])},
        {"role": "assistant", "tool_calls": [{"name": "weather", "arguments": {"city": "Oslo"}}]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}]},
        {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
        {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Oslo"}}'},
        {"from": "tool_call", "value": '{"name": "weather", "arguments": {"city": "Oslo", "day": null}}'},
        {"from": "function_call", "value": '{"name": "weather", "args": {"city": "Oslo"}}'},
        {"role": "assistant", "tool_calls": [{"type": "tool_call", "name": "weather", "args": {"city": "Oslo"}}]},
        {"role": "assistant", "tool_calls": [{"type": "tool_use", "name": "weather", "input": {"city": "Oslo"}}]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "weather"}, "arguments": {"city": "Oslo"}}]},
        {"role": "assistant", "tool_calls": [{**CALL, "args": '{"city": "Oslo"}'}]},
        {"role": "assistant", "tool_calls": [{**CALL, "input": {}}]},
        {"role": "assistant", "tool_calls": [{**CALL, "args": "", "parameters": "{}", "input": []}]},
        {"role": "assistant", "tool_calls": [{"name": "weather", "arguments": {}, "input": {"city": "Oslo"}}]},
    ],
)
def test_spellings_of_a_tool_call_give_the_same_turn(turn: dict[str, Any]) -> None:
    assert read_one(USER, turn).final_turn == {"role": "assistant", "content": "", "tool_calls": [CALL]}


@pytest.mark.parametrize(
    ("call", "what"),
    [
        ({"name": "f", "kwargs": {"x": 1}}, "a tool call has an object under the key 'kwargs', which is not read"),
        ({"name": "f", "kwargs": '{"x": 1}'}, "a tool call has an object under the key 'kwargs', which is not read"),
        ({"function": {"name": "f"}, "kwargs": {"x": 1}}, "an object under the key 'kwargs', which is not read"),
        ({"name": "f", "arguments": "", "kwargs": {"x": 1}}, "an object under the key 'kwargs', which is not read"),
        (
            {"name": "f", "arguments": {"x": 2}, "parameters": {"x": 1}},
            "different arguments in 'arguments' and 'parameters'",
        ),
        ({**CALL, "args": {"city": "Bonn"}}, "different arguments in 'function.arguments' and 'args'"),
        ({**CALL, "arguments": {"city": "Bonn"}}, "different arguments in 'function.arguments' and 'arguments'"),
    ],
)
def test_arguments_that_would_be_left_out_are_refused(call: dict[str, Any], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        read_one(USER, {"role": "assistant", "tool_calls": [call]})


def test_a_name_beside_the_function_of_a_tool_call_replaces_no_name() -> None:
    turn = {"role": "assistant", "tool_calls": [{"name": "call 1", **CALL}]}
    final = read_one(USER, turn).final_turn
    assert final is not None
    assert final["tool_calls"][0]["function"] == CALL["function"]


@pytest.mark.parametrize("text", ["{3}", "{curly} text", "{", "{}", "{'a', 'b'}"])
def test_texts_of_a_tool_call_that_are_no_objects(text: str) -> None:
    for call in ({"id": text, "function": {"name": "f"}}, {"function": {"name": "f", "description": text}}):
        turn = {"role": "assistant", "content": "", "tool_calls": [call]}
        assert notes_of(USER, turn) == []


@pytest.mark.parametrize("arguments", [{}, "{}", {"city": "Oslo"}])
def test_objects_beside_the_arguments_of_a_tool_call_are_named(arguments: object) -> None:
    """Gemini adds `extra_content` to the calls in its responses, and LiteLLM `provider_specific_fields`."""
    function = {"name": "weather", "arguments": arguments, "provider_specific_fields": '{"thought": "x"}'}
    call = {"function": function, "extra_content": {"google": {"thought_signature": "abc"}}, "metadata": {}}
    assert notes_of(USER, {"role": "assistant", "tool_calls": [call, call]}) == [
        "Key 'extra_content' of tool calls has an object, which is not read as arguments: 1 row.",
        "Key 'provider_specific_fields' of tool calls has an object, which is not read as arguments: 1 row.",
    ]


def test_a_tool_call_of_nulls_is_none() -> None:
    nulls = {"name": None, "arguments": None}
    assert (
        read_one({**USER, "function_call": nulls}, {**ANSWER, "function_call": nulls, "tool_calls": []}).id == PLAIN.id
    )
    call = {"function": {"name": "f", "arguments": {"x": {"y": None}}}}
    turn = read_one(USER, {"role": "assistant", "tool_calls": [call]}).final_turn
    assert turn is not None
    assert turn["tool_calls"][0]["function"]["arguments"] == {"x": {}}


@pytest.mark.parametrize("name", ["tool", "function", "observation", "function_response", "Tool_Response"])
def test_results_of_tools_have_the_role_tool(name: str) -> None:
    example = read_one(USER, CALLING, {"role": name, "content": "4", "tool_call_id": "c1"}, ANSWER)
    assert example.prompt[2] == {"role": "tool", "content": "4", "tool_call_id": "c1"}


def test_tools_are_json_text_in_the_usual_order_of_keys() -> None:
    tools: Any
    for tools in ([TOOL], json.dumps([TOOL]), [json.dumps(TOOL)], TOOL, str([TOOL]), str([{**TOOL, "x": None}])):
        assert read_one(USER, CALLING, tools=tools).tools == json.dumps([TOOL])
    for tools in (None, "", [], "[]"):
        assert read_one(USER, ANSWER, tools=tools).id == PLAIN.id


def test_numbers_that_json_cannot_contain_are_reported() -> None:
    not_finite: Any
    for not_finite in (float("nan"), float("inf")):
        call = {"name": "weather", "arguments": {"city": "Oslo", "day": not_finite}}
        with pytest.raises(UsageError, match="turn 2 contains a value that JSON cannot contain"):
            read_one(USER, {"role": "assistant", "tool_calls": [call]})
    with pytest.raises(UsageError, match="turn 2 contains a value that JSON cannot contain"):
        read_one(USER, {"role": "assistant", "tool_calls": '[{"name": "f", "arguments": {"x": NaN}}]'})


def test_unusable_tools_are_reported() -> None:
    for tools, what in [("f(x)", "the text is not valid JSON"), ([4], "is not a list of tool definitions")]:
        with pytest.raises(UsageError, match=what):
            read_one(USER, ANSWER, tools=tools)


def test_jsonl_and_parquet_give_the_same_examples() -> None:
    other = {"type": "function", "function": {"name": "time", "arguments": {"zone": "CET", "exact": True}}}
    rows: list[dict[str, Any]] = [
        {"messages": [USER, CALLING, RESULT, ANSWER], "tools": [TOOL]},
        {"messages": [USER, {"role": "assistant", "content": "", "tool_calls": [other]}], "tools": []},
        {"messages": [USER, {"role": "assistant", "content": "4", "reasoning_content": "Oslo is in the north."}]},
    ]
    filled = through_parquet(rows)
    assert filled[0]["messages"][1]["tool_calls"][0]["function"]["arguments"]["zone"] is None  # pyarrow's nulls
    written, read = reading_of(*rows).examples, reading_of(*filled).examples
    assert [example.id for example in read] == [example.id for example in written]
    assert [example.turns for example in read] == [example.turns for example in written]
    assert [json.loads(example.tools or "[]") for example in read] == [[TOOL], [], []]


def test_data_set_for_trl_has_the_tools_and_the_arguments_of_each_call_alone() -> None:
    first = [USER, CALLING, RESULT, ANSWER]
    clock = {"type": "function", "function": {"name": "clock", "arguments": {"zone": "CET"}}}
    last = [USER, {"role": "assistant", "content": "", "tool_calls": [clock]}]
    examples = reading_of({"messages": first, "tools": [TOOL]}, {"messages": last}).examples
    assert list(trl_dataset(examples)) == [
        {"prompt": first[:3], "completion": first[3:], "tools": json.dumps([TOOL])},
        {"prompt": last[:1], "completion": last[1:], "tools": None},
    ]


# Reasoning and weights


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
def test_reasoning_is_kept_apart(key: str) -> None:
    example = read_one(USER, {**ANSWER, key: "It is in the north."})
    assert example.completion == ANSWER["content"]
    assert example.final_turn == {**ANSWER, "reasoning_content": "It is in the north."}
    assert example.id != PLAIN.id


@pytest.mark.parametrize(
    "without_loss",
    [
        *({"weight": 0}, {"weight": 0.0}, {"train": False}, {"loss": False}),
        *({"trainable": False}, {"learn": False}, {"loss_weight": 0}),
    ],
)
def test_last_assistant_turn_with_weight_is_the_completion(without_loss: dict[str, Any]) -> None:
    first = {"role": "assistant", "content": "Wrong.", **without_loss}
    assert read_one(USER, first, USER, ANSWER).prompt[1] == {"role": "assistant", "content": "Wrong.", "weight": 0}
    left_out = reading_of({"messages": [USER, ANSWER, USER, first]}, {"messages": [USER, {**ANSWER, "weight": 1}]})
    assert [example.id for example in left_out.examples] == [PLAIN.id, PLAIN.id]
    assert left_out.notes[1:] == ("Turns after the last assistant turn to learn are not read: 1 row.",)


def test_row_without_a_turn_to_learn_is_unusable() -> None:
    with pytest.raises(UsageError, match="has nothing to learn: all assistant turns have the weight 0"):
        read_one(USER, {**ANSWER, "weight": 0})


def test_keys_that_are_not_read_are_named_once_with_their_rows() -> None:
    row = {"messages": [{**USER, "id": 1, "name": "Ann"}, {**ANSWER, "id": 2, "name": None}]}
    assert reading_of(row, row, {"messages": [USER, ANSWER]}).notes[1:] == (
        "Key 'id' of user turns is not read: 2 rows.",
        "Key 'name' of user turns is not read: 2 rows.",
        "Key 'id' of assistant turns is not read: 2 rows.",
    )
    assert notes_of({**USER, "\ud800\n": 1}, ANSWER) == ["Key '\ufffd' of user turns is not read: 1 row."]
    assert notes_of({**USER, "weight": 1}, ANSWER) == ["Key 'weight' of user turns is not read: 1 row."]
    assert notes_of({**USER, "weight": 0}, {**ANSWER, "weight": 1}) == []


def test_keys_of_parts_that_are_not_read_are_named() -> None:
    asked = {"type": "text", "text": USER["content"], "weight": 0, "cache_control": {"type": "ephemeral"}}
    answered = {"type": "output_text", "text": ANSWER["content"], "weight": 1, "annotations": [], "id": "p1"}
    turns = ({**USER, "content": [asked, {"text": " ", "id": "p0"}]}, {**ANSWER, "content": [answered]})
    assert notes_of(*turns) == [
        "Key 'cache_control' of the parts of user turns is not read: 1 row.",
        "Key 'id' of the parts of user turns is not read: 1 row.",
        "Key 'id' of the parts of assistant turns is not read: 1 row.",
    ]
    functions = {**USER, "functions": None, "function_calls": ""}
    assert read_one(functions, ANSWER) == PLAIN


def test_last_turns_without_an_answer_are_named() -> None:
    assert notes_of(USER, ANSWER, {"role": "user", "content": "Thanks."}) == [
        "Turns after the last assistant turn to learn are not read: 1 row."
    ]


@pytest.mark.parametrize("depth", [2_000, 200_000])
def test_deep_nesting_is_a_named_row(depth: int) -> None:
    nested: Any = "deep"
    for _ in range(depth):
        nested = [nested]
    with pytest.raises(UsageError, match=r"chats\.jsonl, line 1"):
        read_one(USER, {**ANSWER, "tool_calls": [{"name": "f", "arguments": {"x": nested}}]})
    with pytest.raises(UsageError, match=r"chats\.jsonl, line 1"):
        reading_of({"messages": "[" * depth + "]" * depth})


def test_keys_of_turns_match_in_any_case() -> None:
    upper = [{key.capitalize(): value for key, value in turn.items()} for turn in (USER, ANSWER)]
    spaced = [{f" {key.upper()} ": value for key, value in turn.items()} for turn in (USER, ANSWER)]
    assert read_one(*upper) == read_one(*spaced) == PLAIN
    with pytest.raises(UsageError, match="has the key 'content' in two spellings"):
        read_one({**USER, "Content": "Other."}, ANSWER)


@pytest.mark.parametrize("zero", ["0", "0.0", " False ", "false", 0.0, False])
def test_weights_can_be_text(zero: object) -> None:
    bad = {**ANSWER, "content": "Bad."}
    expected = read_one(USER, {**bad, "weight": 0}, USER, ANSWER)
    assert read_one(USER, {**bad, "weight": zero}, USER, {**ANSWER, "weight": "1"}) == expected
    with pytest.raises(UsageError, match="has the weight 'half': weights other than 0 and 1 are not supported"):
        read_one(USER, {**ANSWER, "weight": "half"})


@pytest.mark.parametrize("key", ["mask", "loss_mask", "train_detail", "completion_mask", "assistant_masks"])
def test_keys_that_mask_parts_of_the_loss_are_refused(key: str) -> None:
    with pytest.raises(UsageError, match=f"has the key '{key}', which changes the loss of the turn and is not read"):
        read_one(USER, {**ANSWER, key: True})
    assert read_one(USER, {**ANSWER, key: False}) == PLAIN


def test_a_number_as_content_is_its_text() -> None:
    assert read_one(USER, {**ANSWER, "content": 4}).completion == "4"


@pytest.mark.parametrize("tools", [{"functions": [TOOL]}, [{"type": "function"}], '[{"function": {"name": " "}}]'])
def test_tools_without_a_name_are_refused(tools: object) -> None:
    """They could not be found in the rendered text, so that a template could leave them out unnoticed."""
    with pytest.raises(UsageError, match="column 'tools', item 1: the tool definition has no function name"):
        read_one(USER, ANSWER, tools=tools)


def test_a_system_turn_that_differs_from_the_column_in_spaces_only_is_the_same() -> None:
    turns = ({"role": "system", "content": " Be brief.\n"}, USER, ANSWER)
    assert read_one(*turns, system="Be brief.") == read_one(*turns)


def test_maps_of_parquet_are_objects() -> None:
    kind = pyarrow.list_(pyarrow.map_(pyarrow.string(), pyarrow.string()))
    turns = [[list(turn.items()) for turn in (USER, ANSWER)]]
    rows = rows_of_arrow("mine", pyarrow.table({"messages": pyarrow.array(turns, kind)})).rows
    assert [row.value["messages"] for row in rows] == [[USER, ANSWER]]
