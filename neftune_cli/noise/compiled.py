"""Drawing as one opaque operation, so that a compiled model calls it without a graph break or a recompilation.

A compiler can neither trace a generator of its own nor keep Python's counters current; what happens inside an operation
is none of its business.
"""

from collections.abc import Callable
from weakref import WeakMethod

import torch
from torch import Tensor

from neftune_cli.noise.batch import Batch

Draw = Callable[[Tensor, Batch], Tensor]
"""From embeddings (batch, length, dim) and what is known of their batch to their noise, of the same shape and dtype."""

_draws: dict[int, WeakMethod[Draw]] = {}


def register(draw: Draw) -> int:
    """Return the number under which compiled code calls a bound method, for as long as its object lives."""
    number = max(_draws, default=0) + 1

    def forget(_: object) -> None:
        _draws.pop(number, None)

    _draws[number] = WeakMethod(draw, forget)
    return number


def traceable_draw(number: int, embeddings: Tensor, batch: Batch) -> Tensor:
    """Return the noise for embeddings, in a form that torch.compile takes as one step of its graph."""
    noise: Tensor = _draw(
        embeddings.detach(),
        number,
        batch.input_ids,
        batch.attention_mask,
        batch.position_ids,
        batch.cu_seq_lens,
        batch.labels,
    )
    return noise


@torch.library.custom_op(
    "neftune::draw",
    mutates_args=(),
    # Not to be merged, recomputed or replayed: each call is another draw.
    tags=(torch.Tag.nondeterministic_seeded, torch.Tag.cudagraph_unsafe),
)
def _draw(
    embeddings: Tensor,
    number: int,
    input_ids: Tensor | None,
    attention_mask: Tensor | None,
    position_ids: Tensor | None,
    cu_seq_lens: Tensor | None,
    labels: Tensor | None,
) -> Tensor:
    draw = _draws[number]()
    assert draw is not None
    batch = Batch(input_ids, attention_mask, position_ids, cu_seq_lens, labels, already_embedded=False)
    return draw(embeddings, batch)


@_draw.register_fake
def _(embeddings: Tensor, *_: object) -> Tensor:
    return torch.empty_like(embeddings)
