"""The page that `--help` prints: options in panels of two columns, with complete names on narrow terminals too.

The panels look like those of rich. They are drawn here, because the import of rich takes longer than the rest of the
page.
"""

import inspect
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from neftune_cli.commands.routing import CHOICES
from neftune_cli.config.process import columns_variable

_Row = tuple[str, str]
"""Option with its type, and its meaning."""

_WIDEST_NAMES = 30
"""Longest option with its type on the same line, in characters. A longer type is on the next line."""


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


_DEFAULT_WIDTH = 80
_BOX = "╭─╮│╰╯"
_ASCII_BOX = str.maketrans(_BOX, "+-+|++")
_OPTION = re.compile(r"(?<!\S)--?[a-z][a-z-]*")
_LEAST_MEANING = 12
"""Least width of the second column, in characters, for which the first one becomes narrower."""


def print_text(lines: Sequence[str]) -> None:
    """Print styled lines: with the styles in a terminal, and with ASCII frames where the encoding has no others."""
    text = "".join(f"{line}\n" for line in lines)
    if not (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf"):
        text = text.translate(_ASCII_BOX)
    typer.echo(text, nl=False, color=_has_styles())


def page_width() -> int:
    """Return the width of the terminal in characters: the variable COLUMNS, else that of any standard stream."""
    if columns := columns_variable():
        return columns
    for stream in range(3):
        try:
            return os.get_terminal_size(stream).columns or _DEFAULT_WIDTH
        except OSError:
            continue
    return _DEFAULT_WIDTH


def paragraph(text: str, width: int, *, bold: bool = False) -> Iterator[str]:
    """Yield the lines of a text with a margin of one character, and an empty line after them."""
    for line in [*wrapped(text, width - 2), ""]:
        yield f" {typer.style(line.ljust(width - 2), bold=bold) if line else ' ' * (width - 2)} "


def panel(title: str, rows: Sequence[_Row], first: int, width: int) -> Iterator[str]:
    """Yield the lines of a frame with a title around two columns.

    Args:
        title: title on the upper edge.
        rows: texts of the two columns. Options in them are highlighted.
        first: width of the first column in characters.
        width: width of the frame in characters.
    """
    first = max(1, min(first, width - 6 - _LEAST_MEANING))
    second = max(1, width - 6 - first)
    edge = typer.style("│", dim=True)
    yield typer.style(f"╭─ {title} {'─' * (width - len(title) - 5)}╮", dim=True)
    for name, meaning in rows:
        names, meanings = wrapped(name, first), wrapped(meaning, second)
        for number in range(max(len(names), len(meanings))):
            left, right = (_cell(lines, number, size) for lines, size in ((names, first), (meanings, second)))
            yield f"{edge} {_styled_name(left)}  {_highlighted(right)} {edge}"
    yield typer.style(f"╰{'─' * (width - 2)}╯", dim=True)


def wrapped(text: str, width: int) -> list[str]:
    """Return the lines of a text, broken between words. A word that is longer than a line begins on a line of its own.

    >>> wrapped("one two three", 8)
    ['one two', 'three']
    """
    lines = []
    for line in text.split("\n"):
        lines += [part.rstrip() for part in _broken(line, max(1, width))]
    return lines


def _broken(line: str, width: int) -> list[str]:
    parts = [""]
    for word in re.findall(r"\S+\s*", line):
        if len(parts[-1] + word.rstrip()) <= width:
            parts[-1] += word
        elif len(word.rstrip()) <= width:
            parts.append(word)
        else:
            parts = [*filter(None, parts), *(word[start : start + width] for start in range(0, len(word), width))]
    return parts


def _cell(lines: Sequence[str], number: int, width: int) -> str:
    return (lines[number] if number < len(lines) else "").ljust(width)


def _styled_name(text: str) -> str:
    """Return a name with its option in one color and the type of its value in another."""
    parts, end = [], 0
    for option in _OPTION.finditer(text):
        parts += [_type(text[end : option.start()]), typer.style(option[0], fg="cyan", bold=True)]
        end = option.end()
    return "".join([*parts, _type(text[end:])])


def _type(text: str) -> str:
    return typer.style(text, fg="yellow") if text.strip() else text


def _highlighted(text: str) -> str:
    return _OPTION.sub(lambda option: typer.style(option[0], fg="cyan"), text)


def _has_styles() -> bool | None:
    """Return whether the environment demands or refuses colors; None if that depends on the terminal."""
    if (forced := os.environ.get("FORCE_COLOR")) is not None:
        return forced != ""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM", "").lower() in ("dumb", "unknown"):
        return False
    return None
