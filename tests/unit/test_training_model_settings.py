"""A trainer leaves nothing on a model but weights: configurations, `forward`, hooks and modes are restored."""

from pathlib import Path
from typing import Any

import pytest
import torch

from neftune_cli.config.spec import TrainSpec
from neftune_cli.evaluation.generation import generate_responses
from neftune_cli.models.language_model import evaluation_mode
from neftune_cli.models.loading import LoadedModel, load_model
from neftune_cli.models.sources import find_model
from neftune_cli.noise.placement import embedding_weight
from neftune_cli.training.model_settings import trainer_settings_undone, unwrapped
from neftune_cli.training.sft_trainer import build_trainer, sft_config
from tests.tiny_architectures import EXAMPLES, architecture


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: architecture(name).save(folder) for name in ("llama", "mixtral", "gemma3", "granitemoe")}


def settings(model: Any) -> dict[str, Any]:
    """Return everything on a model that is not a weight."""
    return {
        "config": model.config.to_dict(),
        "text config": model.config.get_text_config().to_dict(),
        "shared": all(
            module.config is model.config.get_text_config()
            for name, module in model.named_modules()
            if name.endswith(("language_model", "model.layers.0.self_attn")) and hasattr(module, "config")
        ),
        "generation config": model.generation_config.to_dict(),
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "modes": {module.training for module in model.modules()},
        "checkpointing": {getattr(module, "gradient_checkpointing", False) for module in model.modules()},
        "hooks": sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()),
    }


def trained(loaded: LoadedModel, work: Path, *, lora_rank: int | None, **sft: Any) -> Any:
    recipe = TrainSpec(
        epochs=1, max_steps=2, learning_rate=1e-2, batch_size=2, max_length=32, lora_rank=lora_rank, sft=sft
    )
    with trainer_settings_undone(loaded.model):
        config = sft_config(recipe, seed=0, device="cpu", work=work)
        trainer = build_trainer(loaded.model, loaded.tokenizer, EXAMPLES, config, train=recipe, callbacks=[])
        trainer.train()
    model: Any = trainer.model
    return unwrapped(model)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "gradient checkpointing"])
@pytest.mark.parametrize("name", ["llama", "mixtral", "gemma3", "granitemoe"])
def test_full_fine_tuning_changes_weights_only(
    name: str, checkpointing: bool, directories: dict[str, Path], tmp_path: Path
) -> None:
    loaded = load_model(find_model(str(directories[name])))
    before, weight = settings(loaded.model), embedding_weight(loaded.model).detach().clone()
    model = trained(loaded, tmp_path, lora_rank=None, gradient_checkpointing=checkpointing, bf16=True)
    assert settings(model) == before
    assert not torch.equal(weight, embedding_weight(loaded.model))


@pytest.mark.parametrize("name", ["llama", "mixtral"])
def test_lora_leaves_the_settings_of_its_base_model(name: str, directories: dict[str, Path], tmp_path: Path) -> None:
    loaded = load_model(find_model(str(directories[name])))
    before = settings(loaded.model)
    model = trained(loaded, tmp_path, lora_rank=2, gradient_checkpointing=True, bf16=True)
    after = settings(model.get_base_model())
    for part in ("config", "text config", "generation config", "modes", "checkpointing", "hooks"):
        assert after[part] == before[part], part
    assert not {"forward", "_original_forward"} & (set(vars(model)) | set(vars(model.get_base_model())))


def test_the_settings_are_restored_after_a_failure(directories: dict[str, Path]) -> None:
    model: Any = load_model(find_model(str(directories["mixtral"]))).model
    before = settings(model)

    def fail() -> None:
        with trainer_settings_undone(model):
            model.config.output_router_logits = True
            model.forward = None
            model.train()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert settings(model) == before


def test_responses_do_not_depend_on_router_logits_in_the_configuration(directories: dict[str, Path]) -> None:
    loaded = load_model(find_model(str(directories["mixtral"])))
    plain = generate_responses(loaded.model, loaded.tokenizer, EXAMPLES, max_new_tokens=4)
    config: Any = loaded.model.config
    config.output_router_logits = True  # as in checkpoints that TRL saved
    assert generate_responses(loaded.model, loaded.tokenizer, EXAMPLES, max_new_tokens=4) == plain
    with evaluation_mode(loaded.model):
        assert not config.output_router_logits
    assert config.output_router_logits
