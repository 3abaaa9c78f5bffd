"""Checks of rendered conversations, with hand-written expectations for small chat templates."""

from dataclasses import replace
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from neftune_cli.config.spec import InputSpec
from neftune_cli.data.bad_rows import NO_BAD_ROWS, BadRow
from neftune_cli.data.examples import Example, Message, TokenizedExample, TokenizedExamples
from neftune_cli.data.layouts import example
from neftune_cli.data.tokenization import tokenize, tokenize_parts
from neftune_cli.errors import UsageError
from tests.unit.test_data_tokenization import ASK, OPEN, TURNS, example_of, parts_of, tokenizer_with

LAST_ONLY = "{% for m in messages %}{% if loop.last %}<user>{{ m['content'] }}<end>{% endif %}{% endfor %}"
TWICE = f"{OPEN}{{{{ m['content'] }}}}<end>{{% endfor %}}{ASK}"
REVERSED = f"{{% for m in messages | reverse %}}<{{{{ m['role'] }}}}>{{{{ m['content'] }}}}<end>{{% endfor %}}{ASK}"
ANSWERS = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'].split('</think>')[-1] }}<end>{% endfor %}"
OPENS_REASONING = f"{ANSWERS}{ASK}{{% if add_generation_prompt %}}<think>\n{{% endif %}}"
DROPS_REASONING = f"{ANSWERS}{ASK}"
CLOCK = f"<system>{{{{ strftime_now('%H:%M') }}}}<end>{TURNS}"
PARTS = (
    "{% for m in messages %}<{{ m['role'] }}>"
    "{% for p in m['content'] %}{{ p['text'] }}{% endfor %}<end>{% endfor %}" + ASK
)
TWO_BOS = "<system><system>" + TURNS
WITH_TOOLS = (
    "{% for tool in tools or [] %}{{ tool.function.name }};{% endfor %}{% for m in messages %}<{{ m.role }}>"
    "{% for call in m.tool_calls or [] %}{{ call.function.name }}({{ call.function.arguments | tojson }}){% endfor %}"
    "{{ m.content }}<end>{% endfor %}" + ASK
)
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
TOOLS = '[{"type": "function", "function": {"name": "add", "parameters": {}}}]'


def tokenized_with(
    template: str, *examples: Example, **inputs: Any
) -> tuple[TokenizedExamples, PreTrainedTokenizerFast]:
    tokenizer = tokenizer_with(template)
    return tokenize(examples, tokenizer, max_length=500, inputs=InputSpec(**inputs)), tokenizer


