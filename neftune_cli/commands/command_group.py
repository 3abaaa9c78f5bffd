"""The commands of the program. A command is imported when it is asked for."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from neftune_cli.commands.help_page import Command, print_page

SUMMARIES = {
    "sweep": "Fine-tune one model with several alphas and seeds, and print the comparison.",
    "compare": (
        "Compare the arms of finished sweeps, paired by seed and example: print the decision, and write a report."
    ),
    "status": ("Show the progress of sweeps: running and failed trials, the time left, and the command that resumes."),
    "train": "Fine-tune once with noise, keep the model, and print its comparison with the base model.",
    "preview": (
        "Show training examples as the model receives them: tokens, loss, noise, and columns that are not read."
    ),
    "export": (
        "Write each finished trial and the comparison of a sweep as runs of a tracker, or the responses for AlpacaEval."
    ),
    "sensitivity": (
        "Measure the effect of noise on embeddings and next-token predictions, and find equivalents of the paper's "
        "alphas."
    ),
    "visualize": (
        "Draw groups of token embeddings before and after the noise, with one arrow per token for its shift."
    ),
}
"""Name of each command, and the first paragraph of its docstring."""
TRAINING = ("sweep", "train")
"""Commands that train, so that the same command resumes them."""


class CommandGroup(TyperGroup):
    """The program itself, with a help page like that of its commands."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """Return the names of all commands."""
        return list(SUMMARIES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """Return a command, imported if necessary; None if there is none of that name."""
        if cmd_name in SUMMARIES and cmd_name not in self.commands:
            self.commands[cmd_name] = load_command(cmd_name)
        return self.commands.get(cmd_name)

    def get_help_option(self, ctx: Any) -> Any:
        """Return the help option, with a default: to convert a missing value, Typer would import pydantic."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.default = False
        return option

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Print usage, description, commands and options."""
        print_page(self, ctx, {"Commands": list(SUMMARIES.items())})


def load_command(name: str) -> Any:
    """Import the module of a command, and return the command."""
    one = typer.Typer(add_completion=False)
    one.command(name, cls=Command)(command_function(name))
    return typer.main.get_command(one)


def command_function(name: str) -> Callable[..., None]:
    """Return the function of a command, which has its name."""
    function: Callable[..., None] = getattr(import_module(f"neftune_cli.commands.{name}"), name)
    return function
