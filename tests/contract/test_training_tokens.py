"""Tokens and labels compared with those of TRL's SFTTrainer, for chat templates written from their published rules."""

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

TINY = Path(neftune_cli.__file__).parent / "models" / "embedded" / "tiny"

CHATML = """
{%- for m in messages %}<|im_start|>{{ m.role }}
{% if m.role == 'assistant' %}{% generation %}{{ m.content }}
{%- for call in m.tool_calls or [] %}
<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}<|im_end|>{% endgeneration %}
{% else %}{{ m.content }}<|im_end|>
{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
LLAMA3 = """
{{- bos_token }}<|start_header_id|>system<|end_header_id|>

Today Date: {{ strftime_now('%d %b %Y') }}

{% if messages[0].role == 'system' %}{{ messages[0].content | trim }}{% endif %}<|eot_id|>
{%- for m in messages if m.role != 'system' %}<|start_header_id|>{{ m.role }}<|end_header_id|>

{% if m.role == 'assistant' %}{% generation %}{{ m.content | trim }}<|eot_id|>{% endgeneration %}
{%- else %}{{ m.content | trim }}<|eot_id|>{% endif %}{% endfor %}
{%- if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>

{% endif %}"""
MISTRAL = """
{{- bos_token }}{% set ns = namespace(system='') %}
{%- for m in messages %}{% if m.role == 'system' %}{% set ns.system = m.content + '

' %}
{%- elif m.role == 'user' %}[INST] {{ ns.system }}{{ m.content }}[/INST]{% set ns.system = '' %}
{%- else %}{% generation %} {{ m.content }}</s>{% endgeneration %}{% endif %}{% endfor %}"""
GEMMA = """
{{- bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}
{% if m.role == 'assistant' %}{% generation %}{{ m.content | trim }}<end_of_turn>{% endgeneration %}
{% else %}{{ m.content | trim }}<end_of_turn>
{% endif %}{% endfor %}{% if add_generation_prompt %}<start_of_turn>model
{% endif %}"""
QWEN3 = """
{%- for m in messages %}<|im_start|>{{ m.role }}
{% if m.role == 'assistant' %}{% generation %}{% if loop.last %}<think>

</think>

{% endif %}{{ m.content }}<|im_end|>{% endgeneration %}
{% else %}{{ m.content }}<|im_end|>
{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
R1 = """
{{- bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}
{%- elif m.role == 'user' %}<|User|>{{ m.content }}
{%- else %}<|Assistant|>{% generation %}{{ m.content.split('</think>')[-1] }}<|end_of_sentence|>{% endgeneration %}
{%- endif %}{% endfor %}{% if add_generation_prompt %}<|Assistant|><think>
{% endif %}"""
ZEPHYR = """
{%- for m in messages %}<|{{ m.role }}|>
{% if m.role == 'assistant' %}{% generation %}{{ m.content }}</s>{% endgeneration %}
{% else %}{{ m.content }}</s>
{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>
{% endif %}"""
PLAIN = """
{%- for m in messages %}{% if m.role == 'assistant' %}Assistant: {% generation %}{{ m.content }}</s>{% endgeneration %}
{% else %}{{ m.role | capitalize }}: {{ m.content }}
{% endif %}{% endfor %}{% if add_generation_prompt %}Assistant: {% endif %}"""

TEMPLATES = {
    "chatml": (CHATML, "<|im_end|>", ["<|im_start|>"]),
    "llama3": (LLAMA3, "<|eot_id|>", ["<|start_header_id|>", "<|end_header_id|>"]),
    "mistral": (MISTRAL, "</s>", ["[INST]", "[/INST]"]),
    "gemma": (GEMMA, "<end_of_turn>", ["<start_of_turn>"]),
    "qwen3": (QWEN3, "<|im_end|>", ["<|im_start|>"]),
    "r1": (R1, "<|end_of_sentence|>", ["<|User|>", "<|Assistant|>"]),
    "zephyr": (ZEPHYR, "</s>", ["<|user|>", "<|assistant|>", "<|system|>"]),
    "plain": (PLAIN, "</s>", []),
}
Tokens = tuple[list[int], list[int]]
"""Token ids and labels."""
TIME = "2026-07-01T12:00:00"

TURNS = {
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
}
CASES = [(template, turns) for template in TEMPLATES for turns in TURNS if (template, turns) != ("gemma", "system")]


def tokenizer_of(name: str, *, markers: bool = True) -> PreTrainedTokenizerBase:
    template, eos, others = TEMPLATES[name]
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(TINY)
    tokenizer.add_special_tokens(
        {"bos_token": "<s>", "eos_token": eos, "pad_token": "<pad>", "additional_special_tokens": others}
    )
    if not markers:
        template = template.replace("{% generation %}", "{% if true %}").replace("{% endgeneration %}", "{% endif %}")
    tokenizer.chat_template = template
    return tokenizer


def messages_of(turns: str) -> list[Message]:
    return [Message(role=role, content=content) for role, content in TURNS[turns]]


def example_of(messages: list[Message], *, completion_turns: int = 1) -> Example:
    *prompt, final = messages
    return Example("0" * 16, tuple(prompt), final["content"], "0" * 16, completion_turns=completion_turns)


def ours(example: Example, tokenizer: PreTrainedTokenizerBase, loss: str) -> TokenizedExample:
    inputs = InputSpec.model_validate({"loss": loss, "template_time": TIME})
    (tokenized,) = tokenize([example], tokenizer, max_length=10_000, inputs=inputs).examples
    return tokenized


def of_trl(row: dict[str, Any], tokenizer: PreTrainedTokenizerBase, folder: Path, *, all_turns: bool) -> Tokens:
    """Return what SFTTrainer trains on, up to the last end-of-sequence token, which a line break may follow."""
    model = AutoModelForCausalLM.from_pretrained(TINY)
    model.resize_token_embeddings(len(tokenizer))
    tokenizer.chat_template = str(tokenizer.chat_template).replace("strftime_now('%d %b %Y')", "'01 Jul 2026'")
    config = SFTConfig(
        str(folder), report_to="none", max_length=None, assistant_only_loss=all_turns, use_cpu=True, bf16=False
    )
    trainer = SFTTrainer(model, config, train_dataset=Dataset.from_list([row]), processing_class=tokenizer)
    assert trainer.train_dataset is not None
    (prepared,) = list(cast(Dataset, trainer.train_dataset))
    ids, labels = prepared["input_ids"], prepared["labels"]
    length = len(ids) - ids[::-1].index(tokenizer.eos_token_id)
    return ids[:length], labels[:length]


def assert_same(tokenized: TokenizedExample, expected: Tokens, tokenizer: PreTrainedTokenizerBase) -> None:
    """Compare token by token. Where a token of TRL spans the border to the completion, compare the texts.

    The prompt of this project ends at the border in every case, because generation starts there.
    """
    ids, labels = list(tokenized.input_ids), tokenized.labels
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


@pytest.mark.parametrize(("template", "turns"), CASES)
def test_the_last_turn_is_learned_as_by_trl(template: str, turns: str, tmp_path: Path) -> None:
    tokenizer, messages = tokenizer_of(template, markers=False), messages_of(turns)
    tokenized = ours(example_of(messages), tokenizer, "last")
    row = {"prompt": messages[:-1], "completion": messages[-1:]}
    assert_same(tokenized, of_trl(row, tokenizer, tmp_path, all_turns=False), tokenizer)


@pytest.mark.parametrize(("template", "turns"), CASES)
def test_all_assistant_turns_are_learned_as_by_trl(template: str, turns: str, tmp_path: Path) -> None:
    messages, tokenizer = messages_of(turns), tokenizer_of(template)
    expected = of_trl({"messages": messages}, tokenizer_of(template), tmp_path, all_turns=True)
    assert_same(ours(example_of(messages), tokenizer, "all-assistant"), expected, tokenizer)
    without_markers = ours(example_of(messages), tokenizer_of(template, markers=False), "all-assistant")
    assert_same(without_markers, expected, tokenizer)
