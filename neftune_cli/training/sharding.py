"""Fully sharded data parallelism (FSDP): whole weights and optimizer states of a model whose ranks hold shards."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin, fsdp2_canonicalize_names
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.optim import Optimizer
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from neftune_cli.models.language_model import LanguageModel

if TYPE_CHECKING:
    from peft import PeftConfig

_TO_RANK_0 = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
_FROM_RANK_0 = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=False)


def set_up_sharding(accelerator: Accelerator, plugin: FullyShardedDataParallelPlugin) -> None:
    """Let accelerate shard a model, with bfloat16 weights and float32 sums in mixed precision.

    accelerate itself computes losses and sums of gradients in bfloat16 as well, and shards models on accelerators such
    as GPUs, but not on a CPU.
    """
    if accelerator.mixed_precision != "no":
        plugin.mixed_precision_policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    accelerator.state.fsdp_plugin = plugin
    accelerator.state.distributed_type = DistributedType.FSDP


class WholeModel(TrainerCallback):
    """A copy of a model that rank 0 measures and writes; it has the weights of all shards after each `gather`.

    The copy is in main memory, except while it is measured. The other ranks have none. As a callback of the trainer,
    it gathers the weights after each epoch but the last, after which the trainer gathers them.

    Args:
        model: the model, before it is sharded and before a trainer changes its settings.
        adapters: configuration of its LoRA adapters, if it has any.
        device: device on which the copy is measured.
        is_rank_0: whether this process is rank 0.
    """

    def __init__(self, model: nn.Module, adapters: "PeftConfig | None", *, device: str, is_rank_0: bool) -> None:
        self.module = _copied(model, adapters) if is_rank_0 else None
        """The copy; None on the other ranks."""
        self._device = device

    def gather(self, sharded: nn.Module) -> None:
        """Copy the trained weights of all shards. All ranks must call this."""
        weights = get_model_state_dict(sharded, options=_TO_RANK_0)
        if self.module is not None:
            found = self.module.load_state_dict(weights, strict=False)  # frozen weights are missing
            assert not found.unexpected_keys, found.unexpected_keys

    def on_epoch_end(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        model: nn.Module | None = None,
        **_: Any,
    ) -> None:
        """Gather the weights on every rank."""
        assert model is not None
        if state.global_step < state.max_steps:
            self.gather(model)

    @contextmanager
    def measured(self) -> Iterator[LanguageModel]:
        """Yield the copy on the device; it is in main memory again afterwards."""
        try:
            yield self.on_device()
        finally:
            cast(nn.Module, self.module).to("cpu")

    def on_device(self) -> LanguageModel:
        """Move the copy to the device, and return it."""
        assert self.module is not None
        return cast(LanguageModel, self.module.to(self._device))


def _copied(model: nn.Module, adapters: "PeftConfig | None") -> nn.Module:
    copy: nn.Module = deepcopy(model).to("cpu")
    if adapters is None:
        return copy
    from peft import get_peft_model

    with torch.random.fork_rng(devices=[]):  # the initial adapters, which `gather` overwrites, are random
        return cast(nn.Module, get_peft_model(cast(Any, copy), deepcopy(adapters)))


def gathered_optimizer_state(sharded: nn.Module, optimizer: Any) -> dict[str, Any]:
    """Return the optimizer state of all shards, by parameter names, on rank 0; all ranks must call this."""
    state: Any = get_optimizer_state_dict(sharded, _torch_optimizer(optimizer), options=_TO_RANK_0)
    return dict(state)


def load_sharded_weights(sharded: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Distribute the weights of rank 0 over the shards; all ranks must call this."""
    buffers = fsdp2_canonicalize_names(dict(sharded.named_buffers()))
    parameters: dict[str, Any] = {name: tensor for name, tensor in weights.items() if name not in buffers}
    found = set_model_state_dict(sharded, parameters, options=_FROM_RANK_0)
    assert not found.unexpected_keys, found.unexpected_keys
    with torch.no_grad():
        for name, buffer in buffers.items():
            buffer.copy_(weights[name])


def load_sharded_optimizer_state(sharded: nn.Module, optimizer: Any, state: dict[str, Any]) -> None:
    """Distribute the optimizer state of rank 0 over the shards; all ranks must call this."""
    set_optimizer_state_dict(sharded, _torch_optimizer(optimizer), state, options=_FROM_RANK_0)


def _torch_optimizer(optimizer: Any) -> Optimizer:
    """Return the optimizer inside accelerate's wrapper."""
    return cast(Optimizer, getattr(optimizer, "optimizer", optimizer))
