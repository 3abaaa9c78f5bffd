"""Words marked in answers, and text of unknown origin made visible."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neftune_cli.reporting.page.answers import Run, word_marks
from neftune_cli.reporting.page.content import cut, visible

SENTENCE = "Ada was born in Oakhurst, and studied law."
TEXTS = st.lists(
    st.sampled_from(["a", "b", "the", "été", "日本語", "🦜", ".", ",", "\n", " ", "हिन्दी"]), max_size=30
).map("".join)


def test_one_word_for_another() -> None:
    marks = word_marks("Ada was born in Limebank, and studied law.", SENTENCE)

    assert marks == [
        Run("same", "Ada was born in", " "),
        Run("missing", "Oakhurst", " "),
        Run("added", "Limebank"),
        Run("same", ", and studied law."),
    ]


@pytest.mark.parametrize(
    ("answer", "marks"),
    [
        ("Ada was born in Oakhurst, and studied law. Yes.", [("added", "Yes.")]),
        ("Ada was born in Oakhurst.", [("missing", ", and studied law")]),
        ("Ada was never born in Oakhurst, and studied law.", [("added", "never")]),
        (SENTENCE, []),
    ],
)
def test_words_added_and_left_out(answer: str, marks: list[tuple[str, str]]) -> None:
    runs = word_marks(answer, SENTENCE)

    assert runs is not None
    assert [(run.kind, run.words) for run in runs if run.kind != "same"] == marks


def test_a_missing_word_never_sticks_to_its_neighbours() -> None:
    marks = word_marks("Ada was born in Oakhurst", "Ada was born in Oakhurst Manor")

    assert marks == [
        Run("same", "Ada was born in Oakhurst"),
        Run("missing", "", " "),
        Run("missing", "Manor"),
    ]


@pytest.mark.parametrize("answer", ["", "nothing like it at all", "x " * 40_000])
def test_nothing_is_marked_where_marks_say_nothing(answer: str) -> None:
    assert word_marks(answer, SENTENCE) is None


def test_languages_without_spaces_are_compared_character_by_character() -> None:
    runs = word_marks("彼は東京で生まれた。", "彼は大阪で生まれた。")

    assert runs is not None
    assert [(run.kind, run.words) for run in runs] == [
        ("same", "彼は"),
        ("missing", "大阪"),
        ("added", "東京"),
        ("same", "で生まれた。"),
    ]


@given(TEXTS, TEXTS)
def test_the_marked_answer_is_the_answer_and_the_rest_is_the_reference(answer: str, reference: str) -> None:
    runs = word_marks(answer, reference)

    if runs is not None:
        assert "".join(run.words + run.space for run in runs if run.kind != "missing") == answer
        kept = "".join(run.words for run in runs if run.kind != "added")
        assert "".join(kept.split()) == "".join(reference.split())


@given(st.text(alphabet=st.characters(), max_size=200))
def test_everything_is_visible_and_fits_utf8(text: str) -> None:
    shown = visible(text)

    assert {c for c in shown if unicodedata.category(c) in ("Cc", "Cs")} <= {"\t", "\n"}
    assert shown.encode().decode() == shown
    assert visible(shown) == shown


def test_control_and_direction_characters_are_named() -> None:
    assert visible("a\x00b\r\nc\x7fd\x9be\ud83df\u202eg\u2066h") == "a␀b␍\nc␡d�e�f⌈RLO⌉g⌈LRI⌉h"


def test_a_cut_text_says_how_much_is_missing() -> None:
    assert cut("parrot", 4) == ("parr", 2)
    assert cut("parrot", 6) == ("parrot", 0)
