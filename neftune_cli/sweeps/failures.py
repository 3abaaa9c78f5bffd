"""Failures of trials: classify an exception by kind, which determines the sweep's reaction, and give its reason.

The kind depends on exception types and error numbers, and on texts only where a library has nothing else. No decision
depends on a message of this package.
"""

import errno
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from neftune_cli.errors import DISK_FULL, LeaseLost, NeftuneError, TrialStopped, UsageError, one_line

DiskFailureKind = Literal["disk-full", "folder-gone", "read-only"]
FailureKind = Literal[DiskFailureKind, "out-of-memory", "stopped", "lease-lost", "failed"]
DISK_KINDS: tuple[DiskFailureKind, ...] = ("disk-full", "folder-gone", "read-only")
"""Failures of the results folder, and on a cluster of the folders with model and data, which affect every trial."""


@dataclass(frozen=True)
class Failure:
    """The reason why an attempt at a trial has no record, or why a file of the sweep cannot be read or written."""

    kind: FailureKind
    reason: str
    """One line for the user."""


_USAGE_CHARACTERS = 1000
"""Largest length of a reason that ends with its fix, which is not to be cut even if the reason names long paths."""
STOPPED = Failure("stopped", "The trial was asked to stop.")


def failure_of(error: BaseException, folder: Path) -> Failure:
    """Classify the exception that ended a trial.

    Args:
        error: the exception, with its causes.
        folder: the sweep's folder.
    """
    if isinstance(error, TrialStopped) or not isinstance(error, Exception):  # for example KeyboardInterrupt
        return Failure("stopped", one_line(str(error)) or "Interrupted.")
    if kind := _disk_kind(error, folder):
        return Failure(kind, _DISK_REASONS[kind].format(folder=folder))
    if isinstance(error, LeaseLost):
        return Failure("lease-lost", one_line(str(error)))
    if is_out_of_memory(error):
        return Failure("out-of-memory", _memory_reason(error))
    return Failure("failed", _other_reason(error))


def _other_reason(error: Exception) -> str:
    if isinstance(error, UsageError):
        return one_line(str(error), _USAGE_CHARACTERS)
    return one_line(str(error) if isinstance(error, NeftuneError) else f"{type(error).__name__}: {error}")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the exception or one of its causes is a failed allocation, on the GPU or in main memory."""
    return any(_is_failed_allocation(one) for one in _chain(error))


_DISK_REASONS: dict[DiskFailureKind, str] = {
    "disk-full": "The disk with the results folder {folder} is full.",
    "folder-gone": "The results folder {folder} no longer exists. Move it back, or start again.",
    "read-only": "The results folder {folder} is not writable.",
}

_ALLOCATION_TEXT = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|not enough memory|bad_alloc|_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)
"""Texts of failed allocations. Torch has an exception type for CUDA only; its CPU allocator, cuBLAS and MPS raise a
plain RuntimeError."""

_ONEDNN_TEXT = "could not create a primitive"
"""Text of oneDNN when it gets no memory for code or buffers. It reports other errors, which are rare, the same way."""

_GPU_TEXT = re.compile(r"\b(?:cuda|cublas|mps|hip)", re.IGNORECASE)
"""Names of GPU libraries at the start of a word, in texts of failed allocations."""

_SYSTEM_ERROR = re.compile(r"(?:errno|os error)[ \]]*(\d+)", re.IGNORECASE)
"""The system's error number in messages of Python, pyarrow and safetensors (Rust)."""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _is_failed_allocation(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)
    has_text = _ALLOCATION_TEXT.search(text) is not None or text == _ONEDNN_TEXT
    return isinstance(error, RuntimeError | OSError) and has_text


def _memory_reason(error: BaseException) -> str:
    text = " ".join(str(one) for one in _chain(error) if _is_failed_allocation(one))
    memory = "GPU memory" if _GPU_TEXT.search(text) else "memory"
    if _ONEDNN_TEXT in text:
        memory = f"memory, probably ({_ONEDNN_TEXT})"
    return f"Out of {memory}. Lower --batch-size or --max-length, or use --on-oom halve-batch."


def _disk_kind(error: BaseException, folder: Path) -> DiskFailureKind | None:
    try:
        is_folder = stat.S_ISDIR(folder.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        is_folder = False
    except OSError:  # for example of a network drive that was lost
        return "read-only"
    if not is_folder:
        return "folder-gone"
    kinds = (_system_error_kind(one, folder) for one in _chain(error))
    return next((kind for kind in kinds if kind), None)


def _system_error_kind(error: BaseException, folder: Path) -> DiskFailureKind | None:
    number = _system_error_number(error)
    path = _path_in(error)
    if path is not None and not path.is_relative_to(folder.absolute()):
        return None  # for example in a folder for temporary files
    if number in DISK_FULL:
        return "disk-full"
    if number == errno.EROFS or (number in (errno.EACCES, errno.EPERM) and path is not None):
        return "read-only"
    return None


def _system_error_number(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if isinstance(error, NeftuneError):  # its text may quote data or names; its causes are checked by themselves
        return None
    found = _SYSTEM_ERROR.search(str(error))
    if found:
        return int(found[1])
    return errno.ENOSPC if "No space left on device" in str(error) else None


def _path_in(error: BaseException) -> Path | None:
    """Return the file that an error names, or None."""
    name = getattr(error, "filename", None)
    return Path(name).absolute() if isinstance(name, str) else None
