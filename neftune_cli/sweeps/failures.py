"""Failures: the kind of an exception, which determines the reaction of the sweep, and its reason as a sentence."""

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from neftune_cli.errors import LeaseLost, NeftuneError, TrialStopped

FailureKind = Literal["out-of-memory", "disk-full", "folder-gone", "read-only", "stopped", "lease-lost", "failed"]
DISK_KINDS: tuple[FailureKind, ...] = ("disk-full", "folder-gone", "read-only")
"""Kinds that concern the results folder and so all trials."""
MOST_CHARACTERS = 300


@dataclass(frozen=True)
class Failure:
    """Reason why a trial has no record."""

    kind: FailureKind
    reason: str
    """One line for the user."""


def failure(error: BaseException, folder: Path) -> Failure:
    """Return the failure of a trial that an exception ended.

    Args:
        error: the exception with its causes.
        folder: results folder of the sweep.

    """
    if isinstance(error, TrialStopped) or not isinstance(error, Exception):  # KeyboardInterrupt is no Exception
        return Failure("stopped", _one_line(str(error)) or "Interrupted.")
    if kind := _disk_kind(error, folder):
        return Failure(kind, _DISK_REASONS[kind].format(folder=folder))
    if isinstance(error, LeaseLost):
        return Failure("lease-lost", _one_line(str(error)))
    if is_out_of_memory(error):
        return Failure("out-of-memory", _memory_reason(error))
    if isinstance(error, NeftuneError):
        return Failure("failed", _one_line(str(error)))
    return Failure("failed", _one_line(f"{type(error).__name__}: {error}"))


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether device or machine memory ran out."""
    return any(_lacks_memory(one) for one in _chain(error))


_DISK_REASONS: dict[FailureKind, str] = {
    "disk-full": "The disk of {folder} is full.",
    "folder-gone": "{folder} no longer exists. Restore it, or start again.",
    "read-only": "{folder} is not writable.",
}

_MEMORY_TEXT = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|not enough memory|bad_alloc|_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)
"""Torch has an exception type for some of these. The CPU allocator, cuBLAS and MPS raise RuntimeError."""

_NO_PRIMITIVE = "could not create a primitive"
"""Message of oneDNN without memory for code or buffers. Other causes are rare, and it names none."""

_SYSTEM_ERROR = re.compile(r"(?:errno|os error)[ \]]*(\d+)", re.IGNORECASE)
"""System error number in messages of Python, pyarrow and safetensors (Rust)."""


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
        where = f"memory, probably ({_NO_PRIMITIVE})"
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
        return None  # an error of another folder, for example of temporary files
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
    """Return the file that an error names, None if there is none."""
    name = getattr(error, "filename", None)
    return Path(name).absolute() if isinstance(name, str) else None


def _one_line(text: str) -> str:
    return " ".join(text.split())[:MOST_CHARACTERS]
