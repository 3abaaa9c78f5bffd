"""Scores of generated responses, for models with a fixed next word, compared with scores computed by hand."""

import string
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import BPE, WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel, PreTrainedTokenizerFast

from neftune_cli.config.spec import InputSpec, ResolvedEvaluation
from neftune_cli.data.examples import Example, Message, TokenizedExample
from neftune_cli.data.layouts import read_examples
from neftune_cli.data.rows import Located, Table
from neftune_cli.data.tokenization import tokenize
from neftune_cli.evaluation import generation
from neftune_cli.evaluation.generation import aggregate_scores, scored_responses
from neftune_cli.models.sources import ModelSource
from neftune_cli.records import EVAL_METRICS
from neftune_cli.training.prepared_data import PreparedData
from neftune_cli.training.trial_metrics import MeasuredResponses, measure_losses_and_responses

WORDS = ["<unk>", "<end>", "<user>", "capital", "of", "Italy", "is", "Rome", "Paris", "lies", "there"]
EVALUATION = ResolvedEvaluation(max_length=32, max_new_tokens=6, repetition_penalty=1.0)


def tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(WordLevel({word: token for token, word in enumerate(WORDS)}, unk_token="<unk>"))
    backend.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", eos_token="<end>", extra_special_tokens=["<user>"]
    )


def chain(*transitions: str) -> PreTrainedModel:
    """Return a model whose next word depends on the last word only: with "Italy is", `is` follows `Italy`."""
    config = GPT2Config(vocab_size=len(WORDS), n_embd=len(WORDS), n_layer=0, n_head=1, n_positions=32, eos_token_id=1)
    model = GPT2LMHeadModel(config)
    matrix = torch.zeros(len(WORDS), len(WORDS))
    for transition in transitions:
        before, after = (WORDS.index(word) for word in transition.split())
        matrix[after, before] = 1.0
    with torch.no_grad():
        model.transformer.wte.weight = torch.nn.Parameter(torch.eye(len(WORDS)))
        model.transformer.wpe.weight.zero_()
        model.lm_head.weight = torch.nn.Parameter(matrix)
    return model


def example(name: str, prompt: str, completion: str) -> TokenizedExample:
    ids = [WORDS.index(word) for word in prompt.split()]
    messages = (Message(role="user", content=prompt),) if prompt else ()
    return TokenizedExample(
        Example(name, messages, completion, cluster="geography", kind="fact"),
        (*ids, *(WORDS.index(word) for word in completion.split()), 1),
        len(ids),
    )


BIGRAMS = ("Italy is", "is Rome", "Rome <end>", "Paris lies", "lies there", "there lies")
PROMPTED = [
    example("first", "<user> capital of Italy", "is Rome"),
    example("text", "", "Rome is there"),
    example("second", "<user> Paris", "lies there"),
]


def test_generations_are_in_input_order_with_prompt_reference_and_scores() -> None:
    first, second = scored_responses(chain(*BIGRAMS), tokenizer(), PROMPTED, EVALUATION)
    assert first.model_dump() == {
        "split": "held-out",
        "example": "first",
        "cluster": "geography",
        "kind": "fact",
        "prompt": "<user> capital of Italy",
        "reference": "is Rome",
        "response": "is Rome",
        "tokens": 2,
        "truncated": False,
        "exact_match": True,
        "rouge_l": 1.0,
    }
    assert second.response == "lies there lies there lies there"
    assert (second.tokens, second.truncated, second.exact_match) == (6, True, False)
    assert second.rouge_l == pytest.approx(2 * 2 / (6 + 2))


CALL = {"type": "function", "function": {"name": "add", "arguments": {"x": 1}}}
TURNS = "{% for m in messages %}<user>{% if m.reasoning_content %}[{{ m.reasoning_content }}]{% endif %}{{ m.content }}"
CALLS = "{% for call in m.tool_calls or [] %}{{ call.function | tojson }}{% endfor %}<end>{% endfor %}"
ASK = "{% if add_generation_prompt %}<user>{% endif %}"
OPENS = f"{TURNS}{CALLS}{ASK.replace('<user>', '<user><think>')}"


