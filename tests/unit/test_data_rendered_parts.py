"""Tool calls, reasoning and special tokens in rendered conversations, with hand-written expectations."""

from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from neftune_cli.config.spec import InputSpec
from neftune_cli.data.conversations import Conversation, example_of
from neftune_cli.data.examples import Example, Message, TokenizedExamples
from neftune_cli.data.tokenization import tokenize
from neftune_cli.errors import UsageError
from tests.unit.test_data_tokenization import ASK, OPEN, TURNS, parts_of, tokenizer_with

DEFINITIONS = "{% for tool in tools or [] %}{{ tool | tojson }};{% endfor %}"
CALLS = "{% for call in m.tool_calls or [] %}{{ call.function | tojson }}{% endfor %}"
WITH_CALLS = f"{DEFINITIONS}{OPEN}{CALLS}<end>{{% endfor %}}{ASK}"
ONLY_DEFINITIONS = f"{DEFINITIONS}{TURNS}"
ONLY_CALLS = f"{OPEN}{CALLS}<end>{{% endfor %}}{ASK}"
FIRST_CALL = f"{OPEN}{{% if m.tool_calls %}}{{{{ m.tool_calls[0].function | tojson }}}}{{% endif %}}<end>{{% endfor %}}"
NAMES = (
    f"{OPEN}{{% for call in m.tool_calls or [] %}}{{{{ call.function.name }}}}{{% endfor %}}<end>{{% endfor %}}{ASK}"
)
REASONING = (
    "{% for m in messages %}<{{ m.role }}>"
    "{% if m.reasoning_content %}[{{ m.reasoning_content }}]{% endif %}{{ m.content }}<end>{% endfor %}" + ASK
)
TOOL = {"type": "function", "function": {"name": "add", "parameters": {}}}
QUESTION = Message(role="user", content="Q")
ANSWER = Message(role="assistant", content="42")


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def calling(*calls: dict[str, Any], content: str = "") -> Message:
    return Message(role="assistant", content=content, tool_calls=list(calls))


def thinking(reasoning: str, content: str = "42") -> Message:
    return Message(role="assistant", content=content, reasoning_content=reasoning)


def chat(*turns: Message, tools: str = "", completion_turns: int = 1) -> Example:
    return example_of(Conversation(turns, tools, completion_turns))


def tokenized(template: str, *examples: Example, **inputs: Any) -> tuple[TokenizedExamples, PreTrainedTokenizerFast]:
    tokenizer = tokenizer_with(template)
    return tokenize(examples, tokenizer, max_length=900, inputs=InputSpec(**inputs)), tokenizer


def learned(template: str, example: Example, **inputs: Any) -> list[str]:
    """Return the tokens with loss."""
    result, tokenizer = tokenized(template, example, **inputs)
    ids = [label for label in result.examples[0].labels if label != -100]
    return [str(token) for token in tokenizer.convert_ids_to_tokens(ids)]


def refusal(template: str, *examples: Example, **inputs: Any) -> str:
    with pytest.raises(UsageError) as error:
        tokenized(template, *examples, **inputs)
    return str(error.value)


TOOLS = '[{"type": "function", "function": {"name": "add", "parameters": {}}}]'
RESULT = Message(role="tool", content="R")


@pytest.mark.parametrize("arguments", [{}, {"a": 1}, {"a": True}, {"a": "x"}, {"a": ["x", {"b": 2}]}])
@pytest.mark.parametrize("is_last", [True, False])
def test_calls_that_the_template_leaves_out_are_refused(arguments: dict[str, Any], is_last: bool) -> None:
    turns = [QUESTION, calling(call("add", **arguments))]
    example = chat(*turns, *(() if is_last else (RESULT, ANSWER)), tools=TOOLS)
    what = "the model's chat template does not render the call of 'add' in turn 2 (assistant)."
    assert what in refusal(ONLY_DEFINITIONS, example)
    if arguments:
        assert what in refusal(NAMES, chat(*turns))


