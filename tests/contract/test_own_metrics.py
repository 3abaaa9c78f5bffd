"""Metrics of the user, `--metric module:function`, computed by `neftune compare` from the stored responses."""

import csv
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from neftune_cli import compare
from neftune_cli.records import TrialRecord
from neftune_cli.store import SweepFolder
from tests.command_line import Neftune
from tests.finished_trials import write_sweep_with_responses

MODULE = """
from neftune_cli.metrics import HELD_OUT_RESPONSES, Margin, Metric


def vowels(prompt, reference, response):
    assert prompt.startswith("<user>Question")
    return sum(response.count(letter) for letter in "aeiou")


def distance(response, reference):
    return abs(len(response) - len(reference))


distance.goal = "lower"
SHARE = Metric("share", "Share of vowels", "0 to 1", "higher", 2, Margin(0.02), HELD_OUT_RESPONSES, score=distance)


def one(response):
    return 1.0


def text(response, reference):
    return "3"


def broken(response, reference):
    return 1 / 0


def sideways(response, reference):
    return 1.0


sideways.goal = "sideways"
number = 3
"""


@pytest.fixture
def sweep(tmp_path: Path, neftune: Neftune, hand_made_records: list[TrialRecord]) -> Iterator[SweepFolder]:
    """Return a finished sweep beside a module with metrics, which is forgotten afterwards."""
    folder = SweepFolder(tmp_path / "out")
    write_sweep_with_responses(folder, hand_made_records)
    Path("my_scores.py").write_text(MODULE)
    importlib.invalidate_caches()
    yield folder
    sys.modules.pop("my_scores", None)


def by_arm(neftune: Neftune, metric: str) -> dict[str, dict[str, str]]:
    """Return the row of each arm in the CSV of a comparison about this metric."""
    compared = neftune("compare", "out", "--metric", metric, "--format", "csv")
    assert compared.code == 0, compared.err
    return {row["arm"]: row for row in csv.DictReader(compared.out.splitlines()) if row["metric"] == metric}


def expected(sweep: SweepFolder, arm: str) -> float:
    """Return the mean number of vowels of an arm's responses, counted here."""
    texts = [
        one.response
        for folder, record in sweep.finished()
        if record.arm == arm
        for one in folder.generations()
        if one.split == "held-out"
    ]
    return sum(letter in "aeiou" for text in texts for letter in text) / len(texts)


def test_a_function_of_prompt_reference_and_answer_scores_the_stored_responses(
    sweep: SweepFolder, neftune: Neftune
) -> None:
    rows = by_arm(neftune, "my_scores:vowels")
    assert float(rows["alpha=5"]["mean"]) == pytest.approx(expected(sweep, "alpha=5"))
    assert float(rows["alpha=0"]["mean"]) == pytest.approx(expected(sweep, "alpha=0"))
    assert float(rows["alpha=5"]["difference"]) == pytest.approx(
        expected(sweep, "alpha=5") - expected(sweep, "alpha=0")
    )


def test_the_first_screen_says_which_direction_is_better(sweep: SweepFolder, neftune: Neftune) -> None:
    assert "Vowels (higher is better)" in neftune("compare", "out", "--metric", "my_scores:vowels").out
    assert "Distance (lower is better)" in neftune("compare", "out", "--metric", "my_scores:distance").out
    assert "Share of vowels (0 to 1, higher is better)" in neftune("compare", "out", "--metric", "my_scores:SHARE").out


def test_a_margin_of_an_own_metric(sweep: SweepFolder, neftune: Neftune) -> None:
    options = ("--metric", "my_scores:distance", "--margin", "my_scores:distance=50")
    assert "equivalent" in neftune("compare", "out", *options, "--format", "csv").out


def test_a_program_compares_with_an_own_metric(sweep: SweepFolder) -> None:
    frame = compare("out", metric="my_scores:vowels").to_frame()
    (mean,) = frame[(frame.metric == "my_scores:vowels") & (frame.arm == "alpha=5")]["mean"]
    assert mean == pytest.approx(expected(sweep, "alpha=5"))


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        ("nowhere:vowels", "there is no module 'nowhere'. Put nowhere.py into the current folder"),
        ("my_scores:vowel", "the module my_scores has no function 'vowel'. Did you mean 'vowels'?"),
        ("my_scores:one", "the function has the parameters (response). Write a function of (response, reference)"),
        ("my_scores:text", "alpha=0,seed=0, example "),
        ("my_scores:text", "the function returned '3', which is not a finite number. Return a number"),
        ("my_scores:broken", "ZeroDivisionError: division by zero. Correct the function"),
        ("my_scores:sideways", "the attribute goal is 'sideways'. Use 'higher' or 'lower'."),
        ("my_scores:number", "this is a int, not a function. Write a function"),
        ("cannot_parse:one", "the module 'cannot_parse' cannot be imported: SyntaxError"),
    ],
)
def test_a_function_that_cannot_score_is_refused(sweep: SweepFolder, neftune: Neftune, metric: str, told: str) -> None:
    Path("cannot_parse.py").write_text("def :")
    result = neftune("compare", "out", "--metric", metric)
    text = " ".join(result.err.split())
    assert (result.code, "Traceback" in text) == (2, False)
    assert told in text.replace("base, example", "alpha=0,seed=0, example")


def test_a_margin_of_a_function_that_cannot_score_is_no_second_problem(sweep: SweepFolder, neftune: Neftune) -> None:
    told = neftune("compare", "out", "--metric", "my_scores:text", "--margin", "my_scores:text=1").err
    assert "not a finite number" in told
    assert "was not measured" not in told
