"""Size of the noise on one example, as effective alpha, in different batch layouts, models and modes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from experiments.noise_implementations.finding import ALPHA, BOTH, Attach, Finding
from experiments.noise_implementations.tiny_models import alpha_of, bart, granite, llama, noise_received, t5

LENGTH = 150
"""Length of the measured example, in tokens. It is the first in row 0."""
ROW = 2048
"""Tokens of a packed row."""
REPEATS = 8


@dataclass(frozen=True)
class BatchLayout:
    """A batch that contains the example."""

    name: str
    inputs: dict[str, Tensor]


def layouts() -> tuple[BatchLayout, ...]:
    """Return batches that contain the same example in different ways."""
    return (
        BatchLayout("alone", padded((LENGTH,), LENGTH)),
        BatchLayout(f"padded to {2 * LENGTH}", padded((LENGTH,), 2 * LENGTH)),
        BatchLayout(f"in a batch with one of {4 * LENGTH} tokens", padded((LENGTH, 4 * LENGTH), 4 * LENGTH)),
        BatchLayout(f"packed into a row of {ROW}", packed()),
    )


def padded(lengths: tuple[int, ...], width: int) -> dict[str, Tensor]:
    """Return examples of these lengths, padded on the right: (batch, width)."""
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": torch.ones_like(mask), "attention_mask": mask}


def packed() -> dict[str, Tensor]:
    """Return a row of packed examples of LENGTH tokens, the last one truncated: (1, ROW)."""
    positions = (torch.arange(ROW) % LENGTH)[None]
    return {"input_ids": torch.ones_like(positions), "position_ids": positions}


def noise_sizes() -> Iterator[Finding]:
    """Yield the effective alpha of the example in every layout, and that of its padding."""
    for layout in layouts():
        name = f"effective alpha of an example of {LENGTH} tokens, {layout.name}"
        yield _both(name, ALPHA, llama, layout.inputs, slice(LENGTH))
    yield _both("effective alpha of its padding", 0, llama, padded((LENGTH,), 2 * LENGTH), slice(LENGTH, 2 * LENGTH))


def other_models() -> Iterator[Finding]:
    """Yield the effective alpha in models that process the output of their embedding module further."""
    inputs = padded((LENGTH,), LENGTH)
    for name, build in (("the encoder of T5", t5), ("the encoder of BART", bart), ("the layers of Granite", granite)):
        yield _both(f"effective alpha at {name}", ALPHA, build, inputs, slice(LENGTH))


def clean_forwards() -> Iterator[Finding]:
    """Yield the effective alpha in generation and evaluation."""
    with torch.no_grad():
        inputs = padded((LENGTH,), LENGTH)
        yield _both("effective alpha in training mode without gradients (generation)", 0, llama, inputs, slice(LENGTH))
        yield _both("effective alpha in evaluation mode", 0, lambda: llama().eval(), inputs, slice(LENGTH))


def _both(name: str, expected: float, build: Callable[[], Any], inputs: dict[str, Tensor], tokens: slice) -> Finding:
    measured = [f"{effective_alpha(build(), attach, inputs, tokens):.2f}" for attach in BOTH]
    return Finding(name, f"{expected:.2f}", *measured)


def effective_alpha(model: Any, attach: Attach, inputs: dict[str, Tensor], tokens: slice) -> float:
    """Return the effective alpha of the noise on these tokens of row 0, for an example of LENGTH tokens."""
    torch.manual_seed(0)
    decoder = {"decoder_input_ids": torch.ones(len(inputs["input_ids"]), 1, dtype=torch.long)}
    with attach(model, ALPHA), noise_received(model) as received:
        for _ in range(REPEATS):
            model(**inputs, **(decoder if model.config.is_encoder_decoder else {}))
    return alpha_of(torch.stack(received)[:, 0, tokens], LENGTH)
