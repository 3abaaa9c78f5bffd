"""Check the SFTConfig fields that a recipe sets."""

import math
import re
import warnings
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import Field, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_origin

from neftune_cli.config.choices import LORA_SETTINGS
from neftune_cli.config.field_problems import TRAIN_FIELD_SYNONYMS
from neftune_cli.config.run_settings import LiveTracker
from neftune_cli.config.spec import TrainSpec
from neftune_cli.errors import Problem, UsageError, did_you_mean
from neftune_cli.noise.lengths import WRAPPED_ROWS
from neftune_cli.training.hardware import device_kind
from neftune_cli.training.sft_trainer import sft_config, types_of, with_exact_type

if TYPE_CHECKING:
    from trl.trainer.sft_config import SFTConfig

_REPLACEMENTS = {
    "num_train_epochs": "epochs (--epochs)",
    "per_device_train_batch_size": "batch_size (--batch-size)",
    "seed": "seeds (--seeds)",
    "data_seed": "seeds (--seeds)",
    "bf16": "--precision bfloat16 or float32",
    "neftune_noise_alpha": "arms (--alphas)",
    "output_dir": "--output",
    "fsdp": "--accelerate-config FILE",
    "fsdp_config": "--accelerate-config FILE",
    "report_to": "--track, for example --track tensorboard",
}
"""SFTConfig fields that a field or an option of neftune replaces."""

_RESERVED = frozenset(
    "assistant_only_loss auto_find_batch_size chat_template_path completion_only_loss dataloader_in_order "
    "dataset_kwargs ddp_backend ddp_timeout deepspeed disable_tqdm do_eval enable_jit_checkpoint eos_token "
    "eval_on_start eval_strategy ignore_data_skip load_best_model_at_end logging_first_step logging_nan_inf_filter "
    "logging_steps logging_strategy model_init_kwargs pad_token parallelism_config push_to_hub "
    "restore_callback_states_from_checkpoint resume_from_checkpoint save_strategy trust_remote_code use_cpu".split()
)
"""SFTConfig fields that keep the value of neftune or of TRL: the measurements, the pairing of arms or the reaction to
SIGTERM depend on it."""

_LEAST = {"gradient_accumulation_steps": 1, "label_smoothing_factor": 0, "weight_decay": 0}
"""Smallest values of SFTConfig fields that SFTConfig does not check."""

_OPTIMIZER_FIELDS = frozenset({"optim", "optim_args", "adam_beta1", "adam_beta2", "adam_epsilon"})
"""SFTConfig fields whose values the optimizer checks."""

_ARGUMENTS_OF_OPTIMIZER = frozenset({"optim", "optim_args"})
"""SFTConfig fields that the optimizer checks together."""

_SCHEDULE_FIELDS = frozenset({"lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps"})
"""SFTConfig fields whose values the learning-rate schedule checks."""


def check_recipe(train: TrainSpec) -> None:
    """Check the SFTConfig fields of a recipe: that they exist, may be set, and have valid values.

    Raises:
        UsageError: one problem per field, which names the field but not its file and line.
    """
    if not train.sft:
        return
    problems = [problem for name, value in train.sft.items() for problem in _field_problems(name, value)]
    if not problems and (rejected := _rejection(train)):
        problems = [problem for problem in map(_rejection, _parts(train)) if problem] or [rejected]
    if problems:
        raise UsageError(*problems)


def _parts(train: TrainSpec) -> list[TrainSpec]:
    """Return one recipe for each SFTConfig field, or group of fields that are checked together."""
    parts: dict[Any, dict[str, Any]] = {}
    for name, value in train.sft.items():
        together = next((group for group in (_SCHEDULE_FIELDS, _ARGUMENTS_OF_OPTIMIZER) if name in group), name)
        parts.setdefault(together, {})[name] = value
    return [train.model_copy(update={"sft": sft}) for sft in parts.values()]


def _rejection(train: TrainSpec) -> Problem | None:
    """Return the problem if SFTConfig, or an object that the trainer builds from it, rejects a recipe; else None."""
    try:
        with warnings.catch_warnings(action="ignore"):
            config = sft_config(train, seed=0, device=device_kind(), work=Path("unused"))
            _try_data_loader(config)
            _try_plugins(config)
            if not _OPTIMIZER_FIELDS.isdisjoint(train.sft):
                _try_optimizer(config)
            if not _SCHEDULE_FIELDS.isdisjoint(train.sft):
                _try_schedule(config)
    except Exception as error:  # SFTConfig, and packages that its fields require, raise errors of many types
        given = ", ".join(f"{name}={value}" for name, value in train.sft.items())
        what = f"the trainer rejects {given}: {error}"
        return Problem(what, "Change or remove the field.", ("train", next(iter(train.sft))))
    return None


