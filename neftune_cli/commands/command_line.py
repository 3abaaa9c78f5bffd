"""The command line as the user gave it, to be given again."""

import shlex
import sys


def command_again(*more: str) -> str:
    """Return the command line that this process was started with, with more options."""
    return shlex.join(["neftune", *sys.argv[1:], *more])
