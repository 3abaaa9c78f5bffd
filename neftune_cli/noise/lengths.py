"""Half-width of the noise at each token: alpha / sqrt(L * dim), for an example of L real tokens."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from neftune_cli.config.choices import NoiseScale, check_choice
from neftune_cli.config.values import check_alpha
from neftune_cli.errors import Problem, UsageError

WRAPPED_ROWS = Problem(
    "With packing_strategy=wrapped, TRL cuts rows without the boundaries of the examples, which determine the noise.",
    "Use packing_strategy=bfd.",
)
_UNKNOWN_LENGTHS = Problem(
    "The lengths of the examples are unknown.",
    "Pass attention_mask, position_ids, cu_seq_lens or shape.",
)
_NO_PADDING_MASK = Problem(
    "The attention mask does not have the shape (batch, length), so it does not identify padding.",
    "Use a mask of that shape, or position_ids that restart with every example.",
)


def token_half_widths(
    alpha: float,
    dim: int,
    *,
    attention_mask: Tensor | None = None,  # (batch, length), nonzero at real tokens
    position_ids: Tensor | None = None,  # (batch, length) or (1, length)
    cu_seq_lens: Tensor | None = None,  # (examples + 1,), of one flattened row
    placeholders: Tensor | None = None,  # (batch, length), true at placeholders of images and audio
    shape: tuple[int, int] | None = None,  # (batch, length); needed only if no tensor determines it
    noise_scale: NoiseScale = "paper",
) -> Tensor:
    """Return the half-width of the noise at each token, `alpha / sqrt(L * dim)`: (batch, length), float32.

    The noise of a token is its half-width times a random vector of `dim` independent coordinates with mean 0 and
    variance 1/3. Uniform noise therefore lies between minus and plus the half-width in each coordinate. The root mean
    square of the L2 norm of the noise of a token is `alpha / sqrt(3 * L)` (`token_noise_norm`).

    With the noise scale `paper`, L is the number of real tokens of the token's example, and padding has half-width 0.
    The same example gets the same half-width in every layout:

    - `attention_mask`: L is the sum of the row's mask, for left and right padding.
    - `position_ids` of packed rows: an example starts where the position does not increase (TRL restarts at 0,
      RoBERTa at 2). With a mask, L counts the real tokens of each such example.
    - `cu_seq_lens`: the boundaries of the examples in one flattened row; they take precedence over `position_ids`.
    - none of them: the whole row is one example.

    Collators pad packed rows with position 0, or with boundaries one token apart, and pass no mask. Without a mask,
    one-token examples at the end of a row therefore count as padding, except the first token of the row. A real
    one-token example loses nothing: it has no token to predict.

    Placeholders of images and audio get no noise and are not counted: L is the length of the example's text.

    With the noise scale `hf`, L is the length of the row, and all tokens of the row have the same half-width, padding
    included. Layout and placeholders have no effect.

    A mask of more than two dimensions does not identify padding. It is ignored if `position_ids` or `cu_seq_lens`
    delimit the examples, and raises otherwise.

    Source: section 2 of arXiv 2310.05914, with the length and the mask as in the authors' train.py.

    Raises:
        UsageError: alpha is not a number from 0 to 1e6, the shapes disagree, or nothing delimits the examples.
    """
    check_alpha(alpha)
    check_choice("noise scale", noise_scale, NoiseScale)
    shape = shape or _row_shape(attention_mask, position_ids, cu_seq_lens)
    device = _first_device(attention_mask, position_ids, cu_seq_lens, placeholders)
    if noise_scale == "hf":
        return torch.full(shape, alpha / math.sqrt(shape[1] * dim), dtype=torch.float32, device=device)
    packed = position_ids is not None or cu_seq_lens is not None
    mask = _padding_mask(attention_mask, shape, packed=packed)
    starts = _example_starts(position_ids, cu_seq_lens, shape, device)
    real = torch.ones(shape, dtype=torch.bool, device=device) if mask is None else mask.to(device) != 0
    if mask is None and starts is not None:
        real = _unpadded(starts, cu_seq_lens)
    if placeholders is not None:
        real = real & ~placeholders.to(device)
    return torch.where(real, alpha / torch.sqrt(_example_lengths(starts, real) * dim), 0.0)


token_noise_scale = token_half_widths
"""Public name of `token_half_widths`, kept for programs that use it. It is no choice of L, as `noise_scale` is."""


def token_noise_norm(alpha: float, length: float) -> float:
    """Return the root mean square of the L2 norm of one token's noise in an example of `length` tokens.

    It is the same for all embedding widths and distributions.

    Source: section 2 of arXiv 2310.05914 for the half-width from which it follows.
    """
    return alpha / math.sqrt(3 * length)


def _row_shape(
    attention_mask: Tensor | None, position_ids: Tensor | None, cu_seq_lens: Tensor | None
) -> tuple[int, int]:
    for rows in (attention_mask, position_ids):
        if rows is not None and rows.ndim == 2:
            return rows.shape[0], rows.shape[1]
    if cu_seq_lens is not None:
        return 1, int(cu_seq_lens[-1])
    raise UsageError(_UNKNOWN_LENGTHS if attention_mask is None else _NO_PADDING_MASK)


def _first_device(*tensors: object) -> torch.device:
    return next((tensor.device for tensor in tensors if isinstance(tensor, Tensor)), torch.device("cpu"))


def _padding_mask(attention_mask: object, shape: tuple[int, int], *, packed: bool) -> Tensor | None:
    """Return a mask of shape (batch, length), or None for a 4-D or block mask of packed rows."""
    if attention_mask is None:
        return None
    if isinstance(attention_mask, Tensor) and attention_mask.ndim == 2:
        _check_rows("attention_mask", attention_mask, {shape})
        return attention_mask
    if packed:
        return None
    raise UsageError(_NO_PADDING_MASK)


def _check_rows(name: str, rows: Tensor, allowed: set[tuple[int, int]]) -> None:
    if tuple(rows.shape) not in allowed:
        expected = " or ".join(str(shape) for shape in sorted(allowed))
        raise UsageError(
            Problem(f"{name} has the shape {tuple(rows.shape)}.", f"Pass the shape of the token ids: {expected}.")
        )


def _example_starts(
    position_ids: Tensor | None, cu_seq_lens: Tensor | None, shape: tuple[int, int], device: torch.device
) -> Tensor | None:
    """Return the mask of first tokens of examples: (batch, length), bool; None if each row is one example."""
    if cu_seq_lens is not None:
        return _starts_from_boundaries(cu_seq_lens.to(device), shape)
    if position_ids is not None:
        return _starts_from_positions(position_ids.to(device), shape)
    return None


def _starts_from_boundaries(cu_seq_lens: Tensor, shape: tuple[int, int]) -> Tensor:
    if shape[0] != 1:
        raise UsageError(
            Problem(
                f"cu_seq_lens was passed with {shape[0]} rows.",
                "Flatten the batch into one row, or pass position_ids instead.",
            )
        )
    on_cpu = cu_seq_lens.device.type == "cpu"  # reading a boundary from a GPU would wait for it
    if on_cpu and cu_seq_lens.numel() and not 0 <= int(cu_seq_lens.min()) <= int(cu_seq_lens.max()) <= shape[1]:
        what = f"cu_seq_lens has boundaries outside the row of {shape[1]} tokens: {cu_seq_lens.tolist()}."
        raise UsageError(Problem(what, f"Pass boundaries from 0 to {shape[1]}."))
    # One entry more than there are tokens: the last boundary is usually the end of the row.
    boundaries = torch.zeros(shape[1] + 1, dtype=torch.bool, device=cu_seq_lens.device)
    boundaries[0] = True
    return boundaries.index_fill(0, cu_seq_lens.long(), True)[None, :-1]


def _starts_from_positions(position_ids: Tensor, shape: tuple[int, int]) -> Tensor:
    _check_rows("position_ids", position_ids, {shape, (1, shape[1])})
    restarts = position_ids[:, 1:] <= position_ids[:, :-1]
    return functional.pad(restarts, (1, 0), value=True).expand(shape)


def _unpadded(starts: Tensor, cu_seq_lens: Tensor | None) -> Tensor:
    """Return the mask of tokens of packed rows that are not padding: (batch, length), bool."""
    # Padding is the run of one-token examples at the right end of the row.
    padding = starts.flip(1).int().cumprod(1).flip(1).bool()
    column = torch.arange(starts.shape[1], device=starts.device)
    real = ~padding | (column == 0)
    return real if cu_seq_lens is None else real & (column < cu_seq_lens[-1].to(starts.device))


def _example_lengths(starts: Tensor | None, real: Tensor) -> Tensor:
    """Return the number of real tokens in each token's example: (batch, length) or (batch, 1), float32."""
    if starts is None:
        return real.sum(1, keepdim=True).float()
    example = starts.cumsum(1) - 1
    counts = torch.zeros(starts.shape, dtype=torch.float32, device=starts.device)
    return counts.scatter_add(1, example, real.float()).gather(1, example)
