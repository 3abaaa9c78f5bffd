"""Keeps the libraries' own output (progress bars, warnings, logging) in the trial's log, off the screen."""

import logging
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path


@contextmanager
def library_output_to(path: Path) -> Iterator[None]:
    """Send whatever is printed, warned or logged inside to a file, an exception's traceback included.

    Whoever shows progress meanwhile must hold the stream it had before.
    """
    with path.open("w", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        handler = logging.StreamHandler(file)
        loggers = [logging.getLogger(name) for name in ("", *_LIBRARIES)]
        before = [list(logger.handlers) for logger in loggers]
        for logger in loggers:
            logger.handlers = [handler] if logger.name == "root" else []
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("default")
                yield
        except BaseException:
            traceback.print_exc(file=sys.stderr)
            raise
        finally:
            for logger, handlers in zip(loggers, before, strict=True):
                logger.handlers = handlers


_LIBRARIES = ("transformers", "trl", "datasets", "accelerate", "peft")
"""Libraries whose root logger has a handler of its own on the standard error stream."""
