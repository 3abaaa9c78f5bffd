"""Errors of the command line that Typer finds, as problems with their fix."""

import inspect
import re
import shlex
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any

from pydantic import ValidationError
from typer.exceptions import TyperException

from neftune_cli.commands.routing import fields_by_flag
from neftune_cli.config.choices import layout_names
from neftune_cli.config.field_problems import TRAIN_FIELD_SYNONYMS, example_of, given, requirement
from neftune_cli.data.spellings import OTHER_LAYOUT_NAMES
from neftune_cli.errors import Problem, alternatives, closest_choice, did_you_mean
from neftune_cli.metrics import HELD_OUT_LOSS

_EXAMPLES = {
    "--alphas": "0,5,10,15",
    "--alpha": "5",
    "--snr": "20",
    "--noises": "uniform,gaussian",
    "--set": "weight_decay=0.1",
    "--output": "results/first",
    "--checkpoint-steps": "100",
    "--hourly-rate": "1.20",
    "--length": "64",
    "--metric": HELD_OUT_LOSS,
    "--margin": f"{HELD_OUT_LOSS}=0.02",
    "--baseline": "0",
    "--format": "alpaca",
    "--columns": "prompt=question,completion=answer",
    "--split": "train",
    "--eval-split": "test",
    "--eval-dataset": "held_out.jsonl",
    "--max-seeds": "20",
    "--slurm": "partition=gpu",
    "--track": "tensorboard",
}
"""Values of options that have neither a default nor a spec field with an example."""


_COMMA_LISTS = ("--dataset", "--eval-dataset", "--columns", "--seeds", "--lm-eval")
"""Options of which one value can name several things, separated by commas. Those of the type LIST can, too."""


def repeated_option(parameter: Any, arguments: Sequence[str]) -> Problem:
    """Return the problem of an option that takes one value and is given several times.

    Args:
        parameter: option.
        arguments: of the command line.
    """
    option = parameter.opts[0]
    values = list(dict.fromkeys(_values(parameter.opts, arguments)))
    what = f"{option} is given more than once."
    if len(values) > 1 and (option in _COMMA_LISTS or parameter.metavar == "LIST"):
        return Problem(what, f"Use one list with commas: {option} {shlex.quote(','.join(values))}.")
    return Problem(what, f"Use {option} once.")


def _values(options: Sequence[str], arguments: Sequence[str]) -> Iterator[str]:
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, value = argument.partition("=")
        if name in options:
            yield value if equals else following


def usage_problem(error: TyperException) -> Problem:
    """Return what is wrong on the command line, and how to fix it."""
    context, parameter = getattr(error, "ctx", None), getattr(error, "param", None)
    page = context.command_path if context else "neftune"
    help_ = f"Run `{page} --help` for help."
    kind, option = type(error).__name__, getattr(error, "option_name", "")
    if kind == "NoSuchOption":
        return Problem(f"There is no option {option}.", _closest_option(option, context) or help_)
    if kind == "BadOptionUsage":
        if error.message.endswith("requires an argument."):
            return Problem(f"{option} needs a value.", _any_value(option, context) or help_)
        return Problem(f"{option} takes no value.", f"Use {option} alone.")
    if kind == "MissingParameter" and parameter is not None:
        return _missing(parameter, page, help_)
    if kind == "BadParameter" and parameter is not None:
        return _invalid_value(error, parameter, context, help_)
    return _invalid_argument(error, context, page, help_)


def _missing(parameter: Any, page: str, help_: str) -> Problem:
    """Return a required argument or option that was not given."""
    if parameter.param_type_name == "argument":
        what = f"{parameter.metavar.removesuffix('...')} is missing."
        return Problem(what, f"Use a results folder, for example `{page} results/`.")
    option = parameter.opts[0]
    return Problem(f"{option} is missing.", _choices(parameter) or help_)


def _choices(parameter: Any) -> str:
    """Return the advice to use one of the values of an option with a fixed set of them, else ""."""
    values = parameter.type_descriptor.annotation
    is_choice = isinstance(values, type) and issubclass(values, Enum)
    return f"Use {parameter.opts[0]} {alternatives(values)}." if is_choice else ""


