"""The Typer app: its commands, each imported when it is asked for, and messages and exit codes for errors."""

import io
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from neftune_cli.commands.help_page import print_page
from neftune_cli.config.process import LIBRARY_SETTINGS, command_again
from neftune_cli.errors import DISK_FULL, ExitCode, NeftuneError, Problem, UsageError

SUMMARIES = {
    "sweep": "Fine-tune one model with several alphas and seeds, and print the comparison.",
    "compare": (
        "Compare the finished trials of sweeps, paired by seed and example: print the decision, and write a report."
    ),
    "status": ("Show the progress of sweeps: running and failed trials, the time left, and the command that resumes."),
    "train": "Fine-tune once with noise, keep the model, and print its comparison with the base model.",
    "preview": (
        "Show training examples as the model receives them: tokens, loss, noise, and columns that are not read."
    ),
    "export": "Copy finished sweeps to a tracker, or write the responses in AlpacaEval's format.",
    "push": "Share a kept model with a model card: upload it (--to) or write a folder (--output).",
    "sensitivity": (
        "Measure the effect of noise on embeddings and predictions, and estimate the alphas that match those of the "
        "paper."
    ),
    "visualize": (
        "Plot groups of token embeddings before and after the noise, with one arrow per token for its shift."
    ),
}
"""Name of each command, and the first paragraph of its docstring."""
TRAINING = ("sweep", "train")
"""Commands that train, so that the same command resumes them."""


class Command(TyperCommand):
    """A command whose help has two columns, and whose paths are not empty.

    Typer's own page has six columns and abbreviates option names that do not fit, even at 80 characters. It turns an
    empty path, as of an unset shell variable, into the current folder.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments of the command line.

        Raises:
            UsageError: values are invalid, options are repeated, or paths are empty.
        """
        given = self._given(ctx, args)
        try:
            rest: list[str] = super().parse_args(ctx, args)
        except TyperException as error:
            raise UsageError(*self._problems(ctx, given, error)) from error
        empty = [
            one
            for one in self.get_params(ctx)
            if _has_paths(ctx.params.get(one.name)) and _has_empty(given.get(one.name, "-"))
        ]
        if empty:
            raise UsageError(*map(_empty_path, empty))
        return rest

    def _given(self, ctx: Any, args: list[str]) -> dict[str, Any]:
        """Return the given values by parameter name.

        Raises:
            UsageError: the parser refuses an argument, or options are repeated.
        """
        try:
            given, _, order = self.make_parser(ctx).parse_args(args=list(args))
        except TyperException as error:
            from neftune_cli.commands.usage_errors import usage_problem

            raise UsageError(*map(usage_problem, self._parser_errors(ctx, args, error))) from error
        repeated = [one for one in dict.fromkeys(order) if order.count(one) > 1 and _takes_one_value(one)]
        if repeated and not ctx.resilient_parsing:  # as the shell's completion parses
            from neftune_cli.commands.usage_errors import repeated_option

            raise UsageError(*(repeated_option(one, args) for one in repeated))  # Typer would use the last value
        return dict(given)

    def _parser_errors(self, ctx: Any, args: list[str], error: TyperException) -> Iterator[TyperException]:
        """Yield the error of the parser, and those after an unknown option, at which it stops.

        Each error gets the command, which it lacks.
        """
        while True:
            error.ctx = getattr(error, "ctx", None) or ctx  # type: ignore[attr-defined]
            yield error
            unknown = getattr(error, "option_name", "") if type(error).__name__ == "NoSuchOption" else ""
            shorter = [one for one in args if one.partition("=")[0] != unknown]
            if not unknown or shorter == args:  # another error, or an option of several letters after a single hyphen
                return
            args = shorter
            try:
                self.make_parser(ctx).parse_args(args=list(args))
            except TyperException as further:
                error = further
            else:
                return

    def _problems(self, ctx: Any, given: dict[str, Any], first: TyperException) -> list[Problem]:
        """Return a problem for each invalid value; if there is none, that of Typer's first error."""
        from neftune_cli.commands.usage_errors import usage_problem

        errors = []
        for parameter in self.get_params(ctx):
            try:
                parameter.handle_parse_result(ctx, given, [])
            except TyperException as error:
                errors.append(error)
        return [usage_problem(error) for error in errors or [first]]

    def format_help(self, ctx: Any, _formatter: Any) -> None:
        """Print usage, description and options."""
        print_page(self, ctx, {})


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

    def get_params(self, ctx: Any) -> list[Any]:
        """Return all options; flags have a default, because Typer would import pydantic to convert a missing value."""
        params: list[Any] = super().get_params(ctx)
        for one in params:
            if getattr(one, "is_flag", False) and one.default is None:
                one.default = False
        return params

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Print usage, description, commands and options."""
        print_page(self, ctx, {"Commands": list(SUMMARIES.items())})


def _takes_one_value(parameter: Any) -> bool:
    return parameter.param_type_name == "option" and not parameter.multiple and not parameter.is_flag


def _has_paths(value: Any) -> bool:
    return any(isinstance(item, Path) for item in (value if isinstance(value, list | tuple) else [value]))


def _has_empty(texts: Any) -> bool:
    return any(not str(text).strip() for text in (texts if isinstance(texts, list | tuple) else [texts]))


def _empty_path(parameter: Any) -> Problem:
    if parameter.param_type_name == "option":
        return Problem(f"{parameter.opts[0]} is empty.", f"Use a path, or remove {parameter.opts[0]}.")
    return Problem(f"{parameter.metavar.removesuffix('...')} is empty.", "Use a path, or remove the empty argument.")


def load_command(name: str) -> Any:
    """Import the module of a command, and return the command."""
    one = typer.Typer(add_completion=False)
    one.command(name, cls=Command)(command_function(name))
    return typer.main.get_command(one)


def command_function(name: str) -> Callable[..., None]:
    """Return the function of a command, which has its name."""
    function: Callable[..., None] = getattr(import_module(f"neftune_cli.commands.{name}"), name)
    return function


app = typer.Typer(
    name="neftune",
    cls=CommandGroup,
    help="Does embedding noise (NEFTune) help this fine-tune, at which alpha, and is the difference real?",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _common(
    context: typer.Context,
    _debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,  # read by `main`, at any place
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"neftune {installed('neftune')}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Run the command line and exit with one of `ExitCode`."""
    _open_closed_streams()
    _encode_stdout_as_utf8()
    _silence_libraries()
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    try:
        code = _run_command()
    except (KeyboardInterrupt, typer.Abort):
        code = ExitCode.INTERRUPTED
    except (TyperException, NeftuneError) as error:
        if debug:
            traceback.print_exc()
        code = _explain(error)
    except Exception as error:
        if debug:
            traceback.print_exc()
        _print_error(_failure(error))
        code = ExitCode.FAILED
    if code == ExitCode.INTERRUPTED:  # Typer turns an interrupt into this code without a message
        kept = "Finished trials are kept. Resume with:"
        lost = "Nothing was trained. Run the command again:"
        _print_error(f"Interrupted. {kept if _trains(sys.argv[1:]) else lost}\n  {command_again()}")
    sys.exit(code or ExitCode.DONE)


