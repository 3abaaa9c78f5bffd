"""From raw options to a checked plan: every problem of every option, file and folder is found before any is told."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neftune_cli.commands.options.reading import read_spec
from neftune_cli.config.spec import SweepSpec
from neftune_cli.errors import Problems, UsageError
from neftune_cli.store import SWEEP_FILE, SweepFolder
from neftune_cli.sweeps.inspection import Inspection
from neftune_cli.sweeps.plan import Plan, make_plan

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
    problems = Problems()
    spec = read_spec(file, options, problems)
    if spec is None:
        raise UsageError(*problems.found)
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
