"""How an option is shown in `--help`: under its panel, its default in the text."""

from typing import Any

import typer


def option(*names: str, help_: str, panel: str, metavar: str | None = None, at_least: float | None = None) -> Any:
    """Return an option; the default is said in brackets in its help, as it may depend on the model or the data."""
    return typer.Option(*names, help=help_, rich_help_panel=panel, metavar=metavar, min=at_least, show_default=False)
