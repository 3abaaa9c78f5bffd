"""Lines for the user on stderr, so that stdout has only results."""

from contextlib import suppress

import typer


def say_line(line: str) -> None:
    """Print a line on stderr, which may be closed."""
    with suppress(OSError, ValueError):
        typer.echo(line, err=True)


def say_nothing(line: str) -> None:
    """Print nothing."""
