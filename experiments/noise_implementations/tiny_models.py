"""Tiny random models with zero embeddings, whose first layer therefore receives the noise itself."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PrinterCallback, Trainer, TrainingArguments

DIM = 64
VOCABULARY = 32
EXAMPLE_TOKENS = 32
"""Length of the examples that `trainer` trains on."""

_DECODER: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": DIM,
    "intermediate_size": DIM,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}


def llama() -> Any:
    """Return a decoder without dropout, in training mode."""
    return _with_zero_embeddings(transformers.LlamaForCausalLM(transformers.LlamaConfig(**_DECODER)))


def granite() -> Any:
    """Return a decoder that multiplies its embeddings by 12 after the embedding module, as Granite 3 does."""
    config = transformers.GraniteConfig(**_DECODER, embedding_multiplier=12.0)
    return _with_zero_embeddings(transformers.GraniteForCausalLM(config))


def t5() -> Any:
    """Return an encoder-decoder whose encoder and decoder have separate embedding modules with tied weights."""
    config = transformers.T5Config(
        vocab_size=VOCABULARY, d_model=DIM, d_kv=16, d_ff=DIM, num_layers=1, num_heads=2, dropout_rate=0.0
    )
    return _with_zero_embeddings(transformers.T5ForConditionalGeneration(config))


def bart() -> Any:
    """Return another encoder-decoder with such embedding modules."""
    config = transformers.BartConfig(
        vocab_size=VOCABULARY,
        d_model=DIM,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=DIM,
        decoder_ffn_dim=DIM,
        dropout=0.0,
    )
    return _with_zero_embeddings(transformers.BartForConditionalGeneration(config))


def _with_zero_embeddings(model: Any) -> Any:
    for embedding in _lookups(model):
        nn.init.zeros_(embedding.weight)
    return model.train()


def _lookups(model: Any) -> list[nn.Embedding]:
    return [module for name, module in model.named_modules() if name.endswith(("embed_tokens", "shared"))]


@contextmanager
def noise_received(model: Any) -> Iterator[list[Tensor]]:
    """Collect the noise that the model receives in each forward pass: (batch, length, dim) each."""
    received: list[Tensor] = []
    hook = record_noise(model, received)
    yield received
    hook.remove()


def record_noise(model: Any, received: list[Tensor]) -> RemovableHandle:
    """Append the input of the model's first layer to `received` in each forward pass."""
    if model.config.is_encoder_decoder:
        # BART normalizes between its embeddings and its first layer, so record the output of the embedding module.
        lookup: nn.Module = model.get_encoder().embed_tokens
        return lookup.register_forward_hook(lambda _, __, output: received.append(output.detach()))
    first_layer: nn.Module = model.model.layers[0]
    return first_layer.register_forward_pre_hook(lambda _, inputs: received.append(inputs[0].detach()))


def alpha_of(noise: Tensor, length: int) -> float:
    """Return the effective alpha of noise on an example of `length` tokens; the last dimension of `noise` is dim.

    The noise is uniform with half-width alpha / sqrt(length * dim), so its root mean square is that over sqrt(3).
    """
    return math.sqrt(3 * length * noise.shape[-1] * noise.square().mean().item())


@contextmanager
def trainer(arguments: dict[str, Any], **options: Any) -> Iterator[Any]:
    """Yield a Trainer on the CPU with learning rate 0 and batch size 1."""
    defaults: dict[str, Any] = {
        "use_cpu": True,
        "learning_rate": 0.0,
        "per_device_train_batch_size": 1,
        "dataloader_pin_memory": False,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    with TemporaryDirectory() as folder:
        settings = TrainingArguments(output_dir=folder, **(defaults | arguments))
        training = Trainer(args=settings, train_dataset=examples(), eval_dataset=examples(), **options)
        training.remove_callback(PrinterCallback)
        yield training


def examples() -> list[dict[str, Tensor]]:
    """Return 16 examples, each of one repeated token, by which it can be identified."""
    rows = [torch.full((EXAMPLE_TOKENS,), token) for token in range(16)]
    return [{"input_ids": row, "labels": row} for row in rows]
