"""Ratings of judges: files for AlpacaEval, and its annotations or a CSV file in the tables of a comparison."""

import csv
import errno
import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
import pytest

from neftune_cli.evidence.gathering import gather
from neftune_cli.evidence.judgments import with_judgments
from neftune_cli.evidence.measurements import Measurements
from neftune_cli.records import Generation, TrialRecord
from neftune_cli.store import SweepFolder
from tests.command_line import Neftune
from tests.finished_trials import write_sweep_with_responses


@pytest.fixture
def sweep(tmp_path: Path, neftune: Neftune, hand_made_records: list[TrialRecord]) -> SweepFolder:
    """Return a finished sweep of two arms and three seeds in the current folder."""
    folder = SweepFolder(tmp_path / "out")
    write_sweep_with_responses(folder, hand_made_records)
    return folder


def responses(sweep: SweepFolder) -> list[tuple[str, int | None, Generation]]:
    """Return arm, seed and response for every held-out prompt of every trial."""
    return [
        (record.arm, record.seed, one)
        for folder, record in sweep.finished()
        for one in folder.generations()
        if one.split == "held-out"
    ]


def made_up_score(arm: str, seed: int | None, place: int) -> float:
    """Return a score that differs between arms, seeds and prompts."""
    return 10.0 * (arm == "alpha=5") + (seed or 0) + place / 10


def scores(sweep: SweepFolder) -> list[list[Any]]:
    """Return the rows id, arm, seed, score of a CSV file."""
    prompts = list(dict.fromkeys(one.example for _, _, one in responses(sweep)))
    return [
        [one.example, arm, seed, made_up_score(arm, seed, prompts.index(one.example))]
        for arm, seed, one in responses(sweep)
    ]


def write_csv(rows: list[list[Any]], path: str = "judge.csv") -> None:
    """Write the rows with a heading."""
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", "arm", "seed", "score"], *rows])


def trials_with(path: str) -> dict[tuple[str, int | None], Measurements]:
    """Return the trials with the ratings of a file."""
    (evidence,) = with_judgments(gather([Path("out")]), Path(path))
    return {(one.arm, one.seed): one for one in evidence.trials}


def test_export_writes_one_file_of_outputs_per_trial(sweep: SweepFolder, neftune: Neftune) -> None:
    assert "8 files written to alpaca-eval/out" in neftune("export", "out", "--to", "alpaca-eval").err
    outputs = json.loads(Path("alpaca-eval/out/alpha=5,seed=1.json").read_text())
    own = [one for arm, seed, one in responses(sweep) if (arm, seed) == ("alpha=5", 1)]
    assert [(one["instruction"], one["output"]) for one in outputs] == [(one.prompt, one.response) for one in own]
    assert {(one["generator"], one["dataset"]) for one in outputs} == {("alpha=5,seed=1", "out")}
    references = json.loads(Path("alpaca-eval/out/reference.json").read_text())
    assert [one["output"] for one in references] == [one.reference for one in own]


def test_sweeps_of_the_same_name_are_not_exported_to_one_folder(
    tmp_path: Path, neftune: Neftune, hand_made_records: list[TrialRecord]
) -> None:
    for machine in ("m1", "m2"):
        write_sweep_with_responses(SweepFolder(tmp_path / machine / "out"), hand_made_records)

    refused = neftune("export", "m1/out", "m2", "--to", "alpaca-eval")

    assert refused.code == 2
    assert refused.err == (
        "Error: The sweeps m1/out and m2/out have the same name, so their responses would be written to the same "
        "folder.\n  Export each with its own --output.\n"
    )
    assert not Path("alpaca-eval").exists()


@pytest.mark.parametrize("target", ["alpaca-eval", "tensorboard"])
def test_nothing_is_exported_if_a_file_of_a_sweep_does_not_fit_or_is_damaged(
    target: str, tmp_path: Path, neftune: Neftune, hand_made_records: list[TrialRecord]
) -> None:
    for name in ("edited", "damaged", "whole"):
        write_sweep_with_responses(SweepFolder(tmp_path / name), hand_made_records)
    (tmp_path / "damaged/manifest.json").write_text("{")
    spec = tmp_path / "edited/sweep.yaml"
    spec.write_text(spec.read_text().replace("learning_rate: 0.001", "learning_rate: 0.5"))

    refused = neftune("export", "whole", "edited", "damaged", "--to", target, "--output", "copies")

    assert refused.code == 2
    assert "edited/sweep.yaml does not fit the finished trials" in refused.err
    assert "damaged/manifest.json is damaged." in refused.err
    assert "whole" not in refused.err
    assert not Path("copies").exists()


