"""Layouts: the same conversation from every layout, columns by name, raw texts, and columns that are not read."""

import csv
import io
import json
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from trl.data_utils import is_conversational, maybe_convert_to_chatml

from neftune_cli.config.values import parse_columns
from tests.instruction_rows import ANSWER, QUESTION, read_one, reading_of, refusal_of, turn

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda text: text.strip() and not text.lstrip().startswith("[")
)
PAIRS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3)


def conversation_of(system: str | None, pairs: list[tuple[str, str]]) -> list[dict[str, str]]:
    turns = [turn(role, text) for pair in pairs for role, text in zip(("user", "assistant"), pair, strict=True)]
    return [turn("system", system), *turns] if system else turns


def rows_of(system: str | None, pairs: list[tuple[str, str]]) -> dict[str, dict[str, Any]]:
    """Return the same conversation in each layout."""
    *history, (question, answer) = pairs
    turns = conversation_of(system, pairs)
    without_system = turns[1:] if system else turns
    sharegpt = [{"from": {"assistant": "gpt"}.get(one["role"], one["role"]), "value": one["content"]} for one in turns]
    return {
        "alpaca": {"instruction": question, "input": "", "output": answer, "system": system, "history": history},
        "alpaca, spelled": {"Instruction": question, " Answer": answer, "History": history, "System": system},
        "history as JSON": {"input": question, "output": answer, "system": system, "history": json.dumps(history)},
        "history as turns": {"query": question, "response": answer, "system_prompt": system, "history": turns[:-2]},
        "question": {"question": question, "answer": answer, "system": system, "history": history},
        "prompt turns": {"prompt": turns[:-1], "completion": turns[-1:]},
        "prompt turns, text": {"prompt": without_system[:-1], "completion": answer, "system": system},
        "prompt as JSON": {"prompt": json.dumps(turns[:-1]), "completion": json.dumps(turns[-1:])},
        "messages": {"messages": turns},
        "messages and system": {"messages": without_system, "system": system},
        "messages and same system": {"messages": turns, "system": system},
        "messages as JSON": {"messages": json.dumps(turns)},
        "ShareGPT": {"conversations": sharegpt, "id": "7"},
    }


@example("null", [(QUESTION, ANSWER)])
@given(st.none() | TEXT, PAIRS)
def test_every_layout_gives_the_same_example(system: str | None, pairs: list[tuple[str, str]]) -> None:
    rows = rows_of(system, pairs)
    if system and any(pair[0] == system for pair in pairs):
        return
    examples = {name: read_one(row) for name, row in rows.items() if name != "history as turns" or not system}
    assert {name: example.id for name, example in examples.items()} == dict.fromkeys(examples, examples["messages"].id)
    assert list(examples["alpaca"].turns) == conversation_of(system, pairs)


@given(st.none() | TEXT, PAIRS)
def test_turns_are_those_that_trl_reads(system: str | None, pairs: list[tuple[str, str]]) -> None:
    compared = 0
    for row in rows_of(system, pairs).values():
        converted = maybe_convert_to_chatml(deepcopy(row))
        if is_conversational(converted) and isinstance(converted.get("completion", []), list):
            turns = converted.get("messages") or converted["prompt"] + converted["completion"]
            expected = [turn(one["role"].replace("gpt", "assistant"), one["content"]) for one in turns]
            assert list(read_one(row).turns)[-len(expected) :] == expected
            compared += 1
    assert compared >= 4


def test_csv_with_messages_as_json_text() -> None:
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerows([["messages"], [json.dumps([turn("user", QUESTION), turn("assistant", ANSWER)])]])
    (row,) = csv.DictReader(io.StringIO(file.getvalue()))
    assert read_one(row).id == read_one({"prompt": QUESTION, "completion": ANSWER}).id


# Cases in which data were trained on that the user did not mean


