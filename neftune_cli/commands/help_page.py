"""The page that `--help` prints: options in panels, with complete names on narrow terminals too."""

import inspect
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

from neftune_cli.commands.options import CHOICES

if TYPE_CHECKING:
    from rich.panel import Panel

_Row = tuple[str, str]
"""Option and meaning."""

_WIDEST_NAMES = 30
"""Longest option with its type on the same line, in characters. A longer type is on the next line."""


class Command(TyperCommand):
    """A command whose help has two columns.

    Typer's own page has six columns and abbreviates option names that do not fit, even at 80 characters.
    """

    def format_help(self, ctx: Any, _formatter: Any) -> None:
        """Print usage, description and options."""
        from rich.console import Console
        from rich.padding import Padding
        from rich.text import Text

        console = Console(highlight=False)
        paragraphs = [" ".join(text.split()) for text in inspect.cleandoc(self.help or "").split("\n\n")]
        console.print(Padding(Text(self.get_usage(ctx), "bold"), 1))
        console.print(Padding(Text("\n\n".join(paragraphs)), (0, 1, 1, 1)))
        panels: dict[str, list[_Row]] = defaultdict(list)
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                typed, does = record
                panels[_panel_of(parameter)].append((_on_lines(_with_choices(typed)), does))
        width = _width(typed for rows in panels.values() for typed, _ in rows)
        for title, rows in panels.items():
            console.print(_panel(title, rows, width))


def _panel_of(parameter: Any) -> str:
    return parameter.rich_help_panel or f"{parameter.param_type_name}s".capitalize()


def _with_choices(typed: str) -> str:
    """Replace a placeholder by the allowed values."""
    for placeholder, names in CHOICES.items():
        typed = typed.replace(placeholder, f"<{'|'.join(names())}>") if placeholder in typed else typed
    return typed


def _on_lines(typed: str) -> str:
    """Put each of two opposites on its own line, and a long type below its option."""
    if " / " in typed:
        return typed.replace(" / ", "\n")
    return typed if len(typed) <= _WIDEST_NAMES else typed.replace(" ", "\n", 1)


def _width(names: Iterable[str]) -> int:
    """Return the width of the first column, which is the same in all panels."""
    return max(len(line) for typed in names for line in typed.splitlines())


def _panel(title: str, rows: Sequence[_Row], width: int) -> "Panel":
    from rich.panel import Panel
    from rich.table import Column, Table
    from rich.text import Text

    table = Table.grid(
        Column(width=width, overflow="fold"), Column(ratio=1, overflow="fold"), padding=(0, 2), expand=True
    )
    for typed, does in rows:
        name = Text(typed, "yellow")
        name.highlight_regex(_OPTION, "bold cyan")
        text = Text(does)
        text.highlight_regex(_OPTION, "cyan")
        table.add_row(name, text)
    return Panel(table, title=title, title_align="left", border_style="dim")


_OPTION = r"(?<!\S)--?[a-z][a-z-]*"
