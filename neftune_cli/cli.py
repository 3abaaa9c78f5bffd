"""The Typer app: its commands, and the translation of errors into messages and exit codes."""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import TyperException

from neftune_cli.commands.command_group import TRAINING, CommandGroup
from neftune_cli.errors import ExitCode, NeftuneError, UsageError

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
    _debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"neftune {installed('neftune')}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Run the command line and exit with one of `ExitCode`."""
    _silence_libraries()
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    try:
        code = app(standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = ExitCode.INTERRUPTED
    except (TyperException, NeftuneError) as error:
        if debug:
            traceback.print_exc()
        code = _explain(error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ExitCode.DONE
    except Exception as error:
        if debug:
            traceback.print_exc()
        _print_error(f"Internal error: {type(error).__name__}: {error}\nPlease report it with the output of --debug.")
        code = ExitCode.TRIAL_FAILED
    if code == ExitCode.INTERRUPTED:  # Typer turns an interrupt into this code without a message
        from neftune_cli.config.command_line import command_again

        kept = "Finished trials are kept. Resume with:"
        lost = "Nothing was trained. Run the command again:"
        _print_error(f"Interrupted. {kept if _trains(sys.argv[1:]) else lost}\n  {command_again()}")
    sys.exit(code or ExitCode.DONE)


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
    print(text, file=sys.stderr)


def _silence_libraries() -> None:
    """Turn off progress bars, advice and telemetry of libraries, which read these variables when they are imported."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
