"""The page that `--help` prints: options in panels, with complete names on narrow terminals too."""

import inspect
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from neftune_cli.commands.panels import page_width, panel, paragraph, print_text
from neftune_cli.commands.routing import CHOICES
from neftune_cli.errors import Problem, UsageError

_Row = tuple[str, str]
"""Option with its type, and its meaning."""

_WIDEST_NAMES = 30
"""Longest option with its type on the same line, in characters. A longer type is on the next line."""


class Command(TyperCommand):
    """A command whose help has two columns, and whose paths are not empty.

    Typer's own page has six columns and abbreviates option names that do not fit, even at 80 characters. It turns an
    empty path, as of an unset shell variable, into the current folder.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments of the command line.

        Raises:
            UsageError: paths are empty.
        """
        given = self._given(ctx, args)
        rest: list[str] = super().parse_args(ctx, args)
        empty = [
            one
            for one in self.get_params(ctx)
            if _has_paths(ctx.params.get(one.name)) and _has_empty(given.get(one.name, "-"))
        ]
        if empty:
            raise UsageError(*map(_empty_path, empty))
        return rest

    def _given(self, ctx: Any, args: list[str]) -> dict[str, Any]:
        """Return the given values by parameter name. An error of the parser gets the command, which it lacks."""
        try:
            given: dict[str, Any] = self.make_parser(ctx).parse_args(args=list(args))[0]
        except TyperException as error:
            error.ctx = getattr(error, "ctx", None) or ctx  # type: ignore[attr-defined]
            raise
        return given

    def format_help(self, ctx: Any, _formatter: Any) -> None:
        """Print usage, description and options."""
        print_page(self, ctx, {})


def _has_paths(value: Any) -> bool:
    return any(isinstance(item, Path) for item in (value if isinstance(value, list | tuple) else [value]))


def _has_empty(texts: Any) -> bool:
    return any(not str(text).strip() for text in (texts if isinstance(texts, list | tuple) else [texts]))


def _empty_path(parameter: Any) -> Problem:
    if parameter.param_type_name == "option":
        return Problem(f"{parameter.opts[0]} is empty.", f"Use a path, or remove {parameter.opts[0]}.")
    return Problem(f"{parameter.metavar.removesuffix('...')} is empty.", "Use a path, or remove the empty argument.")


def print_page(command: TyperCommand | TyperGroup, ctx: Any, panels: dict[str, list[_Row]]) -> None:
    """Print usage, description, the given panels, and those of the parameters.

    Args:
        command: command or group.
        ctx: its context.
        panels: rows by title.

    """
    for parameter in command.get_params(ctx):
        if row := help_row(parameter, ctx):
            typed, meaning = row
            panels.setdefault(_panel_of(parameter), []).append((_on_lines(typed), meaning))
    width, names = page_width(), _width(typed for rows in panels.values() for typed, _ in rows)
    description = "\n\n".join(paragraphs(command.help))
    lines = [" " * width, *paragraph(_usage(command, ctx), width, bold=True), *paragraph(description, width)]
    print_text([*lines, *(line for title, rows in panels.items() for line in panel(title, rows, names, width))])


def _usage(command: TyperCommand | TyperGroup, ctx: Any) -> str:
    """Return the usage line. Typer's own puts a required argument in braces and repeats its dots."""
    arguments = [one for one in command.get_params(ctx) if one.param_type_name == "argument"]
    names = [str(one.metavar) if one.required else f"[{one.metavar}]" for one in arguments]
    if isinstance(command, TyperGroup):
        names.append("COMMAND ...")
    return " ".join(["Usage:", ctx.command_path, "[OPTIONS]", *names])


def paragraphs(text: str | None) -> list[str]:
    """Return the paragraphs of a docstring, each on one line."""
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