def test_lists_of_turns_that_numpy_writes_are_not_trained_as_text() -> None:
    turns = [turn("system", "Be kind."), turn("user", QUESTION)]
    one, two = (str(np.array(some)) for some in (turns[1:], turns))  # as in the CSV files of pandas
    assert read_one({"prompt": one, "completion": ANSWER}).prompt == (turn("user", QUESTION),)
    fault = (
        "starts as a list of turns, but is neither JSON nor a list as Python writes it. Write the list as JSON, or use"
    )
    assert f"column 'prompt' {fault}" in refusal_of({"prompt": two, "completion": ANSWER})
    assert f"column 'answer' {fault}" in refusal_of({"question": QUESTION, "answer": json.dumps(turns)[:-1]})
    assert read_one({"prompt": two, "completion": ANSWER}, raw=True).raw_prompt == two
    for text in ('[{"from": "Oslo", "to": "Rome"', "[{role: user}]", "[x] or [y]?"):
        assert read_one({"prompt": text, "completion": ANSWER}).prompt == (turn("user", text),)


def test_system_column_becomes_a_turn_and_distinguishes_rows() -> None:
    rows = [{"system": f"You are {name}.", "prompt": QUESTION, "completion": ANSWER} for name in ("Ada", "Bo")]
    one, two = reading_of(*rows, rows[0]).examples[:2]
    assert one.prompt == (turn("system", "You are Ada."), turn("user", QUESTION))
    assert one.id != two.id


def test_input_is_read_whatever_the_answer_is_called() -> None:
    for answer in ("output", "response", "answer", "completion"):
        for context in ("input", "context"):
            row = {"instruction": "Translate.", context: QUESTION, answer: "What time is it?"}
            assert read_one(row).prompt == (turn("user", f"Translate.\n\n{QUESTION}"),)


def test_context_beside_a_question_is_read_and_named() -> None:
    reading = reading_of({"question": QUESTION, "context": "Horloge : 12 h.", "answer": ANSWER})
    assert reading.examples[0].prompt == (turn("user", f"{QUESTION}\n\nHorloge : 12 h."),)
    assert reading.notes[1:] == ("Column 'context' is the second paragraph of the prompt: 1 row.",)


@pytest.mark.parametrize("column", ["question", "query", "Question"])
@pytest.mark.parametrize("answer", ["answer", "output"])
def test_question_beside_an_instruction_is_read_and_named(column: str, answer: str) -> None:
    reading = reading_of({"instruction": "Answer.", column: QUESTION, answer: ANSWER, "input": ""})
    assert reading.examples[0].prompt == (turn("user", f"Answer.\n\n{QUESTION}"),)
    assert reading.notes[1:] == (f"Column '{column}' is the second paragraph of the prompt: 1 row.",)


@pytest.mark.parametrize("inputs", [{}, {"raw": True}])
def test_question_beside_an_instruction_and_an_input_is_refused(inputs: dict[str, Any]) -> None:
    row = {"instruction": "Answer.", "question": QUESTION, "answer": ANSWER}
    row |= {} if inputs else {"context": "12 h"}
    message = refusal_of(row, **inputs)
    assert "column 'question' has values in 1 row that " in message
    assert "--columns instruction=instruction,output=answer" in message


