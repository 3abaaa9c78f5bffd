"""Invariant 1: an example has noise of the same half-width in every layout; padding and placeholders have none."""

import math
from collections.abc import Sequence

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neftune_cli.noise.lengths import token_half_widths

# Without a mask, a last example of one token is treated as padding, so the last example has two or more tokens.
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
def test_a_single_example_and_left_or_right_padding(lengths: list[int], alpha: float, dim: int, padding: int) -> None:
    width = max(lengths) + padding
    right = torch.tensor([[1] * length + [0] * (width - length) for length in lengths])
    right_scale = token_half_widths(alpha, dim, attention_mask=right)
    left_scale = token_half_widths(alpha, dim, attention_mask=right.flip(1))
    for row, length in enumerate(lengths):
        alone, gap = paper(alpha, dim, length), [0.0] * (width - length)
        assert_same(token_half_widths(alpha, dim, shape=(1, length))[0], alone)
        assert_same(right_scale[row], alone + gap)
        assert_same(left_scale[row], gap + alone)


@settings(deadline=None)
@given(examples, alphas, dims, paddings)
def test_packed_and_flattened_rows(lengths: list[int], alpha: float, dim: int, padding: int) -> None:
    expected = [scale for length in lengths for scale in paper(alpha, dim, length)] + [0.0] * padding
    positions = torch.tensor([[*(p for length in lengths for p in range(length)), *[0] * padding]])
    boundaries = torch.tensor([0, *lengths]).cumsum(0)
    mask = torch.tensor([[1] * sum(lengths) + [0] * padding])
    shape = (1, len(expected))
    assert_same(token_half_widths(alpha, dim, position_ids=positions)[0], expected)
    assert_same(token_half_widths(alpha, dim, position_ids=positions, attention_mask=mask)[0], expected)
    assert_same(token_half_widths(alpha, dim, cu_seq_lens=boundaries, shape=shape)[0], expected)
    assert_same(token_half_widths(alpha, dim, cu_seq_lens=boundaries, attention_mask=mask)[0], expected)
    padded = torch.cat([boundaries, boundaries[-1] + 1 + torch.arange(padding)])
    assert_same(token_half_widths(alpha, dim, cu_seq_lens=padded, shape=shape)[0], expected)


@settings(deadline=None)
@given(st.lists(examples, min_size=2, max_size=4), alphas, dims)
def test_several_packed_rows_in_a_batch(rows: list[list[int]], alpha: float, dim: int) -> None:
    width = max(map(sum, rows))
    positions = torch.tensor([[*(p for n in row for p in range(n)), *[0] * (width - sum(row))] for row in rows])
    scale = token_half_widths(alpha, dim, position_ids=positions)
    for row, lengths in enumerate(rows):
        real = [value for length in lengths for value in paper(alpha, dim, length)]
        assert_same(scale[row], real + [0.0] * (width - sum(lengths)))


# One flag per token, true for a placeholder: text at both ends, images between.
texts_with_images = st.builds(lambda middle: [False, *middle, False], st.lists(st.booleans(), max_size=12))


def text_only(alpha: float, dim: int, example: list[bool]) -> list[float]:
    length = example.count(False)
    return [0.0 if placeholder else alpha / math.sqrt(length * dim) for placeholder in example]


def joined(parts: Sequence[list[float]], gap: int) -> list[float]:
    return [value for part in parts for value in part] + [0.0] * gap


def positions_of(examples: list[list[bool]], gap: int) -> list[int]:
    return [*(position for example in examples for position in range(len(example))), *[0] * gap]


@settings(deadline=None)
@given(st.lists(texts_with_images, min_size=1, max_size=5), alphas, dims, paddings)
def test_placeholders_are_not_counted_and_have_no_noise_in_every_layout(
    examples: list[list[bool]], alpha: float, dim: int, padding: int
) -> None:
    expected = [text_only(alpha, dim, example) for example in examples]
    width = max(map(len, examples)) + padding
    gaps = [width - len(example) for example in examples]
    mask = torch.tensor([[1] * len(e) + [0] * gap for e, gap in zip(examples, gaps, strict=True)])
    marks = torch.tensor([e + [False] * gap for e, gap in zip(examples, gaps, strict=True)])
    right = token_half_widths(alpha, dim, attention_mask=mask, placeholders=marks)
    left = token_half_widths(alpha, dim, attention_mask=mask.flip(1), placeholders=marks.flip(1))
    for row, (scales, gap) in enumerate(zip(expected, gaps, strict=True)):
        assert_same(right[row], scales + [0.0] * gap)
        assert_same(left[row], [0.0] * gap + scales[::-1])

    packed = torch.tensor([[mark for example in examples for mark in example] + [False] * padding])
    boundaries = torch.tensor([0, *map(len, examples)]).cumsum(0)
    positions = torch.tensor([positions_of(examples, padding)])
    whole, shape = joined(expected, padding), (1, packed.shape[1])
    assert_same(token_half_widths(alpha, dim, position_ids=positions, placeholders=packed)[0], whole)
    assert_same(token_half_widths(alpha, dim, cu_seq_lens=boundaries, placeholders=packed, shape=shape)[0], whole)


@settings(deadline=None)
@given(st.lists(examples, min_size=1, max_size=4), alphas, dims, st.integers(1, 4), st.integers(0, 9))
def test_the_scale_does_not_depend_on_the_other_examples_in_the_batch(
    rows: list[list[int]], alpha: float, dim: int, batch_size: int, padding: int
) -> None:
    """Compare examples padded in batches of any size, packed in rows of any grouping, and alone."""
    lengths = [length for row in rows for length in row]
    for start in range(0, len(lengths), batch_size):
        group = lengths[start : start + batch_size]
        width = max(group) + padding
        scale = token_half_widths(
            alpha, dim, attention_mask=torch.tensor([[1] * length + [0] * (width - length) for length in group])
        )
        for row, length in enumerate(group):
            assert_same(scale[row], paper(alpha, dim, length) + [0.0] * (width - length))
    for packed in rows:
        expected = joined([paper(alpha, dim, length) for length in packed], padding)
        positions = torch.tensor([[*(p for length in packed for p in range(length)), *[0] * padding]])
        assert_same(token_half_widths(alpha, dim, position_ids=positions)[0], expected)


@settings(deadline=None)
@given(examples, alphas, dims, st.integers(2, 9))
def test_positions_that_do_not_start_at_0(lengths: list[int], alpha: float, dim: int, first: int) -> None:
    positions = torch.tensor([[first + position for length in lengths for position in range(length)]])
    expected = joined([paper(alpha, dim, length) for length in lengths], 0)
    assert_same(token_half_widths(alpha, dim, position_ids=positions)[0], expected)


@settings(deadline=None)
@given(examples, alphas, dims, paddings)
def test_the_hf_scale_is_that_of_the_row_at_every_token(
    lengths: list[int], alpha: float, dim: int, padding: int
) -> None:
    width = max(lengths) + padding
    mask = torch.tensor([[1] * length + [0] * (width - length) for length in lengths])
    scale = token_half_widths(
        alpha, dim, attention_mask=mask, placeholders=torch.zeros_like(mask).bool(), noise_scale="hf"
    )
    for row in scale:
        assert_same(row, paper(alpha, dim, width))
