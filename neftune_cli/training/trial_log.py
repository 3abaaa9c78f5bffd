"""The trial's log file: redirect output of libraries and processes to it, and read its last lines."""

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

Redirect = Callable[[Path], AbstractContextManager[None]]
"""Return a context whose output, including the traceback of an exception, is appended to a file."""

LAST_LINES, LAST_BYTES = 20, 8192
ATTEMPT = "--- "
"""Prefix of the line that starts each attempt in a trial's log."""
CRASH = "Fatal Python error:"
"""Prefix of faulthandler's output. Its traceback lists the innermost call first."""


@contextmanager
def redirect_library_output(path: Path) -> Iterator[None]:
    """Append everything that Python code prints, warns or logs to a file, including the traceback of an exception.

    To show progress meanwhile, write to a stream obtained before entering this context.
    """
    with path.open("a", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        handler = logging.StreamHandler(file)
        loggers = [logging.getLogger(name) for name in ("", *_LIBRARIES)]
        before = [list(logger.handlers) for logger in loggers]
        for logger in loggers:
            logger.handlers = [handler] if logger.name == "root" else []
        try:
            with _warnings_and_tracebacks():
                yield
        finally:
            for logger, handlers in zip(loggers, before, strict=True):
                logger.handlers = handlers


@contextmanager
def redirect_process_output(path: Path) -> Iterator[None]:
    """Append everything that this process writes to stdout and stderr to a file, including output of C++ code.

    The file also receives the traceback of an exception and, if the process crashes, the output of `faulthandler`.
    """
    before = os.dup(1), os.dup(2)
    redirect_output_permanently(path)
    try:
        with _warnings_and_tracebacks():
            yield
    finally:
        _flush()
        for descriptor, standard in zip(before, (1, 2), strict=True):
            os.dup2(descriptor, standard)
            os.close(descriptor)


def redirect_output_permanently(path: Path) -> None:
    """Append stdout and stderr of this process to a file from now on."""
    _flush()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


def log_tail(path: Path) -> str:
    """Return the last lines of a log. After a crash, return the first lines of its traceback. Empty without a log."""
    try:
        with path.open("rb") as file:
            file.seek(-min(LAST_BYTES, path.stat().st_size), os.SEEK_END)
            content = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line for line in content.splitlines() if line.strip()]
    crashes = [number for number, line in enumerate(lines) if line.startswith(CRASH)]
    return "\n".join(lines[crashes[-1] :][:LAST_LINES] if crashes else lines[-LAST_LINES:])


@contextmanager
def _warnings_and_tracebacks() -> Iterator[None]:
    """Print every warning, and the traceback of an exception that leaves the context."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            yield
    except BaseException:
        traceback.print_exc(file=sys.stderr)
        raise


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


_LIBRARIES = ("transformers", "trl", "datasets", "accelerate", "peft")
"""Libraries whose root logger has its own handler on stderr."""