def _open_closed_streams() -> None:
    """Open the null device for standard streams that are closed, as after `2>&-`. Other files would get their numbers.

    Python has no objects for such streams, and `print` writes to stdout in place of stderr.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


def _encode_stdout_as_utf8() -> None:
    """Let stdout write UTF-8 if its encoding is another one that lacks characters of the output.

    For example, Latin-1 lacks the minus sign of numbers. An error handler that the user chose is kept, as after
    `PYTHONIOENCODING=latin-1:replace`.
    """
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper) and out.errors == "strict" and not out.encoding.lower().startswith("utf"):
        out.reconfigure(encoding="utf-8")


def _run_command() -> int:
    """Run the command and return its exit code. It is 0 if the reader of stdout has ended, as `head` does."""
    try:
        return int(app(standalone_mode=False) or ExitCode.DONE)
    except SystemExit as ended:  # Typer's reaction to a broken pipe
        if not isinstance(ended.__context__, BrokenPipeError):
            raise
    except BrokenPipeError:
        pass
    _discard_output()
    return ExitCode.DONE


def _discard_output() -> None:
    """Write what stdout still holds to the null device, because its own file takes nothing more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _failure(error: Exception) -> str:
    """Return the message for an error that no command explains."""
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        if error.filename is None:  # a write to an open file, as stdout is
            _discard_output()
        return f"Error: {error.strerror}.\n  Free some space, or use another disk, and run the command again."
    return f"Internal error: {type(error).__name__}: {error}\nPlease report it with the output of --debug."


def _trains(arguments: Sequence[str]) -> bool:
    """Return whether a command line trains, so that the same command resumes it."""
    name = next((argument for argument in arguments if not argument.startswith("-")), "")
    return name in TRAINING and "--dry-run" not in arguments


def _explain(error: TyperException | NeftuneError) -> int:
    """Print what is wrong and how to fix it, and return the exit code."""
    if isinstance(error, TyperException):
        from neftune_cli.commands.usage_errors import usage_problem

        error = UsageError(usage_problem(error))
    if isinstance(error, UsageError):
        for problem in error.problems:
            _print_error(f"Error: {problem.what}\n  {problem.fix}")
    else:
        _print_error(f"Error: {error}")
    return error.exit_code


def _print_error(text: str) -> None:
    with suppress(OSError, ValueError):  # without a reader, the exit code still tells
        print(text, file=sys.stderr)


def _silence_libraries() -> None:
    for name, value in LIBRARY_SETTINGS.items():
        os.environ.setdefault(name, value)
