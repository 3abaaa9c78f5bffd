"""Losses and responses from one pass over the prompts, compared with transformers' losses and an argmax loop."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Gemma2Config, Gemma2ForCausalLM, PreTrainedModel

from neftune_cli.config.spec import ResolvedEvaluation
from neftune_cli.data.examples import Example, TokenizedExample
from neftune_cli.errors import TrialError
from neftune_cli.evaluation import decoding
from neftune_cli.evaluation.generation import Response
from neftune_cli.evaluation.shared_prompts import losses_and_responses, shares_prompts
from tests.tiny_models import one_at_a_time
from tests.unit.test_evaluation_generation import (
    LIMIT,
    VOCABULARY,
    argmax_loop,
    as_response,
    common_token,
    gpt2,
    llama,
    tokenizer_ending_with,
)

LENGTHS = [(4, 3), (1, 9), (15, 1), (4, 12), (0, 6), (30, 2), (7, 1), (30, 20), (2, 2)]
"""Tokens of the prompt and of the completion of each example; the one without a prompt is a plain text."""
PROMPTED = [7, 0, 2, 1, 5, 3, 8]
"""Examples with a response, in an order of their own. Example 6 has a prompt, but no response."""
PAD = 0


def sliding_windows() -> PreTrainedModel:
    torch.manual_seed(3)
    return Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=VOCABULARY,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            sliding_window=4,
            initializer_range=0.3,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


def examples() -> list[TokenizedExample]:
    """Return examples of many lengths. Their completions have no end token, as if they were truncated."""
    torch.manual_seed(5)
    return [
        TokenizedExample(
            Example(f"{number}", ({"role": "user", "content": "?"},) if prompt else (), "w2", "id"),
            tuple(torch.randint(2, VOCABULARY, (prompt + completion,)).tolist()),
            prompt,
        )
        for number, (prompt, completion) in enumerate(LENGTHS)
    ]


def measured(
    model: PreTrainedModel,
    end: int,
    *,
    of: list[TokenizedExample] | None = None,
    penalty: float = 1.0,
    tokens: int = 60,
    **settings: Any,
) -> tuple[list[float], list[Response]]:
    evaluation = ResolvedEvaluation(max_length=64, max_new_tokens=LIMIT, repetition_penalty=penalty, **settings)
    losses, generations = losses_and_responses(
        model,
        tokenizer_ending_with(end),
        of or examples(),
        PROMPTED,
        evaluation,
        pad_token_id=PAD,
        tokens=tokens,
        not_finite_message="diverged",
    )
    assert [one.example for one in generations] == [f"{index}" for index in PROMPTED]
    return losses, [Response(one.response, one.tokens, one.truncated) for one in generations]


def single_responses(
    model: PreTrainedModel, of: list[TokenizedExample], end: int, penalty: float = 1.0
) -> list[Response]:
    return [as_response(argmax_loop(model, of[index].prompt_ids, {end}, penalty), {end}) for index in PROMPTED]


@pytest.mark.parametrize("tokens", [1, 60, 1000])
@pytest.mark.parametrize("penalty", [1.0, 2.0])
@pytest.mark.parametrize("build", [llama, gpt2, sliding_windows])
def test_losses_and_responses_equal_those_of_single_examples(
    build: Callable[[], PreTrainedModel], penalty: float, tokens: int
) -> None:
    model, given = build(), examples()
    end = common_token(model, [given[index] for index in PROMPTED])
    expected_losses = one_at_a_time(model, given)
    expected_responses = single_responses(model, given, end, penalty)
    model.train()
    losses, responses = measured(model, end, penalty=penalty, tokens=tokens)
    assert losses == pytest.approx(expected_losses, rel=1e-5)
    assert responses == expected_responses
    assert model.training


@pytest.mark.parametrize("penalty", [1.0, 2.0])
def test_prompts_that_are_decoded_apart_give_the_same(penalty: float, monkeypatch: pytest.MonkeyPatch) -> None:
    model, given = llama(), examples()
    end = common_token(model, [given[index] for index in PROMPTED])
    per_token = decoding._cache_bytes_per_token(model)
    monkeypatch.setattr(decoding, "CACHE_BYTES", 50 * per_token)  # less than two of the longest prompts
    losses, responses = measured(model, end, penalty=penalty)
    assert losses == pytest.approx(one_at_a_time(model, given), rel=1e-5)
    assert responses == single_responses(model, given, end, penalty)


def test_a_lora_model_is_measured_with_its_adapter() -> None:
    torch.manual_seed(0)
    model: Any = get_peft_model(llama(), LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    given = examples()
    losses, responses = measured(model, 1)
    merged = model.merge_and_unload()
    assert losses == pytest.approx(one_at_a_time(merged, given), rel=1e-4)
    assert responses == single_responses(merged, given, 1)


@pytest.mark.parametrize("build", [llama, gpt2])
def test_each_token_passes_through_the_model_once(build: Callable[[], PreTrainedModel]) -> None:
    model, given = build(), examples()
    end = common_token(model, [given[index] for index in PROMPTED])
    seen: list[int] = []
    model.get_input_embeddings().register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].numel()))
    _, responses = measured(model, end, tokens=1)  # each example is a part of its own, without padding
    assert shares_prompts(model, [given[index] for index in PROMPTED], evaluation())
    generated = sum(one.tokens + (not one.truncated) for one in responses)
    # the last token of a response is not read
    assert sum(seen) == sum(len(one.input_ids) for one in given) + generated - len(responses)


def test_keys_and_values_of_a_part_fit_into_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    model = llama()
    monkeypatch.setattr(decoding, "CACHE_BYTES", 80 * decoding._cache_bytes_per_token(model))
    sizes: list[int] = []
    model.get_input_embeddings().register_forward_hook(lambda _, inputs, __: sizes.append(inputs[0].numel()))
    measured(model, 1, tokens=1000)
    assert 50 < max(sizes) <= 80


def evaluation(**settings: Any) -> ResolvedEvaluation:
    return ResolvedEvaluation(max_length=64, max_new_tokens=LIMIT, repetition_penalty=1.0, **settings)


def test_prompts_are_shared_only_with_a_preallocated_cache_and_completions() -> None:
    given = examples()
    assert shares_prompts(llama(), given, evaluation())
    assert not shares_prompts(llama(), given, evaluation(decoding="transformers"))
    assert not shares_prompts(sliding_windows(), given, evaluation())
    assert not shares_prompts(llama(), [*given, replace(given[0], prompt_length=7)], evaluation())


def test_an_example_whose_loss_is_in_earlier_turns_only_is_measured() -> None:
    model, given = llama(), examples()
    given[0] = replace(given[0], prompt_length=len(given[0].input_ids), earlier=((2, 4),))
    losses, responses = measured(model, 1, of=given)
    assert losses == pytest.approx(one_at_a_time(model, given), rel=1e-5)
    assert responses == single_responses(model, given, 1)


def test_decoding_of_transformers_gives_the_same() -> None:
    model, given = llama(), examples()
    losses, responses = measured(model, 1, decoding="transformers")
    assert losses == pytest.approx(one_at_a_time(model, given), rel=1e-5)
    assert responses == single_responses(model, given, 1)


@pytest.mark.parametrize("chosen", ["preallocated", "transformers"])
def test_no_response_follows_a_loss_that_is_not_finite(chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = llama()
    with torch.no_grad():
        model.get_input_embeddings().weight[given_token()] = float("nan")
    monkeypatch.setattr(decoding._PromptBatch, "_next_tokens", lambda _: pytest.fail("decoded"))
    monkeypatch.setattr(decoding, "_library_tokens", lambda *_: pytest.fail("decoded"))
    with pytest.raises(TrialError, match=r"^diverged$"):
        measured(model, 1, decoding=chosen)


def given_token() -> int:
    """Return a token that only an example with a response has."""
    given = examples()
    others = {token for index, one in enumerate(given) if index not in PROMPTED for token in one.input_ids}
    return next(token for token in given[7].input_ids if token not in others)


def test_an_example_without_loss_token_raises() -> None:
    given = examples()
    given[0] = replace(given[0], prompt_length=len(given[0].input_ids))
    with pytest.raises(TrialError, match=r"Example 0 has no completion token"):
        measured(llama(), 1, of=given)
