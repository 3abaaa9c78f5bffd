"""From an exception to a failure: what kind it is, which decides what the sweep does next, and its reason in words."""

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from neftune_cli.errors import LeaseLost, NeftuneError, TrialStopped

FailureKind = Literal["out-of-memory", "disk-full", "folder-gone", "read-only", "stopped", "claim-lost", "failed"]
DISK_KINDS: tuple[FailureKind, ...] = ("disk-full", "folder-gone", "read-only")
"""What is wrong with the results folder, whatever the trial."""
MOST_CHARACTERS = 300


@dataclass(frozen=True)
class Failure:
    """Why a trial has no record."""

    kind: FailureKind
    reason: str
    """One line for the user."""


def failure(error: BaseException, folder: Path) -> Failure:
    """Return what an exception means for the trial that it ended.

    Args:
        error: what was raised, with its causes.
        folder: the sweep's folder.
    """
    if isinstance(error, TrialStopped) or not isinstance(error, Exception):  # KeyboardInterrupt is no Exception
        return Failure("stopped", _one_line(str(error)) or "Interrupted.")
    if kind := _disk_kind(error, folder):
        return Failure(kind, _DISK_REASONS[kind].format(folder=folder))
    if isinstance(error, LeaseLost):
        return Failure("claim-lost", _one_line(str(error)))
    if is_out_of_memory(error):
        return Failure("out-of-memory", _memory_reason(error))
    if isinstance(error, NeftuneError):
        return Failure("failed", _one_line(str(error)))
    return Failure("failed", _one_line(f"{type(error).__name__}: {error}"))


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory, of the device or of the machine, has not been enough."""
    return any(_lacks_memory(one) for one in _chain(error))


_DISK_REASONS: dict[FailureKind, str] = {
    "disk-full": "The disk that {folder} is on is full.",
    "folder-gone": "{folder} is gone; put it back, or begin anew.",
    "read-only": "{folder} can't be written.",
}

_MEMORY_TEXT = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|not enough memory|bad_alloc|_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)
"""Torch has a type of its own for some of these alone; the CPU's allocator, cuBLAS and MPS raise RuntimeError."""

_NO_PRIMITIVE = "could not create a primitive"
"""What oneDNN says when it gets no memory for code or buffers; it has few other reasons, and tells none of them."""

_SYSTEM_ERROR = re.compile(r"(?:errno|os error)[ \]]*(\d+)", re.IGNORECASE)
"""How Python, pyarrow and safetensors (Rust) write the system's error number."""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _lacks_memory(error: BaseException) -> bool:
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    text = str(error)
    told = isinstance(error, RuntimeError | OSError) and (_MEMORY_TEXT.search(text) or text == _NO_PRIMITIVE)
    return named or bool(told)


def _memory_reason(error: BaseException) -> str:
    text = " ".join(str(one) for one in _chain(error))
    where = "GPU memory" if re.search(r"cuda|cublas|mps|hip", text, re.IGNORECASE) else "memory"
    if _NO_PRIMITIVE in text:
        where = f"memory, as it seems ({_NO_PRIMITIVE})"
    return f"Out of {where}; lower --batch-size or --max-length, or use --on-oom halve-batch."


def _disk_kind(error: BaseException, folder: Path) -> FailureKind | None:
    if not folder.is_dir():
        return "folder-gone"
    kinds = (_kind_of_system_error(one, folder) for one in _chain(error))
    return next((kind for kind in kinds if kind), None)


def _kind_of_system_error(error: BaseException, folder: Path) -> FailureKind | None:
    number = _system_error(error)
    where = _file_of(error)
    if where is not None and not where.is_relative_to(folder.absolute()):
        return None  # of a folder for temporary files, say, whose name the error has
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "disk-full"
    if number == errno.EROFS or (number in (errno.EACCES, errno.EPERM) and where is not None):
        return "read-only"
    return None


def _system_error(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _SYSTEM_ERROR.search(str(error))
    if found:
        return int(found[1])
    return errno.ENOSPC if "No space left on device" in str(error) else None


def _file_of(error: BaseException) -> Path | None:
    """Return the file that an error names, None if it names none."""
    name = getattr(error, "filename", None)
    return Path(name).absolute() if isinstance(name, str) else None


def _one_line(text: str) -> str:
    return " ".join(text.split())[:MOST_CHARACTERS]
