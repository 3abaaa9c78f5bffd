"""Configuration files for fully sharded data parallelism, as accelerate writes them."""

from pathlib import Path
from typing import Any

from accelerate.commands.config.config_args import ClusterConfig
from accelerate.utils import ComputeEnvironment, DistributedType

FSDP = {
    "fsdp_version": 2,
    "fsdp_reshard_after_forward": True,
    "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
    "fsdp_offload_params": False,
    "fsdp_state_dict_type": "SHARDED_STATE_DICT",
    "fsdp_cpu_ram_efficient_loading": True,
    "fsdp_activation_checkpointing": False,
}


def written(path: Path, fsdp: dict[str, Any] | None = None, **values: Any) -> Path:
    """Let accelerate write a configuration file of two processes."""
    config: dict[str, Any] = {
        "compute_environment": ComputeEnvironment.LOCAL_MACHINE,
        "distributed_type": DistributedType.FSDP,
        "mixed_precision": "no",
        "use_cpu": False,
        "debug": False,
        "num_processes": 2,
        "fsdp_config": FSDP | (fsdp or {}),
    }
    ClusterConfig(**(config | values)).to_yaml_file(path / "config.yaml")
    return path / "config.yaml"
