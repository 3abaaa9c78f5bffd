"""`neftune status`: how sweeps stand, from what is on the disk, whoever runs them and wherever."""

from pathlib import Path
from typing import Annotated

import typer


def status(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Sweeps, or folders with sweeps below them.")],
    watch: Annotated[
        bool, typer.Option("--watch", help="Keep showing it until nothing runs any more, or Ctrl-C.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all that is known as one JSON document.")] = False,
) -> None:
    """Show how far sweeps are, which trials run or failed, the time left, and what to type to go on.

    It only reads: it can be given in another terminal, or on another machine that sees the same folder.
    The exit code is 1 if a trial has failed.
    """
    from neftune_cli.commands.showing_status import show_status

    show_status(paths, watch=watch, as_json=as_json)
