"""Restoration of what a trainer changes in a model: configurations, checkpointing of activations, hooks, `forward`.

Transformers' Trainer, TRL and accelerate change them for training and leave them changed. A trained model must behave
like the model before training, apart from its weights.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, cast

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from neftune_cli.models.language_model import configurations

WEIGHTS_AND_MODULES = ("_parameters", "_buffers", "_modules")
"""Attributes of a module that hold its weights, and the modules that PEFT replaces."""
ADAPTERS = "peft_config"
"""The attribute by which PEFT marks a model with adapters."""


@contextmanager
def trainer_settings_undone(model: PreTrainedModel) -> Iterator[None]:
    """Restore the settings of a model at the end of the block, in which a trainer is built on the model and trains it.

    A wrapper that PEFT puts around the model is left alone; `unwrapped` removes what accelerate adds to it.
    """
    module = cast(nn.Module, model)
    fields = [(vars(one), _copied(one)) for one in (*configurations(module), model.generation_config) if one]
    try:
        with attributes_restored(module, except_for=(*WEIGHTS_AND_MODULES, ADAPTERS)):
            yield
    finally:
        for current, before in fields:
            current.clear()
            current.update(before)


@contextmanager
def attributes_restored(model: nn.Module, *, except_for: tuple[str, ...] = ()) -> Iterator[None]:
    """Restore the attributes of all modules at the end, with the contents of dictionaries such as hooks."""
    modules = [(vars(one), _attributes(one, except_for)) for one in model.modules()]
    try:
        yield
    finally:
        for current, before in modules:
            for name in current.keys() - before.keys() - set(except_for):
                del current[name]
            for name, (value, content) in before.items():
                current[name] = value
                if content is not None:
                    value.clear()
                    value.update(content)


def unwrapped(model: nn.Module) -> nn.Module:
    """Remove the wrapper that accelerate puts around `forward` of a PEFT model, and return it in evaluation mode."""
    if model.__dict__.pop("_original_forward", None) is not None:
        model.__dict__.pop("forward", None)
    return model.eval()


def _attributes(module: nn.Module, except_for: tuple[str, ...]) -> dict[str, tuple[Any, dict[Any, Any] | None]]:
    """Return each attribute of a module with a copy of its content if it is a dictionary."""
    return {
        name: (value, dict(value) if isinstance(value, dict) else None)
        for name, value in vars(module).items()
        if name not in except_for
    }


def _copied(settings: Any) -> dict[str, Any]:
    """Return the fields of a configuration. Configurations inside it stay the objects that modules refer to."""
    return {
        name: value if isinstance(value, PreTrainedConfig) else deepcopy(value)
        for name, value in vars(settings).items()
    }
