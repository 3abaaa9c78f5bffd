"""Distortion, nearest tokens and divergence compared with brute force, scipy and hand calculations."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.special import rel_entr, softmax
from torch import Tensor, nn
from transformers import (
    Gemma3ForCausalLM,
    Gemma3nForCausalLM,
    Gemma3nTextConfig,
    Gemma3TextConfig,
    Gemma4ForCausalLM,
    Gemma4TextConfig,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from neftune_cli.geometry.sensitivity import effects
from neftune_cli.geometry.sensitivity.effects import (
    MeasuredTokens,
    closed_form_distortion,
    mean_vocabulary_norm,
    measured_distortion,
    measured_tokens,
    nearest_tokens,
    next_token_divergence,
)
from neftune_cli.noise import attach_noise
from neftune_cli.noise.placement import embedding_weight
from tests.tiny_models import tiny_gpt2

VOCABULARY, DIM = 50, 16
EXAMPLES = ((3, 1, 4, 1, 5, 9, 2, 6), (5, 3, 5), (8,))


SIZES: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": DIM, "intermediate_size": 32, "num_hidden_layers": 2}


@pytest.fixture
def model() -> PreTrainedModel:
    torch.manual_seed(0)
    llama = LlamaForCausalLM(LlamaConfig(**SIZES, num_attention_heads=2, initializer_range=0.5, attention_dropout=0.5))
    llama.train()
    return llama


def weight(model: PreTrainedModel) -> Tensor:
    return embedding_weight(model).detach()


def gemma() -> PreTrainedModel:
    """Multiplies the embeddings within the module."""
    return Gemma3ForCausalLM(Gemma3TextConfig(**SIZES, num_attention_heads=2, num_key_value_heads=1, head_dim=8))


def granite() -> PreTrainedModel:
    """Multiplies the output of the embedding module, and also inputs_embeds."""
    return GraniteForCausalLM(
        GraniteConfig(**SIZES, num_attention_heads=2, num_key_value_heads=1, embedding_multiplier=12.0)
    )


@contextmanager
def first_layer_inputs(model: Any) -> Iterator[list[Tensor]]:
    """Collect the input of the first layer of a Llama-like model in each call: (rows, length, dim)."""
    inputs: list[Tensor] = []
    hook = model.model.layers[0].register_forward_pre_hook(lambda _, args: inputs.append(args[0].detach()))
    yield inputs
    hook.remove()


@pytest.mark.parametrize(("build", "factor"), [(gemma, math.sqrt(DIM)), (granite, 12.0)])
def test_embeddings_are_the_input_of_the_first_layer(build: Callable[[], PreTrainedModel], factor: float) -> None:
    torch.manual_seed(0)
    scaled = build()
    with first_layer_inputs(scaled) as inputs:
        scaled(input_ids=torch.tensor([EXAMPLES[0]]))
    tokens = measured_tokens(scaled, EXAMPLES[:1])
    torch.testing.assert_close(tokens.embeddings, inputs[0][0])
    assert mean_vocabulary_norm(scaled) == pytest.approx(factor * weight(scaled).norm(dim=1).mean().item(), rel=1e-3)
    distances = cdist(factor * weight(scaled).numpy(), factor * weight(scaled).numpy())
    np.fill_diagonal(distances, np.inf)
    np.testing.assert_allclose(
        nearest_tokens(scaled, tokens).distances.numpy(), distances.min(axis=1)[list(EXAMPLES[0])], rtol=1e-3
    )


@pytest.mark.parametrize("build", [gemma, granite])
def test_the_noise_has_the_distribution_of_the_noise_in_training(build: Callable[[], PreTrainedModel]) -> None:
    """Compared with `attach_noise`; the tolerances are at least five standard errors."""
    torch.manual_seed(0)
    scaled, copies, length = build(), 100, 40
    examples = torch.randint(VOCABULARY, (1, length)).expand(copies, length)
    tokens = measured_tokens(scaled, examples.tolist())
    with first_layer_inputs(scaled) as trained, attach_noise(scaled.train(), alpha=5.0):
        scaled(input_ids=examples, attention_mask=torch.ones_like(examples))
    with first_layer_inputs(scaled) as compared:
        next_token_divergence(scaled, tokens, [5.0])
    clean = tokens.embeddings[:length]
    added = trained[0] - clean
    torch.testing.assert_close(compared[0][0], clean)
    assert (compared[1][0] - clean).abs().max() <= 5.0 / math.sqrt(length * DIM) * 1.001
    noises = torch.stack([noisy[0] - clean for noisy in compared[1::2]])
    assert noises.square().mean().sqrt().item() == pytest.approx(added.square().mean().sqrt().item(), rel=0.015)
    signal_to_noise = (clean.norm(dim=1) / added.norm(dim=2)).median().item()
    assert measured_distortion(tokens, 5.0).signal_to_noise == pytest.approx(signal_to_noise, rel=0.03)


def test_noise_has_the_range_for_the_length_of_each_example(model: PreTrainedModel) -> None:
    tokens = measured_tokens(model, [(7,) * 400, (7,) * 100])
    for part, length in zip(tokens.noise.split(tokens.lengths), (400, 100), strict=True):
        half_width = 1 / math.sqrt(length * DIM)
        assert 0.99 * half_width < part.abs().max() <= half_width


def test_the_seed_determines_the_draw(model: PreTrainedModel) -> None:
    draws = [measured_tokens(model, EXAMPLES, seed=seed).noise for seed in (1, 1, 2)]
    assert draws[0].equal(draws[1])
    assert not draws[0].equal(draws[2])


def test_distortion_by_hand() -> None:
    tokens = MeasuredTokens(
        lengths=(2, 3),
        ids=torch.tensor([0, 1, 2, 2, 2]),
        embeddings=torch.tensor([[3.0, 4.0], [0.0, 2.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]),
        noise=torch.tensor([[0.0, 0.5], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]),
    )
    measured = measured_distortion(tokens, 2.0)  # changes of 1, 2, 2, 2, 2
    assert measured.l2_change == pytest.approx(math.sqrt(17 / 5))
    of_first = (3 * 3 + 4 * 5) / (5 * math.sqrt(34))
    of_second, of_others = 2 / math.sqrt(8), 1 / math.sqrt(5)
    assert measured.cosine == pytest.approx((of_first + of_second + 3 * of_others) / 5)
    assert measured.signal_to_noise == pytest.approx(0.5)  # median of 5, 1, 0.5, 0.5, 0.5
    formula = closed_form_distortion(tokens, 2.0)  # norms of 2 / sqrt(6), twice, and 2 / 3
    assert formula.l2_change == pytest.approx(math.sqrt((2 * 4 / 6 + 3 * 4 / 9) / 5))
    squares = (4 / 6 / 25, 4 / 6 / 4, 4 / 9, 4 / 9, 4 / 9)
    assert formula.cosine == pytest.approx(np.mean([1 / math.sqrt(1 + square) for square in squares]))
    assert formula.signal_to_noise == pytest.approx(1.5)


@pytest.mark.parametrize("noise", ["uniform", "gaussian", "bernoulli"])
def test_measurements_are_within_one_percent_of_the_formulas(noise: str) -> None:
    """The tolerance is at least 5 standard errors for any seed.

    Short examples have few tokens, so there are 8 copies of each: a standard error of 0.1% of the L2 change in 512
    dimensions. The median signal-to-noise ratio falls within the tokens of the examples of length 180: there are as
    many tokens in shorter as in longer examples. The norms of these 1,440 tokens have a spread of at most 4.4%, which
    is 0.15% for their median.
    """
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": 200, "hidden_size": 512, "intermediate_size": 32, "num_hidden_layers": 1}
    wide = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2, initializer_range=0.3))
    lengths = (5, 17, 40, 58, 90, 90, 180, 300) * 8
    tokens = measured_tokens(wide, [torch.randint(200, (length,)).tolist() for length in lengths], noise=noise)
    for alpha in (0.1, 1.0, 5.0, 30.0):
        measured, formula = measured_distortion(tokens, alpha), closed_form_distortion(tokens, alpha)
        assert measured.l2_change == pytest.approx(formula.l2_change, rel=0.01)
        assert measured.cosine == pytest.approx(formula.cosine, rel=0.01)
        assert measured.signal_to_noise == pytest.approx(formula.signal_to_noise, rel=0.01)


def test_alpha_0_changes_nothing(model: PreTrainedModel) -> None:
    tokens = measured_tokens(model, EXAMPLES)
    for found in (measured_distortion(tokens, 0.0), closed_form_distortion(tokens, 0.0)):
        assert (found.l2_change, found.cosine, found.signal_to_noise) == (0.0, 1.0, math.inf)
    assert nearest_tokens(model, tokens).share_changed(0.0) == 0.0
    assert next_token_divergence(model, tokens, [0.0]).nats == (0.0,)


def test_changed_tokens_agree_with_an_exhaustive_comparison(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(effects, "ROWS_AT_ONCE", 7)
    ids = np.array([token for example in EXAMPLES for token in example])
    tokens = measured_tokens(model, EXAMPLES, seed=3)
    vocabulary = weight(model).numpy().astype(np.float64)
    nearest = nearest_tokens(model, tokens)
    clean = cdist(vocabulary[ids], vocabulary)
    clean[np.arange(len(ids)), ids] = np.inf
    np.testing.assert_allclose(nearest.distances.numpy(), clean.min(axis=1), rtol=1e-5)
    shares = []
    for alpha in (1.0, 5.0, 10.0, 20.0, 40.0, 80.0):
        noisy = vocabulary[ids] + alpha * tokens.noise.numpy().astype(np.float64)
        shares.append(np.mean(cdist(noisy, vocabulary).argmin(axis=1) != ids))
        assert nearest.share_changed(alpha) == pytest.approx(shares[-1])
    assert min(shares) == 0
    assert 0 < np.median(shares) < 1


def test_a_token_with_an_equal_embedding_is_not_a_neighbour(model: PreTrainedModel) -> None:
    tokens = measured_tokens(model, [(3, 4)])
    before = nearest_tokens(model, tokens)
    weight(model)[49] = weight(model)[3]
    after = nearest_tokens(model, tokens)
    assert after.distances[0] > 1
    torch.testing.assert_close(after.turning_alphas[0], before.turning_alphas[0])


def test_equal_zero_embeddings_are_not_neighbours(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effects, "PAIRS_AT_ONCE", 2)
    weight(model)[[3, 48, 49]] = 0.0
    distances = nearest_tokens(model, measured_tokens(model, [(3, 4)])).distances
    others = [token for token in range(VOCABULARY) if token not in (3, 48, 49)]
    assert distances[0].item() == pytest.approx(weight(model)[others].norm(dim=1).min().item())


def test_very_close_neighbours_have_an_exact_distance(model: PreTrainedModel) -> None:
    weight(model)[49] = weight(model)[3]
    weight(model)[49, 0] += 1e-4  # rounding of products in float32 would remove this difference
    distance = (weight(model)[49, 0] - weight(model)[3, 0]).item()
    assert nearest_tokens(model, measured_tokens(model, [(3, 4)])).distances[0].item() == pytest.approx(distance)


def test_divergence_agrees_with_scipy_on_forward_passes_of_the_model(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(effects, "LOGITS_AT_ONCE", 2 * 8 * VOCABULARY)  # two alphas per pass, then one
    tokens = measured_tokens(model, EXAMPLES)
    alphas = (0.0, 2.0, 10.0, 20.0)
    found = next_token_divergence(model, tokens, alphas)
    assert model.training
    assert (found.examples, found.tokens) == (3, 12)
    model.eval()
    expected = np.zeros(len(alphas))
    for example, noise in zip(EXAMPLES, tokens.noise.split(tokens.lengths), strict=True):
        ids = torch.tensor([example])
        for place, alpha in enumerate(alphas):
            with torch.no_grad():
                clean = model(input_ids=ids).logits[0].double().numpy()
                noisy = model(inputs_embeds=weight(model)[ids] + alpha * noise).logits[0].double().numpy()
            expected[place] += rel_entr(softmax(clean, axis=-1), softmax(noisy, axis=-1)).sum()
    np.testing.assert_allclose(found.nats, expected / 12, rtol=1e-3, atol=1e-7)
    assert found.nats[1] < found.nats[2] < found.nats[3]


PER_LAYER: dict[str, Any] = {
    **SIZES,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "vocab_size_per_layer_input": VOCABULARY,
    "hidden_size_per_layer_input": 8,
    "num_kv_shared_layers": 0,
    "layer_types": ["sliding_attention", "full_attention"],
    "initializer_range": 0.5,
}


def gemma_3n() -> PreTrainedModel:
    model = Gemma3nForCausalLM(Gemma3nTextConfig(**PER_LAYER, laurel_rank=4, activation_sparsity_pattern=[0.0, 0.0]))
    for name, value in model.named_parameters():
        if name.endswith("correct_output_scale"):  # initialized with 0, so that embeddings would have no effect
            nn.init.ones_(value)
    return model


def gemma_4() -> PreTrainedModel:
    return Gemma4ForCausalLM(Gemma4TextConfig(**PER_LAYER | {"global_head_dim": 8}))


@pytest.mark.parametrize("build", [gemma_3n, gemma_4])
def test_the_divergence_is_that_of_a_model_that_embeds_its_ids_again_in_each_layer(
    build: Callable[[], PreTrainedModel],
) -> None:
    torch.manual_seed(0)
    model: Any = build().eval()
    tokens = measured_tokens(model, EXAMPLES[:1])
    ids, alpha = torch.tensor([EXAMPLES[0]]), 20.0
    with torch.no_grad():
        clean = model(input_ids=ids).logits[0].double()
        hook = model.get_input_embeddings().register_forward_hook(lambda _, __, output: output + alpha * tokens.noise)
        noisy = model(input_ids=ids).logits[0].double()
        hook.remove()
    expected = rel_entr(softmax(clean.numpy(), axis=-1), softmax(noisy.numpy(), axis=-1)).sum() / len(EXAMPLES[0])
    assert expected > 1e-3
    (found,) = next_token_divergence(model, tokens, [alpha]).nats
    assert found == pytest.approx(expected, rel=1e-3)


def test_divergence_stops_after_enough_tokens(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effects, "DIVERGENCE_TOKENS", 5)
    found = next_token_divergence(model, measured_tokens(model, EXAMPLES), [1.0])
    assert (found.examples, found.tokens) == (1, 8)


def test_a_model_with_learned_positions_starts_at_position_0() -> None:
    gpt2 = tiny_gpt2(vocab_size=VOCABULARY, n_embd=DIM, n_layer=1, n_positions=8)
    assert next_token_divergence(gpt2, measured_tokens(gpt2, EXAMPLES), [5.0]).nats[0] > 0
