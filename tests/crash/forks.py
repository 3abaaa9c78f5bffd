"""Process whose forks run commands and workers, and the comparison of the results of sweeps."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.command_line import overridden
from tests.small_model import WITH_SMALL_MODEL

KILLED = -signal.SIGKILL
SMALL = ("--train-examples", "16", "--batch-size", "8", "--eval-examples", "4", "--max-new-tokens", "8")
SWEEP = (
    *("sweep", "--workers", "0", "--quiet", "--alphas", "0,5", "--seeds", "1", "--epochs", "2", *SMALL),
    *("--checkpoint-steps", "1", "--no-estimate", "--output", "sweep"),
)
"""Three trials: the base model, and two trainings of four steps in two epochs, with a checkpoint after each step."""
ONE_TRAINING = overridden(*SWEEP, "--alphas", "5", *WITH_SMALL_MODEL)
"""Two trials of the small model: the base model, and one such training."""
MILESTONES_FILE = "milestones.txt"


@dataclass
class Forks:
    """A process with all imports, which runs each command and each worker in a fork of itself."""

    requests: IO[str]
    replies: IO[str]

    def start(
        self, folder: Path, arguments: Sequence[str] = SWEEP, *, die_at: str | None = None, occurrence: int = 1
    ) -> int:
        """Start `neftune` in a folder and return its process id. Optionally kill it at a milestone."""
        folder.mkdir(parents=True, exist_ok=True)
        return self._ask(
            start={
                "folder": str(folder),
                "arguments": arguments,
                "milestones": str(folder / MILESTONES_FILE),
                "die_at": die_at,
                "occurrence": occurrence,
            }
        )

    def wait(self, process: int) -> int:
        """Return the exit code of a process; after a kill, the negative number of the signal."""
        status = self._ask(wait=process)
        return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)

    def run(
        self, folder: Path, arguments: Sequence[str] = SWEEP, *, die_at: str | None = None, occurrence: int = 1
    ) -> int:
        """Run `neftune` and return its exit code."""
        return self.wait(self.start(folder, arguments, die_at=die_at, occurrence=occurrence))

    def finish(self, folder: Path, arguments: Sequence[str] = SWEEP) -> None:
        """Run a command that must succeed."""
        code = self.run(folder, arguments)
        assert code == 0, (code, (folder / "output.txt").read_text()[-3000:])

    def start_worker(self, arguments: Sequence[str], environment: Mapping[str, str], streams: Sequence[int]) -> int:
        """Start a worker, and return its process id.

        Args:
            arguments: arguments of the worker.
            environment: its environment variables.
            streams: descriptors of this process for its stdin, stdout and stderr.
        """
        paths = [f"/proc/{os.getpid()}/fd/{descriptor}" for descriptor in streams]
        return self._ask(worker={"arguments": arguments, "environment": dict(environment), "streams": paths})

    def _ask(self, **request: object) -> int:
        self.requests.write(json.dumps(request) + "\n")
        self.requests.flush()
        return int(self.replies.readline())


@contextmanager
def forking_process() -> Iterator[Forks]:
    """Start the process. It computes with one thread, because threads do not survive a fork."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "tests.crash.server"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Forks(process.stdin, process.stdout)
        process.stdin.close()


def milestones(folder: Path) -> Counter[str]:
    """Return the number of occurrences of each milestone in a folder, in all processes."""
    lines = (folder / MILESTONES_FILE).read_text().splitlines()
    return Counter(line.partition(" ")[0] for line in lines)


def finish_with_plots(folder: Path, arguments: Sequence[str]) -> None:
    """Run a command that must succeed in a process of its own, which draws plots, unlike forks, with one thread."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "neftune_cli", *arguments]
    subprocess.run(command, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, capture_output=True)


def sweep_files(folder: Path) -> dict[str, bytes]:
    """Return the files of a sweep by path, except those with times, hosts and logs."""
    excluded = ("manifest.json", "state.json", "log.txt", "report.html")
    kept = (path for path in folder.rglob("*") if path.is_file() and path.name not in excluded)
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept}
