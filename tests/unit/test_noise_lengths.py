"""The half-width of the noise compared with hand-computed tables: with alpha 6 and dim 4, it is 3 / sqrt(L)."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import DataCollatorWithFlattening

from neftune_cli.config.values import check_alpha
from neftune_cli.errors import UsageError
from neftune_cli.noise.lengths import token_half_widths

ONE = 3.0  # an example of one token
TWO = 3 / math.sqrt(2)
THREE = 3 / math.sqrt(3)
FOUR = 1.5
FIVE = 3 / math.sqrt(5)


def half_widths(**layout: object) -> Tensor:
    return token_half_widths(6.0, 4, **layout)  # type: ignore[arg-type]


def assert_half_widths(actual: Tensor, expected: list[list[float]]) -> None:
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, torch.tensor(expected), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ([[1, 1, 0], [1, 1, 1]], [[TWO, TWO, 0], [THREE, THREE, THREE]]),
        ([[0, 0, 1, 1], [0, 1, 1, 1]], [[0, 0, TWO, TWO], [0, THREE, THREE, THREE]]),
        ([[1, 0, 1, 1, 0]], [[THREE, 0, THREE, THREE, 0]]),
        ([[0, 0], [1, 0]], [[0, 0], [ONE, 0]]),
    ],
    ids=["right-padded", "left-padded", "a hole inside", "an empty row"],
)
def test_length_is_the_sum_of_the_mask(mask: list[list[int]], expected: list[list[float]]) -> None:
    assert_half_widths(half_widths(attention_mask=torch.tensor(mask)), expected)
    assert_half_widths(half_widths(attention_mask=torch.tensor(mask, dtype=torch.bool)), expected)


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        ([[0, 1, 2, 0, 1]], [[THREE] * 3 + [TWO] * 2]),
        ([[0, 1, 0, 1, 2], [0, 1, 2, 3, 4]], [[TWO] * 2 + [THREE] * 3, [FIVE] * 5]),
        ([[2, 3, 4, 2, 3]], [[THREE] * 3 + [TWO] * 2]),
        ([[0, 0, 1, 2]], [[ONE] + [THREE] * 3]),
        ([[0, 1, 0, 0, 0]], [[TWO, TWO, 0, 0, 0]]),
        ([[0, 0, 0]], [[ONE, 0, 0]]),
        ([[0]], [[ONE]]),
        ([[0, 3, 900, 0, 7]], [[THREE] * 3 + [TWO] * 2]),
    ],
    ids=[
        "two examples",
        "two rows",
        "RoBERTa starts at 2",
        "a one-token example",
        "padded with position 0",
        "one token, then padding",
        "one token",
        "positions that skip",
    ],
)
def test_an_example_starts_where_the_position_does_not_increase(
    positions: list[list[int]], expected: list[list[float]]
) -> None:
    assert_half_widths(half_widths(position_ids=torch.tensor(positions)), expected)


def test_a_mask_separates_padding_from_a_last_example_of_one_token() -> None:
    positions = torch.tensor([[0, 1, 0, 0]])
    assert_half_widths(
        half_widths(position_ids=positions, attention_mask=torch.tensor([[1, 1, 1, 0]])), [[TWO, TWO, ONE, 0]]
    )


@pytest.mark.parametrize("positions", [[[1, 1, 0, 1, 2]], [[0, 0, 0, 1, 2]], [[0, 1, 2, 3, 4]]])
def test_a_left_padded_row_with_positions_counts_its_mask(positions: list[list[int]]) -> None:
    mask = torch.tensor([[0, 0, 1, 1, 1]])
    expected = [[0, 0, THREE, THREE, THREE]]
    assert_half_widths(half_widths(attention_mask=mask, position_ids=torch.tensor(positions)), expected)


def test_one_row_of_positions_applies_to_the_whole_batch() -> None:
    assert_half_widths(half_widths(position_ids=torch.tensor([[0, 1]]), shape=(3, 2)), [[TWO, TWO]] * 3)


@pytest.mark.parametrize(
    ("boundaries", "length", "expected"),
    [
        ([0, 3, 5], 5, [THREE] * 3 + [TWO] * 2),
        ([0, 1, 5], 5, [ONE] + [FOUR] * 4),
        ([0, 2, 3, 4], 4, [TWO, TWO, 0, 0]),
        ([0, 3, 5, 5, 5], 5, [THREE] * 3 + [TWO] * 2),
        ([0, 3, 5], 7, [THREE] * 3 + [TWO] * 2 + [0, 0]),
    ],
    ids=[
        "two examples",
        "a one-token example",
        "padded as TRL does",
        "boundaries repeated",
        "row padded after the last boundary",
    ],
)
def test_boundaries_of_a_flattened_row(boundaries: list[int], length: int, expected: list[float]) -> None:
    assert_half_widths(
        half_widths(cu_seq_lens=torch.tensor(boundaries, dtype=torch.int32), shape=(1, length)), [expected]
    )


def test_boundaries_alone_determine_the_row_length() -> None:
    assert_half_widths(half_widths(cu_seq_lens=torch.tensor([0, 3, 5])), [[THREE] * 3 + [TWO] * 2])


@pytest.mark.parametrize("first_position", [0, 2])
def test_batches_of_the_flattening_collator(first_position: int) -> None:
    collator: Any = DataCollatorWithFlattening
    collate = collator(return_flash_attn_kwargs=True, position_ids_start=first_position)
    batch = collate([{"input_ids": [7] * 3}, {"input_ids": [7] * 2}, {"input_ids": [7] * 4}])
    expected = [[THREE] * 3 + [TWO] * 2 + [FOUR] * 4]
    assert_half_widths(half_widths(position_ids=batch["position_ids"]), expected)
    assert_half_widths(half_widths(cu_seq_lens=batch["cu_seq_lens_q"]), expected)
    assert_half_widths(half_widths(cu_seq_lens=batch["cu_seq_lens_q"], position_ids=batch["position_ids"]), expected)


def test_without_any_layout_a_row_is_one_example() -> None:
    assert_half_widths(half_widths(shape=(2, 3)), [[THREE] * 3] * 2)


def test_hf_scale_includes_padding() -> None:
    assert_half_widths(half_widths(attention_mask=torch.tensor([[1, 1, 0, 0]]), noise_scale="hf"), [[FOUR] * 4])
    assert_half_widths(half_widths(position_ids=torch.tensor([[0, 1, 0, 1, 2]]), noise_scale="hf"), [[FIVE] * 5])


def test_alpha_zero_is_zero_everywhere() -> None:
    assert_half_widths(token_half_widths(0.0, 4, attention_mask=torch.tensor([[1, 1, 0]])), [[0.0, 0.0, 0.0]])


@pytest.mark.parametrize("alpha", [-1.0, 1.1e6, float("nan"), float("inf"), True])
def test_an_invalid_alpha_raises(alpha: float) -> None:
    with pytest.raises(UsageError, match=f"; {alpha} was given"):
        token_half_widths(alpha, 4, shape=(1, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", [1, 2**20])
def test_the_largest_alpha_gives_finite_noise_of_any_length(length: int, dtype: torch.dtype) -> None:
    """Ten half-widths are more than any draw, and the sum of the squares of 2^40 of them measures the noise."""
    width = token_half_widths(1e6, 1, shape=(1, length)).to(dtype)
    assert torch.isfinite((10 * width).square().max() * 2**40)


def test_a_mask_of_token_pairs_raises_unless_positions_delimit_the_examples() -> None:
    pairs = torch.ones(1, 1, 5, 5, dtype=torch.bool).tril()
    with pytest.raises(UsageError, match=r"shape \(batch, length\)"):
        half_widths(attention_mask=pairs, shape=(1, 5))
    assert_half_widths(
        half_widths(attention_mask=pairs, position_ids=torch.tensor([[0, 1, 2, 0, 1]])), [[THREE] * 3 + [TWO] * 2]
    )


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"attention_mask": torch.ones(2, 4), "shape": (2, 3)}, r"attention_mask has the shape \(2, 4\).*\(2, 3\)"),
        ({"position_ids": torch.zeros(3, 1, 4), "shape": (1, 4)}, r"position_ids has the shape \(3, 1, 4\)"),
        ({"cu_seq_lens": torch.tensor([0, 4]), "shape": (2, 2)}, "cu_seq_lens was passed with 2 rows"),
        ({}, "The lengths of the examples are unknown"),
        ({"attention_mask": torch.tensor([1, 1, 0])}, "The attention mask does not have the shape"),
        ({"attention_mask": torch.ones(1, 1, 3, 3)}, "The attention mask does not have the shape"),
        ({"cu_seq_lens": torch.tensor([0, 5, 12]), "shape": (1, 10)}, "boundaries outside the row of 10 tokens"),
        ({"cu_seq_lens": torch.tensor([-2, 3, 10]), "shape": (1, 10)}, "boundaries outside the row of 10 tokens"),
        ({"shape": (1, 2), "noise_scale": "row"}, "noise scale 'row' is unknown. Use one of: paper, hf"),
    ],
    ids=["mask", "positions", "rows", "nothing", "one dimension", "four dimensions", "too long", "negative", "name"],
)
def test_an_inconsistent_layout_raises(layout: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        half_widths(**layout)


@pytest.mark.parametrize("alpha", [5, np.float32(5), np.float64(5), np.int64(5)])
def test_an_alpha_may_be_a_number_of_numpy(alpha: float) -> None:
    assert check_alpha(alpha) == 5.0


@pytest.mark.parametrize("alpha", [np.float32("nan"), np.float32(-1), np.bool_(True), True, "5", None])
def test_an_alpha_that_is_no_finite_number_is_refused(alpha: Any) -> None:
    with pytest.raises(UsageError, match="alpha must be a finite number, 0 or larger"):
        check_alpha(alpha)
