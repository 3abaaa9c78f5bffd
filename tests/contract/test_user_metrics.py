"""Metrics of the user, `--metric module:function`, computed from the stored responses of sweeps."""

import csv
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from neftune_cli import compare
from neftune_cli.errors import UsageError
from neftune_cli.records import TrialRecord
from neftune_cli.store import SweepFolder
from tests.command_line import Neftune
from tests.finished_trials import write_sweep_with_responses
from tests.small_model import WITH_SMALL_MODEL

pytestmark = pytest.mark.usefixtures("small_model")

MODULE = """
from neftune_cli.metrics import HELD_OUT_RESPONSES, Margin, Metric


def vowels(prompt, reference, response):
    assert prompt.startswith("<user>Question")
    return sum(response.count(letter) for letter in "aeiou")


def letters(prompt, reference, response):
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


def by_seed(response, reference):
    calls.append(response)
    return len(response) % 7 + scale



calls = []
scale = 1.0


def sideways(response, reference):
    return 1.0


sideways.goal = "sideways"
number = 3
print("imported")


def printing(response, reference):
    print("scored")
    return 1.0


def ends(response, reference):
    raise SystemExit(0)


def large(response, reference):
    return 10**400


def very_large(response, reference):
    return 10**5000


class Unprintable:
    def __repr__(self):
        raise ValueError("no text")


def unprintable(response, reference):
    return Unprintable()


MISSING = Metric("share", "Share", "", "higher", 2, Margin(0.02), HELD_OUT_RESPONSES, score="nowhere:score")
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
        ("my_scores:ends", "SystemExit: 0. Correct the function"),
        ("my_scores:large", "the function returned 1000000000"),
        ("my_scores:very_large", "the function returned a value of type int, which is not a finite number"),
        ("my_scores:unprintable", "the function returned a value of type Unprintable, which is not a finite number"),
        ("my_scores:MISSING", "nowhere:score: there is no module 'nowhere'"),
        ("json:dumps", "another module 'json' was imported before, from "),
        ("cannot_parse:one", "the module 'cannot_parse' cannot be imported: SyntaxError"),
    ],
)
def test_a_function_that_cannot_score_is_refused(sweep: SweepFolder, neftune: Neftune, metric: str, told: str) -> None:
    Path("cannot_parse.py").write_text("def :")
    Path("json.py").write_text("def dumps(response, reference):\n    return 1.0\n")
    result = neftune("compare", "out", "--metric", metric)
    text = " ".join(result.err.split())
    assert (result.code, "Traceback" in text) == (2, False)
    assert told in text.replace("base, example", "alpha=0,seed=0, example")


@pytest.mark.parametrize("format_", ["csv", "json"])
def test_what_a_function_prints_is_not_in_the_document(sweep: SweepFolder, neftune: Neftune, format_: str) -> None:
    printed = neftune("compare", "out", "--metric", "my_scores:printing", "--format", format_)
    assert (printed.code, "scored" in printed.out, "imported" in printed.out) == (0, False, False)
    assert "imported\nscored\nscored" in printed.err
    assert printed.out.startswith("{" if format_ == "json" else "sweep,arm,")


def mean(metric: str) -> float:
    frame = compare("out", metric=metric).to_frame()
    return float(frame[(frame.metric == metric) & (frame.arm == "alpha=5")]["mean"].iloc[0])


def test_a_program_scores_with_the_corrected_file(sweep: SweepFolder, tmp_path: Path) -> None:
    Path("constant.py").write_text("from part import NUMBER\n\n\ndef score(response, reference):\n    return NUMBER\n")
    Path("part.py").write_text("NUMBER = 1.0\n")
    assert mean("constant:score") == 1.0
    Path("part.py").write_text("NUMBER = 20.0\n")
    assert mean("constant:score") == 20.0
    unchanged = sys.modules["constant"]
    assert mean("constant:score") == 20.0
    assert sys.modules["constant"] is unchanged


def test_a_program_scores_with_the_file_of_the_current_folder(
    sweep: SweepFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, number in (("one", 1.0), ("two", 2.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "constant.py").write_text(f"def score(response, reference):\n    return {number}\n")
        (tmp_path / name / "out").symlink_to(sweep.path)
    means = []
    for name in ("one", "two"):
        monkeypatch.chdir(tmp_path / name)
        means.append(mean("constant:score"))
    assert means == [1.0, 2.0]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="there is no module 'constant'"):
        mean("constant:score")


def test_a_margin_of_a_function_that_cannot_score_is_no_second_problem(sweep: SweepFolder, neftune: Neftune) -> None:
    told = neftune("compare", "out", "--metric", "my_scores:text", "--margin", "my_scores:text=1").err
    assert "not a finite number" in told
    assert "was not measured" not in told


SMALL = (
    *WITH_SMALL_MODEL,
    *("--train-examples", "16", "--eval-examples", "4", "--max-steps", "2", "--max-new-tokens", "4", "--no-estimate"),
)


@pytest.fixture
def module() -> Iterator[Path]:
    """Return the path of the module with metrics, in the current folder, which is forgotten afterwards."""
    path = Path("my_scores.py")
    path.write_text(MODULE)
    importlib.invalidate_caches()
    yield path
    sys.modules.pop("my_scores", None)


def rows_of(csv_text: str, metric: str) -> dict[str, dict[str, str]]:
    return {row["arm"]: row for row in csv.DictReader(csv_text.splitlines()) if row["metric"] == metric}


def test_a_sweep_declares_a_function_and_stores_its_scores(neftune: Neftune, module: Path) -> None:
    options = ["--metric", "my_scores:letters", "--margin", "50"]
    swept = neftune("sweep", "--alphas", "0,5", "--seeds", "3", *SMALL, *options, "--output", "out")
    assert swept.code == 0, swept.err
    assert "Letters (higher is better)" in swept.out
    means = {row: float(values["mean"]) for row, values in by_arm(neftune, "my_scores:letters").items()}
    assert means["alpha=5"] == pytest.approx(expected(SweepFolder(Path("out")), "alpha=5"))
    sys.modules.pop("my_scores")
    module.unlink()  # the stored scores need no function
    compared = neftune("compare", "out", "--format", "csv")
    assert compared.code == 0, compared.err
    rows = rows_of(compared.out, "my_scores:letters")
    assert {arm: float(row["mean"]) for arm, row in rows.items()} == means
    assert (float(rows["alpha=5"]["margin"]), rows["alpha=5"]["verdict"]) == (50, "equivalent")


def test_looks_are_decided_on_the_function_of_an_experiment(neftune: Neftune, module: Path) -> None:
    Path("own.yaml").write_text(
        "arms: [{alpha: 0}, {alpha: 5}]\n"
        "analysis: {looks: [3, 5], metric: 'my_scores:letters', margin: '50'}\n"
        "train_examples: 16\neval_examples: 4\ntrain: {max_steps: 2}\nevaluation: {max_new_tokens: 4}\n"
    )
    swept = neftune("sweep", "own.yaml", *WITH_SMALL_MODEL, "--no-estimate", "--output", "out")
    assert swept.code == 0, swept.err
    assert "Look 1 of 2, 3 seeds: no arm gets further seeds." in swept.err
    assert len(SweepFolder(Path("out")).records()) == 7  # the base model, and two arms with three seeds


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        ("nowhere:vowels", "--metric: nowhere:vowels: there is no module 'nowhere'. Put nowhere.py into the current"),
        ("my_scores:vowel", "the module my_scores has no function 'vowel'. Did you mean 'vowels'?"),
        ("my_scores:one", "the function has the parameters (response). Write a function of (response, reference)"),
        ("my_scores:sideways", "the attribute goal is 'sideways'"),
        ("ends:vowels", "the module 'ends' cannot be imported: SystemExit: 3"),
    ],
)
def test_a_declared_function_is_checked_before_the_first_trial(
    neftune: Neftune, module: Path, metric: str, told: str
) -> None:
    Path("ends.py").write_text("raise SystemExit(3)")
    result = neftune("sweep", "--alphas", "0,5", *SMALL, "--metric", metric, "--output", "out")
    text = " ".join(result.err.split())
    assert (result.code, "Traceback" in text) == (2, False)
    assert told in text
    assert not Path("out").exists()


def test_a_place_in_an_experiment_is_named(neftune: Neftune, module: Path) -> None:
    Path("own.yaml").write_text("arms: [{alpha: 0}, {alpha: 5}]\nanalysis:\n  metric: 'my_scores:vowel'\n")
    told = " ".join(neftune("sweep", "own.yaml", "--output", "out").err.split())
    assert "own.yaml, line 3: my_scores:vowel: the module my_scores has no function 'vowel'" in told


def test_an_error_of_the_function_loses_no_trial(neftune: Neftune, module: Path) -> None:
    command = ["sweep", "--alphas", "0,5", "--seeds", "1", *SMALL, "--metric", "my_scores:broken", "--output", "out"]
    failed = neftune(*command)
    text = " ".join(failed.err.split())
    assert (failed.code, "Traceback" in text) == (2, False)
    assert "ZeroDivisionError: division by zero. Correct the function, so that it takes every response." in text
    assert "Then run the same command again. Finished trials are kept." in text
    kept = {path: path.read_bytes() for path in Path("out").glob("trials/*/record.json")}
    assert len(kept) == 3
    sys.modules.pop("my_scores")
    module.write_text(MODULE.replace("1 / 0", "len(response) + 0.5"))
    importlib.invalidate_caches()
    again = neftune(*command)
    assert again.code == 0, again.err
    assert "Trials run, the base model included: 0, done before: 3" in again.err
    assert {path: path.read_bytes() for path in kept} == kept


def test_a_comparison_that_names_the_function_scores_again(neftune: Neftune, module: Path) -> None:
    metric = "my_scores:by_seed"
    swept = neftune("sweep", "--alphas", "0,5", "--seeds", "1", *SMALL, "--metric", metric, "--output", "out")
    assert swept.code == 0, swept.err
    import my_scores  # type: ignore[import-not-found]

    before = {
        arm: float(row["mean"])
        for arm, row in rows_of(neftune("compare", "out", "--format", "csv").out, metric).items()
    }
    my_scores.calls.clear()
    my_scores.scale = 3.0
    stored = rows_of(neftune("compare", "out", "--format", "csv").out, metric)
    assert my_scores.calls == []
    assert {arm: float(row["mean"]) for arm, row in stored.items()} == before
    assert {arm: float(row["mean"]) - 2 for arm, row in by_arm(neftune, metric).items()} == pytest.approx(before)


def test_damaged_scores_are_no_scores(neftune: Neftune, module: Path) -> None:
    command = ["sweep", "--alphas", "0,5", "--seeds", "1", *SMALL, "--metric", "my_scores:letters", "--output", "out"]
    assert neftune(*command).code == 0
    written = Path("out/metric_scores.json").read_bytes()
    Path("out/metric_scores.json").write_bytes(written[:-20])
    compared = neftune("compare", "out", "--full")
    assert compared.code == 0
    assert "The declared primary metric my_scores:letters was not measured." in " ".join(compared.out.split())
    assert neftune(*command).code == 0
    assert Path("out/metric_scores.json").read_bytes() == written