def test_definitions_that_the_template_leaves_out_are_refused_although_a_call_has_the_name() -> None:
    example = chat(QUESTION, calling(call("add", a=1)), tools=TOOLS)
    assert "the model's chat template does not render the tool 'add'." in refusal(ONLY_CALLS, example)


def test_each_number_of_calls_is_checked() -> None:
    one, two = (chat(QUESTION, calling(*calls)) for calls in ([call("add", a=1)], [call("add", a=1), call("sub", b=2)]))
    assert "does not render the call of 'sub' in turn 2 (assistant)." in refusal(FIRST_CALL + ASK, one, two)


def test_rows_with_calls_that_are_not_rendered_are_one_problem() -> None:
    examples = [chat(QUESTION, calling(call(name))) for name in ("add", "sub", "mul")]
    with pytest.raises(UsageError) as error:
        tokenized(TURNS, *examples)
    assert len(error.value.problems) == 1


@pytest.mark.parametrize("content", ["", "Let me."])
def test_calls_of_earlier_turns_with_loss_are_learned_with_their_end(content: str) -> None:
    turns = (QUESTION, calling(call("add", a=1), call("sub", b="x"), content=content), RESULT, ANSWER)
    calls = '{"name": "add", "arguments": {"a": 1}}{"name": "sub", "arguments": {"b": "x"}}'
    expected = [*content, *calls, "<end>", "4", "2", "<end>"]
    assert learned(WITH_CALLS, chat(*turns), loss="all-assistant") == expected
    assert learned(WITH_CALLS, chat(*turns, completion_turns=3)) == expected
    assert learned(WITH_CALLS, chat(*turns)) == ["4", "2", "<end>"]


def test_a_template_may_repeat_the_name_of_a_tool_with_its_result() -> None:
    named = "{% if m.role == 'tool' %}{{ messages[loop.index0 - 1].tool_calls[0].function.name }}:{% endif %}"
    template = WITH_CALLS.replace("{{ m['content'] }}", named + "{{ m['content'] }}")
    example = chat(QUESTION, calling(call("add")), RESULT, ANSWER)
    expected = ['{"name": "add", "arguments": {}}', "<end>", "42", "<end>"]
    assert "".join(learned(template, example, loss="all-assistant")) == "".join(expected)


def test_an_end_of_turn_token_other_than_eos_is_learned_in_earlier_turns_too() -> None:
    template = f"{OPEN}<eot>{{% endfor %}}{ASK}"
    example = chat(QUESTION, ANSWER, QUESTION, ANSWER)
    assert learned(template, example, loss="all-assistant") == [*"42", "<eot>", *"42", "<eot>", "<end>"]


def test_an_earlier_turn_that_is_rendered_differently_at_the_end_is_refused() -> None:
    template = f"{OPEN}{{% if loop.last %}}!<end>{{% else %}}?{{% endif %}}{{% endfor %}}{ASK}"
    message = refusal(template, chat(QUESTION, ANSWER, QUESTION, ANSWER), loss="all-assistant")
    assert "turn 2 (assistant) is rendered differently when other turns follow" in message


def test_reasoning_of_the_last_turn_is_rendered_or_refused() -> None:
    example = chat(QUESTION, thinking("hm"))
    assert learned(REASONING, example) == [*"[hm]42", "<end>"]
    message = refusal(TURNS, example, chat(QUESTION, thinking("so")))
    assert "the model's chat template does not render the reasoning of the last turn." in message
    assert "Write it into the text of the turn as <think>...</think>" in message


def test_reasoning_that_is_left_out_of_earlier_turns_with_loss_is_counted() -> None:
    template = REASONING.replace("if m.reasoning_content", "if m.reasoning_content and loop.last")
    example = chat(QUESTION, thinking("hm"), QUESTION, thinking("so"))
    result, _ = tokenized(template, example, loss="all-assistant")
    note = "The chat template leaves out the reasoning of earlier turns that are learned in 1 conversation."
    assert result.notes == (note,)
    assert tokenized(template, example)[0].notes == ()


