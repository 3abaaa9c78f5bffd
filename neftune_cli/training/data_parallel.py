"""One trial in several processes: this process is rank 0, which starts the others, measures, and alone writes files.

The other ranks run `neftune_cli.training.rank`. They end with this process: they watch a pipe that it holds.
If one of them fails, the trial fails. If the training does not notice it in NOTICE_SECONDS, this process ends instead:
the sweep replaces this worker, and the trial continues from a checkpoint.
"""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from neftune_cli.config.process import with_this_package
from neftune_cli.config.run_settings import ACCELERATE_CONFIG, Sharding, TrialSettings
from neftune_cli.config.spec import TrainSpec, TrialSpec
from neftune_cli.errors import Problem, TrialError, UsageError
from neftune_cli.training.trial import divided_batch

COMMAND = (sys.executable, "-P", "-m", "neftune_cli.training.rank")
EXIT_SECONDS = 20.0
"""Time that the other ranks have to end after the last step."""
CONNECTION_SECONDS = 2.0
"""Time that a rank has to end after its connection was closed."""
NOTICE_SECONDS = 60.0
"""Time that rank 0 has to notice that another rank has failed."""
_POLL_SECONDS = 1.0
_DIVISION = frozenset({"dispatch_batches", "even_batches", "split_batches"})
"""Fields of accelerator_config that change the examples of a step, or their order, with several processes only."""
TIMEOUT_SECONDS = 7 * 86400
"""Longest wait of a rank for another one. The other ranks wait while rank 0 measures."""
_VARIABLES = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    *("ACCELERATE_USE_FSDP", "FSDP_CPU_RAM_EFFICIENT_LOADING"),  # transformers and accelerate set these
)


def batch_problems(train: TrainSpec, settings: TrialSettings) -> Iterator[Problem]:
    """Yield a problem if the examples of a step cannot be divided among the processes."""
    try:
        accumulated = train.gradient_accumulation
    except (TypeError, ValueError):  # `check_recipe` reports a value that is no number
        return
    try:
        divided_batch(train.batch_size, accumulated, settings.processes)
    except ValueError as error:
        what = f"{_given(settings)}: {error}."
        yield Problem(what, f"Use a --batch-size that is a multiple of {settings.processes}.")
    given = train.sft.get("accelerator_config")
    for key in sorted(_DIVISION & given.keys()) if isinstance(given, dict) else ():
        what = f"{_given(settings)}: accelerator_config must not set {key}, which divides the examples."
        yield Problem(what, f"Remove {key}.")


def _given(settings: TrialSettings) -> str:
    """Return the text that gave the number of processes."""
    return f"{f'{ACCELERATE_CONFIG}: num_processes' if settings.sharding else '--nproc'} {settings.processes}"


def check_devices(settings: TrialSettings, *, gpus: int, cores: int) -> None:
    """Check that each process has a GPU or, on a machine without one, a core.

    Raises:
        UsageError: there are too few.
    """
    available, name = (gpus, "GPU") if gpus else (cores, "core")
    if settings.processes > available:
        what = f"{_given(settings)}: this machine has {available} {name}{'' if available == 1 else 's'}."
        if settings.sharding is None:
            fix = f"Use --nproc {available} or less."
        else:
            fix = f"Use num_processes: {available} or less." if available > 1 else f"Remove {ACCELERATE_CONFIG}."
        raise UsageError(Problem(what, fix))


@dataclass(frozen=True)
class RankRequest:
    """The trial that the other ranks train together with rank 0."""

    spec: TrialSpec
    halvings: int
    """Number of times to halve the batch size."""
    settings: TrialSettings
    """The other ranks read the number of processes and the sharding."""

    def as_json(self) -> str:
        """Return the request as one line."""
        sharding = asdict(self.settings.sharding) if self.settings.sharding else None
        values = {"halvings": self.halvings, "processes": self.settings.processes, "sharding": sharding}
        return json.dumps({"spec": self.spec.model_dump(mode="json", by_alias=True), **values})

    @classmethod
    def from_json(cls, line: str) -> "RankRequest":
        """Return the request that `as_json` wrote."""
        values = json.loads(line)
        sharding = Sharding(**values["sharding"]) if values["sharding"] else None
        settings = TrialSettings(processes=values["processes"], sharding=sharding)
        return cls(TrialSpec.model_validate(values["spec"]), values["halvings"], settings)


