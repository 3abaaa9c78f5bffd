"""Server that runs commands and workers in forks of one process with all imports, which take several seconds.

It is started as `python -m tests.crash.server`, and reads one JSON request per line:

- `start` has the arguments of `neftune`, the working directory, the file that records milestones, and optionally an
  audit event and an occurrence at which the fork is killed: a milestone such as `neftune.record-written`, or an event
  of Python such as `os.rename`. The reply is the process id of the fork.
- `wait` has the process id of such a fork. The reply is the status of `os.waitpid`.
- `worker` has the arguments and environment of a worker, and the paths of its three standard streams. The reply is the
  process id. The worker becomes a child of the process that has started this server.
"""

import gc
import importlib
import itertools
import json
import os
import runpy
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from neftune_cli.data.embedded import bios
from neftune_cli.reporting import reports
from neftune_cli.reporting.page import report

PRELOADED = (
    "neftune_cli.commands.execution",
    "neftune_cli.evaluation.text_metrics",
    "neftune_cli.reporting.page.report",
    "neftune_cli.sweeps.executors.inline",
    "neftune_cli.sweeps.executors.worker",
    "neftune_cli.training.trial_run",
    "pandas",
    "transformers.models.llama.modeling_llama",
    "trl.trainer.sft_trainer",
)
"""Modules that every sweep imports, directly or late. No plots are drawn: drawing takes longer than the trials."""
STREAM_FLAGS = (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY | os.O_APPEND)


def main() -> None:
    """Handle requests until the input ends."""
    for name in PRELOADED:
        importlib.import_module(name)
    setattr(reports, "draw_plots", lambda _: {})  # noqa: B010
    fill_caches()
    gc.freeze()  # forks collect garbage without traversing the imported modules
    print("ready", flush=True)
    for line in sys.stdin:
        ((kind, request),) = json.loads(line).items()
        print(HANDLERS[kind](request), flush=True)


def fill_caches() -> None:
    """Compile the templates of reports and make the bundled data, so that no fork needs to."""
    for template in (Path(report.__file__).parent / "templates").iterdir():
        report._environment().get_template(template.name)
    bios.split_by_person(train_examples=1, eval_examples=1)


def _start(request: dict[str, Any]) -> int:
    return _forked(lambda: _run(request))


def _wait(process: int) -> int:
    return os.waitpid(process, 0)[1]


def _start_worker(request: dict[str, Any]) -> int:
    """Fork twice. As the first fork ends, the system makes the nearest subreaper the parent of the second one."""
    opened = [os.open(path, flags) for path, flags in zip(request["streams"], STREAM_FLAGS, strict=True)]
    reading, writing = os.pipe()

    def fork_worker() -> None:
        process = _forked(lambda: _run_worker(request, opened))
        os.write(writing, str(process).encode())
        os._exit(0)

    _wait(_forked(fork_worker))
    process = int(os.read(reading, 20))
    for descriptor in (*opened, reading, writing):
        os.close(descriptor)
    return process


HANDLERS: dict[str, Callable[[Any], int]] = {"start": _start, "wait": _wait, "worker": _start_worker}


def _forked(action: Callable[[], None]) -> int:
    """Run a function that ends the process in a fork, and return the process id of the fork."""
    child = os.fork()
    if child:
        return child
    try:
        action()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(70)


def _run_worker(request: dict[str, Any], streams: Sequence[int]) -> None:
    """Run a worker as `python -m neftune_cli.sweeps.executors.worker` does, including `sitecustomize`."""
    from neftune_cli.sweeps.executors import worker

    os.setsid()
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["environment"])
    for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        if (startup := Path(folder) / "sitecustomize.py").exists():
            runpy.run_path(str(startup))
    sys.argv = ["worker", *request["arguments"]]
    worker.main()


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
