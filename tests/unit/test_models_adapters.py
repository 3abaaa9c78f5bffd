"""Adapters as models: merged into their base model like PEFT's own output, and messages for adapters without a base."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from neftune_cli.errors import UsageError
from neftune_cli.models.loading import load_model
from neftune_cli.models.sources import ModelSource, find_model
from tests.tiny_architectures import architecture

IDS = torch.tensor([[3, 4, 5, 6]])


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return architecture("llama").save(tmp_path)


def adapter(base: Path, directory: Path, *, named: str | None = None, **settings: Any) -> Path:
    """Save an adapter with random weights, as PEFT does after training."""
    torch.manual_seed(1)
    config = LoraConfig(**{"target_modules": "all-linear", "r": 2, "init_lora_weights": False, **settings})
    model: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    model.peft_config["default"].base_model_name_or_path = named or str(base)
    model.save_pretrained(directory)
    return directory


def edit(directory: Path, **changes: object) -> None:
    path = directory / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits  # type: ignore[no-any-return]


def error_message(directory: Path) -> str:
    with pytest.raises(UsageError) as error:
        load_model(find_model(str(directory)))
    return str(error.value)


@pytest.mark.parametrize(
    "settings",
    [{}, {"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"target_modules": ["q_proj"], "r": 4}],
    ids=["LoRA", "DoRA", "with a saved head", "one kind of layer"],
)
def test_an_adapter_is_merged_into_its_base_model(base: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    directory = adapter(base, tmp_path / "adapter", **settings)
    loaded = load_model(find_model(str(directory)))
    reference = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), directory)
    torch.testing.assert_close(logits(loaded.model), logits(reference), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(logits(loaded.model), logits(AutoModelForCausalLM.from_pretrained(base)), atol=1e-3)
    assert type(loaded.model).__name__ == "LlamaForCausalLM"
    assert all(weight.requires_grad for weight in loaded.model.parameters())
    assert not any("lora" in name for name in loaded.model.state_dict())
    assert loaded.notes == (f"The adapter '{directory}' was merged into its base model, '{base}'.",)


def test_the_base_model_may_be_named_relative_to_the_adapter(base: Path, tmp_path: Path) -> None:
    source = find_model(str(adapter(base, tmp_path / "adapters" / "one", named="../../llama")))
    assert source.base == ModelSource(str(base), base)
    assert source.of_tokenizer == source.base


def test_the_base_model_may_be_bundled(tmp_path: Path) -> None:
    tiny = find_model("tiny")
    source = find_model(str(adapter(tiny.path, tmp_path / "adapter", named="tiny")))
    assert source.base == tiny


def test_an_adapter_of_an_adapter(base: Path, tmp_path: Path) -> None:
    first = adapter(base, tmp_path / "first")
    merged: Any = load_model(find_model(str(first))).model
    torch.manual_seed(2)
    second: Any = get_peft_model(merged, LoraConfig(target_modules=["v_proj"], r=1, init_lora_weights=False))
    second.save_pretrained(tmp_path / "second")
    source = find_model(str(tmp_path / "second"))
    assert source.base == find_model(str(first))
    torch.testing.assert_close(logits(load_model(source).model), logits(second), rtol=1e-4, atol=1e-5)


def test_a_tokenizer_beside_the_adapter_is_used(base: Path, tmp_path: Path) -> None:
    directory = adapter(base, tmp_path / "adapter")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / name, directory / name)
    (directory / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}<|end|>{% endfor %}")
    loaded = load_model(find_model(str(directory)))
    assert loaded.tokenizer.chat_template.startswith("{% for m in messages %}")


def test_the_fingerprint_depends_on_weights_and_base_but_not_on_paths(base: Path, tmp_path: Path) -> None:
    def fingerprint() -> str:
        return find_model(str(directory)).fingerprint

    directory = adapter(base, tmp_path / "adapter")
    first = fingerprint()
    edit(directory, base_model_name_or_path="../llama")
    assert fingerprint() == first
    weights = load_file(directory / "adapter_model.safetensors")
    save_file({name: 2 * weight for name, weight in weights.items()}, directory / "adapter_model.safetensors")
    assert len({first, second := fingerprint()}) == 2
    edit(directory, lora_alpha=1)
    assert len({first, second, third := fingerprint()}) == 3
    (base / "generation_config.json").write_text("{}")
    assert fingerprint() not in {first, second, third}


def test_a_missing_base_model(base: Path, tmp_path: Path) -> None:
    directory = adapter(base, tmp_path / "adapter", named="/no/such/model")
    assert error_message(directory) == (
        f"The base model '/no/such/model' of the adapter in {directory} cannot be used. Set base_model_name_or_path in "
        f"{directory}/adapter_config.json to the directory or hub id of the base model.\n"
        "There is no model directory '/no/such/model'. Use tiny, smollm2, a hub id such as "
        "HuggingFaceTB/SmolLM2-135M, or a model directory."
    )


def test_a_quantized_base_model_is_named_as_the_cause(base: Path, tmp_path: Path) -> None:
    directory = adapter(base, tmp_path / "adapter")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "awq"}}))
    assert f"The weights in {base} are quantized (awq)." in error_message(directory)


def test_an_adapter_of_another_model(base: Path, tmp_path: Path) -> None:
    directory = adapter(base, tmp_path / "adapter", named=str(architecture("gpt_neox").save(tmp_path)))
    text = error_message(directory)
    assert text.startswith(f"The adapter '{directory}' cannot be merged into '{tmp_path / 'gpt_neox'}': ")
    assert text.endswith("Set base_model_name_or_path in its adapter_config.json to the model that it was trained on.")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_model_name_or_path": None}, "adapter_config.json does not name a base model."),
        ({"peft_type": "PREFIX_TUNING"}, "PREFIX_TUNING, cannot be merged into a model. Use a LoRA adapter."),
        ({"task_type": "SEQ_CLS"}, "is for the task SEQ_CLS, not for a language model."),
    ],
)
def test_an_adapter_that_cannot_be_merged(base: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    directory = adapter(base, tmp_path / "adapter")
    edit(directory, **changes)
    assert message in error_message(directory)


def test_an_adapter_that_names_itself(base: Path, tmp_path: Path) -> None:
    directory = adapter(base, tmp_path / "adapter", named=str(tmp_path / "adapter"))
    assert "names itself as its base model." in error_message(directory)


def test_adapters_that_name_each_other(base: Path, tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    for directory, named in ((first, second), (second, third), (third, second)):
        adapter(base, directory, named=str(named))
    assert f"The adapter in {third} names {second} as its base model, an adapter of it. Set base_model_name" in (
        error_message(first)
    )


def test_an_adapter_without_readable_files(base: Path, tmp_path: Path) -> None:
    directory = adapter(base, tmp_path / "adapter")
    (directory / "adapter_model.safetensors").rename(directory / "adapter_model.bin")
    assert "no adapter_model.safetensors, only adapter_model.bin, which can run code." in error_message(directory)
    (directory / "adapter_config.json").write_text("{")
    assert error_message(directory) == (
        f"{directory}/adapter_config.json is not a JSON object. Copy or download it again."
    )


def test_an_adapter_is_not_merged_into_weights_of_4_bits(base: Path, tmp_path: Path) -> None:
    directory = adapter(base, tmp_path / "adapter")
    with pytest.raises(UsageError, match="is an adapter, which cannot be merged into weights of 4 bits"):
        load_model(find_model(str(directory)), load_in_4bit=True)
