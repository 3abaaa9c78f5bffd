"""The draw as one opaque operator, which a compiled model calls without a graph break or a recompilation.

The compiler cannot trace a separate generator and does not keep Python counters current. It does not look inside an
operator.
"""

from collections.abc import Callable
from weakref import WeakMethod

import torch
from torch import Tensor

from neftune_cli.noise.batch import Batch

BatchDraw = Callable[[Tensor, Batch], Tensor]
"""Return the noise of embeddings (batch, length, dim) and their batch, in the shape and dtype of the embeddings."""

_draws: dict[int, WeakMethod[BatchDraw]] = {}


def register_draw(draw: BatchDraw) -> int:
    """Return the number under which compiled code calls a bound method while its object is alive."""
    number = max(_draws, default=0) + 1

    def forget(_: object) -> None:
        _draws.pop(number, None)

    _draws[number] = WeakMethod(draw, forget)
    return number


def traceable_draw(number: int, embeddings: Tensor, batch: Batch) -> Tensor:
    """Return the noise for embeddings through the operator, which is one node of the compiled graph."""
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
    # The compiler must not merge, recompute or replay calls: each call is a new draw.
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
