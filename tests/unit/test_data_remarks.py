"""Notes on properties of rows, and rows of another layout than the others."""

import json
from typing import Any

import pytest

from tests.instruction_rows import ANSWER, QUESTION, reading_of, refusal_of, turn

CHAT = [turn("user", QUESTION), turn("assistant", ANSWER)]
PAIR = {"prompt": QUESTION, "completion": ANSWER}


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"instruction": QUESTION, "output": ANSWER}, "columns instruction, output (layout alpaca)"),
        ({"messages": CHAT}, "column messages (layout messages)"),
        ({"question": QUESTION, "answer": ANSWER}, "columns question, answer (layout prompt-completion)"),
        ({"prompt": QUESTION, "response": ANSWER}, "columns prompt, response (layout prompt-completion)"),
        ({"text": ANSWER, "prompt": None}, "column text (layout text)"),
    ],
)
def test_row_of_another_layout(row: dict[str, Any], columns: str) -> None:
    rows = [{**dict.fromkeys(row), **PAIR}, row]  # as a Parquet file has them, with null for the other columns
    for first in (PAIR, rows[0]):
        message = refusal_of(first, row, layout="prompt-completion")
        other = columns.rpartition(" ")[2].rstrip(")")
        one = f"--format prompt-completion or --format {other}"
        read = f" To read one kind of rows only, use {one}, with --skip-bad-rows and --max-bad-share."
        assert message == (
            f"mine.jsonl, line 2: the row has the {columns}, and other rows have the columns prompt, "
            "completion (layout prompt-completion). Write all rows with the same columns, or use a file for each "
            f"layout.{'' if other == 'prompt-completion' else read}"
        )


@pytest.mark.parametrize("row", [{"prompt": QUESTION}, {"prompt": "", "text": ANSWER, "completion": ANSWER}])
def test_row_without_a_column_is_not_of_another_layout(row: dict[str, Any]) -> None:
    assert "Write all rows" not in refusal_of(PAIR, row)


def test_json_text_in_a_completion_is_named() -> None:
    text = json.dumps(CHAT[1:])
    assert reading_of({**PAIR, "completion": text}).notes[1:] == (
        "JSON text in column 'completion' is read as turns of a conversation: 1 row.",
    )
    assert reading_of({**PAIR, "completion": CHAT[1:]}, {"prompt": "a", "completion": "[1, 2]"}).notes[1:] == ()
    message = refusal_of({**PAIR, "completion": json.dumps(CHAT[:1])})
    assert "column 'completion' (JSON text, read as turns) has no assistant turn" in message


@pytest.mark.parametrize("marker", ["<image>", "<video>", "<|image_pad|>", "<|audio|>"])
def test_markers_of_media_in_texts_are_named(marker: str) -> None:
    kind = marker.strip("<>|").removesuffix("_pad")
    unread = {"image": "images are not read", "audio": "audio is not read", "video": "videos are not read"}[kind]
    expected = f"Texts contain '{marker}', which is read as plain text, since {unread}: 1 row."
    in_history = [turn("user", f"{marker}\n{QUESTION}"), *CHAT[1:], *CHAT]
    rows: list[dict[str, Any]] = [
        {"messages": in_history},
        {"text": f"a {marker}"},
        {**PAIR, "prompt": f"{marker}{QUESTION}"},
    ]
    for row in rows:
        assert expected in reading_of(row).notes
    assert expected in reading_of(rows[2], raw=True).notes
    assert reading_of({**PAIR, "completion": '<img src="a.png">'}).notes[1:] == ()


def test_chat_markers_in_plain_text_are_named() -> None:
    text = "<|im_start|>user\nHi<|im_end|>\n"
    assert reading_of({"text": text}, {"text": "Hi"}).notes[1:] == (
        "Texts contain chat markers such as '<|im_start|>', which are special tokens of some models: 1 row.",
    )


def test_chat_markers_that_no_tokenizer_knows_are_plain_text() -> None:
    for text in (f"### Human: {QUESTION}### Assistant: {ANSWER}", f"### Instruction:\n{QUESTION}"):
        assert reading_of({"text": text}).notes[1:] == ()
    (note,) = reading_of({"text": f"### Human: {QUESTION}<|im_end|>"}).notes[1:]
    assert "such as '<|im_end|>', which are special tokens" in note


