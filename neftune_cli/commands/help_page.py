"""The page that `--help` prints: options in panels, with complete names on narrow terminals too."""

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand, TyperGroup

from neftune_cli.commands.routing import CHOICES

if TYPE_CHECKING:
    from rich.panel import Panel

_Row = tuple[str, str]
"""Option with its type, and its meaning."""

_WIDEST_NAMES = 30
"""Longest option with its type on the same line, in characters. A longer type is on the next line."""


class Command(TyperCommand):
    """A command whose help has two columns.

    Typer's own page has six columns and abbreviates option names that do not fit, even at 80 characters.
    """

    def format_help(self, ctx: Any, _formatter: Any) -> None:
        """Print usage, description and options."""
        _print_page(self, ctx, {})


class CommandGroup(TyperGroup):
    """The program itself, with a help page like that of its commands."""

    def format_help(self, ctx: Any, _formatter: Any) -> None:
        """Print usage, description, commands and options."""
        commands = [(name, _paragraphs(command.help)[0]) for name, command in self.commands.items()]
        _print_page(self, ctx, {"Commands": commands})


def _print_page(command: TyperCommand | TyperGroup, ctx: Any, panels: dict[str, list[_Row]]) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(highlight=False)
    console.print(Padding(Text(_usage(command, ctx), "bold"), 1))
    console.print(Padding(Text("\n\n".join(_paragraphs(command.help))), (0, 1, 1, 1)))
    for parameter in command.get_params(ctx):
        if row := help_row(parameter, ctx):
            typed, meaning = row
            panels.setdefault(_panel_of(parameter), []).append((_on_lines(typed), meaning))
    width = _width(typed for rows in panels.values() for typed, _ in rows)
    for title, rows in panels.items():
        console.print(_panel(title, rows, width))


def _usage(command: TyperCommand | TyperGroup, ctx: Any) -> str:
    """Return the usage line. Typer's own puts a required argument in braces and repeats its dots."""
    arguments = [one for one in command.get_params(ctx) if one.param_type_name == "argument"]
    names = [str(one.metavar) if one.required else f"[{one.metavar}]" for one in arguments]
    if isinstance(command, TyperGroup):
        names.append("COMMAND ...")
    return " ".join(["Usage:", ctx.command_path, "[OPTIONS]", *names])


def _paragraphs(text: str | None) -> list[str]:
    return [" ".join(paragraph.split()) for paragraph in inspect.cleandoc(text or "").split("\n\n")]


def help_row(parameter: Any, ctx: Any) -> _Row | None:
    """Return an option or argument with the type of its value, and its meaning with its default; None if hidden."""
    record = parameter.get_help_record(ctx)
    if record is None:
        return None
    if parameter.param_type_name == "argument":
        return parameter.metavar, parameter.help
    return _with_choices(record[0]), _with_default(parameter) + _meanings(parameter)


def _panel_of(parameter: Any) -> str:
    return parameter.rich_help_panel or f"{parameter.param_type_name}s".capitalize()


def _with_default(parameter: Any) -> str:
    """Return the help text, with the default in parentheses if the text is to be completed with it."""
    default = parameter.default
    if not parameter.show_default or default is None or default is False:
        return str(parameter.help)
    shown = f"{default:g}" if isinstance(default, float) else default
    return f"{parameter.help.removesuffix('.')} (default {shown})."


def _meanings(parameter: Any) -> str:
    """Return the meaning of each allowed value, if they are declared with meanings."""
    names = CHOICES[parameter.metavar]() if parameter.metavar in CHOICES else ()
    if not isinstance(names, Mapping):
        return ""
    return f" {'. '.join(f'{name}: {meaning}' for name, meaning in names.items())}."


def _with_choices(typed: str) -> str:
    """Replace the placeholder of an option by the allowed values."""
    for placeholder, names in CHOICES.items():
        typed = typed.replace(placeholder, f"<{'|'.join(names())}>") if placeholder in typed else typed
    return typed


def _on_lines(typed: str) -> str:
    """Put each of two opposites on its own line, and a long type below its option, on several lines if necessary."""
    if " / " in typed:
        return typed.replace(" / ", "\n")
    if len(typed) <= _WIDEST_NAMES:
        return typed
    option, _, choices = typed.partition(" ")
    lines = [""]
    for choice in re.findall(r"[^|]+\|?", choices):
        if lines[-1] and len(lines[-1] + choice) > _WIDEST_NAMES:
            lines.append("")
        lines[-1] += choice
    return "\n".join([option, *lines])


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
    for typed, meaning in rows:
        name = Text(typed, "yellow")
        name.highlight_regex(_OPTION, "bold cyan")
        text = Text(meaning)
        text.highlight_regex(_OPTION, "cyan")
        table.add_row(name, text)
    return Panel(table, title=title, title_align="left", border_style="dim")


_OPTION = r"(?<!\S)--?[a-z][a-z-]*"
