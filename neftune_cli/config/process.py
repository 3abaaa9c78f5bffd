"""The running program: the command line that repeats it, its line width, cache, and environment of child processes."""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

LIBRARY_SETTINGS: Mapping[str, str] = {
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
}
"""Variables that turn off progress bars, advice and telemetry of libraries, which read them when they are imported."""


def typed_command(*more: str) -> tuple[str, ...]:
    """Return the arguments of the command line of this process, the program included, followed by `more`.

    A program that is not on the search path is given by its file, or as a module of the running interpreter.
    """
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        start = [_shortest(Path(sys.executable)), "-m", "neftune_cli"]
    else:
        start = [_shortest(program)]
    return (*start, *sys.argv[1:], *more)


def own_command() -> tuple[str, ...]:
    """Return `typed_command`, empty if the process is another program or a notebook, which calls `sweep()`."""
    program = Path(sys.argv[0])
    is_module = (program.parent.name, program.name) == ("neftune_cli", "__main__.py")
    return typed_command() if is_module or program.name in ("neftune", "neftune.exe") else ()


def command_again(*more: str) -> str:
    """Return `typed_command` as one line for a shell."""
    return shlex.join(typed_command(*more))


def arguments_of(command: Sequence[str]) -> tuple[str, ...]:
    """Return the arguments of a command line of `typed_command`: the name of the command, and what follows it.

    >>> arguments_of(["neftune", "sweep", "--seeds", "3"]), arguments_of(["python", "-m", "neftune_cli", "train"])
    (('sweep', '--seeds', '3'), ('train',))
    """
    is_module = tuple(command[1:3]) == ("-m", "neftune_cli")
    return tuple(command[3 if is_module else 1 :])


def columns_variable() -> int | None:
    """Return the line width that the variable COLUMNS sets, None if it sets none."""
    columns = os.environ.get("COLUMNS", "")
    return int(columns) or None if columns.isdigit() else None


def user_cache() -> Path:
    """Return the folder of this program in the user's cache (XDG base directory specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "neftune"


def with_this_package(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which Python finds this package even if it is not installed."""
    root = str(Path(__file__).parents[2])
    if root in (path for path in sys.path if path.endswith("-packages")):
        return dict(environment)
    others = environment.get("PYTHONPATH")
    return {**environment, "PYTHONPATH": os.pathsep.join([root, others] if others else [root])}


def is_launcher_variable(variable: str) -> bool:
    """Return whether launchers of several processes, such as torchrun, set this environment variable.

    A training process that inherits one trains in another precision, or waits for other processes.
    """
    return variable in _LAUNCHER_VARIABLES or variable.startswith(_LAUNCHER_PREFIXES)


_LAUNCHER_VARIABLES = frozenset(
    "RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE GROUP_RANK ROLE_RANK NODE_RANK MASTER_ADDR MASTER_PORT FORK_LAUNCHED "
    "MPI_LOCALRANKID MPI_LOCALNRANKS".split()
)
_LAUNCHER_PREFIXES = (
    "ACCELERATE_",
    "FSDP_",
    "MEGATRON_LM_",
    "PARALLELISM_CONFIG_",
    "TORCHELASTIC_",
    "OMPI_COMM_WORLD_",
    "MV2_COMM_WORLD_",
    "PMI_",
)


def _shortest(program: Path) -> str:
    """Return the name of a program if a shell finds the program by it, else its path."""
    found = shutil.which(program.name)
    return program.name if found and Path(found).absolute() == program.absolute() else str(program)