def _closest_option(option: str, context: Any) -> str:
    """Return the question for the options with close names, or for the one that other programs call so."""
    name = option.lstrip("-").replace("-", "_")
    known = {one.opts[0].lstrip("-"): one.opts[0] for one in context.command.get_params(context) if one.opts}
    meant = TRAIN_FIELD_SYNONYMS.get(name, name).replace("_", "-")
    if meant in known:
        return f"Did you mean {known[meant]}?"
    options = [one for one in known.values() if one.startswith("--")]
    if longer := [one for one in options if one.startswith(f"{option}-")]:
        return f"Did you mean {alternatives(longer)}?"
    return did_you_mean(option, options, compared=lambda one: one.lstrip("-"), quoted=False)


def _invalid_argument(error: TyperException, context: Any, page: str, help_: str) -> Problem:
    """Return an unknown command or an argument too many; other errors with the text of Typer."""
    text = error.format_message()
    if found := re.match(r"No such command '(.+?)'", text):
        return Problem(
            f"There is no command {found[1]!r}.",
            did_you_mean(found[1], context.command.list_commands(context)) or help_,
        )
    if found := re.match(r"Got unexpected extra argument\(s\) \((.+)\)", text):
        fix = f"Remove it. If it is part of a name with spaces, put the whole name in quotes. {help_}"
        fix = _COMMAS if is_number(found[1].partition(" ")[0]) else fix
        return Problem(f"{page} does not take the argument {found[1]!r}.", fix)
    return Problem(text, help_)


def _invalid_value(error: TyperException, parameter: Any, context: Any, help_: str) -> Problem:
    """Return a value that is not among the allowed ones, or does not have the type or size of its option."""
    name = parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar
    if found := re.search(r"('.*') is not one of (.+)\.$", error.message):
        value, names = found[1].strip("'"), re.findall(r"'([^']+)'", found[2])
        meant = OTHER_LAYOUT_NAMES.get(value.lower()) if name == "--format" else None
        fix = f"Use {name} {meant}." if meant in names else closest_choice(value, names) or _any_of(name, names)
        return Problem(f"{name} must be {alternatives(names)}{given(value)}.", fix)
    if isinstance(error.__cause__, ValidationError):
        (details, *_) = error.__cause__.errors()
        fix = _use(name, _example(name, context, parameter.default)) or help_
        return Problem(f"{name} {requirement(dict(details))}{given(_number(details['input']))}.", fix)
    return Problem(f"{name}: {error.message}", help_)


def _any_of(option: str, names: Sequence[str]) -> str:
    """Return the advice to use the first of several names, which is the default. The data determine the layout."""
    if tuple(names) == layout_names():
        return f"Remove {option}: the columns of the data show their layout."
    return f"Use {option} {names[0]}."


def _any_value(option: str, context: Any) -> str:
    """Return the advice to use one of the allowed values of an option, or an example, else ""."""
    parameters = context.command.get_params(context) if context else ()
    choices = (_choices(one) for one in parameters if option in one.opts)
    return next(choices, "") or _use(option, _example(option, context))


_COMMAS = "Remove it, or write the values of a list with commas and without spaces, such as 0,5,10."
"""Fix of a number that is no argument: it may follow an option of a list, as argparse reads lists."""


def is_number(text: str) -> bool:
    """Return whether a text is a number."""
    return isinstance(_number(text), float)


def stray_argument(text: str) -> Problem:
    """Return the problem of an argument in place of an experiment file, which neither exists nor ends as one."""
    fix = f"Use an existing YAML file. If {text} is part of a name with spaces, put the whole name in quotes."
    return Problem(f"There is no experiment file {text}.", _COMMAS if is_number(text) else fix)


def _number(text: Any) -> Any:
    """Return the number that a text stands for; other values unchanged."""
    try:
        return float(text) if isinstance(text, str) else text
    except ValueError:
        return text


def _use(option: str, example: Any) -> str:
    return "" if example is None else f"Use {option} {example}."


def _example(option: str, context: Any, default: Any = None) -> Any:
    """Return a valid value of an option of a command: the default, that of its spec field, or one listed here."""
    field = "" if context is None else _spec_field(option, context.command)
    found = default if default is not None or not field else example_of(tuple(field.split(".")))
    if found is None or isinstance(found, dict):
        return _EXAMPLES.get(option)
    return f"{found:g}" if isinstance(found, float) else found


def _spec_field(option: str, command: Any) -> str:
    """Return the spec field of an option of a command, "" if it has none. The program itself has no such options."""
    is_program = hasattr(command, "commands")
    return "" if is_program else fields_by_flag(inspect.unwrap(command.callback)).get(option, "")