@pytest.mark.parametrize(
    ("row", "option"),
    [
        ({"instruction": "Answer.", "prompt": QUESTION, "response": ANSWER}, "prompt=instruction,input=prompt"),
        ({"Instruction": "Answer.", "prompt": QUESTION, "completion": ANSWER}, "prompt=Instruction,input=prompt"),
        ({"prompt": "Answer.", "query": QUESTION, "response": ANSWER}, "prompt=prompt,input=query"),
        ({"question": "Answer.", "Query": QUESTION, "answer": ANSWER}, "prompt=question,input=Query"),
    ],
)
def test_a_second_prompt_is_refused_with_the_columns_that_read_both(row: dict[str, str], option: str) -> None:
    answer = next(name for name in ("response", "completion", "answer") if name in row)
    row |= {"system": "Be kind."}
    message = refusal_of(row)
    assert " has another text than column " in message
    assert "in 1 row, and only one of the two is read." in message
    assert f"Use --columns {option},completion={answer},system=system to read both, or --columns " in message
    both = read_one(row, columns=parse_columns(f"{option},completion={answer}"))
    assert both.prompt == (turn("user", f"Answer.\n\n{QUESTION}"),)
    left_out = message.rpartition("--columns ")[2].removesuffix(" to leave it out.")
    assert read_one(row, columns=parse_columns(left_out)).completion == ANSWER
    assert "to read both" not in refusal_of({**row, "context": "12 h"})
    assert "to read both" not in refusal_of({"prompt": "Answer.", "query": QUESTION, "response": ANSWER}, raw=True)


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": QUESTION, "output": ANSWER, "prompt": f"### Instruction:\n{QUESTION}\n### Response:\n{ANSWER}"},
        {"instruction": "Translate", "input": QUESTION, "output": ANSWER, "prompt": f"{QUESTION.upper()} Translate."},
        {"prompt": [turn("user", f"Think.\n{QUESTION}")], "question": QUESTION, "completion": ANSWER},
        {"prompt": f"Think.\n {QUESTION} ", "question": QUESTION, "answer": ANSWER},
        {"prompt": "What\u2019s \u201cit\u201d?", "question": 'What\'s "it" ?', "answer": ANSWER},
        {"prompt": "Où\u202f?", "question": "Ou\u0300 ?", "answer": ANSWER},
        {"prompt": QUESTION, "completion": ANSWER, "instruction": None},
        {"messages": [turn("user", QUESTION), turn("assistant", ANSWER)], "prompt": "other"},
        {"text": ANSWER, "prompt": "other", "question": QUESTION},
    ],
)
def test_a_second_prompt_that_repeats_the_first_is_named_only(row: dict[str, Any]) -> None:
    notes = reading_of(row).notes[1:]
    assert len(notes) == (row.get("instruction", "") is not None)


@pytest.mark.parametrize("column", ["choices", "Options", "documents", "passage"])
@pytest.mark.parametrize("names", [("question", "answer"), ("instruction", "output")])
def test_multiple_choice_data_are_not_trained_on_without_the_choices(column: str, names: tuple[str, str]) -> None:
    row = {names[0]: QUESTION, names[1]: 1, column: ["9 h", "12 h"]}
    message = refusal_of(row)
    assert f"column '{column}' has values in 1 row that this layout cannot use" in message
    (named,) = reading_of(row, columns={"prompt": names[0], "completion": names[1]}).examples
    assert named.completion == "1"
    assert read_one({**row, column: []}).completion == "1"


def test_images_are_refused() -> None:
    row = {"images": ["map.png"], "messages": [turn("user", "Where?"), turn("assistant", "Here.")]}
    assert refusal_of(row, row) == (
        "mine.jsonl: column 'images' has values in 2 rows, and images are not read. Use --columns messages=messages to "
        "leave it out, or remove the column."
    )
    empty: list[Any] = [[], "[]", {"path": None, "bytes": None}, "null", " {} "]
    for nothing in empty:
        assert reading_of({**row, "images": nothing}).notes[1:] == ()


def test_rendered_prompts_are_named() -> None:
    rendered = {"prompt": "<|im_start|>user\nHi<|im_end|>", "completion": "Hello<|im_end|>"}
    plain = {"prompt": "Hi", "completion": "Hello"}
    reading = reading_of(rendered, rendered, plain)
    assert reading.notes[1:] == (
        "Prompts contain chat markers such as '<|im_start|>', and the template adds its own: 2 rows. Use --raw if the "
        "prompts are rendered already.",
    )
    for text in ("<|user|>\nHi", "[INST] Hi [/INST]", "<start_of_turn>user", "### Instruction:\nHi", "### Human: Hi"):
        assert "--raw" in reading_of({**plain, "prompt": text}).notes[1]
    assert reading_of(plain).notes[1:] == ()


