"""Tokens and labels compared with those of TRL's SFTTrainer, with tool calls, reasoning and several turns to learn."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import pytest
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

import neftune_cli
from neftune_cli.config.spec import InputSpec
from neftune_cli.data.examples import Example, Message, TokenizedExample
from neftune_cli.data.tokenization import tokenize
from neftune_cli.errors import UsageError
from tests.contract.chat_templates import TEMPLATES, WITH_PARALLEL_CALLS, WITH_REASONING, WITH_TOOLS

TINY = Path(neftune_cli.__file__).parent / "models" / "embedded" / "tiny"

Tokens = tuple[list[int], list[int]]
"""Token ids and labels."""
TIME = "2026-07-01T12:00:00"
TRL_TEMPLATES = Path(str(files("trl"))) / "chat_templates"

PLAIN_TURNS = {
    "one question": [("user", "Where is Anna from?"), ("assistant", "Anna is from Oslo.")],
    "several turns": [
        ("user", "Hello!"),
        ("assistant", "Hello. How can I help?"),
        ("user", "What is 2+2?"),
        ("assistant", "4"),
        ("user", "Sure?"),
        ("assistant", "Yes, 4."),
    ],
    "system": [("system", "Be brief."), ("user", "Name a color."), ("assistant", "Red")],
    "assistant first": [
        ("assistant", "Hello. How can I help?"),
        ("user", "What is 2+2?"),
        ("assistant", "4"),
    ],
    "assistant after system": [
        ("system", "Be brief."),
        ("assistant", "Hi. Ask me."),
        ("user", "What is 2+2?"),
        ("assistant", "4"),
    ],
}


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def tool(name: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    return {"type": "function", "function": {"name": name, "description": f"The {name}.", "parameters": parameters}}


TOOLS = [tool("weather"), tool("time")]
ASK = Message(role="user", content="Is it warm in Oslo?")
ANSWER = Message(role="assistant", content="No, it is 4 degrees.")
RESULT = Message(role="tool", name="weather", content="4 degrees")
ONE = Message(role="assistant", content="", tool_calls=[call("weather", city="Oslo", days=1)])
TWO = Message(
    role="assistant", content="", tool_calls=[call("weather", city="Oslo"), call("time", hour=True, zone="CET")]
)
AGAIN = Message(role="user", content="And in Rome?")
THOUGHT = Message(role="assistant", content="Yes.", reasoning_content="Rome is in the south.")
THOUGHT_BEFORE = Message(role="assistant", content="No.", reasoning_content="Oslo is in the north.")
THOUGHTFUL_CALL = Message(
    role="assistant", content="", reasoning_content="Look.", tool_calls=[call("weather", city="Oslo")]
)
TOOL_TURNS = {
    "a call": [ASK, ONE],
    "a call with an earlier turn": [ASK, ANSWER, AGAIN, ONE],
    "an earlier call": [ASK, ONE, RESULT, ANSWER],
    "two earlier calls": [ASK, ONE, RESULT, ANSWER, AGAIN, ONE, RESULT, ANSWER],
    "calls one after the other": [ASK, ONE, RESULT, ONE, RESULT, ANSWER],
}
PARALLEL_TURNS = {
    "parallel calls": [ASK, TWO],
    "earlier parallel calls": [ASK, TWO, RESULT, RESULT, ANSWER],
}
REASONING_TURNS = {
    "reasoning": [ASK, THOUGHT],
    "reasoning in both turns": [ASK, THOUGHT_BEFORE, AGAIN, THOUGHT],
    "reasoning and calls": [ASK, THOUGHTFUL_CALL, RESULT, THOUGHT],
}
CONVERSATIONS: dict[str, list[Message]] = {
    **{name: [Message(role=role, content=text) for role, text in turns] for name, turns in PLAIN_TURNS.items()},
    **TOOL_TURNS,
    **PARALLEL_TURNS,
    **REASONING_TURNS,
}
COMPLETIONS = {"several turns": 3, "an earlier call": 1, "earlier parallel calls": 1, "reasoning and calls": 1}
"""Index of the first turn of a completion with several turns."""
PUBLISHED = {
    "trl/qwen2_5": ("<|im_end|>", [*PLAIN_TURNS, *TOOL_TURNS, *PARALLEL_TURNS]),
    "trl/qwen3": ("<|im_end|>", [*CONVERSATIONS]),
    "trl/llama3_1": ("<|eot_id|>", [*PLAIN_TURNS, *TOOL_TURNS]),
    "trl/deepseekv3": ("<\uff5cend\u2581of\u2581sentence\uff5c>", [*PLAIN_TURNS]),
    "trl/gptoss": (
        "<|return|>",
        [*PLAIN_TURNS, "an earlier call", "calls one after the other", "reasoning in both turns"],
    ),
}
"""Templates that TRL contains, with their end-of-sequence token and the conversations that they render."""


def rendered_by(template: str) -> list[str]:
    """Return the names of the conversations that a template renders."""
    if template in PUBLISHED:
        return PUBLISHED[template][1]
    kinds: list[tuple[Iterable[str], Iterable[str]]] = [
        (TEMPLATES, PLAIN_TURNS),
        (WITH_TOOLS, TOOL_TURNS),
        (WITH_PARALLEL_CALLS, PARALLEL_TURNS),
        (WITH_REASONING, REASONING_TURNS),
    ]
    names = [name for templates, turns in kinds if template in set(templates) for name in turns]
    return [name for name in names if template != "gemma" or CONVERSATIONS[name][0]["role"] != "system"]


CASES = [(template, name) for template in TEMPLATES for name in rendered_by(template)]
PUBLISHED_CASES = [(template, name) for template in PUBLISHED for name in rendered_by(template)]
WITHOUT_START = [("mistral", "assistant first"), ("mistral", "assistant after system")]
"""Conversations in which only markers say where the first assistant turn starts: no generation prompt is before it."""
COMPLETION_CASES = [(template, name) for template, name in CASES if name in COMPLETIONS]
REFUSED_CASES = [
    (template, name)
    for template in TEMPLATES
    for name in CONVERSATIONS
    if name not in PLAIN_TURNS and (template, name) not in CASES
]


@cache
def with_special_tokens(eos: str, special: tuple[str, ...]) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(TINY)
    tokenizer.add_special_tokens(
        {"bos_token": "<s>", "eos_token": eos, "pad_token": "<pad>", "additional_special_tokens": list(special)}
    )
    return tokenizer


def tokenizer_of(name: str, *, markers: bool = True) -> PreTrainedTokenizerBase:
    """Return a tokenizer with an own template, which shares its tokens with other tokenizers."""
    template, eos, special = _published(name) if name in PUBLISHED else TEMPLATES[name]
    tokenizer = copy(with_special_tokens(eos, tuple(special)))
    if not markers:
        template = template.replace("{% generation %}", "{% if true %}").replace("{% endgeneration %}", "{% endif %}")
        template = template.replace("{%- generation %}", "{%- if true %}")
        template = template.replace("{%- endgeneration %}", "{%- endif %}")
    tokenizer.chat_template = template
    return tokenizer


def _published(name: str) -> tuple[str, str, list[str]]:
    template = (TRL_TEMPLATES / f"{name.removeprefix('trl/')}.jinja").read_text()
    return template, PUBLISHED[name][0], sorted(set(re.findall("<[|\uff5c][^<>]+[|\uff5c]>", template)))


def tools_of(messages: list[Message]) -> list[dict[str, Any]] | None:
    return TOOLS if any("tool_calls" in message for message in messages) else None


def example_of(name: str, *, completion_turns: int = 1) -> Example:
    *prompt, final = messages = CONVERSATIONS[name]
    tools = tools_of(messages)
    return Example(
        "0" * 16,
        tuple(prompt),
        final["content"],
        "0" * 16,
        final_turn=final if len(final) > 2 else None,
        tools=json.dumps(tools) if tools else "",
        completion_turns=completion_turns,
    )


def ours(example: Example, tokenizer: PreTrainedTokenizerBase, loss: str) -> TokenizedExample:
    inputs = InputSpec.model_validate({"loss": loss, "template_time": TIME})
    (tokenized,) = tokenize([example], tokenizer, max_length=10_000, inputs=inputs).examples
    return tokenized


def row_of(name: str, learned: str) -> dict[str, Any]:
    """Return a row for TRL."""
    messages = CONVERSATIONS[name]
    if learned == "all turns":
        return {"messages": messages, "tools": tools_of(messages)}
    start = len(messages) - 1 if learned == "last turn" else COMPLETIONS[name]
    return {"prompt": messages[:start], "completion": messages[start:], "tools": tools_of(messages)}


@pytest.fixture(scope="module")
def of_trl(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str, str], Tokens]:
    """Return what SFTTrainer trains on, up to the last end-of-sequence token, which a line break may follow."""

    @cache
    def tokens_of(template: str, learned: str) -> dict[str, Tokens]:
        names = [name for name in rendered_by(template) if learned != "completion" or name in COMPLETIONS]
        tokenizer = tokenizer_of(template, markers=learned != "last turn")
        tokenizer.chat_template = re.sub(r"strftime_now\([^)]*\)", "'01 Jul 2026'", str(tokenizer.chat_template))
        rows = [row_of(name, learned) for name in names]
        folder = tmp_path_factory.mktemp("trl")
        return dict(zip(names, _learned_by_trl(rows, tokenizer, folder, learned != "last turn"), strict=True))

    return lambda template, name, learned: tokens_of(template, learned)[name]


def _learned_by_trl(
    rows: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, folder: Path, assistant_only: bool
) -> Iterator[Tokens]:
    model = AutoModelForCausalLM.from_pretrained(TINY)
    model.resize_token_embeddings(len(tokenizer))
    config = SFTConfig(
        str(folder),
        report_to="none",
        max_length=None,
        assistant_only_loss=assistant_only,
        use_cpu=True,
        bf16=False,
    )
    data = Dataset.from_list(rows, on_mixed_types="use_json")
    prepared = SFTTrainer(model, config, train_dataset=data, processing_class=tokenizer).train_dataset
    return _up_to_end(cast(Dataset, prepared), tokenizer.eos_token_id)


def _up_to_end(prepared: Dataset, eos: int) -> Iterator[Tokens]:
    for row in prepared:
        ids, labels = row["input_ids"], row["labels"]
        length = len(ids) - ids[::-1].index(eos)
        yield ids[:length], labels[:length]


def assert_same(tokenized: TokenizedExample, expected: Tokens, tokenizer: PreTrainedTokenizerBase) -> None:
    """Compare token by token. Where a token of TRL spans the border to the completion, compare the texts.

    The prompt of this project ends at the border in every case, because generation starts there.
    """
    ids, labels = list(tokenized.input_ids), tokenized.labels
    if (ids, labels) == expected:
        return
    border = len(tokenizer.decode(ids[: tokenized.prompt_length]))
    starts = {len(tokenizer.decode(expected[0][:length])) for length in range(len(expected[0]))}
    if border in starts:
        assert (ids, labels) == expected
    else:
        assert tokenizer.decode(ids) == tokenizer.decode(expected[0])
        assert learned(tokenizer, labels) == learned(tokenizer, expected[1])


def learned(tokenizer: PreTrainedTokenizerBase, labels: list[int]) -> str:
    """Return the text of the tokens with loss, without spaces."""
    return str(tokenizer.decode([label for label in labels if label != -100])).replace(" ", "")


@pytest.mark.parametrize(("template", "name"), [*CASES, *PUBLISHED_CASES])
def test_the_last_turn_is_learned_as_by_trl(
    template: str, name: str, of_trl: Callable[[str, str, str], Tokens]
) -> None:
    tokenizer = tokenizer_of(template, markers=False)
    tokenizer.chat_template = str(tokenizer.chat_template).replace('"%Y-%m-%d"', "'%d %b %Y'")
    assert_same(ours(example_of(name), tokenizer, "last"), of_trl(template, name, "last turn"), tokenizer)


@pytest.mark.parametrize("markers", [True, False])
@pytest.mark.parametrize(("template", "name"), CASES)
def test_all_assistant_turns_are_learned_as_by_trl(
    template: str, name: str, markers: bool, of_trl: Callable[[str, str, str], Tokens]
) -> None:
    tokenizer = tokenizer_of(template, markers=markers)
    if not markers and (template, name) in WITHOUT_START:
        with pytest.raises(UsageError, match=r"turn [12] \(assistant\) comes before any user turn, so that its start"):
            ours(example_of(name), tokenizer, "all-assistant")
        return
    assert_same(ours(example_of(name), tokenizer, "all-assistant"), of_trl(template, name, "all turns"), tokenizer)


@pytest.mark.parametrize("learned", ["last turn", "all turns"])
@pytest.mark.parametrize("name", ["a call", "a call with an earlier turn", "an earlier call"])
def test_arguments_are_json_text_where_the_template_joins_them_with_other_texts(
    name: str, learned: str, tmp_path: Path
) -> None:
    """TRL renders the arguments as the row has them, and its variant for `assistant_only_loss` writes them as JSON."""
    tokenizer = tokenizer_of("trl/deepseekv3")
    example = replace(example_of(name), tools="")
    row = {**row_of(name, learned), "tools": None}
    if learned == "last turn":
        row = {key: [_with_json_text(turn) for turn in turns or []] for key, turns in row.items()}
    (expected,) = _learned_by_trl([row], tokenizer, tmp_path, learned == "all turns")
    tokenized = ours(example, tokenizer, "last" if learned == "last turn" else "all-assistant")
    if learned == "last turn":
        assert_same(tokenized, expected, tokenizer)
    assert list(tokenized.input_ids) == expected[0]  # TRL's markers are around the generation prompt as well


def _with_json_text(turn: Message) -> dict[str, Any]:
    calls = [one["function"] for one in turn.get("tool_calls", ())]
    as_text = [{"name": one["name"], "arguments": json.dumps(one["arguments"])} for one in calls]
    return {**turn, **({"tool_calls": [{"type": "function", "function": one} for one in as_text]} if calls else {})}


@pytest.mark.parametrize("markers", [True, False])
@pytest.mark.parametrize(("template", "name"), COMPLETION_CASES)
def test_assistant_turns_of_a_completion_are_learned_as_by_trl(
    template: str, name: str, markers: bool, of_trl: Callable[[str, str, str], Tokens]
) -> None:
    """TRL learns them alone with `assistant_only_loss`, by the markers."""
    tokenizer = tokenizer_of(template, markers=markers)
    example = example_of(name, completion_turns=len(CONVERSATIONS[name]) - COMPLETIONS[name])
    assert_same(ours(example, tokenizer, "last"), of_trl(template, name, "completion"), tokenizer)


@pytest.mark.parametrize(("template", "name"), REFUSED_CASES)
def test_calls_and_reasoning_that_a_template_leaves_out_are_refused(template: str, name: str) -> None:
    with pytest.raises(UsageError, match=r"does not render|rejects|drops"):
        ours(example_of(name), tokenizer_of(template), "last")
