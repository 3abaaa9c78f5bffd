"""Greedy responses compared with an argmax loop over single prompts, without batches and cache."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    MptConfig,
    MptForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from neftune_cli.data.examples import Example, TokenizedExample
from neftune_cli.errors import TrialError
from neftune_cli.evaluation import decoding
from neftune_cli.evaluation.generation import Response, generate_responses
from tests.tiny_models import tiny_gpt2, tiny_llama

VOCABULARY = 40
END = 1
LIMIT = 8


def llama(context: int = 64) -> PreTrainedModel:
    model: PreTrainedModel = tiny_llama(
        seed=3,
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        max_position_embeddings=context,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
    )
    return model


def gpt2(context: int = 64) -> PreTrainedModel:
    model: PreTrainedModel = tiny_gpt2(
        seed=3,
        vocab_size=VOCABULARY,
        n_embd=32,
        n_positions=context,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
    )
    return model


def mpt(context: int = 64) -> PreTrainedModel:
    """Return a model whose configuration has `max_seq_len`, and which cannot compute longer sequences."""
    torch.manual_seed(3)
    config = MptConfig(
        d_model=32, n_heads=4, n_layers=2, max_seq_len=context, vocab_size=VOCABULARY, initializer_range=0.3
    )
    model: PreTrainedModel = MptForCausalLM(config).eval()
    return model


def tokenizer_ending_with(end: int = END) -> PreTrainedTokenizerFast:
    """Return a tokenizer of words w0, w1, ... whose padding token is the end token, as in many base models."""
    backend = Tokenizer(WordLevel({f"w{token}": token for token in range(VOCABULARY)}, unk_token="w0"))
    backend.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=f"w{end}", pad_token=f"w{end}")


def prompts_of_many_lengths() -> list[TokenizedExample]:
    torch.manual_seed(5)
    lengths = [4, 1, 15, 4, 30]
    return [prompted(torch.randint(2, VOCABULARY, (length,)).tolist()) for length in lengths]


def prompted(prompt: list[int]) -> TokenizedExample:
    example = Example("id", ({"role": "user", "content": "?"},), "w2", "id")
    return TokenizedExample(example, (*prompt, 2, END), len(prompt))


def argmax_loop(
    model: PreTrainedModel, prompt: tuple[int, ...], ends: set[int], penalty: float = 1.0, limit: int = LIMIT
) -> list[int]:
    model.train(False)
    ids = list(prompt)
    for _ in range(limit):
        with torch.no_grad():
            scores = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].tolist()
        for seen in set(ids):
            scores[seen] = scores[seen] * penalty if scores[seen] < 0 else scores[seen] / penalty
        ids.append(max(range(VOCABULARY), key=scores.__getitem__))
        if ids[-1] in ends:
            break
    return ids[len(prompt) :]


def as_response(generated: list[int], ends: set[int]) -> Response:
    kept = [token for token in generated if token not in ends]
    return Response(" ".join(f"w{token}" for token in kept), len(kept), truncated=len(kept) == len(generated))


def common_token(model: PreTrainedModel, examples: list[TokenizedExample]) -> int:
    """Return the token that most responses have, but not all: as an end token it ends some responses early."""
    responses = [set(argmax_loop(model, one.prompt_ids, set())) for one in examples]
    shared = {token: sum(token in response for response in responses) for response in responses for token in response}
    return max((token for token in shared if shared[token] < len(examples)), key=shared.__getitem__)


@pytest.mark.parametrize("most_prompts", [1, 3, 64])
@pytest.mark.parametrize("penalty", [1.0, 2.0])
@pytest.mark.parametrize("build", [llama, gpt2])
def test_responses_equal_those_of_an_argmax_loop(
    build: Callable[[], PreTrainedModel], penalty: float, most_prompts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "MOST_PROMPTS", most_prompts)
    model, examples = build(), prompts_of_many_lengths()
    end = common_token(model, examples)
    expected = [as_response(argmax_loop(model, one.prompt_ids, {end}, penalty), {end}) for one in examples]
    model.train()
    found = generate_responses(
        model,
        tokenizer_ending_with(end),
        examples,
        max_new_tokens=LIMIT,
        repetition_penalty=penalty,
    )
    assert found == expected
    assert model.training


@pytest.mark.parametrize("row", [0, 1, 2, 3])
def test_the_repetition_penalty_does_not_apply_to_padding(row: int) -> None:
    model, examples = llama(), prompts_of_many_lengths()
    (end,) = argmax_loop(model, examples[row].prompt_ids, set(), penalty=100.0, limit=1)
    padded_and_longest = [examples[row], examples[-1]]
    found = generate_responses(
        model, tokenizer_ending_with(end), padded_and_longest, max_new_tokens=LIMIT, repetition_penalty=100.0
    )
    assert found[0] == Response("", 0, truncated=False)


def test_responses_without_an_end_token_are_truncated() -> None:
    model, examples = llama(), prompts_of_many_lengths()
    end = common_token(model, examples)
    found = generate_responses(model, tokenizer_ending_with(end), examples, max_new_tokens=LIMIT)
    assert {response.truncated for response in found} == {True, False}
    assert all(response.tokens == LIMIT for response in found if response.truncated)
    assert all(f"w{end}" not in response.text.split() for response in found)


def test_the_end_tokens_of_the_model_end_responses() -> None:
    model, examples = llama(), prompts_of_many_lengths()
    end = common_token(model, examples)
    model.generation_config.eos_token_id = [end, 39]
    ends = {END, end, 39}
    expected = [as_response(argmax_loop(model, one.prompt_ids, ends), ends) for one in examples]
    assert generate_responses(model, tokenizer_ending_with(), examples, max_new_tokens=LIMIT) == expected


def test_generation_settings_of_the_model_have_no_effect(
    capfd: pytest.CaptureFixture[str],
) -> None:
    model, examples, tokenizer = llama(), prompts_of_many_lengths(), tokenizer_ending_with()
    expected = generate_responses(model, tokenizer, examples, max_new_tokens=LIMIT)
    settings: Any = model.generation_config
    settings.update(
        do_sample=True, temperature=0.1, top_p=0.5, top_k=3, num_beams=3, max_length=5, no_repeat_ngram_size=1
    )
    settings.update(suppress_tokens=list(range(2, 30)), min_new_tokens=2, repetition_penalty=9.0)
    before = settings.to_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert generate_responses(model, tokenizer, examples, max_new_tokens=LIMIT) == expected
    assert model.generation_config is settings
    assert settings.to_dict() == before
    assert capfd.readouterr().err == ""


def test_a_lora_model_generates_with_its_adapter() -> None:
    torch.manual_seed(0)
    model = get_peft_model(llama(), LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    examples, tokenizer = prompts_of_many_lengths(), tokenizer_ending_with()
    found = generate_responses(model, tokenizer, examples, max_new_tokens=LIMIT)
    with model.disable_adapter():
        assert found != generate_responses(model, tokenizer, examples, max_new_tokens=LIMIT)
    merged: Any = model.merge_and_unload()
    assert found == [as_response(argmax_loop(merged, one.prompt_ids, {END}), {END}) for one in examples]


@pytest.mark.parametrize("architecture", [gpt2, mpt])
def test_responses_end_at_the_end_of_the_context(architecture: Callable[..., PreTrainedModel]) -> None:
    model, examples = architecture(context=20), prompts_of_many_lengths()[:-1]
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, 21), END))
    limits = [min(LIMIT, 20 - one.prompt_length) for one in examples]
    expected = [
        as_response(argmax_loop(model, one.prompt_ids, {END}, limit=limit), {END})
        for one, limit in zip(examples, limits, strict=True)
    ]
    assert generate_responses(model, tokenizer_ending_with(), examples, max_new_tokens=LIMIT) == expected
    assert min(limits) == 5


def test_a_prompt_that_fills_the_context_raises() -> None:
    with pytest.raises(TrialError, match=r"prompt of 30 tokens, .* context of 20 tokens. Use --max-length 20"):
        generate_responses(gpt2(context=20), tokenizer_ending_with(), prompts_of_many_lengths(), max_new_tokens=LIMIT)


def test_an_empty_prompt_raises() -> None:
    with pytest.raises(TrialError, match=r"Example id has no prompt\."):
        generate_responses(llama(), tokenizer_ending_with(), [prompted([])], max_new_tokens=LIMIT)


def test_mode_and_settings_are_restored_after_an_error() -> None:
    model = llama().train()
    settings = model.generation_config

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    model.lm_head.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        generate_responses(model, tokenizer_ending_with(), prompts_of_many_lengths(), max_new_tokens=LIMIT)
    assert model.training
    assert model.generation_config is settings