# Columns that are not read


def test_columns_that_are_not_read_are_named_with_their_rows() -> None:
    row = {"prompt": QUESTION, "completion": ANSWER}
    rows: list[dict[str, Any]] = [
        {**row, "category": "time", "blank": " "},
        {**row, "category": None},
        row,
    ]
    assert reading_of(*rows).notes == (
        "mine.jsonl has the layout prompt-completion (columns: prompt, completion).",
        "Column 'category' is not read in this layout: 1 row.",
    )
    more = reading_of(*rows, {**row, "category": "a", "id": 7}).notes[1]
    assert more == "Columns that are not read in this layout: 'category' (2 rows), 'id' (1 row)."


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"text": "a", "system": "b"}, "column 'system' has values in 1 row that this layout cannot use."),
        ({"messages": [], "history": [["a", "b"]]}, "column 'history' has values"),
        ({"messages": [], " Context": "b"}, "column ' Context' has values"),
        ({"prompt": "a", "completion": "b", "input": "c", "context": "d"}, "column 'context' has values"),
        ({"prompt": "a", "completion": "b", "audio": {"path": "a.wav"}}, "audio is not read"),
        ({"prompt": "a", "completion": "b", "weight": 0.5}, "line 1: column 'weight' has a weight other than 1 (1 row"),
        ({"prompt": "a", "completion": "b", "completion_mask": [0, 1]}, "column 'completion_mask' has values in 1 row"),
        ({"text": "a", "Mask": "1"}, "column 'Mask' has values in 1 row"),
        ({"text": "a", "question": "b", "answer": "c", "context": "d"}, "Use --format prompt-completion if that fits."),
    ],
)
def test_columns_that_change_the_meaning_are_refused(row: Mapping[str, Any], what: str) -> None:
    message = refusal_of(row)
    assert what in message
    assert "--columns" in message


def test_all_refused_columns_are_reported_at_once() -> None:
    row = {"text": "a", "system": "b", "image": "c.png", "weight": 2}
    assert [line.partition("'")[2].partition("'")[0] for line in refusal_of(row).splitlines()] == [
        "system",
        "image",
        "weight",
    ]


def test_weights_of_1_are_read() -> None:
    row = {"prompt": QUESTION, "completion": ANSWER}
    assert reading_of(*({**row, "weight": weight} for weight in (1, 1.0, "1", None))).notes[1:] == ()


CHAT = [turn("user", QUESTION), turn("assistant", ANSWER)]


def test_layout_of_text_names_the_columns_of_another_layout() -> None:
    (_, note) = reading_of({"text": "a", "question": "b", "answer": "c"}).notes
    assert note.endswith(
        "'question' (1 row), 'answer' (1 row). Only the column 'text' is trained on, as plain text. To train on the "
        "column 'answer' instead, use --format prompt-completion or --columns prompt=question,completion=answer."
    )
    (_, note) = reading_of({"text": "a", "dialog": [], "query": "b", "output": "c", "dialogue": CHAT}).notes
    assert note.count("To train on the column") == 2
    assert "To train on the column 'dialogue' instead, use --format messages or --columns messages=dialogue." in note
    (_, note) = reading_of({"text": "a", "Question": "b", "ANSWER": "c"}).notes
    assert note.endswith("use --format prompt-completion or --columns prompt=Question,completion=ANSWER.")


def test_two_system_prompts_are_an_unusable_row() -> None:
    message = refusal_of({"messages": [turn("system", "a"), turn("user", "b"), turn("assistant", "c")], "system": "d"})
    assert "column 'messages' and the system column have different system prompts" in message


# Precedence


