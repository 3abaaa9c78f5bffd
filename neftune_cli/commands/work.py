"""A plan and the workers who carry it out, for as long as a command needs them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neftune_cli.commands.request import Request, understand
from neftune_cli.config.running import RunOptions
from neftune_cli.errors import Problem, UsageError
from neftune_cli.sweeps.executors import Executor
from neftune_cli.sweeps.executors.inline import InlineExecutor
from neftune_cli.sweeps.executors.local import LocalExecutor
from neftune_cli.sweeps.runner import Interrupts


@dataclass(frozen=True)
class Work:
    """A plan and who carries it out."""

    request: Request
    executor: Executor
    interrupts: Interrupts


@contextmanager
def planned(
    file: Path | None,
    options: Mapping[str, Any],
    output: Path | None,
    running: RunOptions,
    *,
    only_one: bool = False,
) -> Iterator[Work]:
    """Yield the plan that options mean, with its workers, who end with the block.

    Raises:
        UsageError: every problem with what is asked for; or there may be only one training, and the folder has another.
    """
    with Interrupts() as interrupts, InlineExecutor() if running.workers == 0 else LocalExecutor() as executor:
        request = understand(file, options, output, executor.inspect)
        if only_one and len(request.plan.trials) > 2:  # the base, and the one
            what = f"{request.folder.path} holds another training."
            raise UsageError(Problem(what, "Give another folder with --output, or use neftune sweep for several."))
        yield Work(request, executor, interrupts)
