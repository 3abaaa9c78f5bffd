"""Checks of names that callers choose from."""

from typing import Any, get_args

from neftune_cli.errors import Problem, UsageError


def check_choice(what: str, value: str, literal: Any) -> None:
    """Raise a UsageError unless `value` is one of the values of a Literal type; `what` says what it was to be."""
    if value not in get_args(literal):
        choices = ", ".join(get_args(literal))
        raise UsageError(Problem(f"{what} {value!r} is unknown.", f"Use one of: {choices}."))
