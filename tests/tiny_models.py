"""Tiny untrained models for tests, with reproducible weights, and functions that inspect models."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from neftune_cli.data.examples import TokenizedExample


def tiny_llama(*, seed: int = 0, **config: Any) -> Any:
    """Return a Llama of one layer in training mode; `config` overrides fields of its configuration."""
    sizes = {
        "vocab_size": 20,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**{**sizes, **config})).train()


def tiny_gpt2(*, seed: int = 0, **config: Any) -> Any:
    """Return a GPT-2 of two layers, with dropout and learned positions, in training mode."""
    sizes = {"vocab_size": 20, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2}
    torch.manual_seed(seed)
    return GPT2LMHeadModel(GPT2Config(**{**sizes, **config})).train()


def with_zero_embeddings(model: Any) -> Any:
    """Set all embedding tables to zero, so that noisy embeddings equal the noise. Return the model in training mode."""
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            nn.init.zeros_(module.weight)
    return model.train()


def hooks_on(model: nn.Module) -> int:
    """Return the number of forward hooks and forward pre-hooks in all modules."""
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def weights_of(model: nn.Module) -> Tensor:
    """Return a copy of all parameters as one vector."""
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


def one_at_a_time(model: PreTrainedModel, examples: Sequence[TokenizedExample]) -> list[float]:
    """Return the loss of each example alone, as the model itself computes it, in nats per completion token."""
    model.train(False)
    with torch.no_grad():
        return [
            model(input_ids=torch.tensor([one.input_ids]), labels=torch.tensor([one.labels])).loss.item()
            for one in examples
        ]