@pytest.mark.parametrize("marker", ["<|user|>", "[INST]", "### Human:", "<start_of_turn>"])
def test_chat_markers_in_turns_are_named(marker: str) -> None:
    asked, answered = [turn("user", f"{marker} {QUESTION}")], turn("assistant", f"Write {marker}.")
    expected = f"Turns contain chat markers such as '{marker}', and the template adds its own: 2 rows."
    rows: list[dict[str, Any]] = [
        {"messages": [*asked, *CHAT[1:]]},
        {"messages": [*CHAT[:1], answered]},
        {"prompt": asked, "completion": ANSWER},
        {"prompt": QUESTION, "completion": answered["content"]},
    ]
    for row in rows:
        assert reading_of(row, row, {name: CHAT if name == "messages" else "a" for name in row}).notes[1:] == (
            expected,
        )
    assert reading_of(rows[3], raw=True).notes[1:] == ()
    assert reading_of({"messages": [*CHAT[:1], turn("assistant", f"{ANSWER}</s>")]}).notes[1:] == ()


def test_rows_that_are_single_turns_are_refused() -> None:
    rows = [{"role": "prompter", "text": QUESTION}, {"role": "assistant", "text": ANSWER}]
    assert "column 'role' has values in 2 rows that this layout cannot use." in refusal_of(*rows)
    assert len(reading_of(*rows, columns={"text": "text"}).examples) == 2


# Faults that are named by their place in the row


def test_fault_in_a_history() -> None:
    rows = [{**PAIR, "history": [["a", "b"], ["c", 3], [answer, ""]]} for answer in ("d", "e")]
    assert refusal_of(*rows, {**PAIR, "history": [["", "b"]]}).splitlines() == [
        "mine.jsonl, line 1, line 2: column 'history', item 3: the answer is empty. Fill it in, or remove the row.",
        "mine.jsonl, line 3: column 'history', item 1: the question is empty. Fill it in, or remove the row.",
    ]


def test_turn_with_its_text_in_a_key_that_is_not_read() -> None:
    refused = {"role": "assistant", "content": None, "refusal": "No."}
    assert refusal_of({"messages": [CHAT[0], refused]}) == (
        "mine.jsonl, line 1: column 'messages', turn 2 has no text: its key 'refusal' is not read. "
        "Write the text under the key 'content', or remove the row."
    )
    unclear = {"role": "assistant", "content": "", "score": 3}
    assert "column 'messages', turn 2 is empty." in refusal_of({"messages": [CHAT[0], unclear]})
    both = {**CHAT[1], "refusal": "No."}
    assert reading_of({"messages": [CHAT[0], both]}).notes[1:] == (
        "Key 'refusal' of assistant turns is not read: 1 row.",
    )


JOIN = (
    'Combine the rows of each conversation, in the order of its turns, into one row of a .jsonl file: {"messages": '
    '[{"role": "user", "content": "..."}, ...]}.'
)


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        (
            ("conversation_id", "role", "text"),
            "mine.jsonl: column 'role' has values in 2 rows that this layout cannot use.",
        ),
        (
            ("Chat ID", "sender", "message"),
            "The columns of mine.jsonl match no supported layout: Chat ID, sender, message.",
        ),
    ],
)
def test_turns_in_rows_are_refused_without_an_option_that_trains_on_each(columns: tuple[str, ...], what: str) -> None:
    rows = [dict(zip(columns, values, strict=True)) for values in (("1", "customer", "Hi"), ("1", "agent", "Hello"))]
    chat, role, text = columns
    names = f"(conversation: '{chat}', role: '{role}', text: '{text}')"
    assert refusal_of(*rows) == f"{what} Each row seems to be one turn of a conversation {names}. {JOIN}"


@pytest.mark.parametrize("roles", [("user", "assistant"), ("human", "GPT")])
def test_turns_in_rows_are_recognized_by_their_roles(roles: tuple[str, str]) -> None:
    for role, text in (("speaker", "text"), ("role", "content"), ("from", "value")):
        message = refusal_of(*({"turn": number, role: name, text: QUESTION} for number, name in enumerate(roles)))
        assert message.endswith(
            f"Each row seems to be one turn of a conversation (role: '{role}', text: '{text}'). {JOIN}"
        )


def test_rows_of_one_conversation_each_are_no_turns() -> None:
    tickets = [
        {"ticket_id": str(number), "sender": f"mail{number}", "message": "Help.", "reply": "Done."} for number in (1, 2)
    ]
    message = refusal_of(*tickets)
    assert "one turn" not in message
    assert "--columns prompt=COLUMN,completion=COLUMN" in message
    assert "(conversation: 'thread', role: 'sender'" in refusal_of(*({**one, "thread": "7"} for one in tickets))


def test_texts_with_an_author_are_texts() -> None:
    rows = [{"thread_id": 1, "author": name, "text": f"{name} writes."} for name in ("Ann", "Bob")]
    assert [example.completion for example in reading_of(*rows).examples] == ["Ann writes.", "Bob writes."]