@pytest.mark.parametrize(
    ("row", "layout", "completion"),
    [
        ({"instruction": "a", "output": "b", "response": "c", "text": "d"}, "alpaca", "b"),
        ({"instruction": "a", "response": "b", "prompt": "Q: a", "completion": "d"}, "alpaca", "b"),
        ({"instruction": "a", "prompt": "Q: a", "completion": "d"}, "prompt-completion", "d"),
        ({"prompt": "a", "completion": "b", "messages": "c"}, "prompt-completion", "b"),
        ({"text": "a", "question": "b", "answer": "c"}, "text", "a"),
        ({"prompt": "a", "response": "b", "text": None}, "prompt-completion", "b"),
        ({"Question": "a", "ANSWER ": "b"}, "prompt-completion", "b"),
        ({"Prompt": "Q: b", "question": "b", "answer": "c"}, "prompt-completion", "c"),
        ({"Instruction": "a", "Response": "b", "text": "c"}, "alpaca", "b"),
        ({"Prompt": "a", " Completion": "b", "text": "c"}, "prompt-completion", "b"),
        ({"Messages": CHAT, "text": "c"}, "messages", ANSWER),
        ({"Messages": CHAT, "question": "a", "answer": "b"}, "messages", ANSWER),
        ({"Output": "a", "OUTPUT": "b", "messages": CHAT}, "messages", ANSWER),
    ],
)
def test_first_layout_that_fits_is_read(row: Mapping[str, Any], layout: str, completion: str) -> None:
    reading = reading_of(row)
    assert reading.layout == layout
    assert reading.examples[0].completion == completion


def test_columns_that_differ_in_case_only_are_refused() -> None:
    assert refusal_of({"PROMPT": "a", "Prompt": "b", "completion": "c"}) == (
        "The columns 'PROMPT', 'Prompt' differ in upper and lower case or in spaces only. Rename one of them, or name "
        "the one to read: --columns prompt='PROMPT',..."
    )


# --columns


def test_named_columns_are_the_only_ones_that_are_read() -> None:
    row = {"frage": QUESTION, "antwort": ANSWER, "person": "Sei kurz.", "system": "b", "weight": 0}
    reading = reading_of(row, columns={"prompt": "frage", "completion": "Antwort", "system": "person"})
    assert reading.examples[0].prompt == (turn("system", "Sei kurz."), turn("user", QUESTION))
    assert reading.notes == (
        "mine.jsonl has the layout prompt-completion (columns: frage, antwort, person).",
        "Columns that are not read in this layout: 'system' (1 row), 'weight' (1 row).",
    )


def test_columns_name_every_meaning() -> None:
    row = {"a": QUESTION, "b": "12 h", "c": ANSWER, "d": [["x", "y"]], "e": [{"name": "clock"}], "f": "s"}
    columns = {"instruction": "a", "input": "b", "output": "c", "history": "d", "tools": "e", "system": "f"}
    example = read_one(row, columns=columns)
    assert [one["content"] for one in example.turns] == ["s", "x", "y", f"{QUESTION}\n\n12 h", ANSWER]
    assert example.tools == '[{"name": "clock"}]'
    turns = [turn("user", QUESTION), turn("assistant", ANSWER)]
    assert read_one({"a": turns, "messages": "b"}, columns={"messages": "a"}).completion == ANSWER
    assert read_one({"a": QUESTION, "text": "b"}, columns={"text": "a"}).completion == QUESTION


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"promt": "frage", "completion": "antwortt"},
            "--columns promt=frage: there is no meaning 'promt'. Use instruction, output, input, system, history, "
            "tools, prompt, completion, messages or text.\n"
            "--columns completion=antwortt: mine.jsonl has no column 'antwortt'. Did you mean antwort? "
            "Use one of its columns: frage, antwort.",
        ),
        (
            {"prompt": "frage", "completion": "frage"},
            "--columns gives two meanings to the column 'frage'. Remove one of them.",
        ),
        (
            {"prompt": "frage"},
            "--columns must also name completion. Use --columns prompt=frage,completion=COLUMN, where COLUMN is "
            "antwort.",
        ),
        (
            {"prompt": "frage", "system": "antwort"},
            "--columns must also name completion. The data have no other column. Use data that have one.",
        ),
        (
            {"text": "frage", "system": "antwort"},
            "--columns names text, system. Together these are not the columns of a layout.",
        ),
    ],
)
def test_unusable_names_of_columns(columns: dict[str, str], message: str) -> None:
    assert refusal_of({"frage": "a", "antwort": "b"}, columns=columns).startswith(message)


