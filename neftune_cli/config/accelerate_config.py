"""Configuration files of accelerate for fully sharded data parallelism (FSDP): the keys that neftune reads."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from neftune_cli.config.experiment_file import KeyFaultError, UniqueKeyLoader
from neftune_cli.config.run_settings import ACCELERATE_CONFIG, Sharding
from neftune_cli.config.spec import SweepSpec
from neftune_cli.errors import Problem, UsageError, did_you_mean


def read_accelerate_config(path: Path) -> Sharding:
    """Return the sharding in a configuration file of accelerate, as `accelerate config` writes it.

    Raises:
        UsageError: the file cannot be read, or one problem for each value that cannot be used.
    """
    values = _mapping(path)
    where = f"{ACCELERATE_CONFIG} {path}:"
    if problems := [*_problems(where, values)]:
        raise UsageError(*problems)
    fsdp = values["fsdp_config"]
    given = {key.field: fsdp.get(_PREFIX + name) for name, key in _FSDP_KEYS.items() if key.field}
    return Sharding(
        processes=values["num_processes"],
        mixed_precision=values.get("mixed_precision"),
        fsdp={name: value for name, value in given.items() if value is not None},
    )


def sharding_problems(spec: SweepSpec, sharding: Sharding, automatic_precision: str) -> Iterator[Problem]:
    """Yield the settings of a sweep that contradict a configuration file of accelerate.

    Args:
        spec: the sweep.
        sharding: the sharding in the file.
        automatic_precision: precision that `auto` chooses on this hardware.
    """
    given = sharding.mixed_precision
    if spec.load_in_4bit:
        what = f"{ACCELERATE_CONFIG} cannot be used with --load-in-4bit."
        yield Problem(what, f"Use --nproc {sharding.processes} instead.")
    for recipe in [spec.recipe_of(arm) for arm in spec.arms]:
        if recipe.sft.get("fp16"):
            yield Problem(f"{ACCELERATE_CONFIG} cannot be used with fp16 in the recipe.", "Use --precision bfloat16.")
        if "accelerator_config" in recipe.sft:
            what = f"{ACCELERATE_CONFIG} cannot be used with accelerator_config in the recipe."
            yield Problem(what, "Remove one of them.")
        precision = automatic_precision if recipe.precision == "auto" else recipe.precision
        if given is not None and _PRECISIONS[given] != precision:
            what = f"{ACCELERATE_CONFIG}: mixed_precision is {given}, but the recipe trains in {precision}."
            yield Problem(what, f"Use --precision {_PRECISIONS[given]}, or remove mixed_precision from the file.")


def _mapping(path: Path) -> dict[str, Any]:
    try:
        values = yaml.load(path.read_text("utf-8"), Loader=UniqueKeyLoader)
    except KeyFaultError as error:
        raise UsageError(Problem(f"{ACCELERATE_CONFIG} {path}: {error}.", error.fix)) from None
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: not UTF-8, or a date that does not exist
        reason = error.strerror if isinstance(error, OSError) else "it is not YAML"
        raise UsageError(Problem(f"{ACCELERATE_CONFIG} {path} cannot be read: {reason}.", _CREATE)) from error
    if not isinstance(values, dict):
        raise UsageError(Problem(f"{ACCELERATE_CONFIG} {path} has no keys.", _CREATE))
    written = {name: value for name, value in values.items() if value is not None}
    return {**written, "mixed_precision": "no"} if written.get("mixed_precision") is False else written


def _problems(where: str, values: Mapping[str, Any]) -> Iterator[Problem]:
    if values.get("distributed_type") != "FSDP":
        what = f"{where} distributed_type is {values.get('distributed_type')}, not FSDP."
        yield Problem(what, "Use --nproc N for several processes without sharding.")
        return
    known = {*_ALLOWED_VALUES, *_WITHOUT_EFFECT, *_READ}
    for name, value in values.items():
        if value not in _ALLOWED_VALUES.get(name, (value,)):
            yield Problem(f"{where} {name} is {value}.", f"Use {name}: {_ALLOWED_VALUES[name][0]}.")
        elif name not in known and value:
            yield Problem(f"{where} {name} cannot be used.", did_you_mean(str(name), known) or "Remove it.")
    processes = values.get("num_processes")
    if not _is_whole(processes) or processes < 2:  # type: ignore[operator]
        yield Problem(f"{where} num_processes is {processes}.", "Use a whole number, 2 or larger.")
    if (precision := values.get("mixed_precision", "no")) not in tuple(_PRECISIONS):  # it may be a list
        yield Problem(f"{where} mixed_precision is {precision}.", f"Use {' or '.join(_PRECISIONS)}.")
    yield from _fsdp_problems(where, values.get("fsdp_config"))


def _fsdp_problems(where: str, values: Any) -> Iterator[Problem]:
    if not isinstance(values, dict):
        found = "is missing" if values is None else f"must be a mapping of fields, not {values}"
        yield Problem(f"{where} fsdp_config {found}.", _CREATE)
    elif (version := values.get(f"{_PREFIX}version", 1)) != 2:
        fix = "Convert it with `accelerate to-fsdp2 --config_file FILE --output_file NEW`."
        yield Problem(f"{where} {_PREFIX}version is {version}; it must be 2.", fix)
    else:
        known = {_PREFIX + name: key for name, key in _FSDP_KEYS.items()}
        for name, value in values.items():
            if name not in known:
                yield Problem(f"{where} {name} cannot be used.", did_you_mean(str(name), known) or "Remove it.")
            elif value is not None and not known[name].is_valid(value):
                yield Problem(f"{where} {name} is {value}.", f"Use {known[name].expected}.")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_CREATE = "Run `accelerate config --config_file FILE`, choose FSDP, and use the new file."
_PREFIX = "fsdp_"
_PRECISIONS = {"no": "float32", "bf16": "bfloat16"}
"""The precision of a recipe for each value of `mixed_precision`."""
_POLICIES = ("TRANSFORMER_BASED_WRAP", "NO_WRAP")

_READ = frozenset({"fsdp_config", "mixed_precision", "num_processes"})
_ALLOWED_VALUES: Mapping[str, tuple[Any, ...]] = {
    "compute_environment": ("LOCAL_MACHINE",),
    "debug": (False,),
    "distributed_type": ("FSDP",),
    "downcast_bf16": ("no", False),
    "enable_cpu_affinity": (False,),
    "gpu_ids": ("all",),
    "machine_rank": (0,),
    "num_machines": (1,),
    "use_cpu": (False,),
}
"""Keys whose value must be one of these, if the file has them: the processes of a trial use the GPUs of one machine."""
_WITHOUT_EFFECT = frozenset(
    "main_training_function rdzv_backend same_network tpu_env tpu_use_cluster tpu_use_sudo".split()
)
"""Keys that `accelerate config` always writes, and that have no meaning on one machine without TPUs."""


class _Key(NamedTuple):
    """One key of `fsdp_config`, without its prefix."""

    field: str
    """Its name in `SFTConfig.fsdp_config`; empty if the value is only checked."""
    is_valid: Callable[[Any], bool]
    expected: str


def _flag(field: str) -> _Key:
    return _Key(field, lambda value: isinstance(value, bool), "true or false")


_FSDP_KEYS: Mapping[str, _Key] = {
    # accelerate's own wrapper does not restore the random state, so dropout would differ in the recomputation
    "activation_checkpointing": _Key("", lambda value: value is False, "false, and --set gradient_checkpointing=true"),
    "auto_wrap_policy": _Key("auto_wrap_policy", lambda value: value in _POLICIES, " or ".join(_POLICIES)),
    "cpu_ram_efficient_loading": _flag("cpu_ram_efficient_loading"),
    # gradients in main memory cannot be clipped with the communication of GPUs alone
    "offload_params": _Key("", lambda value: value is False, "false"),
    "reshard_after_forward": _flag("reshard_after_forward"),
    # the checkpoints of neftune hold whole weights
    "state_dict_type": _Key("", lambda value: isinstance(value, str), "SHARDED_STATE_DICT"),
    "transformer_layer_cls_to_wrap": _Key(
        "transformer_layer_cls_to_wrap", lambda value: isinstance(value, str), "the name of a class"
    ),
    "version": _Key("", _is_whole, "2"),
}
