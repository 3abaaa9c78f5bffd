"""From raw options to a checked plan: every problem of every option, file and folder is found before any is told."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from neftune_cli.config import values
from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.config.spec import SweepSpec
from neftune_cli.data.loading import load_data
from neftune_cli.errors import Problems
from neftune_cli.models.sources import find_model
from neftune_cli.store import SWEEP_FILE, SweepFolder
from neftune_cli.sweeps.inspection import Inspection
from neftune_cli.sweeps.plan import Plan, make_plan

_RECIPE = ("epochs", "max_steps", "learning_rate", "batch_size", "max_length", "lora_rank")
_EVALUATION = ("max_new_tokens", "repetition_penalty")
_READERS: dict[str, Callable[[Any], Any]] = {
    "alphas": values.parse_alphas,
    "snr": values.parse_snr,
    "noises": values.parse_noises,
    "seeds": values.parse_seeds,
    "settings": values.parse_settings,
}
Inspect = Callable[[SweepSpec], Inspection]


@dataclass(frozen=True)
class Request:
    """A plan and the folder it is for."""

    plan: Plan
    folder: SweepFolder


def understand(file: Path | None, options: Mapping[str, Any], output: Path | None, inspect: Inspect) -> Request:
    """Return the plan that options (those the user left alone are None) and an experiment file mean.

    Args:
        file: a YAML experiment, or None.
        options: what is trained.
        output: the results folder, None for the default one.
        inspect: tells what only a process with torch can.

    Raises:
        UsageError: all problems at once; a flag that can't be read is left out to look at the others.
    """
    given = {name: value for name, value in options.items() if value is not None}
    problems = Problems()
    read = {name: problems.attempt(partial(_READERS[name], given[name])) for name in _READERS if name in given}
    recipe = {name: given[name] for name in _RECIPE if name in given}
    flags = {name: value for name, value in given.items() if name not in (*_READERS, *_RECIPE, *_EVALUATION)}
    flags |= {name: value for name, value in read.items() if name != "settings" and value is not None}
    flags["train"] = {**(read.get("settings") or {}), **recipe}
    flags["evaluation"] = {name: given[name] for name in _EVALUATION if name in given}
    spec = problems.attempt(lambda: resolve_sweep(file, flags))
    if spec is None:  # what the flags name can be looked at all the same
        problems.attempt(lambda: find_model(str(flags.get("model", "tiny"))))
        problems.attempt(lambda: load_data(str(flags.get("dataset", "bios")), layout=flags.get("format")))
        problems.raise_any()
    assert spec is not None
    folder = SweepFolder(output or Path("results") / _name(file, spec))
    plan = problems.attempt(lambda: make_plan(spec, folder, inspect))
    problems.raise_any()
    assert plan is not None
    return Request(plan, folder)


def _name(file: Path | None, spec: SweepSpec) -> str:
    if file is None:
        return default_name(spec.model, spec.dataset)
    return file.resolve().parent.name if file.name == SWEEP_FILE else file.stem


def default_name(*names: str) -> str:
    """Return what a folder that nobody named is called after a model and, mostly, a data set."""
    return "-".join(_short(name) for name in names)


def _short(name: str) -> str:
    """Return the last part of a path or hub id, without the suffix of a data file."""
    path = Path(name).resolve() if name.startswith(".") else Path(name)
    return path.stem if path.suffix in (".json", ".jsonl", ".csv", ".parquet", ".gguf") else path.name
