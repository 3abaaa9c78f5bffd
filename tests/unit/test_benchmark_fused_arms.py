"""Benchmark of fused arms: the gradients of every fused arm are those of an arm that is trained alone."""

import copy

import pytest
import torch
from torch import Tensor

from experiments.benchmarks.fused_arms import METHODS, ArmAdapters, Arms
from tests.tiny_models import tiny_llama

IDS = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])


def gradients(arms: Arms) -> dict[str, Tensor]:
    arms.step(IDS)
    return {name: weight.grad for name, weight in arms.weights.items() if weight.grad is not None}


def test_full_fine_tuning_of_fused_arms_has_the_gradients_of_one() -> None:
    model = tiny_llama()
    alone = gradients(METHODS["full"](copy.deepcopy(model), 1))
    together = gradients(METHODS["full"](model, 3))
    assert set(together) == set(alone)
    for name, stacked in together.items():
        for gradient in stacked:
            torch.testing.assert_close(gradient, alone[name], rtol=1e-4, atol=1e-6)


def test_adapters_of_fused_arms_have_the_gradients_of_each_alone() -> None:
    model = tiny_llama()
    together = METHODS["lora"](copy.deepcopy(model), 2)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in together.weights.values():
            weight.normal_(std=0.1)
    weights = {name: weight.detach().clone() for name, weight in together.weights.items()}
    of_both = gradients(together)
    for arm in range(2):
        alone = METHODS["lora"](copy.deepcopy(model), 1)
        with torch.no_grad():
            for name, weight in alone.weights.items():
                weight.copy_(weights[name][arm : arm + 1])
        for name, gradient in gradients(alone).items():
            torch.testing.assert_close(of_both[name][arm], gradient[0], rtol=1e-4, atol=1e-6)


def test_an_adapter_adds_its_product_to_the_rows_of_its_arm() -> None:
    layer = ArmAdapters(torch.nn.Linear(4, 3), arms=2)
    with torch.no_grad():
        layer.up.normal_()
    inputs = torch.rand(2 * 5, 7, 4)
    expected = [
        layer.base(inputs[rows]) + inputs[rows] @ layer.down[arm] @ layer.up[arm]
        for arm, rows in enumerate((slice(0, 5), slice(5, 10)))
    ]
    torch.testing.assert_close(layer(inputs), torch.cat(expected))


@pytest.mark.parametrize("training", METHODS)
def test_fused_arms_are_trained(training: str) -> None:
    arms = METHODS[training](tiny_llama(), 2)
    before = {name: weight.detach().clone() for name, weight in arms.weights.items()}
    arms.step(IDS)
    assert any(not torch.equal(weight, before[name]) for name, weight in arms.weights.items())
