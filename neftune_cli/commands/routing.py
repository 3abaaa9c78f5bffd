"""Declaration of an option, and the route of its value to the spec, the run settings or the command."""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

Names = Callable[[], Sequence[str] | Mapping[str, str]]
"""Returns names, or the meaning of each name."""


class Destination(StrEnum):
    """Recipients of option values."""

    SPEC = "spec"
    """The spec: a field of it, or an option that defines arms or planned looks. Part of the experiment."""
    RUN = "run"
    """An argument of `sweep_settings`: how trials are run. Only the processes of a trial are part of its identity."""
    COMMAND = "command"
    """The command itself, for example its output folder and format."""


class Option(OptionInfo):
    """One option: its flag, its help, and the recipient of its value.

    Args:
        flag: as typed, for example "--epochs" or "--estimate/--no-estimate".
        help_: one or two sentences, with the default in parentheses.
        panel: title of the group in `--help`.
        to: recipient of the value.
        field: with `Destination.SPEC`, the field of `SweepSpec` that the value fills, for example "train.epochs", or a
            name in `ARM_OPTIONS` or `LOOK_OPTIONS`. `neftune_cli.config.values.PARSERS` has the parser of its text.
        metavar: placeholder for the value in `--help`.
        at_least: smallest allowed number.
        names: returns the allowed values, with their meanings if the help does not give them.

    Raises:
        TypeError: a destination in the spec without a field, or a field without that destination.
    """

    def __init__(
        self,
        flag: str,
        help_: str,
        panel: str,
        to: Destination,
        *,
        field: str = "",
        metavar: str | None = None,
        at_least: float | None = None,
        names: Names | None = None,
    ) -> None:
        if bool(field) is not (to is Destination.SPEC):
            raise TypeError(f"{flag}: an option has a field if, and only if, its value goes to the spec.")
        if names:
            metavar = f"<{flag.removeprefix('--')}>"
            CHOICES[metavar] = names
        super().__init__(
            default=...,
            param_decls=(flag,),
            help=help_,
            rich_help_panel=panel,
            metavar=metavar,
            min=at_least,
            show_default=False,
            callback=_one_of(names) if names else None,
            autocompletion=_completions_of(names) if names else None,
        )
        self.to = to
        self.field = field


CHOICES: dict[str, Names] = {}
"""Placeholder of an option in `--help`, and the function that returns the allowed values to show instead."""


def _one_of(names: Names) -> Callable[[str | None], str | None]:
    """Return a callback that accepts one of several names, which are looked up when a value is given."""

    def check(value: str | None) -> str | None:
        if value is not None and value not in names():
            raise typer.BadParameter(f"{value!r} is not one of {', '.join(map(repr, names()))}.")
        return value

    return check


def _completions_of(names: Names) -> Callable[[str], list[str]]:
    """Return a function for the shell's completion: the names that start with an incomplete one."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return complete


def options_of(command: Callable[..., None]) -> dict[str, Option]:
    """Return the routed options of a command by parameter name.

    Raises:
        TypeError: a parameter is not declared as an option or argument.
    """
    found = {}
    for name, hint in get_type_hints(command, include_extras=True).items():
        if name == "return":
            continue
        declared = [one for one in getattr(hint, "__metadata__", ()) if isinstance(one, OptionInfo | ArgumentInfo)]
        if not declared:
            raise TypeError(f"Parameter {name!r} of the command {command.__name__!r} is not a declared option.")
        if isinstance(declared[0], Option):
            found[name] = declared[0]
    return found


def fields_by_flag(command: Callable[..., None]) -> dict[str, str]:
    """Return the spec field of each option of a command that has one, by the flag as it is declared."""
    options = options_of(command).values()
    return {flag: option.field for option in options for flag in option.param_decls or () if option.field}


def values_for(destination: Destination, command: Callable[..., None], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the option values of a command that go to one destination.

    Args:
        destination: recipient.
        command: function of the command, whose parameters are options.
        values: value of each parameter, None if the option was not given.

    Returns:
        for `Destination.SPEC`, given values by field; for others, all values by parameter name.
    """
    options = {name: option for name, option in options_of(command).items() if option.to is destination}
    if destination is Destination.SPEC:
        return {option.field: values[name] for name, option in options.items() if values[name] is not None}
    return {name: values[name] for name in options}
