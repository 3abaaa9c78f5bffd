"""One trial in several processes: this process is rank 0, which starts the others, measures, and alone writes files.

The other ranks run `neftune_cli.sweeps.rank`. They end with this process: they watch a pipe that it holds.
"""

import json
import math
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from neftune_cli.config.spec import TrainSpec
from neftune_cli.errors import Problem, TrialError, UsageError

COMMAND = (sys.executable, "-P", "-m", "neftune_cli.sweeps.rank")
EXIT_SECONDS = 20.0
"""Time that the other ranks have to end after the last step."""
CONNECTION_SECONDS = 2.0
"""Time that a rank has to end after its connection was closed."""
TIMEOUT_SECONDS = 7 * 86400
"""Longest wait of a rank for another one. The other ranks wait while rank 0 measures."""
_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def divided_batch(at_once: int, accumulated: int, processes: int) -> tuple[int, int]:
    """Return batch size and accumulation steps of each process, so that a step has the same examples as with one.

    >>> divided_batch(16, 1, 2), divided_batch(4, 32, 8), divided_batch(6, 2, 4)
    ((8, 1), (4, 4), (3, 1))

    Raises:
        ValueError: the examples of a step cannot be divided.
    """
    steps = math.gcd(accumulated, processes)
    size, rest = divmod(at_once, processes // steps)
    if rest:
        raise ValueError(f"{at_once} examples x {accumulated} accumulation steps cannot be divided by {processes}")
    return size, accumulated // steps


def batch_problem(train: TrainSpec, processes: int) -> Problem | None:
    """Return the problem that the examples of a step cannot be divided among the processes; None if they can."""
    try:
        divided_batch(train.batch_size, train.gradient_accumulation, processes)
    except ValueError as error:
        return Problem(f"--nproc {processes}: {error}.", "Use a --batch-size that is a multiple of --nproc.")
    return None


def check_devices(processes: int, *, gpus: int, cores: int) -> None:
    """Check that each process has a GPU or, on a machine without one, a core.

    Raises:
        UsageError: there are too few.
    """
    available, name = (gpus, "GPU") if gpus else (cores, "core")
    if processes > available:
        what = f"--nproc {processes}: this machine has {available} {name}{'' if available == 1 else 's'}."
        raise UsageError(Problem(what, f"Use --nproc {available} or less."))


@contextmanager
def data_parallel(processes: int, request: Mapping[str, Any], log: Path) -> Iterator[None]:
    """Make this process rank 0 of several during the block, and start the others.

    Args:
        processes: number of processes; with 1, nothing is done.
        request: what the other ranks train, as `neftune_cli.sweeps.rank` reads it: plain JSON values.
        log: file that receives the output of the other ranks.

    Raises:
        TrialError: another rank has failed.
    """
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

    Each rank calls this once its trainer has joined the group of processes, and waits for rank 0.

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
def _other_ranks(processes: int, variables: Mapping[str, str], request: Mapping[str, Any], log: Path) -> Iterator[None]:
    """Start the other ranks, wait for them at the end of the block, and end them if it fails."""
    others = [_started(rank, processes, variables, request, log) for rank in range(1, processes)]
    try:
        yield
        _wait(others, log)
    except TrialError:
        raise
    except Exception as error:
        if failed := [one for one in others if _has_failed(one, error)]:
            raise TrialError(f"{len(failed)} of {processes} processes of the trial ended. See {log}.") from error
        raise
    finally:
        for one in others:
            one.kill()
            one.wait()
            assert one.stdin is not None
            one.stdin.close()


def reset_state() -> None:
    """Let accelerate read the variables of the ranks again."""
    from accelerate.state import AcceleratorState, GradientState, PartialState

    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


def end_group() -> None:
    """Leave the group of processes, without waiting for the others."""
    import torch

    if torch.distributed.is_initialized():
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
    rank: int, processes: int, variables: Mapping[str, str], request: Mapping[str, Any], log: Path
) -> "subprocess.Popen[bytes]":
    """Start another rank. The pipe to its stdin stays open as long as this process lives."""
    package = str(Path(__file__).parents[2])
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, **_rank_variables(rank, processes, variables), "PYTHONPATH": path}
    with log.open("ab") as output:
        process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=output, stderr=output, env=environment)
    assert process.stdin is not None
    process.stdin.write(json.dumps(request).encode() + b"\n")
    process.stdin.flush()
    return process


def _has_failed(other: "subprocess.Popen[bytes]", error: Exception) -> bool:
    """Return whether another rank has failed, which may be why this one has: its connection closes before it ends."""
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
