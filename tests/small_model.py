"""An untrained model in the size of a test, with the tokenizer of the bundled model.

A training of it takes a quarter of the time. Tests use it unless their promise is about the bundled weights.
"""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from neftune_cli.config.resolve import default_recipe
from neftune_cli.config.spec import BUNDLED_MODEL

_FOLDER = TemporaryDirectory(prefix="neftune-small-model-")
SMALL_MODEL = str(Path(_FOLDER.name) / "small")
"""Its folder, which the fixture `small_model` fills."""
_RECIPE = {field: value for field, value in default_recipe(BUNDLED_MODEL, lora=False).items() if field != "epochs"}
"""Recipe of the bundled model, with the number of epochs that every model has."""
SMALL_MODEL_FIELDS = {"model": SMALL_MODEL, **{f"train.{field}": value for field, value in _RECIPE.items()}}
"""Fields of a spec for the small model and the recipe of the bundled one."""
WITH_SMALL_MODEL = (
    *("--model", SMALL_MODEL),
    *(part for field, value in _RECIPE.items() for part in (f"--{field.replace('_', '-')}", str(value))),
)
"""The same as options."""
_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
}


@pytest.fixture(scope="session", name="small_model")
def small_model_fixture() -> str:
    """Write the model, and return its folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from neftune_cli.models.sources import BUNDLED_MODEL_DIRECTORY

    shutil.copytree(
        BUNDLED_MODEL_DIRECTORY,
        SMALL_MODEL,
        ignore=shutil.ignore_patterns("*.safetensors", "README.md"),
        dirs_exist_ok=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig.from_pretrained(BUNDLED_MODEL_DIRECTORY, **_SIZES))
    model.save_pretrained(SMALL_MODEL)
    return SMALL_MODEL
