"""The command line as the user typed it, to be typed again."""

import shlex
import shutil
import sys
from pathlib import Path


def typed_command(*more: str) -> tuple[str, ...]:
    """Return the words of the command line that this process was started with, and further ones.

    What is not on the path is given as it was: by its file, or as a module of the interpreter that runs.
    """
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        start = [_shortest(Path(sys.executable)), "-m", "neftune_cli"]
    else:
        start = [_shortest(program)]
    return (*start, *sys.argv[1:], *more)


def command_again(*more: str) -> str:
    """Return that as one line for a shell."""
    return shlex.join(typed_command(*more))


def _shortest(program: Path) -> str:
    """Return the name of a program if a shell would find this one by it, else where it is."""
    found = shutil.which(program.name)
    return program.name if found and Path(found).absolute() == program.absolute() else str(program)
