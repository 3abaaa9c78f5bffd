"""What `train` and `sweep` share: plan, run the plan while showing it, then print what came out."""

import sys
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console

from neftune_cli.commands.endings import disk_watched, end
from neftune_cli.commands.request import Request
from neftune_cli.commands.results import print_results
from neftune_cli.commands.work import planned
from neftune_cli.config.running import RunOptions
from neftune_cli.sweeps.progress import Silent
from neftune_cli.sweeps.progress.live import LiveTable, can_draw
from neftune_cli.sweeps.progress.plain_lines import PlainLines
from neftune_cli.sweeps.runner import run_sweep


def run_and_report(
    file: Path | None,
    options: Mapping[str, Any],
    output: Path | None,
    running: RunOptions,
    *,
    quiet: bool,
    as_json: bool,
    only_one: bool = False,
) -> Request:
    """Plan, run, and print the tables.

    Args:
        file: a YAML experiment, or None.
        options: what is trained.
        output: the results folder, None for the default one.
        running: how it is run.
        quiet: whether to show nothing meanwhile.
        as_json: whether to print one JSON summary instead of tables.
        only_one: whether there may be one training in the folder, and no other.

    Raises:
        UsageError: every problem with the options, the model, the data and the folder.
        typer.Exit: with 1, a trial has failed, or the disk lets nothing go on.
        KeyboardInterrupt: the user, or the system, wanted it to stop.
    """
    with planned(file, options, output, running, only_one=only_one) as work:
        request = work.request
        with _observer(request, quiet=quiet) as observer, disk_watched(request):
            outcome = run_sweep(request.plan, request.folder, work.executor, observer, work.interrupts, running)
    with disk_watched(request):
        print_results(request, outcome, as_json=as_json)
    end(request, outcome, retried=running.retry_failed)
    return request


def _observer(request: Request, *, quiet: bool) -> Any:
    if quiet:
        return nullcontext(Silent())
    console = Console(file=sys.stderr)
    if can_draw(console):
        return LiveTable(console, request.folder)
    stream = sys.stderr
    return PlainLines(lambda line: print(line, file=stream, flush=True), request.folder)