def test_a_full_disk_has_the_advice_to_free_space(
    sweep: SweepFolder, neftune: Neftune, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("neftune_cli.store.write_atomically", fail)

    refused = neftune("export", str(sweep.path), "--to", "alpaca-eval")

    assert refused.err == (
        f"Error: --to alpaca-eval: the responses of {sweep.path} cannot be written: No space left on device.\n"
        "  Free disk space, and run the same command again.\n"
    )


def test_export_keeps_the_responses_of_arms_whose_folders_have_equal_labels(
    tmp_path: Path, neftune: Neftune, hand_made_records: list[TrialRecord]
) -> None:
    names = {"alpha=0": "weight decay", "alpha=5": "weight_decay"}
    records = [one.model_copy(update={"arm": names.get(one.arm, one.arm)}) for one in hand_made_records]
    write_sweep_with_responses(SweepFolder(tmp_path / "out"), records)

    assert "8 files written to alpaca-eval/out" in neftune("export", "out", "--to", "alpaca-eval").err

    outputs = [json.loads(file.read_text()) for file in Path("alpaca-eval/out").glob("weight_decay,*.json")]
    written = {f"{arm},seed={seed}" for arm in names.values() for seed in range(3)}
    assert {one["generator"] for file in outputs for one in file} == written


def test_scores_of_a_csv_are_paired_by_seed_and_prompt(sweep: SweepFolder, neftune: Neftune) -> None:
    write_csv(scores(sweep))
    compared = neftune("compare", "out", "--judge-results", "judge.csv", "--format", "csv", "--metric", "judge_score")
    rows = {(row["metric"], row["arm"]): row for row in csv.DictReader(compared.out.splitlines())}
    assert float(rows["judge_score", "alpha=5"]["difference"]) == pytest.approx(10.0)
    assert float(rows["judge_score", "alpha=0"]["mean"]) == pytest.approx(1.0 + 0.2)  # seeds 0 to 2, prompts 0 to 4
    assert "no value" not in compared.err


def test_seeds_of_a_csv_may_be_written_as_by_pandas(sweep: SweepFolder) -> None:
    table = pd.DataFrame(scores(sweep), columns=["id", "arm", "seed", "score"])
    table.to_csv("judge.csv", index=False)
    assert ",2.0," in Path("judge.csv").read_text()

    trials = trials_with("judge.csv")

    assert trials["alpha=5", 2].scores["judge_score"] == pytest.approx(10 + 2 + 0.2)
    assert trials["base", None].scores["judge_score"] == pytest.approx(0.2)


def test_a_csv_may_have_responses_with_other_line_separators(sweep: SweepFolder) -> None:
    with Path("judge.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [[*row, "one\u2028two\x0cthree\nfour"] for row in scores(sweep)]
        csv.writer(file).writerows([["id", "arm", "seed", "score", "response"], *rows])

    assert trials_with("judge.csv")["alpha=5", 2].scores["judge_score"] == pytest.approx(10 + 2 + 0.2)


def test_the_page_says_that_a_repeated_sweep_needs_new_verdicts(sweep: SweepFolder, neftune: Neftune) -> None:
    write_csv(scores(sweep))
    page = neftune("compare", "out", "--judge-results", "judge.csv", "--format", "html").out
    assert "add --judge-results FILE to the last command" in page


def test_missing_scores_are_counted_and_left_out_of_all_trials(sweep: SweepFolder, neftune: Neftune) -> None:
    rows = [row for row in scores(sweep) if row[1] != "base"]
    rows[0][3] = ""
    write_csv(rows[:-1])
    told = neftune("compare", "out", "--judge-results", "judge.csv").err
    assert "judge.csv has no value for 7 of 35 responses. Judge score is compared over the 3 prompts" in told
    assert "Trials without any: base." in told
    assert not Path("out/summary.md").exists()
    kept = [made_up_score("alpha=0", 1, place) for place in range(1, 4)]
    trials = trials_with("judge.csv")
    assert trials["alpha=0", 1].scores["judge_score"] == pytest.approx(fmean(kept))
    assert trials["base", None].scores["judge_score"] is None


def test_annotations_of_alpaca_eval_become_win_rates(sweep: SweepFolder, neftune: Neftune) -> None:
    preferences = [2, 1.5, 0, 1.25, None]
    annotations = [
        {
            "instruction": one.prompt,
            "output_1": one.reference,
            "generator_1": "reference",
            "output_2": one.response,
            "generator_2": f"{arm},seed={seed}",
            "annotator": "a",
            "preference": preferences[place % 5] if (arm, seed) == ("alpha=5", 0) else 1,
        }
        for place, (arm, seed, one) in enumerate(responses(sweep))
        if arm != "base"
    ]
    Path("annotations.json").write_text(json.dumps(annotations, indent=2))
    trials = trials_with("annotations.json")
    assert trials["alpha=5", 0].scores["judge_win_rate"] == pytest.approx((1 + 0.5 + 0.5 + 0.25) / 4)
    assert trials["alpha=0", 0].scores["judge_win_rate"] == trials["alpha=0", 0].scores["judge_win_rate_lc"] == 0
    rate = trials["alpha=5", 0].scores["judge_win_rate_lc"]
    assert rate is not None
    assert 0 < rate < 1
    told = neftune("compare", "out", "--judge-results", "annotations.json", "--metric", "judge_win_rate")
    assert "annotations.json has no value for 6 of 35 responses" in told.err


@pytest.mark.parametrize("key", ["judge_win_rate", "judge_win_rate_lc"])
def test_an_open_win_rate_has_no_sweep_that_decides_it_and_a_range_within_its_bounds(
    sweep: SweepFolder, neftune: Neftune, key: str
) -> None:
    won = {("alpha=0", 1), ("alpha=5", 2)}
    annotations = [
        {
            "instruction": one.prompt,
            "output_1": one.response,  # of the same length
            "generator_1": "reference",
            "output_2": one.response,
            "generator_2": f"{arm},seed={seed}",
            "preference": 2 if (arm, seed) in won else 1,
        }
        for arm, seed, one in responses(sweep)
        if arm != "base"
    ]
    Path("annotations.json").write_text(json.dumps(annotations))

    told = neftune("compare", "out", "--judge-results", "annotations.json", "--metric", key).out

    assert "NOT DECIDED" in told
    assert "a difference of \N{MINUS SIGN}0.33 to +0.67." in " ".join(told.split())  # the baseline wins a third
    assert "\nNext" not in told
    assert "\nChance" not in told
    details = " ".join(told.partition("\nDetails")[2].replace("\\\n", "").split())
    assert details.startswith(f"neftune compare out --judge-results annotations.json --metric {key} --full")


def test_problems_of_a_csv_are_told_with_their_lines(sweep: SweepFolder, neftune: Neftune) -> None:
    rows = scores(sweep)
    example = rows[0][0]
    wrong = [["nowhere", "alpha=5", 0, 1], [example, "alpha=50", 0, 1], [example, "alpha=5", 7, 1]]
    write_csv([*wrong, [example, "alpha=5", 0, "good"], [example, "alpha=5", 1, 1], [example, "alpha=5", 1, 2]])
    told = neftune("compare", "out", "--judge-results", "judge.csv")
    assert told.code == 2
    for part in (
        "judge.csv, line 2: the id 'nowhere' is not a held-out example",
        "line 3: the arm 'alpha=50' is unknown. Did you mean 'alpha=",
        "line 4: alpha=5 has no finished trial with seed '7'. Use 0, 1 or 2.",
        "line 5: the score 'good' is not a finite number",
        "line 7: this response has a rating on an earlier line",
    ):
        assert part in " ".join(told.err.split())


def test_problems_of_annotations_are_told_with_their_lines(sweep: SweepFolder, neftune: Neftune) -> None:
    prompt = responses(sweep)[0][2].prompt
    good = {"instruction": prompt, "generator_1": "r", "generator_2": "alpha=5,seed=0", "preference": 1}
    changes: list[dict[str, Any]] = [{"generator_2": "gpt"}, {"instruction": "?"}, {"preference": 3}]
    other = {"generator_1": "other", "generator_2": "alpha=5,seed=1"}
    lines = ",\n".join(json.dumps({**good, **change}) for change in [*changes, other])
    Path("annotations.json").write_text(f"[\n{lines}\n")
    told = neftune("compare", "out", "--judge-results", "annotations.json")
    assert told.code == 2
    for part in (
        "line 2: generator_2 is 'gpt', which is not a trial of the sweep",
        "line 3: the instruction is not a held-out prompt",
        "line 4: the preference is 3",
        "line 5: generator_1 is 'other', and 'r' on earlier lines",
        "the closing bracket is missing",
    ):
        assert part in " ".join(told.err.split())


def test_a_file_of_something_else_is_one_problem_with_its_lines(sweep: SweepFolder, neftune: Neftune) -> None:
    Path("other.jsonl").write_text('{"instruction": "a", "output": "b"}\n' * 7)
    told = neftune("compare", "out", "--judge-results", "other.jsonl")
    assert told.err == (
        "Error: --judge-results other.jsonl, lines 1, 2, 3, 4, 5 and 2 more: this is no annotation of AlpacaEval: "
        "there is no generator_2.\n"
        "  Use AlpacaEval's annotations.json, or a CSV file with the columns id, arm, seed, score.\n"
    )


def test_a_cell_of_a_csv_may_have_any_size(sweep: SweepFolder) -> None:
    with Path("judge.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [[*row, "x" * 200_000] for row in scores(sweep)]
        csv.writer(file).writerows([["id", "arm", "seed", "score", "response"], *rows])
    assert trials_with("judge.csv")["alpha=5", 2].scores["judge_score"] == pytest.approx(10 + 2 + 0.2)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read"),
        ("", "there is no column id, arm, seed, score"),
        ("[]", "has no rating"),
        ('"id,arm,seed,score\na,b,0,1\n', "judge.csv, line 1: this is not valid CSV (unexpected"),
    ],
)
def test_a_file_without_ratings_is_refused(
    sweep: SweepFolder, neftune: Neftune, content: str | None, told: str
) -> None:
    if content is not None:
        Path("judge.csv").write_text(content)
    result = neftune("compare", "out", "--judge-results", "judge.csv")
    assert (result.code, told in " ".join(result.err.split())) == (2, True), result.err