def test_named_columns_of_another_layout_are_refused() -> None:
    message = refusal_of({"a": "b"}, columns={"text": "a"}, layout="messages")
    assert message.startswith("--columns text=a: there is no meaning 'text'. Use messages, system or tools.")


# --raw


def test_raw_texts_are_not_changed() -> None:
    example = read_one({"prompt": "Q: Hi\nA:", "completion": " Hello\n"}, raw=True)
    assert (example.raw_prompt, example.completion, example.prompt) == ("Q: Hi\nA:", " Hello\n", ())
    assert example.id != read_one({"prompt": "Q: Hi\nA:", "completion": " Hello\n"}).id
    assert example.id != read_one({"prompt": "Q: Ho\nA:", "completion": " Hello\n"}, raw=True).id
    assert read_one({"text": "a"}, raw=True).id == read_one({"text": "a"}).id


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"messages": [turn("user", "a"), turn("assistant", "b")]}, "--raw does not apply to the layout messages"),
        ({"prompt": [turn("user", "a")], "completion": "b"}, "column 'prompt' contains a list, not text."),
        (
            {"prompt": "a", "completion": "b", "system": "c"},
            "column 'system' has values in 1 row that --raw cannot use.",
        ),
        (
            {"instruction": "a", "input": "c", "output": "b"},
            "column 'input' has values in 1 row that --raw cannot use.",
        ),
    ],
)
def test_raw_is_refused_for_conversations(row: Mapping[str, Any], what: str) -> None:
    assert what in refusal_of(row, raw=True)


# Completions of several turns


def test_several_completion_turns() -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "clock", "arguments": {}}]}
    completion = [call, turn("tool", "12:00"), turn("assistant", ANSWER), turn("user", "Merci.")]
    reading = reading_of({"prompt": QUESTION, "completion": completion})
    (example,) = reading.examples
    assert example.completion_turns == 3
    assert [one["role"] for one in example.turns] == ["user", "assistant", "tool", "assistant"]
    assert reading.notes[1:] == (
        "Turns after the last assistant turn to learn are not read: 1 row.",
        "Turns of other roles in the completion are not learned, only assistant turns are: 1 row.",
    )
    in_prompt = read_one({"prompt": list(example.prompt), "completion": ANSWER})
    assert in_prompt.turns == example.turns
    assert in_prompt.id != example.id


@pytest.mark.parametrize(
    ("history", "what"),
    [
        ("yesterday", "column 'history' contains text, not a list of pairs."),
        ([["a", "b"], ["c"]], "column 'history': item 2 is not a pair of a question and an answer."),
    ],
)
def test_unusable_history(history: object, what: str) -> None:
    assert what in refusal_of({"instruction": "a", "output": "b", "history": history})


@pytest.mark.parametrize("history", [None, [], "", "[]", " null ", "[ ]"])
def test_history_without_pairs_is_none(history: object) -> None:
    row = {"instruction": QUESTION, "output": ANSWER}
    assert read_one({**row, "history": history}) == read_one(row)


def test_input_beside_turns_is_an_unusable_row() -> None:
    row = {"prompt": [turn("user", "a")], "input": "b", "completion": "c"}
    assert "column 'input' cannot be added to the turns in column 'prompt'." in refusal_of(row)
