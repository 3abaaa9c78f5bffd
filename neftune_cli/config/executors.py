"""Declarations of executors.

This module imports no executor, so that the command line can list and check the names.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neftune_cli.config.process import user_cache
from neftune_cli.config.registry import Registry, imported
from neftune_cli.errors import Problem, UsageError, install_extra

if TYPE_CHECKING:
    from neftune_cli.sweeps.executors import Executor

INLINE, LOCAL, SLURM, RAY = "inline", "local", "slurm", "ray"


@dataclass(frozen=True)
class ExecutorDeclaration:
    """One way to run trials."""

    name: str
    """Value of `--executor`."""
    description: str
    """One line for help texts and docs."""
    make: "str | Callable[..., Executor]"
    """Class or function that returns an executor, or `module:name` to import it at first use."""
    settings: tuple[str, ...] = ()
    """Options that not every executor reads, and this one does, for example `gpus_per_trial`. `make` receives the given
    ones by name."""
    library: str = ""
    """Package that the executor imports; empty if it needs none."""
    extra: str = ""
    """Extra of neftune that installs the package; empty for an executor of another package."""
    most_workers: int | None = None
    """Largest number of trials that run in parallel; None if any number can."""
    starts_ahead: bool = False
    """Whether `make` receives the value of `--workers`, as `workers`, to start workers before the plan is known."""
    refused_in_paths: str = ""
    """Characters that the paths of the results folder and of the user's cache may not have."""
    on_this_machine: bool = True
    """Whether trials run on this machine, so that its cores and memory, and calibrations on it, apply to them."""


EXECUTORS: Registry[ExecutorDeclaration] = Registry(
    "executor", "neftune.executors", ExecutorDeclaration, lambda executor: executor.name
)


def register_executor(executor: ExecutorDeclaration) -> ExecutorDeclaration:
    """Add an executor in this process; a package uses the entry point group `neftune.executors` instead.

    Raises:
        UsageError: the name is already registered.
    """
    return EXECUTORS.register(executor)


def make_executor(name: str, settings: Mapping[str, Any] | None = None) -> "Executor":
    """Return a new executor, which is a context manager.

    Args:
        name: a registered name.
        settings: values of the options in the executor's `settings`.

    Raises:
        UsageError: the name is unknown, or the executor's library is not installed. The message lists the known names.
    """
    declared = EXECUTORS[name]
    if missing := list(missing_library(name)):
        raise UsageError(*missing)
    return imported(declared.make)(**(settings or {}))


def missing_library(name: str) -> Iterator[Problem]:
    """Yield a problem if the library of an executor is not installed."""
    library, extra = (EXECUTORS[name].library, EXECUTORS[name].extra) if name in EXECUTORS else ("", "")
    if library and find_spec(library) is None:
        what = f"--executor {name} needs the package {library}, which is not installed."
        fix = install_extra(extra) if extra else f"Run `pip install {library}`."
        yield Problem(what, fix)


def refused_paths(name: str, results: Path) -> Iterator[Problem]:
    """Yield a problem for each folder whose path has a character that this executor cannot use."""
    for folder, option in ((results.absolute(), "--output"), (user_cache(), "XDG_CACHE_HOME")):
        for character in EXECUTORS[name].refused_in_paths:
            if character in str(folder):
                what = (
                    f"--executor {name} cannot use the folder {folder}, because its path has the character {character}."
                )
                yield Problem(what, f"Set {option} to another folder.")


def settings_without_effect(name: str, settings: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield a problem for each given option that this executor does not read."""
    for setting in settings:
        if name in EXECUTORS and setting not in EXECUTORS[name].settings:
            option = f"--{setting.replace('_', '-')}"
            owners = [other for other in EXECUTORS if setting in EXECUTORS[other].settings]
            fix = f"Add --executor {owners[0]}, or remove {option}." if owners else f"Remove {option}."
            yield Problem(f"{option} has no effect with --executor {name}.", fix)


register_executor(
    ExecutorDeclaration(
        LOCAL,
        "worker processes on this machine",
        "neftune_cli.sweeps.executors.local:LocalExecutor",
        starts_ahead=True,
    )
)
register_executor(
    ExecutorDeclaration(
        INLINE,
        "the main process, one trial after another, for debugging; --workers 0 selects it too",
        "neftune_cli.sweeps.executors.inline:InlineExecutor",
        most_workers=1,
    )
)
register_executor(
    ExecutorDeclaration(
        SLURM,
        "jobs of a SLURM cluster; needs `pip install '.[slurm]'` and a results folder on a shared disk",
        "neftune_cli.sweeps.executors.slurm:make_slurm_executor",
        settings=("slurm", "detach"),
        library="submitit",
        extra=SLURM,
        refused_in_paths="%",  # sbatch and submitit replace for example %j by the id of the job
        on_this_machine=False,
    )
)
register_executor(
    ExecutorDeclaration(
        RAY,
        "tasks of a Ray cluster, with or without a shared disk; needs `pip install '.[ray]'`",
        "neftune_cli.sweeps.executors.ray:make_ray_executor",
        settings=("address", "gpus_per_trial", "cpus_per_trial"),
        library="ray",
        extra=RAY,
        on_this_machine=False,
    )
)


def placement_options(command: Sequence[str]) -> Iterator[str]:
    """Yield the options of a command that say where and in how many processes trials run, each with its value."""
    of_executors = {name for executor in EXECUTORS for name in EXECUTORS[executor].settings}
    of_executors.discard("detach")  # it has no value, and does not say where trials run
    names = {"nproc", "accelerate_config", "executor", *of_executors}
    options = {f"--{name.replace('_', '-')}" for name in names}
    for index, argument in enumerate(command):
        if argument in options:
            yield from command[index : index + 2]
        elif argument.partition("=")[0] in options:
            yield argument
