"""SFTConfig fields of a recipe: types of their numbers, and messages for values that do not fit."""

import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
from transformers import trainer_optimizer
from transformers.training_args import OptimizerNames
from trl.trainer.sft_config import SFTConfig

from neftune_cli.config.choices import SFT_DEFAULTS
from neftune_cli.config.field_problems import _WITHOUT_EFFECT
from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.config.run_settings import TrialSettings
from neftune_cli.config.spec import TrainSpec
from neftune_cli.errors import Problem, UsageError
from neftune_cli.sweeps.inspection import Inspection
from neftune_cli.training import recipe_check
from neftune_cli.training.recipe_check import check_recipe
from neftune_cli.training.sft_trainer import _batch_values, _fixed_values, sft_config
from neftune_cli.training.trial import halved_batch

RECIPE: dict[str, Any] = {"epochs": 1, "learning_rate": 1e-3, "batch_size": 4, "max_length": 8}


def test_the_defaults_of_a_paper_are_those_of_the_trainer(tmp_path: Path) -> None:
    used = sft_config(TrainSpec(**RECIPE), seed=0, device="cpu", work=tmp_path)
    assert {name: getattr(used, name) for name in SFT_DEFAULTS} == SFT_DEFAULTS


def test_settings_of_lora_that_are_fixed_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"no field 'lora_alpha'. Remove it. Only --lora-rank can be set: LoRA has a l"
    ):
        check_recipe(TrainSpec(**RECIPE, lora_rank=2, sft={"lora_alpha": 32}))


@pytest.mark.parametrize(
    ("name", "given", "used"),
    [
        ("weight_decay", 1, 1.0),
        ("max_grad_norm", 1, 1.0),
        ("warmup_steps", 2, 2.0),
        ("gradient_accumulation_steps", 2.0, 2),
        ("dataloader_num_workers", 0.0, 0),
        ("router_aux_loss_coef", 1, 1.0),
    ],
)
def test_a_number_gets_the_type_of_its_field(tmp_path: Path, name: str, given: float, used: float) -> None:
    train = TrainSpec(**RECIPE, sft={name: given})
    check_recipe(train)
    value = getattr(sft_config(train, seed=0, device="cpu", work=tmp_path), name)
    assert value == used
    assert type(value) is type(used)


def test_accumulation_steps_with_a_point_count_as_a_whole_number() -> None:
    accumulated = halved_batch(TrainSpec(**RECIPE, sft={"gradient_accumulation_steps": 3.0}), halvings=1, processes=1)
    assert accumulated == (2, 6)
    assert all(type(number) is int for number in accumulated)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"gradient_accumulation_steps": 2.5}, "must be a whole number, not 2.5."),
        ({"weight_decay": "much"}, "must be a number, not 'much'."),
        ({"weight_decay": True}, "must be a number, not True."),
        ({"packing": 1}, "must be true or false, not 1."),
        ({"gradient_accumulation_steps": 0}, "must be 1 or larger, not 0."),
        ({"gradient_accumulation_steps": -1}, "must be 1 or larger, not -1."),
        ({"gradient_accumulation_steps": None}, "must be a whole number, not None."),
        ({"ddp_bucket_cap_mb": "large"}, "must be a whole number, not 'large'."),
        ({"router_aux_loss_coef": "small"}, "must be a number, not 'small'."),
        ({"activation_checkpointing": "no"}, "must be true or false, not 'no'."),
        ({"label_smoothing_factor": -0.1}, "must be 0 or larger, not -0.1."),
    ],
)
def test_a_value_of_another_type_is_reported(field: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_recipe(TrainSpec(**RECIPE, sft=field))
    (problem,) = caught.value.problems
    (name,) = field
    assert (problem.what, problem.field) == (f"the SFTConfig field {name!r} {message}", ("train", name))


@pytest.mark.parametrize("steps", [None, "abc", 0, -1])
def test_a_wrong_number_of_accumulation_steps_is_reported_once_with_several_processes(steps: Any) -> None:
    spec = resolve_sweep(None, {"train": {"gradient_accumulation_steps": steps}})
    problem = Problem("the SFTConfig field 'gradient_accumulation_steps' is wrong.", "Change the value.")
    found = Inspection(spec, (), (problem,), "cpu", 0, "", {}, {}, None, None)
    assert found.for_processes(TrialSettings(processes=2), cores=2).problems == (problem,)


def test_only_the_rejected_field_of_several_is_reported() -> None:
    with pytest.raises(UsageError) as caught:
        check_recipe(TrainSpec(**RECIPE, sft={"weight_decay": 0.1, "lr_scheduler_type": "sideways"}))
    (problem,) = caught.value.problems
    assert problem.what.startswith("the trainer rejects lr_scheduler_type=sideways: ")
    assert problem.field == ("train", "lr_scheduler_type")


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"dataloader_persistent_workers": True}, "persistent_workers option needs num_workers > 0"),
        ({"dataloader_num_workers": -1}, "num_workers option should be non-negative"),
        ({"adam_beta1": 2.0}, "Invalid beta parameter at index 0"),
        ({"optim": "adamw_8bit"}, "You need to install `bitsandbytes`"),
        ({"use_liger_kernel": True}, "needs the package liger-kernel"),
        ({"pad_to_multiple_of": -3}, "must be 1 or larger"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "One of min_lr or min_lr_rate should be set"),
        ({"lr_scheduler_type": "warmup_stable_decay"}, "num_decay_steps"),
        ({"lr_scheduler_kwargs": {"unknown": 1}}, "unexpected keyword argument 'unknown'"),
        ({"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"power": "two"}}, "rejects lr_scheduler_type="),
        (
            {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"lr_end": 1.0}},
            "must be smaller than initial lr",
        ),
        ({"optim_args": "betas=(0.9,0.99)"}, "must be key=value, or key=value,key=value"),
        ({"optim_args": "nesterov"}, "must be key=value, or key=value,key=value"),
        ({"parallelism_config": {"tp_size": 2}}, "cannot be set"),
        ({"optim": "sgd", "optim_args": "momentum=much"}, "could not convert string to float"),
        ({"optim": "adamw_torch", "optim_args": "momentum=0.9"}, "these arguments, or has these values without them"),
        ({"accelerator_config": {"gradient_accumulation_kwargs": {"unknown": 1}}}, "unexpected keyword argument"),
        ({"torch_compile_backend": "unknown"}, "is not a valid DynamoBackend"),
        ({"dataloader_multiprocessing_context": "spawn"}, "multiprocessing_context can only be used with"),
        ({"dataloader_in_order": False}, "cannot be set"),
    ],
)
def test_a_field_with_which_every_trial_would_fail_is_reported(
    field: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe_check, "find_spec", lambda _: None)
    monkeypatch.setattr(trainer_optimizer, "is_bitsandbytes_available", lambda: False)
    with pytest.raises(UsageError) as caught:
        check_recipe(TrainSpec(**RECIPE, sft={"weight_decay": 0.1, **field}))
    (problem,) = caught.value.problems
    assert message in problem.what
    assert problem.field == ("train", next(iter(field)))


