"""Groups of tokens: whole words in vocabularies with different word markers, ordered by id."""

from collections.abc import Callable

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from neftune_cli.errors import UsageError
from neftune_cli.geometry.projection.token_groups import group_tokens
from neftune_cli.models.loading import load_model
from neftune_cli.models.sources import find_model

WORDS = "the of and to in is".split()
NAMES = "Mary John Peter Anna Paul".split()
MARKS = "! ? . , ;".split()


def _byte_level() -> PreTrainedTokenizerBase:
    """Ids: b 0, marks, the piece `the`, then words with their space."""
    return _tokenizer(["b", *MARKS, "the", *(f"Ġ{word}" for word in [*WORDS, *NAMES])], decoders.ByteLevel())


def _sentence_piece() -> PreTrainedTokenizerBase:
    return _tokenizer(["▁b", *MARKS, "the", *(f"▁{word}" for word in [*WORDS, *NAMES])], decoders.Metaspace())


def _word_piece() -> PreTrainedTokenizerBase:
    return _tokenizer(["b", *MARKS, "##the", *WORDS, *NAMES], decoders.WordPiece(cleanup=False))


def _tokenizer(tokens: list[str], decoder: decoders.Decoder) -> PreTrainedTokenizerBase:
    tokenizer = Tokenizer(models.WordLevel({token: place for place, token in enumerate(tokens)}, unk_token=tokens[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoder
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@pytest.mark.parametrize("make", [_byte_level, _sentence_piece, _word_piece])
def test_whole_words_are_found_for_every_kind_of_word_marker(make: Callable[[], PreTrainedTokenizerBase]) -> None:
    tokenizer = make()

    found = {group.name: group for group in group_tokens(tokenizer, max_tokens=40, model="m").groups}

    assert {name: list(group.texts) for name, group in found.items()} == {
        "function words": WORDS,
        "names": NAMES,
        "punctuation": MARKS,
    }
    assert found["function words"].token_ids == tuple(range(7, 13))  # 6 is a word piece, as in `other`


def test_groups_take_the_lowest_ids_and_small_groups_are_reported() -> None:
    chosen = group_tokens(_byte_level(), max_tokens=5, model="m")

    assert [group.texts for group in chosen.groups] == [tuple(WORDS[:5]), tuple(NAMES), tuple(MARKS)]
    assert chosen.group_names[:6] == ("function words",) * 5 + ("names",)
    assert "Group omitted: numbers. The vocabulary has 0 such tokens; 5 are needed." in chosen.notes


def test_the_bundled_model_has_all_groups() -> None:
    tokenizer = load_model(find_model("tiny")).tokenizer

    chosen = group_tokens(tokenizer, max_tokens=40, model="tiny")

    assert [group.name for group in chosen.groups] == [
        "function words", "verbs", "names", "places", "months and days", "numbers", "punctuation"
    ]  # fmt: skip
    assert chosen.notes == ()
    assert [str(tokenizer.decode([token])).strip() for token in chosen.token_ids] == list(chosen.texts)
    assert len(set(chosen.token_ids)) == len(chosen.token_ids)


def test_a_vocabulary_without_groups_raises() -> None:
    strange = _tokenizer(["b", *"qwertzuiop", *MARKS], decoders.ByteLevel())

    with pytest.raises(UsageError) as raised:
        group_tokens(strange, max_tokens=40, model="strange")

    (problem,) = raised.value.problems
    assert problem.what.startswith(
        "The vocabulary of 'strange' has fewer than two groups of 5 tokens (0 function words"
    )
    assert "5 punctuation" in problem.what
    assert problem.fix.endswith("--model tiny or smollm2.")