def _try_data_loader(config: "SFTConfig") -> None:
    """Raise the ValueError with which torch refuses the settings of the data loader. No worker is started."""
    from torch.utils.data import DataLoader

    DataLoader(
        cast(Any, [0]),
        num_workers=config.dataloader_num_workers,
        persistent_workers=config.dataloader_persistent_workers,
        prefetch_factor=config.dataloader_prefetch_factor,
        multiprocessing_context=config.dataloader_multiprocessing_context,
    )


def _try_optimizer(config: "SFTConfig") -> None:
    """Raise the ImportError of an optimizer whose package is missing, or the ValueError for its values."""
    import torch
    from transformers import Trainer

    try:
        optimizer, options = Trainer.get_optimizer_cls_and_kwargs(config)
        plain = copy(config)
        plain.optim_args = None
        without = Trainer.get_optimizer_cls_and_kwargs(plain)[1]
    except ImportError:
        raise
    except ValueError as error:
        if _NO_NUMBER.match(str(error)):
            raise
        return  # some optimizers, such as LOMO, raise it because they need the model, which is not loaded yet
    except Exception:  # other optimizers raise other errors for the same reason
        return
    if config.optim_args and without == options:
        raise ValueError("the optimizer does not use these arguments, or has these values without them")
    try:
        optimizer([torch.nn.Parameter(torch.zeros(1))], **options)
    except ValueError:
        raise
    except Exception:  # as above
        return


_NO_NUMBER = re.compile("could not convert string to float|invalid literal for int")
"""Messages of Python for a text that is no number."""


def _try_plugins(config: "SFTConfig") -> None:
    """Raise the error of arguments that accelerate does not accept, some of them for torch.compile."""
    from accelerate.utils import GradientAccumulationPlugin, TorchDynamoPlugin
    from transformers.trainer_pt_utils import AcceleratorConfig

    accumulation = cast(AcceleratorConfig, config.accelerator_config).gradient_accumulation_kwargs
    GradientAccumulationPlugin(**{"num_steps": 1, **(accumulation or {})})
    TorchDynamoPlugin(backend=cast(Any, config.torch_compile_backend), mode=cast(Any, config.torch_compile_mode))