@pytest.mark.parametrize(
    ("template", "answer", "reference"),
    [
        (f"{TURNS}{CALLS}{ASK}", {"content": " 4 "}, " 4 "),
        (f"{TURNS}{CALLS}{ASK}", {"content": "4", "reasoning_content": "2+2"}, "[2+2]4"),
        (
            f"{TURNS}{CALLS}{ASK}",
            {"content": "So:", "tool_calls": [CALL]},
            'So:{"name": "add", "arguments": {"x": 1}}',
        ),
        (OPENS, {"content": "<think>hm</think>4"}, "hm</think>4"),
    ],
)
def test_a_response_of_the_learned_tokens_equals_the_reference(
    template: str, answer: dict[str, Any], reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = Tokenizer(BPE({token: number for number, token in enumerate(string.printable)}, []))
    letters.decoder = Fuse()
    known = PreTrainedTokenizerFast(
        tokenizer_object=letters, eos_token="<end>", extra_special_tokens=["<user>"], chat_template=template
    )
    turns = [{"role": "user", "content": "2+2?"}, {"role": "assistant", **answer}]
    (read,) = read_examples(Table("", (Located("", {"messages": turns}, ""),)), InputSpec()).examples
    (learned,) = tokenize([read], known, max_length=100).examples
    tokens = list(learned.input_ids[learned.prompt_length :])
    monkeypatch.setattr(generation, "greedy_tokens", lambda *_, **__: [tokens])
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(known), n_embd=8, n_layer=0, n_head=1, n_positions=100))
    (scored,) = scored_responses(model, known, [learned], EVALUATION)
    assert (scored.reference, scored.response, scored.exact_match) == (reference, reference.strip(), True)


def test_metrics_of_responses_equal_values_computed_by_hand() -> None:
    metrics = aggregate_scores(scored_responses(chain(*BIGRAMS), tokenizer(), PROMPTED, EVALUATION))
    assert metrics.exact_match == 0.5
    assert metrics.rouge_l == pytest.approx((1 + 0.5) / 2)
    assert metrics.response_chars == (len("is Rome") + len("lies there lies there lies there")) / 2
    assert metrics.truncated == 0.5
    # 4 of 8 words and 2 of 6 2-grams match; 0 of 4 3-grams and 0 of 3 4-grams, smoothed to 1/2 and 1/4
    assert metrics.bleu == pytest.approx(100 * (4 / 8 * 2 / 6 * (1 / 2) / 4 * (1 / 4) / 3) ** (1 / 4))


def test_repetition_is_undefined_if_all_responses_are_shorter_than_a_chunk() -> None:
    metrics = aggregate_scores(scored_responses(chain(*BIGRAMS), tokenizer(), PROMPTED, EVALUATION))
    assert metrics.repetition_2gram is None
    assert metrics.log_diversity is None


def test_repetition_of_responses_longer_than_a_chunk() -> None:
    metrics = aggregate_scores(
        scored_responses(chain(*BIGRAMS), tokenizer(), PROMPTED, EVALUATION.model_copy(update={"max_new_tokens": 10}))
    )
    # ten words, "lies there" five times: nine 2-grams, two of them unique
    assert metrics.repetition_2gram == pytest.approx(100 * (1 - 2 / 9))


def test_metrics_are_none_if_all_examples_are_plain_texts() -> None:
    generations = scored_responses(chain(*BIGRAMS), tokenizer(), PROMPTED[1:2], EVALUATION)
    metrics = aggregate_scores(generations)
    assert generations == []
    assert metrics.model_dump() == dict.fromkeys(EVAL_METRICS)


def measured(held_out: list[TokenizedExample], probe: list[TokenizedExample]) -> MeasuredResponses:
    prepared = PreparedData(
        source=ModelSource("chain", Path()),
        train=tuple(probe),
        held_out=tuple(held_out),
        probe=tuple(probe),
        pad_token_id=1,
        device="cpu",
        median_length=4.0,
        embedding_norm=1.0,
        notes=(),
    )
    evaluation = ResolvedEvaluation(max_length=32, max_new_tokens=6, repetition_penalty=1.0)
    _, responses = measure_losses_and_responses(
        chain(*BIGRAMS), tokenizer(), prepared, evaluation, epoch=1, not_finite_message=""
    )
    return responses


def test_responses_to_all_held_out_prompts_and_to_the_first_64_probe_prompts_are_generated() -> None:
    # correct for the first 32 and from the 65th on, so any other selection of prompts would change the score
    completions = ["is Rome"] * 32 + ["Paris lies"] * 32 + ["is Rome"] * 10
    probe = [example(f"probe {row}", "<user> Italy", completion) for row, completion in enumerate(completions)]
    responses = measured([PROMPTED[2], PROMPTED[0]], probe)
    assert [(one.split, one.example) for one in responses.generations] == [
        ("held-out", "second"),
        ("held-out", "first"),
        *(("probe", f"probe {row}") for row in range(64)),
    ]
    assert responses.held_out.rouge_l == pytest.approx((1 + 0.5) / 2)  # independent of the probe
    assert responses.probe is not None
    assert responses.probe.exact_match == 0.5
    assert responses.probe.rouge_l == 0.5


def test_a_probe_of_plain_texts_is_not_scored() -> None:
    responses = measured(PROMPTED, PROMPTED[1:2])
    assert [one.split for one in responses.generations] == ["held-out", "held-out"]
    assert responses.held_out.exact_match == 0.5
    assert responses.probe is None
