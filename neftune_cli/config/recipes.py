"""Default training recipes."""

from typing import Any

from neftune_cli.config.spec import BUNDLED_MODEL

_TINY_RECIPE: dict[str, Any] = {
    "epochs": 3,
    "learning_rate": 1e-3,
    "batch_size": 16,
    "max_length": 256,
    "precision": "float32",
}
_RECIPE: dict[str, Any] = {"epochs": 3, "learning_rate": 2e-5, "batch_size": 8, "max_length": 512}
_LORA_LEARNING_RATE = 2e-4


def default_recipe(model: str, *, lora: bool) -> dict[str, Any]:
    """Return the default training recipe of a model.

    The recipe of `tiny` was tuned without noise. It computes in float32, so that its numbers are the same on all
    processors, apart from rounding. Other models get TRL's learning rate for full fine-tuning (2e-5), and
    ten times that for LoRA, as TRL's documentation recommends.
    """
    if model == BUNDLED_MODEL:
        return dict(_TINY_RECIPE)
    return {**_RECIPE, "learning_rate": _LORA_LEARNING_RATE} if lora else dict(_RECIPE)
