"""Defaults that depend on the model: the recipe for the embedded `tiny`, and one for every other model."""

from typing import Any

TINY = "tiny"

_TINY_RECIPE: dict[str, Any] = {"epochs": 3, "learning_rate": 1e-3, "batch_size": 16, "max_length": 256}
_RECIPE: dict[str, Any] = {"epochs": 3, "learning_rate": 2e-5, "batch_size": 8, "max_length": 512}
_LORA_LEARNING_RATE = 2e-4

DEFAULT_ALPHAS = (0.0, 5.0, 10.0, 15.0)
DEFAULT_SEEDS = (0, 1, 2)


def default_recipe(model: str, *, lora: bool) -> dict[str, Any]:
    """Return the training recipe of a model that nobody gave another one.

    `tiny` has its own, calibrated without noise. Others get TRL's learning rate for full fine-tuning (2e-5), and ten
    times as much for LoRA, as TRL's documentation advises.
    """
    if model == TINY:
        return dict(_TINY_RECIPE)
    return {**_RECIPE, "learning_rate": _LORA_LEARNING_RATE} if lora else dict(_RECIPE)
