"""Keeps the libraries' own output (progress bars, warnings, logging) in the trial's log, off the screen."""

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

Redirect = Callable[[Path], AbstractContextManager[None]]
"""Sends what is printed inside to the end of a file, an exception's traceback included."""

LAST_LINES, LAST_BYTES = 20, 8192
ATTEMPT = "--- "
"""How the head of an attempt begins in a trial's log."""
CRASH = "Fatal Python error:"
"""How faulthandler begins, whose traceback has the innermost call first."""


@contextmanager
def redirect_library_output(path: Path) -> Iterator[None]:
    """Append whatever Python code prints, warns or logs inside to a file, an exception's traceback included.

    Whoever shows progress meanwhile must hold the stream it had before.
    """
    with path.open("a", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        handler = logging.StreamHandler(file)
        loggers = [logging.getLogger(name) for name in ("", *_LIBRARIES)]
        before = [list(logger.handlers) for logger in loggers]
        for logger in loggers:
            logger.handlers = [handler] if logger.name == "root" else []
        try:
            with _told():
                yield
        finally:
            for logger, handlers in zip(loggers, before, strict=True):
                logger.handlers = handlers


@contextmanager
def redirect_process_output(path: Path) -> Iterator[None]:
    """Append whatever this process writes to its output and error stream inside to a file, C++ code's included.

    An exception's traceback is written there too, and so is the one of a process that dies, by `faulthandler`.
    """
    before = os.dup(1), os.dup(2)
    redirect_output_permanently(path)
    try:
        with _told():
            yield
    finally:
        _flush()
        for descriptor, standard in zip(before, (1, 2), strict=True):
            os.dup2(descriptor, standard)
            os.close(descriptor)


def redirect_output_permanently(path: Path) -> None:
    """Let the output and the error stream of this process end in a file from now on."""
    _flush()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


def log_tail(path: Path) -> str:
    """Return the last lines of a log, or the first ones of a crash's traceback; nothing if there is no log."""
    try:
        with path.open("rb") as file:
            file.seek(-min(LAST_BYTES, path.stat().st_size), os.SEEK_END)
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    told = [line for line in lines if line.strip()]
    crashes = [number for number, line in enumerate(told) if line.startswith(CRASH)]
    return "\n".join(told[crashes[-1] :][:LAST_LINES] if crashes else told[-LAST_LINES:])


@contextmanager
def _told() -> Iterator[None]:
    """Show every warning, and the traceback of what is raised."""
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
"""Libraries whose root logger has a handler of its own on the standard error stream."""
