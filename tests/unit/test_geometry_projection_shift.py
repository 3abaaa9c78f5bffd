"""The embedding shift: sizes compared with the formula, and neighbors compared with hand-made points."""

import csv
import io
import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from transformers import GraniteConfig, GraniteForCausalLM

from neftune_cli.geometry.projection.embedding_shift import (
    CSV_COLUMNS,
    NoiseDraw,
    Shift,
    neighbour_groups,
    neighbour_sentences,
    shift_sentence,
    shift_tokens,
    summarize,
    to_csv,
)
from neftune_cli.geometry.projection.token_groups import GroupedTokens, TokenGroup, group_tokens
from neftune_cli.geometry.projection.token_map import TokenMap
from neftune_cli.models.loading import LoadedModel, load_model
from neftune_cli.models.sources import find_model
from neftune_cli.noise.placement import embedding_weight

LETTERS = TokenGroup("names", (0, 1), ("Ann", "Ben"))
DIGITS = TokenGroup("numbers", (2, 3), ("1", "2"))
TOKENS = GroupedTokens((LETTERS, DIGITS), notes=())
BEFORE = np.array([[0, 0], [1, 0], [10, 0], [11, 0]], dtype=np.float32)
AFTER = np.array([[0, 3], [8, 0], [10, 4], [11, 0]], dtype=np.float32)
"""Ben moves to 8, where the nearest of the others is the digit at 10. The other neighbors keep their group."""


@pytest.fixture(scope="module")
def tiny() -> LoadedModel:
    return load_model(find_model("tiny"))


def test_the_neighbour_group_of_one_token_changes() -> None:
    shift = Shift(TOKENS, BEFORE, AFTER)

    assert shift.moved.tolist() == [False, True, False, False]
    assert shift.noise_norms == pytest.approx([3, 7, 4, 0])
    assert shift.embedding_norms == pytest.approx([0, 1, 10, 11])
    assert shift.neighbour_distance == pytest.approx(1)
    assert [own.tolist() for own in shift.beside_own_group] == [[True] * 4, [True, False, True, True]]


def test_the_sentences_have_the_same_numbers() -> None:
    shift = Shift(TOKENS, BEFORE, AFTER)

    assert shift_sentence(shift) == (
        "The median shift is 3.50: 64% of the embedding norm (5.50) "
        "and 350% of the distance to the nearest other token (1.00)."
    )
    assert " ".join(neighbour_sentences(shift)) == (
        "The group of the nearest neighbor changed for 1 of 4 tokens (25.0%). "
        "Tokens whose nearest neighbor is in their own group: 100% without noise, 75% with noise."
    )
    assert neighbour_sentences(Shift(TOKENS, BEFORE, BEFORE))[0].startswith(
        "The group of the nearest neighbor changed for none of 4 tokens."
    )


def test_equal_embeddings_have_no_neighbour_distance() -> None:
    """In float64, |a|^2 + |b|^2 - 2ab is not zero for most of these, although a = b."""
    before = np.tile(np.random.default_rng(0).normal(size=300).astype(np.float32), (4, 1))

    shift = Shift(TOKENS, before, before + np.float32(0.1))

    assert shift.neighbour_distance == 0
    norm = float(np.linalg.norm(before[0]))
    assert shift_sentence(shift) == (
        f"The median shift is 1.73: {1.732 / norm:.0%} of the embedding norm ({norm:.2f}). "
        "Most of these tokens are equal to another, so their nearest neighbors are arbitrary."
    )
    assert shift_sentence(Shift(TOKENS, 0 * before, before * 0 + np.float32(0.1))) == (
        "The median shift is 1.73. Most of these embeddings are zero, so there is no relative shift."
    )


def test_embeddings_are_the_input_of_the_first_layer() -> None:
    torch.manual_seed(0)
    granite = GraniteForCausalLM(
        GraniteConfig(
            vocab_size=20,
            hidden_size=16,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            embedding_multiplier=12.0,
        )
    )

    shift = shift_tokens(granite, TOKENS, NoiseDraw(5, 30))

    assert shift.before == pytest.approx(12 * embedding_weight(granite).detach().numpy()[:4])
    assert np.abs(shift.after - shift.before).max() <= 5 / math.sqrt(30 * 16) * 1.001


def test_the_summary_has_one_row_per_group() -> None:
    names, numbers, everything = summarize(Shift(TOKENS, BEFORE, AFTER))

    assert (names.tokens, names.moved, names.noise_norm) == (2, 0.5, 5.0)
    assert (numbers.tokens, numbers.moved, numbers.noise_norm) == (2, 0.0, 2.0)
    assert (everything.group, everything.tokens, everything.moved) == ("all", 4, 0.25)


def test_the_csv_file_has_one_row_per_token() -> None:
    token_map = TokenMap("pca", 30, BEFORE.astype(np.float64), AFTER.astype(np.float64))

    rows = list(csv.DictReader(io.StringIO(to_csv(Shift(TOKENS, BEFORE, AFTER), token_map))))

    assert tuple(rows[1]) == CSV_COLUMNS
    assert list(rows[1].values()) == ["Ben", "names", "1", "0", "8", "0", "7", "true"]
    assert [row["moved"] for row in rows] == ["false", "true", "false", "false"]


def test_neighbours_agree_with_an_exhaustive_search() -> None:
    rng = np.random.default_rng(1)
    before, after = rng.normal(size=(2, 50, 7)).astype(np.float32)
    groups = [str(place % 3) for place in range(50)]

    found = neighbour_groups(before, after, groups)

    for points, names in zip((before, after), found, strict=True):
        gaps = cdist(points, before)
        gaps[np.arange(50), np.arange(50)] = np.inf
        assert names.tolist() == [groups[place] for place in gaps.argmin(1)]


@pytest.mark.parametrize("distribution", ["uniform", "gaussian", "bernoulli"])
def test_the_noise_norm_agrees_with_the_papers_formula(tiny: LoadedModel, distribution: str) -> None:
    tokens = group_tokens(tiny.tokenizer, max_tokens=40, model="tiny")

    shift = shift_tokens(tiny.model, tokens, NoiseDraw(5, 30, distribution))

    squared = (shift.noise_norms**2).mean()
    assert math.sqrt(squared) == pytest.approx(5 / math.sqrt(3 * 30), rel=0.01)


def test_alpha_scales_one_draw(tiny: LoadedModel) -> None:
    tokens = group_tokens(tiny.tokenizer, max_tokens=5, model="tiny")
    none, five, ten = (shift_tokens(tiny.model, tokens, NoiseDraw(alpha, 30)) for alpha in (0, 5, 10))

    weight = embedding_weight(tiny.model).detach().numpy()
    assert np.array_equal(none.before, weight[list(tokens.token_ids)])
    assert np.array_equal(none.after, none.before)
    assert ten.after - ten.before == pytest.approx(2 * (five.after - five.before), abs=1e-5)
