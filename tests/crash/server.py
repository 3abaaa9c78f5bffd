"""Server that runs commands in forks of one process with all imports, and kills them at given milestones.

It is started as `python -m tests.crash.server`, and reads one JSON request per line. A `start` request has the
arguments of `neftune`, the working directory, the file that records milestones, and optionally an audit event and an
occurrence at which the fork is killed: a milestone such as `neftune.record-written`, or an event of Python such as
`os.rename`. The reply is the process id of the fork. A `wait` request has a process id. Its
reply is the status of `os.waitpid`.
"""

import gc
import itertools
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Handle requests until the input ends."""
    import pandas  # noqa: F401
    import trl.trainer.sft_trainer  # noqa: F401

    import neftune_cli.commands.execution
    import neftune_cli.training.trial_run  # noqa: F401

    gc.freeze()  # forks collect garbage without traversing the imported modules
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            print(os.waitpid(request["wait"], 0)[1], flush=True)
        else:
            print(_forked(request["start"]), flush=True)


def _forked(request: dict[str, Any]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        _run(request)
    finally:
        os._exit(70)


def _run(request: dict[str, Any]) -> None:
    from neftune_cli import cli

    output = os.open(Path(request["folder"]) / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.chdir(request["folder"])
    _record_milestones(Path(request["milestones"]))
    if request["die_at"]:
        _kill_at(request["die_at"], request["occurrence"])
    sys.argv = ["neftune", *request["arguments"]]
    try:
        cli.main()
    except SystemExit as ended:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(ended.code or 0))


def _record_milestones(file: Path) -> None:
    """Append each milestone with its first argument to a file that several processes may share."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        if name.startswith("neftune."):
            os.write(descriptor, f"{name} {Path(str(arguments[0])).name if arguments else ''}\n".encode())

    sys.addaudithook(hook)


def _kill_at(event: str, occurrence: int) -> None:
    count = itertools.count(1)

    def hook(name: str, _: tuple[Any, ...]) -> None:
        if name == event and next(count) == occurrence:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


if __name__ == "__main__":
    main()
