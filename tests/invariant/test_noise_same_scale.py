"""Invariant 1: the same example gets the same noise scale in every layout, and padding gets none."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neftune_cli.noise import token_noise_scale

# An unmasked row can't tell a last example of one token from padding, so the last one has two or more.
examples = st.builds(lambda first, last: [*first, last], st.lists(st.integers(1, 12), max_size=4), st.integers(2, 12))
alphas = st.floats(0.01, 100)
dims = st.integers(1, 8192)
paddings = st.integers(0, 9)


def paper(alpha: float, dim: int, length: int) -> list[float]:
    return [alpha / math.sqrt(length * dim)] * length


def assert_same(actual: Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float32), rtol=1e-6, atol=0)


@settings(deadline=None)
@given(examples, alphas, dims, paddings)
def test_alone_and_padded_on_either_side(lengths: list[int], alpha: float, dim: int, padding: int) -> None:
    width = max(lengths) + padding
    right = torch.tensor([[1] * length + [0] * (width - length) for length in lengths])
    right_scale = token_noise_scale(alpha, dim, attention_mask=right)
    left_scale = token_noise_scale(alpha, dim, attention_mask=right.flip(1))
    for row, length in enumerate(lengths):
        alone, gap = paper(alpha, dim, length), [0.0] * (width - length)
        assert_same(token_noise_scale(alpha, dim, shape=(1, length))[0], alone)
        assert_same(right_scale[row], alone + gap)
        assert_same(left_scale[row], gap + alone)


@settings(deadline=None)
@given(examples, alphas, dims, paddings)
def test_packed_and_flattened(lengths: list[int], alpha: float, dim: int, padding: int) -> None:
    expected = [scale for length in lengths for scale in paper(alpha, dim, length)] + [0.0] * padding
    positions = torch.tensor([[*(p for length in lengths for p in range(length)), *[0] * padding]])
    boundaries = torch.tensor([0, *lengths]).cumsum(0)
    mask = torch.tensor([[1] * sum(lengths) + [0] * padding])
    shape = (1, len(expected))
    assert_same(token_noise_scale(alpha, dim, position_ids=positions)[0], expected)
    assert_same(token_noise_scale(alpha, dim, position_ids=positions, attention_mask=mask)[0], expected)
    assert_same(token_noise_scale(alpha, dim, cu_seq_lens=boundaries, shape=shape)[0], expected)
    assert_same(token_noise_scale(alpha, dim, cu_seq_lens=boundaries, attention_mask=mask)[0], expected)
    padded = torch.cat([boundaries, boundaries[-1] + 1 + torch.arange(padding)])
    assert_same(token_noise_scale(alpha, dim, cu_seq_lens=padded, shape=shape)[0], expected)


@settings(deadline=None)
@given(st.lists(examples, min_size=2, max_size=4), alphas, dims)
def test_several_packed_rows_in_a_batch(rows: list[list[int]], alpha: float, dim: int) -> None:
    width = max(map(sum, rows))
    positions = torch.tensor([[*(p for n in row for p in range(n)), *[0] * (width - sum(row))] for row in rows])
    scale = token_noise_scale(alpha, dim, position_ids=positions)
    for row, lengths in enumerate(rows):
        real = [value for length in lengths for value in paper(alpha, dim, length)]
        assert_same(scale[row], real + [0.0] * (width - sum(lengths)))
