"""Check before training: architectures that PEFT, TRL or padded batches fail on, and a model left as it was."""

import copy
import math
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
from peft import get_peft_model
from pydantic import JsonValue
from torch import Tensor, nn

from neftune_cli.config.spec import TrainSpec
from neftune_cli.errors import UsageError
from neftune_cli.models.loading import LoadedModel, load_model
from neftune_cli.models.sources import find_model
from neftune_cli.training.learning_curve import LearningCurveCallback
from neftune_cli.training.lora import frozen_experts_notes, lora_config
from neftune_cli.training.mixture_of_experts import router_loss_problems, router_loss_weight, without_router_loss
from neftune_cli.training.sft_trainer import build_trainer, sft_config
from neftune_cli.training.trainability import check_trainable
from tests.tiny_architectures import EXAMPLES, HEADS, TOKENS, VISION, Architecture, architecture

ANOTHER = "Use a model of another architecture, such as Llama, Qwen or GPT-2."


def loaded(name: str, folder: Path) -> LoadedModel:
    return load_model(find_model(str(architecture(name).save(folder))))


def message(model: LoadedModel, lora_rank: int | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        check_trainable(model, "mine", lora_rank)
    return str(caught.value)


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("name", ["llama_tied", "gpt2", "mixtral", "phimoe", "gemma2"])
def test_a_checked_model_is_unchanged(name: str, rank: int | None, tmp_path: Path) -> None:
    model = loaded(name, tmp_path)
    weights = {key: weight.clone() for key, weight in model.model.state_dict().items()}
    config, modules = model.model.config.to_dict(), [str(module) for module in model.model.modules()]
    draw = torch.get_rng_state()
    check_trainable(model, "mine", rank)
    assert torch.equal(torch.get_rng_state(), draw)
    assert model.model.config.to_dict() == config
    assert [str(module) for module in model.model.modules()] == modules
    assert all(torch.equal(weights[key], weight) for key, weight in model.model.state_dict().items())
    assert all(weight.requires_grad and weight.grad is None for weight in model.model.parameters())
    copy.deepcopy(model)


def test_lora_on_state_spaces_is_refused(tmp_path: Path) -> None:
    model = loaded("mamba", tmp_path)
    modules = [type(module) for module in model.model.modules()]
    assert message(model, lora_rank=2) == (
        "'mine' (mamba) cannot be trained with LoRA adapters: Module 'out_proj' is incompatible with Mamba-based "
        "models (model_type='mamba'). Leave out --lora-rank to train all weights, or pass another model."
    )
    assert [type(module) for module in model.model.modules()] == modules
    check_trainable(model, "mine", None)


def test_an_architecture_that_trl_cannot_train_is_refused(tmp_path: Path) -> None:
    text = message(loaded("llama4_text", tmp_path))
    assert text.startswith("'mine' (llama4_text) cannot be trained: TRL's trainer fails for its architecture: ")
    assert text.endswith(ANOTHER)


def test_a_limit_of_the_logits_that_trl_does_not_know_is_found_even_if_they_are_small(tmp_path: Path) -> None:
    model = loaded("llama", tmp_path)
    forward = model.model.forward

    def limited(_: nn.Module, *arguments: Any, **named: Any) -> Any:
        output = forward(*arguments, **named)
        output.logits = 30 * torch.tanh(output.logits / 30)
        return output

    model.model.forward = MethodType(limited, model.model)
    assert message(model).startswith("'mine' (llama) cannot be trained: TRL's loss differs from the model's loss by ")


def test_a_model_that_ignores_the_attention_mask_is_refused(tmp_path: Path) -> None:
    assert message(loaded("rwkv", tmp_path)) == (
        "'mine' (rwkv) cannot be measured: it ignores the attention mask, so padding would change its responses. "
        + ANOTHER
    )


@pytest.mark.parametrize(
    "refused",
    [
        Architecture("git", {**HEADS, "vision_config": VISION}),  # ignores the mask after the first generated token
        Architecture("xlm", {**TOKENS, "emb_dim": 32, "n_layers": 2, "n_heads": 4, "causal": True}),  # NaN
    ],
    ids=str,
)
def test_an_effect_of_padding_after_the_first_token_or_that_is_not_a_number_is_refused(
    refused: Architecture, tmp_path: Path
) -> None:
    model = load_model(find_model(str(refused.save(tmp_path))))
    assert message(model).endswith("so padding would change its responses. " + ANOTHER)


def test_adapters_leave_out_routers_and_the_head(tmp_path: Path) -> None:
    model: Any = loaded("phimoe", tmp_path).model
    routers = {name for name, module in model.named_modules() if type(module).__name__ == "PhimoeTopKRouter"}
    assert routers
    adapted_model: Any = get_peft_model(model, lora_config(model, 2))
    adapted: set[str] = set(adapted_model.base_model.targeted_module_names)
    assert {name.rpartition(".")[2] for name in adapted} >= {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert not adapted & {*routers, "lm_head"}
    used = adapted_model.peft_config["default"]
    assert (used.lora_alpha, used.lora_dropout) == (2 * used.r, 0)  # as LORA_SETTINGS says


def test_frozen_experts_are_named_with_their_share(tmp_path: Path) -> None:
    model: Any = loaded("mixtral", tmp_path).model
    experts = sum(weight.numel() for name, weight in model.named_parameters() if "experts" in name)
    share = experts / sum(weight.numel() for weight in model.parameters())
    (note,) = frozen_experts_notes(model)
    assert f"The experts, {share:.0%} of the parameters, " in note
    assert list(frozen_experts_notes(loaded("gpt2", tmp_path).model)) == []


def test_a_router_loss_is_accepted_for_a_mixture_of_experts_only(tmp_path: Path) -> None:
    sft: dict[str, dict[str, JsonValue]] = {
        "on": {"router_aux_loss_coef": 0.5},
        "off": {"router_aux_loss_coef": 0.0},
        "unset": {},
    }
    recipes = {
        name: TrainSpec(epochs=1, learning_rate=1e-3, batch_size=2, max_length=32, sft=one) for name, one in sft.items()
    }
    dense, experts = (loaded(name, tmp_path).model for name in ("llama", "mixtral"))
    assert not list(router_loss_problems(experts, "mine", recipes.values()))
    assert not list(router_loss_problems(dense, "mine", [recipes["off"], recipes["unset"]]))
    assert len(list(router_loss_problems(dense, "mine", recipes.values()))) == 1


def test_the_load_balancing_loss_is_not_part_of_the_recorded_loss(tmp_path: Path) -> None:
    model: Any = loaded("gpt_oss", tmp_path).model
    model.config.router_aux_loss_coef = 0.9
    assert router_loss_weight(model.config) == 0.9
    assert math.isclose(without_router_loss(9.0, {"aux_loss": 2.0}, model), 7.2)
    assert without_router_loss(9.0, {}, model) == 9.0


def test_the_loss_of_the_first_step_is_the_cross_entropy_of_the_untrained_model(tmp_path: Path) -> None:
    model = loaded("gpt_oss", tmp_path)
    logged: list[float | None] = []
    curve = LearningCurveCallback(
        measure=lambda *_: [], append=lambda _: None, on_step=lambda point, _: logged.append(point.train_loss)
    )
    setattr(curve, "on_epoch_end", lambda *_, **__: None)  # noqa: B010
    sft = {"bf16": False, "gradient_accumulation_steps": 2, "router_aux_loss_coef": 0.9}
    recipe = TrainSpec(epochs=1, max_steps=1, learning_rate=1e-3, batch_size=2, max_length=32, sft=sft)
    config = sft_config(recipe, seed=0, device="cpu", work=tmp_path / "work")
    expected = cross_entropy(model)
    build_trainer(model.model, model.tokenizer, EXAMPLES, config, train=recipe, callbacks=[curve]).train()
    assert logged == [pytest.approx(expected, abs=1e-4)]


def cross_entropy(model: LoadedModel) -> float:
    total, count = 0.0, 0
    for example in EXAMPLES:
        ids = torch.tensor([example.input_ids])
        with torch.no_grad():
            logits: Tensor = model.model(input_ids=ids).logits[0, :-1]
        labels = torch.tensor(example.labels[1:])
        total += nn.functional.cross_entropy(logits, labels, ignore_index=-100, reduction="sum").item()
        count += int((labels != -100).sum())
    return total / count
