"""Text metrics compared with values computed by hand and with the defaults of rouge-score."""

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from neftune_cli.evaluation.text_metrics import (
    chunk_length,
    corpus_bleu,
    exact_match,
    log_diversity,
    repetition_2gram,
    rouge_l,
)

LOOP = "a b a b a b"
"""Two unique 2-grams of five, two unique 3-grams of four, two unique 4-grams of three."""
NO_REPETITION = "a b c d e f"


@pytest.mark.parametrize(
    ("response", "reference", "equal"),
    [
        ("  The\tcity of\n Rome. ", "the city of rome.", True),
        ("Straße", "STRASSE", True),
        ("Rome", "Rome.", False),
        ("theory", "the ory", False),
        ("Rome of city the.", "The city of Rome.", False),
        ("", "", True),
        ("Zu\u0308rich", "Z\u00fcrich", True),
        ("\u1112\u1161\u11ab", "\ud55c", True),  # a syllable of Korean
        ("Zurich", "Z\u00fcrich", False),
    ],
)
def test_exact_match_ignores_case_and_white_space_only(response: str, reference: str, equal: bool) -> None:
    assert exact_match(response, reference) is equal


def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence() -> None:
    # the longest common subsequence is "the cat the mat": precision 4/5, recall 4/6
    assert rouge_l("the cat near the mat", "The cat sat on the mat.") == pytest.approx(2 * 4 / (5 + 6))
    assert rouge_l("", "anything") == 0
    assert rouge_l("Zürich", "Zürich") == 1
    assert rouge_l("Zürich", "Zrich") == 0
    assert rouge_l("Zu\u0308rich", "Z\u00fcrich") == 1


@given(st.text("ab,.'- \nAZ09", max_size=40), st.text("ab,.'- \nAZ09", max_size=40))
def test_rouge_l_of_ascii_texts_equals_that_of_rouge_score(response: str, reference: str) -> None:
    expected = RougeScorer(["rougeL"]).score(reference, response)["rougeL"].fmeasure
    assert rouge_l(response, reference) == pytest.approx(expected)


def test_bleu_of_a_text_and_its_decomposed_form() -> None:
    assert corpus_bleu(["Zu\u0308rich ist sehr scho\u0308n."], ["Z\u00fcrich ist sehr sch\u00f6n."]) == pytest.approx(
        100
    )


def test_bleu_equals_a_value_computed_by_hand() -> None:
    # 5 of 6 words, 3 of 5 2-grams, 1 of 4 3-grams, 0 of 3 4-grams smoothed to 1/2; equal lengths
    expected = 100 * (5 / 6 * 3 / 5 * 1 / 4 * (1 / 2) / 3) ** (1 / 4)
    assert corpus_bleu(["the cat sat on a mat"], ["the cat sat by a mat"]) == pytest.approx(expected)


def test_bleu_is_computed_over_the_corpus_without_warnings(capfd: pytest.CaptureFixture[str]) -> None:
    texts = [f"sentence number {number} ends like this ." for number in range(200)]
    assert corpus_bleu(texts, texts) == pytest.approx(100)
    assert corpus_bleu([""], ["words"]) == 0
    assert capfd.readouterr().err == ""


def test_repetition_is_the_share_of_repeated_2grams() -> None:
    assert repetition_2gram([LOOP], chunk_words=6) == pytest.approx(100 * (1 - 2 / 5))
    assert repetition_2gram([NO_REPETITION], chunk_words=6) == 0
    assert repetition_2gram([LOOP, NO_REPETITION], chunk_words=6) == pytest.approx(100 * (1 - 7 / 10))


def test_log_diversity_is_based_on_the_product_over_2_3_and_4grams() -> None:
    assert log_diversity([LOOP], chunk_words=6) == pytest.approx(-math.log(1 - 2 / 5 * 2 / 4 * 2 / 3))
    pooled = 7 / 10 * 6 / 8 * 5 / 6
    assert log_diversity([LOOP, NO_REPETITION], chunk_words=6) == pytest.approx(-math.log(1 - pooled))


def test_log_diversity_without_repetition_is_20() -> None:
    assert log_diversity([NO_REPETITION], chunk_words=6) == pytest.approx(20)


@pytest.mark.parametrize("measure", [repetition_2gram, log_diversity])
def test_long_texts_are_cut_and_short_texts_are_skipped(measure: object) -> None:
    assert callable(measure)
    start = measure([LOOP], chunk_words=6)
    assert measure([f"{LOOP} a b a b c c c"], chunk_words=6) == start
    assert measure([LOOP, "a a a a a"], chunk_words=6) == start
    assert measure(["a a a a a", ""], chunk_words=6) is None
    assert measure([], chunk_words=6) is None


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=30), max_size=5))
def test_log_diversity_is_between_0_and_20(texts: list[list[str]]) -> None:
    found = log_diversity([" ".join(words) for words in texts], chunk_words=10)
    assert found is None or 0 <= found <= 20 + 1e-9


def words(number: int) -> str:
    return " ".join(["word"] * number)


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([12, 30, 20], 20),
        ([12, 30], 30),
        ([200, 100, 80], 50),
        ([2, 3, 25], 10),
    ],
)
def test_at_least_half_of_the_references_reach_the_chunk_length(lengths: list[int], expected: int) -> None:
    assert chunk_length([words(number) for number in lengths]) == expected


def test_text_metrics_do_not_import_torch_or_log() -> None:
    code = (
        "import sys; from neftune_cli.evaluation.text_metrics import corpus_bleu, rouge_l;"
        "rouge_l('a', 'a'); corpus_bleu(['a'], ['a']); sys.exit('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