def texts_of(example: TokenizedExample, tokenizer: PreTrainedTokenizerFast) -> tuple[str, str]:
    prompt, completion = parts_of(example, tokenizer)
    return "".join(prompt), "".join(completion)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (LAST_ONLY, "the model's chat template drops turn 1 (user)."),
        (TWICE, "the model's chat template repeats turn 1 (user)."),
        (REVERSED, "the model's chat template changes the order of the turns."),
    ],
)
def test_a_template_that_drops_repeats_or_reorders_turns_is_refused(template: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        tokenized_with(template, example_of("42", ("user", "Q")))
    assert message in str(error.value)


@pytest.mark.parametrize("template", [OPENS_REASONING, DROPS_REASONING])
def test_the_reasoning_of_the_completion_is_learned_once(template: str) -> None:
    result, tokenizer = tokenized_with(template, example_of("<think>\nhm\n</think>\n42", ("user", "Q")))
    prompt, completion = texts_of(result.examples[0], tokenizer)
    assert prompt + completion == "<user>Q<end><assistant><think>\nhm\n</think>\n42<end>"
    assert prompt == tokenizer.apply_chat_template(
        [{"role": "user", "content": "Q"}], tokenize=False, add_generation_prompt=True
    )


def test_a_completion_without_reasoning_leaves_out_the_opened_reasoning() -> None:
    result, tokenizer = tokenized_with(OPENS_REASONING, example_of("42", ("user", "Q")))
    assert texts_of(result.examples[0], tokenizer) == ("<user>Q<end><assistant>", "42<end>")
    (note,) = result.notes
    assert "opens '<think>', and the reasoning is missing in 1 completion." in note


def test_the_clock_of_a_template_shows_the_time_of_the_sweep() -> None:
    result, tokenizer = tokenized_with(CLOCK, example_of("42", ("user", "Q")), template_time="2026-01-02T03:04:05")
    assert texts_of(result.examples[0], tokenizer)[0] == "<system>03:04<end><user>Q<end><assistant>"


def test_a_template_that_reads_parts_gets_parts() -> None:
    result, tokenizer = tokenized_with(PARTS, example_of("42", ("user", "Q")))
    assert texts_of(result.examples[0], tokenizer) == ("<user>Q<end><assistant>", "42<end>")


def test_special_tokens_in_the_text_of_a_turn_are_ordinary_text() -> None:
    example = example_of("42", ("user", "Say <end>!"))
    result, tokenizer = tokenized_with(TURNS, example)
    prompt, _ = parts_of(result.examples[0], tokenizer)
    assert prompt == ["<user>", *"Say <end>!", "<end>", "<assistant>"]
    assert result.notes[0].startswith("Special tokens ('<end>') in the text of 1 conversation become ordinary text.")
    allowed, _ = tokenized_with(TURNS, example, allow_special_tokens=True)
    prompt, _ = parts_of(allowed.examples[0], tokenizer)
    assert prompt == ["<user>", *"Say ", "<end>", "!", "<end>", "<assistant>"]
    assert allowed.notes == ()


def test_an_end_token_in_the_data_is_learned_once() -> None:
    result, tokenizer = tokenized_with(TURNS, example_of("42<end>", ("user", "Q")))
    assert texts_of(result.examples[0], tokenizer) == ("<user>Q<end><assistant>", "42<end>")
    assert result.notes == ("Removed '<end>' from the end of 1 completion: the chat template adds it.",)


@pytest.mark.parametrize("end", ["</s>", "<|eot_id|>", "<end_of_turn>\n"])
def test_an_end_token_of_another_model_is_named(end: str) -> None:
    completions = (f"42{end}", f"43{end}", f"Write {end} here.", "42")
    examples = [example_of(completion, ("user", "Q")) for completion in completions]
    examples.append(example_of("44", ("user", "Q"), ("assistant", f"43{end}"), ("user", "Q")))
    tokenizer = tokenizer_with(TURNS)
    result = tokenize(examples, tokenizer, max_length=64)
    assert texts_of(result.examples[0], tokenizer)[1] == f"42{end}<end>"
    assert result.notes == (
        f"'{end.strip()}' at the end of answers in 3 examples is read as text, since it is an end token of other "
        "models. Remove it from the data: '<end>' is added.",
    )


@pytest.mark.parametrize("answer", ["<p>New <s>Old</s>", "<s>A sentence.</s>\n"])
def test_an_element_of_html_at_the_end_is_no_end_token(answer: str) -> None:
    examples = [
        example_of(answer, ("user", "Q")),
        example_of("42", ("user", "Q"), ("assistant", answer), ("user", "Q")),
    ]
    assert tokenize(examples, tokenizer_with(TURNS), max_length=64).notes == ()


def test_two_begin_of_sequence_tokens_are_refused() -> None:
    tokenizer = tokenizer_with(TWO_BOS)
    tokenizer.add_special_tokens({"bos_token": "<system>"})
    with pytest.raises(UsageError) as error:
        tokenize([example_of("42", ("user", "Q"))], tokenizer, max_length=64)
    assert "the chat template writes two begin-of-sequence tokens." in str(error.value)


def test_a_token_without_embedding_is_refused_with_its_row() -> None:
    tokenizer = tokenizer_with(TURNS)
    with pytest.raises(UsageError) as error:
        tokenize([example_of("42", ("user", "Q"))], tokenizer, max_length=64, vocabulary=100)
    assert "has no embedding: the model has 100 embeddings." in str(error.value)


def test_tool_calls_and_tools_are_rendered_or_refused() -> None:
    prompt = (Message(role="user", content="1+1?"),)
    final = Message(role="assistant", content="", tool_calls=[CALL])
    example = Example("0" * 16, prompt, "", "0" * 16, final_turn=final, tools=TOOLS)
    result, tokenizer = tokenized_with(WITH_TOOLS, example)
    assert texts_of(result.examples[0], tokenizer) == ("add;<user>1+1?<end><assistant>", 'add({"a": 1})<end>')
    with pytest.raises(UsageError) as error:
        tokenized_with(TURNS, example)
    assert "the model's chat template does not render the tool 'add'." in str(error.value)


def test_a_raw_example_is_not_changed() -> None:
    raw = Example("0" * 16, (), " 42<end>", "0" * 16, raw_prompt="<user> Q<end><assistant>")
    result, tokenizer = tokenized_with(TURNS, raw, raw=True)
    prompt, completion = parts_of(result.examples[0], tokenizer)
    assert (prompt, completion) == (["<user>", " ", "Q", "<end>", "<assistant>"], [" ", "4", "2", "<end>"])


def test_all_assistant_turns_and_weights() -> None:
    prompt = (
        Message(role="user", content="Q"),
        Message(role="assistant", content="A"),
        Message(role="user", content="R"),
        Message(role="assistant", content="B", weight=0),
        Message(role="user", content="S"),
    )
    result, tokenizer = tokenized_with(TURNS, Example("0" * 16, prompt, "C", "0" * 16), loss="all-assistant")
    labels = result.examples[0].labels
    assert "".join(map(str, tokenizer.convert_ids_to_tokens([one for one in labels if one != -100]))) == "A<end>C<end>"


BAD = "{% if messages[0]['content'] == 'bad' %}{{ raise_exception('bad') }}{% endif %}" + TURNS


def test_rows_that_a_template_refuses_are_skipped_and_counted() -> None:
    examples = [example_of("42", ("user", "good"))] * 30 + [example_of("42", ("user", "bad"))]
    result, _ = tokenized_with(BAD, *examples, skip_bad_rows=True)
    assert (len(result.examples), result.bad_rows) == (30, 1)
    with pytest.raises(UsageError) as error:
        tokenized_with(BAD, *examples, skip_bad_rows=True, max_bad_share=0.01)
    assert str(error.value).splitlines()[0] == (
        "bios: 3.2% of the rows cannot be used (1 of 31 examples cannot be rendered or tokenized). "
        "Correct them, or raise --max-bad-share: --skip-bad-rows drops at most 1.0%."
    )


def test_the_share_of_bad_rows_is_that_of_the_whole_data_set() -> None:
    good, bad = (
        [example([Message(role="user", content=content)], str(number)) for number in range(numbers)]
        for content, numbers in (("good", 98), ("bad", 2))
    )
    train, held_out, probe = (*good[:80],), (*good[80:], *bad), (*good[:5], bad[0])
    parts = [(part, 500) for part in (train, held_out, probe)]
    inputs = InputSpec(skip_bad_rows=True, max_bad_share=0.02)
    results = tokenize_parts(parts, tokenizer_with(BAD), inputs=inputs, vocabulary=None)
    assert [(len(result.examples), result.bad_rows) for result in results] == [(80, 0), (18, 2), (5, 1)]
    with pytest.raises(UsageError, match=r"2\.0% of the rows cannot be used \(2 of 100 examples"):
        tokenize_parts(
            parts, tokenizer_with(BAD), inputs=inputs.model_copy(update={"max_bad_share": 0.01}), vocabulary=None
        )


def test_bad_rows_of_reading_and_of_rendering_have_one_limit() -> None:
    """Of 100 rows, 4 cannot be read and 3 of the others cannot be rendered: 7 in all."""
    good, bad = (
        [example([Message(role="user", content=content)], str(number)) for number in range(numbers)]
        for content, numbers in (("good", 93), ("bad", 3))
    )
    unread = tuple(BadRow(f"mine.jsonl, line {number}", "no text.", "Add it.", "no text.") for number in range(1, 5))
    row_count = replace(NO_BAD_ROWS, total=100, bad=4, bad_rows=unread)
    inputs = InputSpec(dataset="mine.jsonl", skip_bad_rows=True, max_bad_share=0.07)
    parts = [(good + bad, 500)]
    (result,) = tokenize_parts(parts, tokenizer_with(BAD), inputs=inputs, vocabulary=None, row_count=row_count)
    assert (len(result.examples), result.bad_rows) == (93, 3)
    with pytest.raises(UsageError) as error:
        tokenize_parts(
            parts,
            tokenizer_with(BAD),
            inputs=inputs.model_copy(update={"max_bad_share": 0.06}),
            vocabulary=None,
            row_count=row_count,
        )
    first, *others = str(error.value).splitlines()
    assert first == (
        "mine.jsonl: 7.0% of the rows cannot be used (4 of 100 rows cannot be read and 3 of 96 examples cannot be "
        "rendered or tokenized). Correct them, or raise --max-bad-share: --skip-bad-rows drops at most 6.0%."
    )
    assert len(others) == 2


def test_bad_rows_of_all_parts_are_reported_at_once() -> None:
    one, two = (example_of(answer, ("user", "bad")) for answer in ("1", "2"))
    located = [replace(one, place="mine.jsonl, line 12", id="1"), replace(two, place="mine.jsonl, line 3", id="2")]
    with pytest.raises(UsageError) as error:
        tokenize_parts(
            [(located[:1], 500), (located[1:], 500), (located[:1], 500)],
            tokenizer_with(BAD),
            inputs=None,
            vocabulary=None,
        )
    assert str(error.value).startswith("mine.jsonl, line 3, line 12: the model's chat template rejects a conversation")
