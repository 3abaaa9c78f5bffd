"""Invariant 2: arms differ in the noise only, and alpha 0 is bit-identical to a training without hooks."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neftune_cli.noise import attach_noise
from tests.tiny_models import tiny_gpt2, tiny_llama

IDS = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def trained(build: Any, alpha: float | None, seed: int = 0) -> list[Tensor]:
    """Return the weights after a few steps; alpha None attaches no noise."""
    model = build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with nullcontext() if alpha is None else attach_noise(model, alpha, seed):
        for _ in range(4):
            model(input_ids=IDS, attention_mask=MASK, labels=IDS).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return [weight.detach() for weight in model.parameters()]


def equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def noise_of(alpha: float, seed: int = 0) -> list[Tensor]:
    """Return the noise of three forwards, which is the output of zero embeddings."""
    model = tiny_llama()
    nn.init.zeros_(model.get_input_embeddings().weight)
    outputs: list[Tensor] = []
    with attach_noise(model, alpha, seed):
        model.get_input_embeddings().register_forward_hook(lambda module, args, output: outputs.append(output.detach()))
        for rows in (1, 2, 1):
            model(input_ids=IDS[:rows], attention_mask=MASK[:rows])
    return outputs


@pytest.mark.parametrize("build", [tiny_llama, tiny_gpt2])
def test_alpha_zero_trains_the_same_weights_as_no_hook(build: Any) -> None:
    assert equal(trained(build, alpha=0), trained(build, alpha=None))
    assert not equal(trained(build, alpha=5), trained(build, alpha=None))


@pytest.mark.parametrize("build", [tiny_llama, tiny_gpt2])
def test_the_same_seed_trains_the_same_weights(build: Any) -> None:
    assert equal(trained(build, alpha=5, seed=1), trained(build, alpha=5, seed=1))
    assert not equal(trained(build, alpha=5, seed=1), trained(build, alpha=5, seed=2))


@pytest.mark.parametrize("alpha", [0.0, 5.0])
def test_dropout_draws_equal_those_of_a_training_without_noise(alpha: float) -> None:
    trained(tiny_gpt2, alpha=None)
    without_noise = torch.get_rng_state()
    trained(tiny_gpt2, alpha=alpha)
    assert torch.equal(torch.get_rng_state(), without_noise)


def test_alpha_zero_returns_the_same_tensor_and_draws_nothing() -> None:
    model = tiny_llama()
    seen: list[Tensor] = []
    embedding = model.get_input_embeddings()
    embedding.register_forward_hook(lambda module, args, output: seen.append(output))
    with attach_noise(model, alpha=0) as noise:
        embedding.register_forward_hook(lambda module, args, output: seen.append(output))
        model(input_ids=IDS)
    assert seen[0] is seen[1]
    assert noise.draws == 0


def test_arms_share_the_unit_noise() -> None:
    for gentle, strong in zip(noise_of(alpha=5), noise_of(alpha=10), strict=True):
        assert gentle.any()
        assert torch.equal(strong, 2 * gentle)


def test_draws_depend_on_the_seed_and_the_call() -> None:
    first, second = noise_of(alpha=5, seed=0), noise_of(alpha=5, seed=1)
    assert not torch.equal(first[0], second[0])
    assert not torch.equal(first[0], first[2])


def test_the_state_does_not_depend_on_alpha() -> None:
    states = []
    for alpha in (0.1, 15.0):
        with attach_noise(model := tiny_llama(), alpha) as noise:
            model(input_ids=IDS)
            states.append(noise.state_dict())
    assert states[0] == states[1]