@pytest.mark.parametrize(
    "settings",
    [
        {"lr_scheduler_kwargs": {"min_lr_rate": 0.1}, "lr_scheduler_type": "cosine_with_min_lr"},
        {
            "lr_scheduler_type": "warmup_stable_decay",
            "lr_scheduler_kwargs": {"num_decay_steps": 2},
            "warmup_steps": 0.1,
        },
        {"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 3, "lr_scheduler_kwargs": None},
        {"optim": "sgd", "optim_args": "momentum=0.9, nesterov=true"},
    ],
)
def test_settings_that_belong_together_are_accepted(settings: dict[str, Any]) -> None:
    check_recipe(TrainSpec(**RECIPE, sft=settings))


@pytest.mark.parametrize("text", ["accelerate.json", '{"gradient_accumulation_kwargs": {"num_steps": 4}}'])
@pytest.mark.parametrize(
    "name", ["accelerator_config", "lr_scheduler_kwargs", "gradient_checkpointing_kwargs", "liger_kernel_config"]
)
def test_a_mapping_is_not_read_from_a_text_or_a_file(name: str, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_recipe(TrainSpec(**RECIPE, sft={name: text}))
    (problem,) = caught.value.problems
    assert problem.what == f"the SFTConfig field {name!r} must be a mapping of fields, not {text!r}."


def test_the_reaction_to_a_signal_cannot_be_replaced() -> None:
    with pytest.raises(UsageError, match="'enable_jit_checkpoint' cannot be set"):
        check_recipe(TrainSpec(**RECIPE, sft={"enable_jit_checkpoint": True}))


@pytest.mark.parametrize("optimizer", [name.value for name in OptimizerNames])
def test_an_optimizer_is_accepted_unless_its_package_is_missing(optimizer: str) -> None:
    try:
        check_recipe(TrainSpec(**RECIPE, sft={"optim": optimizer, "optim_target_modules": "all-linear"}))
    except UsageError as error:
        assert re.search("install|not available|required|requires", str(error))  # noqa: PT017
        assert not optimizer.startswith(("adamw_torch_fused", "sgd", "adafactor"))


def test_every_field_without_effect_is_one_that_could_be_given() -> None:
    known = {field.name: field for field in fields(SFTConfig) if field.init}
    for name in _WITHOUT_EFFECT:
        default = known[name].default
        check_recipe(TrainSpec(**RECIPE, sft={name: [] if default is MISSING else default}))


def test_no_field_that_neftune_sets_can_be_given() -> None:
    train = TrainSpec(**RECIPE)
    fixed = {**_fixed_values(train, seed=0, device="cpu"), **_batch_values(train, 0, processes=2, device="cpu")}

    for name in fixed.keys() - TrainSpec.model_fields.keys() - {"gradient_accumulation_steps"}:
        with pytest.raises(UsageError, match=r"is set by neftune|cannot be set"):
            check_recipe(TrainSpec(**RECIPE, sft={name: 1}))