def test_a_reasoning_block_that_the_template_closes_at_once_starts_the_completion() -> None:
    template = (
        "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}<think></think>{% endif %}{{ m.content }}"
        "<end>{% endfor %}" + ASK + "{% if add_generation_prompt %}<think>\n{% endif %}"
    )
    result, tokenizer = tokenized(template, chat(QUESTION, ANSWER))
    prompt, completion = parts_of(result.examples[0], tokenizer)
    assert ("".join(prompt), "".join(completion)) == ("<user>Q<end><assistant><think>", "</think>42<end>")
    assert result.notes == ()


def test_a_prompt_that_is_rendered_differently_before_the_last_turn_keeps_the_form_of_that_turn() -> None:
    reasoning = (
        "{% if m.reasoning_content and (loop.last or add_generation_prompt) %}[{{ m.reasoning_content }}]{% endif %}"
    )
    sign = "{{ '=' if m.role == 'assistant' }}"
    turn = f"<{{{{ m.role }}}}>{reasoning}{sign}{{{{ m.content }}}}{CALLS}<end>"
    template = f"{{% for m in messages %}}{turn}{{% endfor %}}{ASK}"
    asked = Message(role="assistant", content="", reasoning_content="hm", tool_calls=[call("add")])
    result, tokenizer = tokenized(template, chat(QUESTION, asked, RESULT, thinking("so <end>")))
    prompt, completion = parts_of(result.examples[0], tokenizer)
    assert "".join(prompt).startswith("<user>Q<end><assistant>[hm]=")
    assert completion == [*"[so <end>]=42", "<end>"]


@pytest.mark.parametrize(
    ("template", "turn", "expected"),
    [
        (WITH_CALLS, calling(call("add", a="x <end> y")), '{"name": "add", "arguments": {"a": "x <end> y"}}'),
        (WITH_CALLS, calling(call("add", **{"<end>": 1})), '{"name": "add", "arguments": {"<end>": 1}}'),
        (WITH_CALLS, calling(call("a<end>b")), '{"name": "a<end>b", "arguments": {}}'),
        (REASONING, thinking("x <end> y"), "[x <end> y]42"),
        (TURNS, Message(role="assistant", content="x <end> y"), "x <end> y"),
        (TURNS, Message(role="assistant", content="<think><end></think>y"), "<think><end></think>y"),
    ],
)
@pytest.mark.parametrize("loss", ["last", "all-assistant"])
def test_special_tokens_of_the_data_never_end_a_turn(template: str, turn: Message, expected: str, loss: str) -> None:
    assert learned(template, chat(QUESTION, turn), loss=loss) == [*expected, "<end>"]
    in_prompt = chat(QUESTION, turn, QUESTION, ANSWER)
    earlier = [*expected, "<end>"] if loss == "all-assistant" else []
    assert learned(template, in_prompt, loss=loss) == [*earlier, *"42", "<end>"]
    result, tokenizer = tokenized(template, in_prompt)
    assert parts_of(result.examples[0], tokenizer)[0].count("<end>") == 3
    assert result.notes[0].startswith("Special tokens ('<end>') in the text of 1 conversation become ordinary text.")


def test_special_tokens_of_tool_definitions_are_ordinary_text() -> None:
    tools = TOOLS.replace("{}", '{"description": "Say <end>."}')
    result, tokenizer = tokenized(WITH_CALLS, chat(QUESTION, ANSWER, tools=tools))
    prompt, _ = parts_of(result.examples[0], tokenizer)
    assert prompt.count("<end>") == 1
    assert "Say <end>." in "".join(prompt)


@pytest.mark.parametrize("text", ["<end>", "<user>", "<assistant>", "S", "Q<end>"])
def test_text_that_equals_text_of_the_template_is_found_in_its_turn(text: str) -> None:
    example = chat(Message(role="system", content="S"), Message(role="user", content=text), ANSWER)
    result, tokenizer = tokenized(TURNS, example)
    prompt, _ = parts_of(result.examples[0], tokenizer)
    assert prompt == ["<system>", "S", "<end>", "<user>", *text, "<end>", "<assistant>"]