@contextmanager
def data_parallel(request: RankRequest, log: Path) -> Iterator[None]:
    """Make this process rank 0 of several during the block, and start the others. With one process, nothing is done.

    Args:
        request: the trial that the other ranks train.
        log: file that receives the output of the other ranks.

    Raises:
        TrialError: another rank has failed.
    """
    processes = request.settings.processes
    if processes == 1:
        yield
        return
    import torch

    threads = max(1, torch.get_num_threads() // processes)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    of_others = {**address, "OMP_NUM_THREADS": str(threads)}
    with _as_rank_0(processes, address, threads), _other_ranks(processes, of_others, request, log):
        yield


def broadcast_from_rank_0(text: str | None) -> str | None:
    """Return the text of rank 0 on every rank. A trial in one process gets its own text back.

    Every rank must call this, after its trainer has joined the group of processes. It waits for rank 0.

    Args:
        text: on rank 0, the text for all ranks; it has no effect on the other ranks.
    """
    from accelerate.utils import broadcast_object_list

    (received,) = broadcast_object_list([text], from_process=0)
    return None if received is None else str(received)


def raise_on_every_rank(problem: str | None) -> None:
    """Wait until every rank has called this, and raise the same error on all of them if one has a problem.

    Without it, the ranks without a problem would wait for one that has ended.

    Args:
        problem: why this rank cannot train, None if it can.

    Raises:
        TrialError: a rank has a problem; with the problem of the first one.
    """
    from accelerate.utils import gather_object

    if first := next(filter(None, gather_object([problem])), None):
        raise TrialError(first)


@contextmanager
def _as_rank_0(processes: int, address: Mapping[str, str], threads: int) -> Iterator[None]:
    """Give this process the variables of rank 0 and its share of the threads; restore both at the end."""
    import torch

    threads_before = torch.get_num_threads()
    before = {name: os.environ.get(name) for name in _VARIABLES}
    os.environ.update(_rank_variables(0, processes, address))
    torch.set_num_threads(threads)
    reset_state()
    try:
        yield
    finally:
        end_group()
        torch.set_num_threads(threads_before)
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


@contextmanager
def _other_ranks(processes: int, variables: Mapping[str, str], request: RankRequest, log: Path) -> Iterator[None]:
    """Start the other ranks, wait for them at the end of the block, and end them if it fails."""
    others = [_started(rank, processes, variables, request, log) for rank in range(1, processes)]
    has_ended = threading.Event()
    threading.Thread(target=end_with_others, args=(others, has_ended), daemon=True).start()
    try:
        yield
        has_ended.set()
        _wait(others, log)
    except TrialError:
        raise
    except Exception as error:
        if failed := [one for one in others if _has_failed(one, error)]:
            raise TrialError(f"{len(failed)} of {processes} processes of the trial ended. See {log}.") from error
        raise
    finally:
        has_ended.set()
        for one in others:
            one.kill()
            one.wait()
            assert one.stdin is not None
            one.stdin.close()


def end_with_others(
    others: "Sequence[subprocess.Popen[bytes]]", has_ended: threading.Event, *, notice_seconds: float = NOTICE_SECONDS
) -> None:
    """End this process if another rank fails and the training does not notice it. GPUs may wait for that rank forever.

    Args:
        others: the processes of the other ranks.
        has_ended: set when the training has ended, or has failed.
        notice_seconds: time in which the training may notice the failure and raise an error.
    """
    while not has_ended.wait(_POLL_SECONDS):
        for rank, one in enumerate(others, start=1):
            if (code := one.poll()) and not has_ended.wait(notice_seconds):
                ended = f"Process {rank} of the trial ended with exit code {code}; its error is above. Rank 0 ends too."
                print(ended, file=sys.stderr)
                os._exit(1)


def reset_state() -> None:
    """Let accelerate read the variables of the ranks again."""
    from accelerate.state import AcceleratorState, GradientState, PartialState

    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


def end_group() -> None:
    """Leave the group of processes, without waiting for the others."""
    import torch

    if torch.distributed.is_initialized():
        if torch.distributed.get_backend() == "nccl":  # which would wait for the others when the group is destroyed
            torch.distributed.distributed_c10d._abort_process_group()
        else:
            torch.distributed.destroy_process_group()
    reset_state()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _rank_variables(rank: int, processes: int, address: Mapping[str, str]) -> dict[str, str]:
    ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    return {**address, **ranks, "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}


def _started(
    rank: int, processes: int, variables: Mapping[str, str], request: RankRequest, log: Path
) -> "subprocess.Popen[bytes]":
    """Start another rank. The pipe to its stdin stays open as long as this process lives."""
    environment = {**with_this_package(os.environ), **_rank_variables(rank, processes, variables)}
    with log.open("ab") as output:
        process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=output, stderr=output, env=environment)
    assert process.stdin is not None
    process.stdin.write(request.as_json().encode() + b"\n")
    process.stdin.flush()
    return process


def _has_failed(other: "subprocess.Popen[bytes]", error: Exception) -> bool:
    """Return whether another rank has failed.

    Its connection closes before its process ends, which can cause `error` here. After an error of this kind, this waits
    for the process for a short time.
    """
    if isinstance(error, RuntimeError):
        with suppress(subprocess.TimeoutExpired):
            other.wait(CONNECTION_SECONDS)
    return bool(other.poll())


def _wait(others: "list[subprocess.Popen[bytes]]", log: Path) -> None:
    for one in others:
        try:
            code = one.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        if code:
            raise TrialError(f"A process of the trial ended with exit code {code} after the last step. See {log}.")
