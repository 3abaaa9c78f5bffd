"""Tokens of the preallocated cache compared with transformers' `generate`, for tiny models of many architectures.

The prompts are computed alone, or together with the losses of their examples.
"""

from pathlib import Path

import pytest
import torch

from neftune_cli.config.spec import ResolvedEvaluation
from neftune_cli.data.examples import Example, TokenizedExample
from neftune_cli.evaluation import decoding
from neftune_cli.evaluation.decoding import Decoding, greedy_tokens
from neftune_cli.evaluation.generation import scored_responses
from neftune_cli.evaluation.losses import example_losses
from neftune_cli.evaluation.shared_prompts import losses_and_responses
from neftune_cli.models.language_model import causal_model, evaluation_mode
from neftune_cli.models.loading import load_model
from neftune_cli.models.sources import find_model
from tests.tiny_architectures import ARCHITECTURES, Architecture

FAST = (
    *("llama", "mistral", "gemma2", "gpt2", "gpt_bigcode", "opt_projected", "bloom", "qwen3_moe", "deepseek_v3"),
    *("gpt_oss", "mamba", "bamba", "lfm2", "gemma3", "qwen2_vl"),
)
"""One of each kind of positions, attention, experts, states and inputs for the fast suite."""
TRAINED = [
    pytest.param(one, id=one.name, marks=[] if one.name in FAST else [pytest.mark.slow])
    for one in ARCHITECTURES
    if not one.refusal(lora=False)
]
PREALLOCATED = {
    "llama",
    "gpt2",
    "qwen3_moe",
}
"""Some of the architectures that must not fall back to transformers."""
END = 7


def prompts() -> list[tuple[int, ...]]:
    generator = torch.Generator().manual_seed(0)
    lengths = [9, 1, 30, 4, 4, 17, 2, 12, 25, 3]
    return [tuple(torch.randint(8, 2048, (length,), generator=generator).tolist()) for length in lengths]


@pytest.mark.parametrize("one", TRAINED)
def test_tokens_equal_those_of_transformers(one: Architecture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_model(find_model(str(one.save(tmp_path))))
    limits = [14, 3, 14, 14, 1, 14, 8, 14, 14, 14]
    single_prompts = [([prompt], [limit]) for prompt, limit in zip(prompts(), limits, strict=True)]
    monkeypatch.setattr(decoding, "tokens_at_once", lambda _: 40)  # several parts
    with evaluation_mode(loaded.model):
        library = Decoding(frozenset({END}), 1.3, preallocated=False)
        long = [prompt for prompt, limit in zip(prompts(), limits, strict=True) if limit == 14]
        starts = greedy_tokens(loaded.model, long, [6] * len(long), library)
        ends = {tokens[5] for tokens in starts if len(tokens) == 6}  # end tokens that end some responses early
        library = Decoding(frozenset(ends), 1.3, preallocated=False)
        expected = [greedy_tokens(loaded.model, *single, library)[0] for single in single_prompts]
        found = greedy_tokens(loaded.model, prompts(), limits, Decoding(frozenset(ends), 1.3))
    assert found == expected
    assert len({len(tokens) for tokens in found}) >= 3
    if one.name in PREALLOCATED:
        assert decoding._has_plain_cache(causal_model(loaded.model))


@pytest.mark.parametrize("one", TRAINED)
def test_prompts_of_the_loss_pass_give_the_tokens_of_transformers(one: Architecture, tmp_path: Path) -> None:
    loaded = load_model(find_model(str(one.save(tmp_path))))
    examples = [
        TokenizedExample(
            Example(f"{row}", ({"role": "user", "content": "?"},), "", "id"),
            (*prompt, *prompt[:2], *prompt),
            len(prompt),
        )
        for row, prompt in enumerate(prompts())
    ]
    evaluation = ResolvedEvaluation(max_length=128, max_new_tokens=14, repetition_penalty=1.3)
    losses, responses = losses_and_responses(
        loaded.model,
        loaded.tokenizer,
        examples,
        range(len(examples)),
        evaluation,
        pad_token_id=0,
        tokens=100,  # several parts
        not_finite_message="",
    )
    expected = [example_losses(loaded.model, [each], pad_token_id=0, tokens=1)[0] for each in examples]
    assert losses == pytest.approx(expected, rel=1e-4)
    library = evaluation.model_copy(update={"decoding": "transformers"})
    singles = [scored_responses(loaded.model, loaded.tokenizer, [each], library)[0] for each in examples]
    assert [(each.response, each.tokens) for each in responses] == [(each.response, each.tokens) for each in singles]
