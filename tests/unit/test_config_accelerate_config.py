"""Configuration files of accelerate, as accelerate writes them: what is read, and what is refused with a fix."""

from pathlib import Path
from typing import Any

import pytest
from accelerate.utils import DistributedType

from neftune_cli.config.accelerate_config import read_accelerate_config, sharding_problems
from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.errors import UsageError
from tests.accelerate_files import written
from tests.command_line import Neftune


def test_a_file_of_accelerate_is_read(tmp_path: Path) -> None:
    sharding = read_accelerate_config(written(tmp_path))
    assert (sharding.processes, sharding.mixed_precision) == (2, "no")
    assert sharding.fsdp == {
        "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "cpu_ram_efficient_loading": True,
        "reshard_after_forward": True,
    }


def test_the_file_of_this_project_is_read() -> None:
    assert read_accelerate_config(Path(__file__).parents[2] / "experiments/accelerate/fsdp_4gpu.yaml").processes == 4


def test_an_unquoted_no_is_a_precision(tmp_path: Path) -> None:
    text = written(tmp_path).read_text()
    (tmp_path / "config.yaml").write_text(text.replace("mixed_precision: 'no'", "mixed_precision: no"))
    assert read_accelerate_config(tmp_path / "config.yaml").mixed_precision == "no"


def test_an_empty_value_is_no_value(tmp_path: Path) -> None:
    text = written(tmp_path).read_text()
    (tmp_path / "config.yaml").write_text(text.replace("mixed_precision: 'no'", "mixed_precision:\ngpu_ids:"))
    assert read_accelerate_config(tmp_path / "config.yaml").mixed_precision is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"distributed_type": DistributedType.MULTI_GPU}, "distributed_type is MULTI_GPU, not FSDP. Use --nproc N"),
        ({"num_machines": 2}, "num_machines is 2. Use num_machines: 1."),
        ({"num_processes": 1}, "num_processes is 1. Use a whole number, 2 or larger."),
        ({"mixed_precision": "fp16"}, "mixed_precision is fp16. Use no or bf16."),
        ({"mixed_precision": ["bf16"]}, "mixed_precision is ['bf16']. Use no or bf16."),
        ({"dynamo_config": {"dynamo_backend": "INDUCTOR"}}, "dynamo_config cannot be used. Remove it."),
        ({"gpu_ids": "0,1"}, "gpu_ids is 0,1. Use gpu_ids: all."),
        ({"fsdp": {"fsdp_version": 1}}, "fsdp_version is 1; it must be 2. Convert it with `accelerate to-fsdp2"),
        ({"fsdp": {"fsdp_use_orig_params": True}}, "fsdp_use_orig_params cannot be used. Remove it."),
        ({"fsdp": {"fsdp_ofload_params": True}}, "Did you mean 'fsdp_offload_params'?"),
        ({"fsdp": {"fsdp_auto_wrap_policy": "LAYERS"}}, "fsdp_auto_wrap_policy is LAYERS. Use TRANSFORMER_BASED_WRAP"),
        ({"fsdp": {"fsdp_offload_params": True}}, "fsdp_offload_params is True. Use false."),
        ({"fsdp": {"fsdp_activation_checkpointing": True}}, "Use false, and --set gradient_checkpointing=true."),
        ({"fsdp": {"fsdp_reshard_after_forward": "FULL"}}, "fsdp_reshard_after_forward is FULL. Use true or false."),
        ({"fsdp": {"reshard_after_forward": True}}, "Did you mean 'fsdp_reshard_after_forward'?"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_fix(
    tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        read_accelerate_config(written(tmp_path, **values))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1", "has no keys"),
        ("a: [", "it is not YAML"),
        ("debug: 2024-13-45", "it is not YAML"),
        (
            "num_processes: 2\nnum_processes: 4",
            "'num_processes' appears on line 1 and on line 2. Remove one of the two.",
        ),
        ("distributed_type: FSDP\nfsdp_config: 3", "fsdp_config must be a mapping of fields, not 3"),
        ("distributed_type: FSDP", "fsdp_config is missing"),
        (None, "No such"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_accelerate_config(path)


@pytest.mark.parametrize(
    ("fields", "file", "message"),
    [
        ({"load_in_4bit": True}, {}, "cannot be used with --load-in-4bit. Use --nproc 2 instead."),
        ({"train": {"precision": "float32"}}, {"mixed_precision": "bf16"}, "the recipe trains in float32"),
        ({"train": {"precision": "bfloat16"}}, {}, "mixed_precision is no, but the recipe trains in bfloat16"),
        ({"train": {"sft": {"accelerator_config": {}}}}, {}, "cannot be used with accelerator_config in the recipe."),
        ({"train": {"sft": {"fp16": True}}}, {}, "cannot be used with fp16 in the recipe. Use --precision bfloat16."),
    ],
)
def test_a_recipe_that_contradicts_the_file_is_a_problem(
    tmp_path: Path, fields: dict[str, Any], file: dict[str, Any], message: str
) -> None:
    sharding, spec = read_accelerate_config(written(tmp_path, **file)), resolve_sweep(None, fields)
    assert message in " ".join(f"{one.what} {one.fix}" for one in sharding_problems(spec, sharding, "float32"))


def test_a_recipe_that_fits_the_file_has_no_problem(tmp_path: Path) -> None:
    """The default recipe trains in float32, and `mixed_precision: no` says the same."""
    assert not [*sharding_problems(resolve_sweep(None, {}), read_accelerate_config(written(tmp_path)), "bfloat16")]


def test_a_problem_of_all_arms_is_reported_once(neftune: Neftune, tmp_path: Path) -> None:
    file = str(written(tmp_path, mixed_precision="bf16"))
    result = neftune("sweep", "--alphas", "0,5", "--accelerate-config", file, "--output", str(tmp_path / "results"))
    assert (result.code, result.err.count("the recipe trains in float32")) == (2, 1)


def test_all_problems_of_the_options_are_reported(neftune: Neftune, tmp_path: Path) -> None:
    file = str(written(tmp_path))
    result = neftune("sweep", "--accelerate-config", file, "--nproc", "3", "--workers", "2", "--executor", "inline")
    assert (result.code, result.err.count("Error: --")) == (2, 3)
