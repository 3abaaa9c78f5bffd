"""Silence for transformers while it loads: its bars and warnings say what this package says in its own notes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from transformers.utils import logging


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hide progress bars and everything below an error inside the block, and put the settings back after it."""
    verbosity = logging.get_verbosity()
    hook = logging.set_tqdm_hook(_hidden_bar)
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        logging.set_tqdm_hook(hook)


def _hidden_bar(bar: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    return bar(*args, **{**options, "disable": True})
