"""Declarations of executors.

This module imports no executor, so that the command line can list and check the names.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neftune_cli.config.registry import Registry, imported

if TYPE_CHECKING:
    from neftune_cli.sweeps.executors import Executor

INLINE, LOCAL = "inline", "local"


@dataclass(frozen=True)
class ExecutorDeclaration:
    """One way to run trials."""

    name: str
    """Value of `--executor`."""
    description: str
    """One line for help texts and docs."""
    make: "str | Callable[[], Executor]"
    """Class or function that returns an executor, or `module:name` to import it at first use."""


EXECUTORS: Registry[ExecutorDeclaration] = Registry(
    "executor", "neftune.executors", ExecutorDeclaration, lambda executor: executor.name
)


def register_executor(executor: ExecutorDeclaration) -> ExecutorDeclaration:
    """Add an executor in this process; a package uses the entry point group `neftune.executors` instead.

    Raises:
        UsageError: the name is already registered.

    """
    return EXECUTORS.register(executor)


def make_executor(name: str) -> "Executor":
    """Return a new executor, which is a context manager.

    Raises:
        UsageError: the name is unknown. The message lists the known names.

    """
    declared = EXECUTORS[name].make
    make = imported(declared) if isinstance(declared, str) else declared
    executor: Executor = make()
    return executor


register_executor(
    ExecutorDeclaration(LOCAL, "worker processes on this machine", "neftune_cli.sweeps.executors.local:LocalExecutor")
)
register_executor(
    ExecutorDeclaration(
        INLINE,
        "the main process, one trial after another, for debugging; --workers 0 selects it too",
        "neftune_cli.sweeps.executors.inline:InlineExecutor",
    )
)
