"""One row of the comparison, and context managers that attach either kind of noise."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from transformers.integrations.neftune import activate_neftune, deactivate_neftune

from neftune_cli.noise import attach_noise

ALPHA = 5.0


@dataclass(frozen=True)
class Finding:
    """A measurement, the value expected by the paper or by a fair comparison, and the two measured values."""

    measured: str
    expected: str
    ours: str
    upstream: str


Attach = Callable[[Any, float], AbstractContextManager[object]]
"""Return a context in which a model has noise of an alpha."""


def attach_ours(model: Any, alpha: float) -> AbstractContextManager[object]:
    """Attach the noise of neftune."""
    return attach_noise(model, alpha)


@contextmanager
def attach_upstream(model: Any, alpha: float) -> Iterator[None]:
    """Attach the hook of transformers, which the trainers of TRL also use."""
    handle = activate_neftune(model, alpha)
    try:
        yield
    finally:
        deactivate_neftune(model, handle)


def attach_nothing(*_: object) -> AbstractContextManager[object]:
    """Attach nothing."""
    return nullcontext()


BOTH = (attach_ours, attach_upstream)
