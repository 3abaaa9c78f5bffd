"""LoRA adapters of a model: the layers that get them, and the parameters that they cannot reach."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from peft import LoraConfig

LARGE_SHARE = 0.1
"""Share of parameters out of reach of LoRA from which the user is told."""


def lora_config(model: nn.Module, rank: int) -> "LoraConfig":
    """Return the configuration of adapters on all linear layers but the language modeling head and routers."""
    from peft import LoraConfig

    routers = _routers(model) or None
    # LORA_SETTINGS and the help of --lora-rank state these settings.
    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", exclude_modules=routers)


def name_task_and_base(model: object) -> None:
    """Write the task and the absolute path of a local base model into the configuration of a model's adapters, if any.

    PEFT needs both to load the adapters from another folder.
    """
    for config in getattr(model, "peft_config", {}).values():
        config.task_type = "CAUSAL_LM"
        if (base := Path(config.base_model_name_or_path or "")).is_dir():
            config.base_model_name_or_path = str(base.absolute())


def _routers(model: nn.Module) -> list[str]:
    """Return the names of routers that are linear layers with several outputs: an adapter on them fails in forward."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and type(module).__name__.endswith("Router")
    ]


def frozen_experts_notes(model: nn.Module) -> Iterator[str]:
    """Yield a note if a large share of the parameters belongs to experts that are not stored as linear layers."""
    # The experts of a layer are one tensor: (experts, in, out). Convolutions, also with three dimensions, are small.
    experts = sum(weight.numel() for weight in model.parameters() if weight.dim() == 3)
    share = experts / sum(weight.numel() for weight in model.parameters())
    if share >= LARGE_SHARE:
        yield (
            f"LoRA adapts linear layers. The experts, {share:.0%} of the parameters, are stored in other tensors and "
            "stay frozen."
        )
