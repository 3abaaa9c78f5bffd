"""One row of the table, and the two kinds of noise that its cells come from."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from transformers.integrations.neftune import activate_neftune, deactivate_neftune

from neftune_cli.noise import attach_noise

ALPHA = 5.0


@dataclass(frozen=True)
class Finding:
    """What was measured, what the paper or a fair comparison wants, and what came out."""

    measured: str
    wanted: str
    ours: str
    theirs: str


Attach = Callable[[Any, float], AbstractContextManager[object]]
"""Puts noise of an alpha on a model for the length of a `with` block."""


def ours(model: Any, alpha: float) -> AbstractContextManager[object]:
    """Attach our noise."""
    return attach_noise(model, alpha)


@contextmanager
def theirs(model: Any, alpha: float) -> Iterator[None]:
    """Attach the hook of transformers, which TRL's trainers use too."""
    handle = activate_neftune(model, alpha)
    try:
        yield
    finally:
        deactivate_neftune(model, handle)


def neither(*_: object) -> AbstractContextManager[object]:
    """Attach nothing."""
    return nullcontext()


BOTH = (ours, theirs)