STARTS = TURNS.replace("{{ m['content'] }}", "{{ '!' if m.content.startswith('ok') else '?' }}{{ m.content }}")


def test_a_template_that_depends_on_the_start_of_a_text_is_used_without_special_tokens_only() -> None:
    result, tokenizer = tokenized(STARTS, chat(Message(role="user", content="ok so"), ANSWER))
    prompt, completion = parts_of(result.examples[0], tokenizer)
    assert ("".join(prompt), "".join(completion)) == ("<user>!ok so<end><assistant>", "?42<end>")
    example = chat(Message(role="user", content="ok <end>"), ANSWER)
    message = refusal(STARTS, example)
    assert "depends on the text of a turn, which contains special tokens." in message
    result, tokenizer = tokenized(STARTS, example, allow_special_tokens=True)
    assert parts_of(result.examples[0], tokenizer)[0].count("<end>") == 2


@pytest.mark.parametrize("changed", ["m.content | upper", "m.content | e", "m.content[:3]", "m.content ~ m.content"])
def test_a_changed_text_is_refused(changed: str) -> None:
    template = TURNS.replace("m['content']", changed)
    assert "chat template" in refusal(template, chat(Message(role="user", content="a <b> & c"), ANSWER))


def test_results_of_tools_may_be_written_as_json() -> None:
    template = TURNS.replace("m['content']", "m.content | tojson if m.role == 'tool' else m.content")
    example = chat(QUESTION, calling(call("add"), content="C"), Message(role="tool", content='{"a": "é\n"}'), ANSWER)
    result, tokenizer = tokenized(template.replace("<end>", CALLS + "<end>", 1), example)
    prompt, _ = parts_of(result.examples[0], tokenizer)
    assert r'<tool>"{\"a\": \"' in "".join(prompt)


def test_equal_calls_have_equal_tokens_in_any_order_of_keys() -> None:
    first = chat(QUESTION, calling(call("add", b=1, a={"d": 1, "c": 2})), tools='[{"b": 1, "type": "x", "a": 2}]')
    other = chat(QUESTION, calling(call("add", a={"c": 2, "d": 1}, b=1)), tools='[{"a": 2, "b": 1, "type": "x"}]')
    assert first.id == other.id
    result, tokenizer = tokenized(WITH_CALLS, first, other)
    assert len({one.input_ids for one in result.examples}) == 1
    assert "".join(parts_of(result.examples[0], tokenizer)[0]).startswith('{"type": "x", "a": 2, "b": 1};')


@pytest.mark.parametrize("failure", ["1 / 0", "messages[0].content.index('zzz')", "'%d' % 'x'", "messages[9].content"])
def test_a_template_that_fails_in_any_way_is_a_named_row(failure: str) -> None:
    template = f"{{% if messages[0].content == 'bad' %}}{{{{ {failure} }}}}{{% endif %}}{TURNS}"
    message = refusal(template, chat(QUESTION, ANSWER), chat(Message(role="user", content="bad"), ANSWER))
    assert message.startswith("The conversation that starts with 'bad': the model's chat template rejects a conv")


CLOCKS = ['strftime_now("%H:%M")', "strftime_now( '%H:%M' )", 'strftime_now(format="%H:%M")', "strftime_now ('%H:%M')"]


@pytest.mark.parametrize("clock", CLOCKS)
def test_every_spelling_of_the_clock_is_fixed(clock: str) -> None:
    template = f"{{% if strftime_now is defined %}}{{{{ {clock} }}}}{{% endif %}}{TURNS}"
    result, tokenizer = tokenized(template, chat(QUESTION, ANSWER), template_time="2020-01-01T03:04:05")
    assert "".join(parts_of(result.examples[0], tokenizer)[0]).startswith("03:04<user>")


