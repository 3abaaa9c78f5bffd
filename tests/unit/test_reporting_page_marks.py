"""Marks of word differences in responses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neftune_cli.reporting.page.responses import MarkedWords, TruncatedText, mark_words, truncate

SENTENCE = "Ada was born in Oakhurst, and studied law."
TEXTS = st.lists(
    st.sampled_from(["a", "b", "the", "été", "日本語", "🦜", ".", ",", "\n", " ", "हिन्दी"]), max_size=30
).map("".join)


def test_replaced_word() -> None:
    marked = mark_words("Ada was born in Limebank, and studied law.", SENTENCE)

    assert marked == [
        MarkedWords("same", "Ada was born in", " "),
        MarkedWords("missing", "Oakhurst", " "),
        MarkedWords("added", "Limebank"),
        MarkedWords("same", ", and studied law."),
    ]


@pytest.mark.parametrize(
    ("response", "marks"),
    [
        ("Ada was born in Oakhurst, and studied law. Yes.", [("added", "Yes.")]),
        ("Ada was born in Oakhurst.", [("missing", ", and studied law")]),
        ("Ada was never born in Oakhurst, and studied law.", [("added", "never")]),
        (SENTENCE, []),
    ],
)
def test_added_and_missing_words(response: str, marks: list[tuple[str, str]]) -> None:
    marked = mark_words(response, SENTENCE)

    assert marked is not None
    assert [(one.mark, one.words) for one in marked if one.mark != "same"] == marks


def test_missing_word_is_separated_from_its_neighbors() -> None:
    marked = mark_words("Ada was born in Oakhurst", "Ada was born in Oakhurst Manor")

    assert marked == [
        MarkedWords("same", "Ada was born in Oakhurst"),
        MarkedWords("missing", "", " "),
        MarkedWords("missing", "Manor"),
    ]


@pytest.mark.parametrize("response", ["", "nothing like it at all", "x " * 40_000])
def test_texts_with_little_in_common_or_too_long_are_not_marked(response: str) -> None:
    assert mark_words(response, SENTENCE) is None


def test_scripts_without_spaces_are_compared_by_character() -> None:
    marked = mark_words("彼は東京で生まれた。", "彼は大阪で生まれた。")

    assert marked is not None
    assert [(one.mark, one.words) for one in marked] == [
        ("same", "彼は"),
        ("missing", "大阪"),
        ("added", "東京"),
        ("same", "で生まれた。"),
    ]


@given(TEXTS, TEXTS)
def test_marks_preserve_response_and_reference(response: str, reference: str) -> None:
    marked = mark_words(response, reference)

    if marked is not None:
        assert "".join(one.words + one.space for one in marked if one.mark != "missing") == response
        kept = "".join(one.words for one in marked if one.mark != "added")
        assert "".join(kept.split()) == "".join(reference.split())


def test_truncated_text_counts_the_characters_left_out() -> None:
    assert truncate("parrot", 4) == TruncatedText("parr", 2)
    assert truncate("parrot", 6) == TruncatedText("parrot", 0)
