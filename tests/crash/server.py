"""Runs command lines in forks of one process that has imported everything, and kills them where a test says.

Started as `python -m tests.crash.server`. It reads one JSON object a line. `start` has the arguments of `neftune`, the
folder to work in, where milestones are to be noted, and perhaps one to die at: a name such as `neftune.record-written`,
or an event that Python itself announces, such as `os.rename`, and at the how manieth. The answer is the fork's process
number. `wait` has such a number, and its answer is the status, as `os.waitpid` has it.
"""

import itertools
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Serve until the input ends."""
    import pandas  # noqa: F401
    import trl.trainer.sft_trainer  # noqa: F401

    import neftune_cli.commands.running
    import neftune_cli.training.trial_run  # noqa: F401

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
    _note_milestones(Path(request["milestones"]))
    if request["die_at"]:
        _die_at(request["die_at"], request["occurrence"])
    sys.argv = ["neftune", *request["arguments"]]
    try:
        cli.main()
    except SystemExit as ended:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(ended.code or 0))


def _note_milestones(file: Path) -> None:
    """Append each milestone, and what it is about, to a file that several processes may share."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def hook(name: str, about: tuple[Any, ...]) -> None:
        if name.startswith("neftune."):
            os.write(descriptor, f"{name} {Path(str(about[0])).name if about else ''}\n".encode())

    sys.addaudithook(hook)


def _die_at(event: str, occurrence: int) -> None:
    count = itertools.count(1)

    def hook(name: str, _: tuple[Any, ...]) -> None:
        if name == event and next(count) == occurrence:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


if __name__ == "__main__":
    main()
