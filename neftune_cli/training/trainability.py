"""Check before training that a model can be trained and measured: with PEFT, with TRL's loss, and in padded batches."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from neftune_cli.config.choices import IGNORED_LABEL
from neftune_cli.errors import Problem, UsageError, first_line
from neftune_cli.evaluation.decoding import effect_of_padding
from neftune_cli.models.language_model import LanguageModel, evaluation_mode
from neftune_cli.models.loading import LoadedModel, quiet_transformers
from neftune_cli.training.lora import lora_config
from neftune_cli.training.mixture_of_experts import has_router_loss, name_number_of_experts
from neftune_cli.training.model_settings import attributes_restored, trainer_settings_undone

TOLERANCE = 0.02
"""Tolerance relative to the largest log-probability or logit, far above the rounding errors of bfloat16."""
FLOAT32_TOLERANCE = 1e-3
"""The same for the effect of padding on models in float32: rounding errors are about 1e-6."""
LARGE_LOGIT = 100.0
"""Size of the logits in the comparison of losses, so that softcapping, for example at 30, has an effect on them."""
ANOTHER = "Use a model of another architecture, such as Llama, Qwen or GPT-2."


def check_trainable(loaded: LoadedModel, name: str, lora_rank: int | None) -> None:
    """Check that a model can be trained, fully or with LoRA adapters of a rank, and that padding does not change it.

    The model is unchanged afterwards. The check takes about the time of eight forward passes of a few tokens.

    Raises:
        UsageError: PEFT refuses the architecture, TRL's loss fails for it or differs from the model's own, no adapter
            receives a gradient, or padding changes the model's responses.
    """
    base, batch = loaded.model, _batch(loaded)
    what = f"'{name}' ({base.config.model_type}) cannot be trained"
    with _silent(), _unchanged(base):
        _check_padding(base, name)
    with _silent(), _unchanged(base), torch.random.fork_rng(devices=[]), torch.enable_grad():
        factor = _power_of_two(LARGE_LOGIT / _own_logits(base, batch).abs().max().item())
        with _head_multiplied_by(factor, base):
            expected = _own_log_probabilities(base, batch)
        model = _with_adapters(base, lora_rank, what) if lora_rank else base
        with _explained(f"{what}: TRL's trainer fails for its architecture"):
            name_number_of_experts(base)
            _add_trl_loss(base)
            with _head_multiplied_by(factor, base), evaluation_mode(cast(nn.Module, model)):
                found = _trl_output(model, base, batch).log_probs
            cast(nn.Module, model).train()
            loss = _trl_output(model, base, batch).loss
        _check_equal(expected, found, what)
        if lora_rank:
            _check_gradients(cast(nn.Module, model), loss, what)


@contextmanager
def _silent() -> Iterator[None]:
    with warnings.catch_warnings(action="ignore"), quiet_transformers():
        yield


def _batch(loaded: LoadedModel) -> dict[str, Tensor]:
    """Return two rows of tokens, (2, 5), the second with padding, whose labels are ignored."""
    pad = loaded.tokenizer.pad_token_id
    ids = torch.tensor([[0, 1, 2, 3, 4], [3, 2, 1, pad, pad]])
    mask = torch.tensor([[1] * 5, [1, 1, 1, 0, 0]])
    rows = {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, IGNORED_LABEL)}
    return {key: value.to(loaded.model.device) for key, value in rows.items()}


@contextmanager
def _unchanged(model: PreTrainedModel) -> Iterator[None]:
    """Restore modules, buffers, attributes, configurations and gradient flags of a model at the end.

    PEFT replaces modules, and some recurrent architectures keep the state of the last forward pass in attributes.
    """
    module = cast(nn.Module, model)
    trained = [(weight, weight.requires_grad) for weight in module.parameters()]
    try:
        with trainer_settings_undone(model), attributes_restored(module):
            yield
    finally:
        for weight, requires_grad in trained:
            weight.requires_grad_(requires_grad)
            weight.grad = None


def _power_of_two(number: float) -> float:
    """Return the largest power of two that is not larger than a number: multiplication by it has no rounding error."""
    return float(2.0 ** math.floor(math.log2(number))) if 0 < number < math.inf else 1.0


@contextmanager
def _head_multiplied_by(factor: float, model: PreTrainedModel) -> Iterator[None]:
    """Multiply the weight of the language modeling head by a power of two; restore it at the end."""
    weight = cast(nn.Linear, model.get_output_embeddings()).weight.data
    weight.mul_(factor)
    try:
        yield
    finally:
        weight.div_(factor)


def _own_logits(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    """Return the logits that the model computes itself, all but the last of each row: (2, 4, vocabulary)."""
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    with evaluation_mode(cast(nn.Module, model)):
        return cast(Tensor, cast(Any, model)(**inputs, use_cache=False).logits[:, :-1].float())


def _own_log_probabilities(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    """Return the log-probability of each label from these logits: (2, 4), 0 for ignored labels."""
    labels = batch["labels"][:, 1:]
    chosen = _own_logits(model, batch).log_softmax(dim=-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    return chosen.masked_fill(labels == IGNORED_LABEL, 0.0)


def _with_adapters(model: PreTrainedModel, rank: int, what: str) -> LanguageModel:
    from peft import get_peft_model

    fix = "Leave out --lora-rank to train all weights, or pass another model."
    with _explained(f"{what} with LoRA adapters", fix):
        return cast(LanguageModel, get_peft_model(model, lora_config(cast(nn.Module, model), rank)))


def _add_trl_loss(model: PreTrainedModel) -> None:
    from trl.trainer.utils import add_fused_lm_head

    add_fused_lm_head(model)


def _trl_output(model: LanguageModel, base: PreTrainedModel, batch: dict[str, Tensor]) -> Any:
    router = {"output_router_logits": True} if has_router_loss(base.config.get_text_config()) else {}
    return cast(Any, model)(**batch, **router, use_cache=False, fused_lm_head=True)


def _check_equal(expected: Tensor, found: Tensor, what: str) -> None:
    difference = (expected - found.float()).abs().max().item()
    if difference > TOLERANCE * max(1.0, expected.abs().max().item()):
        wrong = f"TRL's loss differs from the model's loss by {difference:.2g} nats for one token"
        raise UsageError(Problem(f"{what}: {wrong}.", ANOTHER))


def _check_gradients(model: nn.Module, loss: Tensor, what: str) -> None:
    loss.backward()
    if not any(weight.grad is not None for weight in model.parameters() if weight.requires_grad):
        raise UsageError(Problem(f"{what} with LoRA adapters: none of them receives a gradient.", ANOTHER))


def _check_padding(model: PreTrainedModel, name: str) -> None:
    in_float32 = all(weight.dtype == torch.float32 for weight in cast(nn.Module, model).parameters())
    if not effect_of_padding(model) <= (FLOAT32_TOLERANCE if in_float32 else TOLERANCE):  # it may be NaN
        what = f"'{name}' ({model.config.model_type}) cannot be measured: it ignores the attention mask"
        raise UsageError(Problem(f"{what}, so padding would change its responses.", ANOTHER))


@contextmanager
def _explained(what: str, fix: str = ANOTHER) -> Iterator[None]:
    """Turn errors of PEFT, TRL and the architecture into a UsageError with the first sentence of their message."""
    try:
        yield
    except Exception as error:  # they raise many types
        reason = first_line(error).removeprefix("[PEFT:PeftType.LORA] ").partition(". ")[0]
        raise UsageError(Problem(f"{what}: {reason}.", fix)) from error
