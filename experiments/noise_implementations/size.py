"""How large the noise is at the same example in different layouts, models and modes, told as the alpha it equals."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from experiments.noise_implementations.finding import ALPHA, BOTH, Attach, Finding
from experiments.noise_implementations.tiny_models import alpha_of, bart, granite, llama, noise_received, t5

LENGTH = 150
"""Real tokens of the example that is looked at, the first of row 0."""
ROW = 2048
"""Tokens of a packed row."""
REPEATS = 8


@dataclass(frozen=True)
class Layout:
    """A batch that holds the example."""

    name: str
    inputs: dict[str, Tensor]


def layouts() -> tuple[Layout, ...]:
    """Return the ways in which the same example reaches a model."""
    return (
        Layout("alone", padded((LENGTH,), LENGTH)),
        Layout(f"padded to {2 * LENGTH}", padded((LENGTH,), 2 * LENGTH)),
        Layout(f"in a batch with one of {4 * LENGTH} tokens", padded((LENGTH, 4 * LENGTH), 4 * LENGTH)),
        Layout(f"packed into a row of {ROW}", packed()),
    )


def padded(lengths: tuple[int, ...], width: int) -> dict[str, Tensor]:
    """Return examples of these lengths, padded on the right: (batch, width)."""
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": torch.ones_like(mask), "attention_mask": mask}


def packed() -> dict[str, Tensor]:
    """Return examples of LENGTH tokens one behind the other, the last one cut: (1, ROW)."""
    positions = (torch.arange(ROW) % LENGTH)[None]
    return {"input_ids": torch.ones_like(positions), "position_ids": positions}


def noise_sizes() -> Iterator[Finding]:
    """Yield the alpha that the example gets in every layout, and its padding."""
    for layout in layouts():
        name = f"alpha at an example of {LENGTH} tokens, {layout.name}"
        yield _both(name, ALPHA, llama, layout.inputs, slice(LENGTH))
    yield _both("alpha at its padding", 0, llama, padded((LENGTH,), 2 * LENGTH), slice(LENGTH, 2 * LENGTH))


def other_models() -> Iterator[Finding]:
    """Yield the alpha that the example gets in models whose embedding module isn't all there is to it."""
    inputs = padded((LENGTH,), LENGTH)
    for name, build in (("the encoder of T5", t5), ("the encoder of BART", bart), ("the layers of Granite", granite)):
        yield _both(f"alpha that reaches {name}", ALPHA, build, inputs, slice(LENGTH))


def clean_forwards() -> Iterator[Finding]:
    """Yield the alpha that the example gets where nothing is learnt."""
    with torch.no_grad():
        inputs = padded((LENGTH,), LENGTH)
        yield _both("alpha in training mode without gradients (generation)", 0, llama, inputs, slice(LENGTH))
        yield _both("alpha in evaluation mode", 0, lambda: llama().eval(), inputs, slice(LENGTH))


def _both(name: str, wanted: float, build: Callable[[], Any], inputs: dict[str, Tensor], tokens: slice) -> Finding:
    seen = [f"{alpha_seen(build(), attach, inputs, tokens):.2f}" for attach in BOTH]
    return Finding(name, f"{wanted:.2f}", *seen)


def alpha_seen(model: Any, attach: Attach, inputs: dict[str, Tensor], tokens: slice) -> float:
    """Return the alpha that explains the noise on these tokens of row 0, for an example of LENGTH tokens."""
    torch.manual_seed(0)
    decoder = {"decoder_input_ids": torch.ones(len(inputs["input_ids"]), 1, dtype=torch.long)}
    with attach(model, ALPHA), noise_received(model) as received:
        for _ in range(REPEATS):
            model(**inputs, **(decoder if model.config.is_encoder_decoder else {}))
    return alpha_of(torch.stack(received)[:, 0, tokens], LENGTH)