@pytest.mark.parametrize(
    "template",
    [
        "{% set f = '%H' %}{{ strftime_now(f) }}",
        "{{ strftime_now('%H' ~ messages[0].content) }}{{ f('a') if false }}",
        "{% set now = strftime_now %}{{ now('%H') }}",
    ],
)
def test_a_clock_that_cannot_be_fixed_is_refused(template: str) -> None:
    message = refusal(f"{template}{TURNS}", chat(QUESTION, ANSWER))
    assert message.startswith("The model's chat template writes a time that cannot be held constant: 'strftime_now")
    assert "Write the format as a string literal in chat_template.jinja" in message
    commented = f"{{# strftime_now(f) #}}{TURNS}"
    assert learned(commented, chat(QUESTION, ANSWER)) == [*"42", "<end>"]


@pytest.mark.parametrize("chance", ["{{ [1, 2] | random }}", "{{ [1, 2]|random|string }}", "{{ lipsum(n=1) }}"])
def test_a_template_that_writes_a_random_text_is_refused(chance: str) -> None:
    message = refusal(f"{chance}{TURNS}", chat(QUESTION, ANSWER))
    assert message.startswith("The model's chat template writes a different text each time: '")
    assert learned(f"{{# {chance[2:]} #}}{TURNS}", chat(QUESTION, ANSWER)) == [*"42", "<end>"]


DEFAULT_SYSTEM = "{% if messages[0].role != 'system' %}<system>Be kind.<end>{% endif %}"
QUESTION_FIRST = (
    "{% if messages[0].role != 'user' %}{{ raise_exception('The first turn must be a user turn') }}{% endif %}"
)
HEADERLESS = "{% for m in messages %}{% if m.role == 'user' %}<user>{{ m.content }}<end>{% else %}{{ m.content }}<end>"


@pytest.mark.parametrize("template", [TURNS, f"{DEFAULT_SYSTEM}{TURNS}", f"<system>{TURNS}"])
def test_an_assistant_turn_before_any_user_turn_is_learned(template: str) -> None:
    example = chat(Message(role="assistant", content="Hi"), QUESTION, ANSWER)
    assert learned(template, example, loss="all-assistant") == [*"Hi", "<end>", *"42", "<end>"]


def test_an_assistant_turn_whose_start_cannot_be_located_is_refused_with_the_reason() -> None:
    example = chat(Message(role="assistant", content="Hi"), QUESTION, ANSWER)
    assert refusal(f"{HEADERLESS}{{% endif %}}{{% endfor %}}", example, loss="all-assistant").endswith(
        "turn 1 (assistant) comes before any user turn, so that its start cannot be located, and the chat template has "
        "no generation markers. Use --loss last, or a chat template with generation markers."
    )
    assert "(The first turn must be a user turn)" in refusal(QUESTION_FIRST + TURNS, example, loss="all-assistant")


JOINED = (
    f"{OPEN}{{% for call in m.tool_calls or [] %}}{{{{ call.function.name + ':' + call.function.arguments }}}}"
    f"{{% endfor %}}<end>{{% endfor %}}{ASK}"
)
PRINTED = JOINED.replace("+ ':' + call.function.arguments", "}}:{{ call.function.arguments")


@pytest.mark.parametrize("template", [JOINED, PRINTED])
@pytest.mark.parametrize("loss", ["last", "all-assistant"])
def test_a_template_gets_arguments_in_the_form_that_it_renders(template: str, loss: str) -> None:
    arguments = {"numbers": [1, {"x": None}], "text": 'a "b"\nc'}
    expected = 'add:{"numbers": [1, {"x": null}], "text": "a \\"b\\"\\nc"}'
    example = chat(QUESTION, calling(call("add", **arguments)))
    assert "".join(learned(template, example, loss=loss)) == f"{expected}<end>"
    again = chat(QUESTION, calling(call("add", **arguments)), RESULT, ANSWER)
    earlier = f"{expected}<end>" if loss == "all-assistant" else ""
    assert "".join(learned(template, again, loss=loss)) == f"{earlier}42<end>"


def test_calls_that_a_template_drops_in_every_form_are_refused() -> None:
    only_name = JOINED.replace(" + ':' + call.function.arguments", " + (call.function.arguments + '')[:0]")
    assert "does not render the call of 'add' in turn 2" in refusal(
        only_name, chat(QUESTION, calling(call("add", a=1)))
    )