def _try_schedule(config: "SFTConfig") -> None:
    """Raise the error of a learning-rate schedule that cannot be built, or that fails at a step."""
    import torch
    from transformers import get_scheduler

    steps = config.max_steps if config.max_steps > 0 else _EXAMPLE_STEPS
    schedule = get_scheduler(
        config.lr_scheduler_type,
        optimizer=torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=config.learning_rate),
        num_warmup_steps=config.get_warmup_steps(steps),
        num_training_steps=steps,
        scheduler_specific_kwargs=cast("dict[str, Any] | None", config.lr_scheduler_kwargs),
    )
    for factor in getattr(schedule, "lr_lambdas", ()):
        for step in (0, steps // 2, steps - 1):
            factor(step)


_EXAMPLE_STEPS = 1000
"""Number of steps with which a schedule is checked if only the number of epochs is known."""


def _field_problems(name: str, value: Any) -> Iterator[Problem]:
    from trl.trainer.sft_config import SFTConfig

    known, place = {field.name: field for field in fields(SFTConfig) if field.init}, ("train", name)
    if name in _REPLACEMENTS:
        yield Problem(f"the SFTConfig field {name!r} is set by neftune.", f"Use {_replacement(name, value)}.", place)
    elif name in _RESERVED:
        fix = "Remove it: neftune relies on the value that it or TRL gives to this field."
        yield Problem(f"the SFTConfig field {name!r} cannot be set.", fix, place)
    elif name not in known:
        yield Problem(f"SFTConfig has no field {name!r}.", _fix_of_unknown(name, value, known), place)
    elif refused := _refused_value(name, value):
        yield replace(refused, field=place)
    elif expected := _expected_instead(known[name], value):
        yield Problem(f"the SFTConfig field {name!r} must be {expected}, not {value!r}.", "Change the value.", place)


def _fix_of_unknown(name: str, value: Any, known: Mapping[str, Any]) -> str:
    if name == "warmup_ratio":  # a field of earlier releases of transformers
        return f"Use warmup_steps={value}: a number below 1 is a share of the steps."
    if name.startswith("lora_"):
        return f"Remove it. Only --lora-rank can be set: {LORA_SETTINGS}."
    meant = did_you_mean(TRAIN_FIELD_SYNONYMS.get(name, name), {**known, **TrainSpec.model_fields})
    return meant or "Use a field from TRL's documentation of SFTConfig."


def _refused_value(name: str, value: Any) -> Problem | None:
    """Return the problem of a value that SFTConfig accepts and neftune refuses, without its place; else None."""
    if name == "pad_to_multiple_of" and isinstance(value, int) and value < 1:
        return Problem("the SFTConfig field 'pad_to_multiple_of' must be 1 or larger.", "Change the value.")
    if name == "optim_args" and not _is_list_of_pairs(value):
        what = f"the SFTConfig field 'optim_args' must be key=value, or key=value,key=value, not {value!r}."
        return Problem(what, "Change the value. The betas of Adam are adam_beta1 and adam_beta2.")
    if name == "accelerator_config" and _accumulates(value):
        what = "the SFTConfig field 'accelerator_config' must not set the num_steps of gradient accumulation."
        return Problem(what, "Use gradient_accumulation_steps.")
    return WRAPPED_ROWS if (name, value) == ("packing_strategy", "wrapped") else _refused_on_this_machine(name, value)


def _refused_on_this_machine(name: str, value: Any) -> Problem | None:
    if name == "fp16" and value is True and device_kind() != "cuda":
        return Problem("the SFTConfig field 'fp16' has no effect without a CUDA device.", "Remove it.")
    if name == "activation_offloading" and value is True and device_kind() == "cpu":
        return Problem("the SFTConfig field 'activation_offloading' needs an accelerator.", "Remove it.")
    if name == "use_liger_kernel" and value is True and find_spec("liger_kernel") is None:
        what = "the SFTConfig field 'use_liger_kernel' needs the package liger-kernel."
        return Problem(what, "Run `pip install liger-kernel`, or remove the field.")
    return None


def _is_list_of_pairs(value: Any) -> bool:
    """Return whether the trainer can read the arguments of an optimizer."""
    return not value or (isinstance(value, str) and all(part.count("=") == 1 for part in value.split(",")))


def _accumulates(accelerator_config: Any) -> bool:
    """Return whether accelerate's configuration would replace `gradient_accumulation_steps`, which the plan reads."""
    given = accelerator_config.get("gradient_accumulation_kwargs") if isinstance(accelerator_config, dict) else None
    return isinstance(given, dict) and "num_steps" in given


def _replacement(name: str, value: Any) -> str:
    if name == "report_to" and value in list(LiveTracker):
        return f"--track {value}"
    return _REPLACEMENTS[name]


def _expected_instead(field: Field[Any], value: Any) -> str | None:
    """Return what a field of SFTConfig expects if a value does not fit, for example "a whole number"; else None.

    It follows from the choices, the default and the types of the field, and from `_LEAST`.
    """
    choices = field.metadata.get("choices")
    if choices and value not in choices:
        return f"one of {', '.join(map(str, choices))}"
    if _is_mapping(field):  # SFTConfig would read a text as the path of a file, which is not part of a trial's identity
        return None if isinstance(value, dict | None) else "a mapping of fields"
    if types_of(field) == {bool}:
        return None if isinstance(value, bool) or value is field.default else "true or false"
    if isinstance(field.default, int | float) or (types_of(field) and types_of(field) <= {int, float}):
        is_unset = value is None and field.default is None
        return None if is_unset else _expected_number(field, with_exact_type(field, value))
    return None if isinstance(value, str | bool | int | float | list | dict | None) else "a number or a string"


def _is_mapping(field: Field[Any]) -> bool:
    return any(dict in (one, get_origin(one)) for one in types_of(field))


def _expected_number(field: Field[Any], value: Any) -> str | None:
    kind, name = ((int, float), "a number") if float in types_of(field) else (int, "a whole number")
    if not isinstance(value, kind) or isinstance(value, bool) or not math.isfinite(value):
        return name
    least = _LEAST.get(field.name, -math.inf)
    return f"{least} or larger" if value < least else None
