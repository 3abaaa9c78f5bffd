"""Calibrations, machine facts and sizes that earlier commands measured, in the user's cache; without torch.

A value is found by machine, versions of libraries, and where it depends on them, model, data and recipe. A file that is
missing, damaged or of another key is ignored, and replaced by the next measurement.
"""

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from neftune_cli.config.canonical_json import canonical_json
from neftune_cli.config.identity import METHOD_VERSION
from neftune_cli.config.process import user_cache
from neftune_cli.config.spec import Affects, SweepSpec, TrialSpec
from neftune_cli.errors import UsageError
from neftune_cli.formatting import utc_now
from neftune_cli.store.files import pretty_json, write_atomically
from neftune_cli.sweeps.executors import Executor
from neftune_cli.sweeps.executors.messages import from_json, to_json
from neftune_cli.sweeps.inspection import Inspection, LoadedSizes, data_facts, model_facts
from neftune_cli.sweeps.plan import Plan
from neftune_cli.sweeps.resources import WorkerAllocation
from neftune_cli.training.cost import Calibration, recipe_key
from neftune_cli.training.hardware import available_cores, gpus_of_driver, installed_version, processor_name

FORMAT = 2
"""Version of the files and of the calibration. Raise it when equal keys no longer give equal values."""
FOLDER = "calibrations"
"""Name of the folder in the user's cache."""

T = TypeVar("T")
Key = Mapping[str, Any]


@dataclass(frozen=True)
class Remembered(Generic[T]):
    """A value from the cache."""

    value: T
    written: str
    """Time at which it was measured, ISO 8601."""


@dataclass(frozen=True)
class MachineFacts:
    """The facts of an inspection that depend on the machine only."""

    device: str
    gpus: int
    gpu_models: str
    environment: dict[str, str]
    lora_environment: dict[str, str]


@dataclass(frozen=True)
class CalibratedRecipe:
    """The calibrations of one recipe, one per worker."""

    calibrations: tuple[Calibration, ...]
    startup: float
    """Seconds until model and data were loaded."""


def recall(kind: type[T], key: Key) -> Remembered[T] | None:
    """Return the remembered value of this type and key; None if there is none, or if its file is damaged."""
    try:
        content = json.loads(_path(kind, key).read_bytes())
        if content["key"] != json.loads(canonical_json(key)) or content["digest"] != _digest(content):
            return None
        return Remembered(from_json(kind, content["value"]), content["written"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(value: object, key: Key) -> None:
    """Write a value to the cache. Without a writable cache nothing is remembered."""
    content = {
        "key": json.loads(canonical_json(key)),
        "written": utc_now(),
        "value": to_json(value),
    }
    path = _path(type(value), key)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, pretty_json({**content, "digest": _digest(content)}), durable=False)


def _path(kind: type, key: Key) -> Path:
    name = hashlib.sha256(canonical_json(key).encode()).hexdigest()[:16]
    return user_cache() / FOLDER / f"{kind.__name__}-{name}.json"


def _digest(content: Mapping[str, Any]) -> str:
    checked = [content[name] for name in ("key", "written", "value")]
    return hashlib.sha256(canonical_json(checked).encode()).hexdigest()


def remembered_inspection(spec: SweepSpec, machine: Key | None = None) -> Inspection | None:
    """Return the inspection of a spec on a known machine; None if it needs torch, or if there may be a problem.

    Args:
        spec: the spec.
        machine: what identifies the machine; None for this one.
    """
    from neftune_cli.data.loading import load_data
    from neftune_cli.models.sources import find_model

    recipes = [spec.recipe_of(arm) for arm in spec.arms]
    needs_torch = spec.load_in_4bit or spec.evaluation.lm_eval or any(arm.snr for arm in spec.arms)
    if needs_torch or any(recipe.sft for recipe in recipes):
        return None
    known = recall(MachineFacts, machine or machine_key())
    if known is None:
        return None
    try:
        source, data = find_model(spec.model), load_data(spec)
        model = model_facts(source)
    except UsageError:  # the worker reports it, with all other problems
        return None
    return Inspection(
        spec=spec,
        notes=(),
        problems=(),
        **vars(known.value),
        model=model,
        data=data_facts(data),
    )


def remember_machine(found: Inspection, machine: Key | None = None) -> None:
    """Remember the facts of an inspection about the machine: this one, or the one that a key identifies."""
    key = machine or machine_key()
    own = {name: getattr(found, name) for name in MachineFacts.__dataclass_fields__}
    if not found.spec.load_in_4bit and recall(MachineFacts, key) is None:
        remember(MachineFacts(**own), key)


def remembered_sizes(plan: Plan, trials: Sequence[TrialSpec]) -> LoadedSizes | None:
    """Return the sizes of the model and data of these trials, if an earlier command has loaded them."""
    found = recall(LoadedSizes, recipes_key(plan, trials))
    return found.value if found else None


def sizes_of(plan: Plan, executor: Executor, trials: Sequence[TrialSpec]) -> LoadedSizes:
    """Return the sizes of the model and data of these trials: remembered ones, or else those that an executor loads."""
    return remembered_sizes(plan, trials) or executor.prepare(trials)


def remember_sizes(plan: Plan, trials: Sequence[TrialSpec], sizes: LoadedSizes) -> None:
    """Remember the sizes of the model and data of these trials."""
    key = recipes_key(plan, trials)
    if recall(LoadedSizes, key) is None:
        remember(sizes, key)


def calibration_key(plan: Plan, recipe: TrialSpec, executor: object, allocation: WorkerAllocation) -> dict[str, Any]:
    """Return everything that a calibration depends on. The workers of an allocation slow each other down."""
    return {
        **recipes_key(plan, [recipe]),
        "executor": type(executor).__name__,
        "workers": allocation.workers,
        "threads": allocation.threads,
    }


def recipes_key(plan: Plan, trials: Iterable[TrialSpec]) -> dict[str, Any]:
    """Return everything that the sizes of model and data of some trials depend on."""
    trials = list(trials)
    evaluation = trials[0].evaluation.model_dump(exclude={"curve_examples", "lm_eval"})
    inputs = trials[0].inputs_with(Affects.IDENTITY)
    return {
        "machine": machine_key(),
        "method": METHOD_VERSION,
        "model": plan.model.fingerprint,
        "data": plan.data.fingerprint,
        "tokenization": {name: value for name, value in inputs.items() if name != "template_time"},
        "evaluation": evaluation,
        "recipes": sorted({recipe_key(trial.train) for trial in trials}),
    }


def machine_key() -> dict[str, Any]:
    """Return the machine and the versions of the libraries that compute on it."""
    return {
        "format": FORMAT,
        "processor": processor_name(),
        "cores": available_cores(),
        "gpus": gpus_of_driver(),
        "visible": {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")},
        "system": platform.platform(),
        "versions": {name: installed_version(name) for name in ("neftune", "torch", "transformers", "trl", "peft")},
    }
