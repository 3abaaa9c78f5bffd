"""Arm and seed of runs of other tools, from folder names and run files."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from neftune_cli.errors import UsageError
from neftune_cli.evidence.run_names import RunName, by_common_folder, name_runs

NAME_FIX = "Rename the folders, for example alpha=5,seed=0, or add a file run.yaml to each: {alpha: 5, seed: 0}."
FILE_FIX = "Write {arm: weight decay, alpha: 0, seed: 1}; all three fields are optional."


def named(root: Path, *runs: str) -> list[RunName]:
    """Return the names of the runs of one group."""
    folders = [folder(root, run) for run in runs]
    names = name_runs([folders], root)
    return [names[one] for one in folders]


def folder(root: Path, run: str) -> Path:
    path = root / run
    path.mkdir(parents=True, exist_ok=True)
    return path


def problem(root: Path, groups: Sequence[Sequence[Path]]) -> str:
    with pytest.raises(UsageError) as raised:
        name_runs(groups, root)
    return str(raised.value).replace(f"{root}/", "")


@pytest.mark.parametrize(
    ("path", "arm", "alpha", "seed"),
    [
        ("alpha=5,seed=0", "alpha=5", 5.0, 0),
        ("alpha-5_seed-1", "alpha=5", 5.0, 1),
        ("alpha0.5-s3", "alpha=0.5", 0.5, 3),
        ("Alpha_10/Seed_2", "alpha=10", 10.0, 2),
        ("neftune5 seed7", "alpha=5", 5.0, 7),
        ("neftune_noise_alpha=15/seed=42", "alpha=15", 15.0, 42),
        ("sft-noise-alpha-0-seed-0", "alpha=0", 0.0, 0),
        ("tiny,alpha=5.0,seed=1", "alpha=5", 5.0, 1),
        ("s2/alpha=5", "alpha=5", 5.0, 2),
        ("alpha=0/alpha=5/seed=0", "alpha=5", 5.0, 0),
        ("lora_alpha=16,alpha=5,seed=0", "alpha=5,lora_alpha=16", 5.0, 0),
        ("alpha=5,noise=gaussian,seed=0", "alpha=5,noise=gaussian", 5.0, 0),
        ("out__alpha-5_seed-0__checkpoint-100", "alpha=5", 5.0, 0),
        ("weight-decay,seed=0", "weight-decay", None, 0),
        ("seed-4-dropout", "dropout", None, 4),
        ("weight-decay/seed=0", "weight-decay", None, 0),
        ("out__weight-decay__seed=0__checkpoint-100", "weight-decay", None, 0),
        ("dropout__s0", "dropout", None, 0),
        ("base", "base", None, None),
        ("base/HuggingFaceTB__SmolLM2-135M", "base", None, None),
    ],
)
def test_arm_and_seed_from_folder_names(
    tmp_path: Path, path: str, arm: str, alpha: float | None, seed: int | None
) -> None:
    assert named(tmp_path / "runs", path) == [RunName(arm, alpha, seed)]


@pytest.mark.parametrize("path", ["alphabet5", "lora_alpha=16", "gpus4", "v1.5", "alpha=5x", "alphas=5", "llama-3"])
def test_other_folder_names_have_no_arm_and_seed(tmp_path: Path, path: str) -> None:
    found = problem(tmp_path / "runs", [[folder(tmp_path / "runs", path)]])
    assert found == f"The arm and seed of this run are unknown: {path}. {NAME_FIX}"


def test_the_name_of_the_given_folder_is_read(tmp_path: Path) -> None:
    assert named(tmp_path / "alpha=5", "seed=0", "seed=1") == [RunName("alpha=5", 5.0, 0), RunName("alpha=5", 5.0, 1)]
    assert named(tmp_path / "alpha=5,seed=3", ".") == [RunName("alpha=5", 5.0, 3)]


def test_the_only_run_of_an_arm_has_seed_0(tmp_path: Path) -> None:
    assert named(tmp_path, "alpha=0", "alpha=5") == [RunName("alpha=0", 0.0, 0), RunName("alpha=5", 5.0, 0)]


def test_several_runs_of_an_arm_need_seeds(tmp_path: Path) -> None:
    found = problem(tmp_path, [[folder(tmp_path, name) for name in ("a/alpha=5", "b/alpha=5", "alpha=0")]])
    assert found == f"The seed of these runs is unknown: a/alpha=5, b/alpha=5. {NAME_FIX}"


def test_a_missing_seed_raises_if_other_runs_have_seeds(tmp_path: Path) -> None:
    """With seed 0, the only run of an arm would be paired with the baseline's run of seed 0."""
    runs = ("base", "alpha=0,seed=0", "alpha=0,seed=1", "alpha=5", "dropout/alpha=0")
    found = problem(tmp_path, [[folder(tmp_path, name) for name in runs]])
    assert found == f"The seed of these runs is unknown: alpha=5, dropout/alpha=0. {NAME_FIX}"
    assert named(tmp_path, "base", "alpha=0", "alpha=5")[1:] == [RunName("alpha=0", 0.0, 0), RunName("alpha=5", 5.0, 0)]


def test_seeds_in_one_group_do_not_require_seeds_in_another(tmp_path: Path) -> None:
    seeded, unseeded = folder(tmp_path, "old/alpha=5,seed=3"), folder(tmp_path, "new/alpha=5")
    assert name_runs([[seeded], [unseeded]], tmp_path)[unseeded] == RunName("alpha=5", 5.0, 0)


def test_all_runs_without_an_arm_are_listed_in_one_error(tmp_path: Path) -> None:
    groups = [[folder(tmp_path, f"run{number}") for number in range(4)], [folder(tmp_path, f"x{n}") for n in range(3)]]
    assert problem(tmp_path, groups) == (
        f"The arm and seed of these runs are unknown: run0, run1, run2, run3, x0 and 2 more. {NAME_FIX}"
    )


def test_a_seed_directly_below_the_given_folder_has_no_arm(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    found = problem(root, [[folder(root, "seed=0"), folder(root, "seed=1")]])
    assert found.startswith("The arm and seed of these runs are unknown: seed=0, seed=1.")


def test_all_duplicates_are_listed(tmp_path: Path) -> None:
    names = [f"{place}/alpha=5,seed={seed}" for place in ("old", "new") for seed in range(7)]
    found = problem(tmp_path, [[folder(tmp_path, name) for name in names]])
    assert found.count(" occurs 2 times: ") == 7


def test_two_alphas_in_one_name_raise(tmp_path: Path) -> None:
    found = problem(tmp_path, [[folder(tmp_path, "alpha=0-alpha=5,seed=0")]])
    assert found == (
        f"alpha=0-alpha=5,seed=0 in alpha=0-alpha=5,seed=0 has several numbers for the same quantity. {NAME_FIX}"
    )


def test_duplicates_within_a_group_raise(tmp_path: Path) -> None:
    duplicates = [folder(tmp_path, name) for name in ("old/alpha=5,seed=0", "new/alpha=5,seed=0")]
    assert problem(tmp_path, [duplicates]) == (
        "alpha=5, seed 0 occurs 2 times: old/alpha=5,seed=0, new/alpha=5,seed=0. Leave out all but one, or "
        "add a file run.yaml to each with another arm or seed: {arm: other name, seed: 0}."
    )
    assert len(name_runs([[run] for run in duplicates], tmp_path)) == 2


def test_an_arm_with_several_alphas_raises(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    runs = [folder(root, f"mix/seed={seed}") for seed in range(3)]
    for run, alpha in zip(runs, (5, 10, 5), strict=True):
        (run / "run.yaml").write_text(f"alpha: {alpha}")

    assert problem(root, [runs]) == (
        "The arm mix has several alphas: 5 (mix/seed=0, mix/seed=2) and 10 (mix/seed=1). Name an arm for each alpha in "
        "the run files, for example {arm: other name, alpha: 5, seed: 0}."
    )
    assert len(name_runs([runs[:1], runs[1:2]], root)) == 2


def test_two_base_models_in_a_group_raise(tmp_path: Path) -> None:
    found = problem(tmp_path, [[folder(tmp_path, name) for name in ("a/base", "b/base")]])
    assert found.startswith("base occurs 2 times: a/base, b/base.")


@pytest.mark.parametrize(
    ("path", "name", "text", "expected"),
    [
        ("first", "run.yaml", "{arm: weight decay, alpha: 0, seed: 1}", RunName("weight decay", 0.0, 1)),
        ("first", "run.json", '{"alpha": 5, "seed": 2, "host": "elsewhere"}', RunName("alpha=5", 5.0, 2)),
        ("alpha=5,seed=0", "run.yaml", "alpha: 10", RunName("alpha=10", 10.0, 0)),
        ("alpha=5,noise=gaussian,seed=0", "run.yaml", "alpha: 5", RunName("alpha=5,noise=gaussian", 5.0, 0)),
        ("weight-decay,seed=3", "run.yaml", "alpha: 0", RunName("weight-decay", 0.0, 3)),
        ("alpha=5", "run.json", '{"seed": 9}', RunName("alpha=5", 5.0, 9)),
        ("alpha=0,seed=0", "run.yaml", "arm: base", RunName("base", None, None)),
        ("alpha=0,seed=0", "run.yaml", "", RunName("alpha=0", 0.0, 0)),
    ],
)
def test_a_run_file_overrides_folder_names(tmp_path: Path, path: str, name: str, text: str, expected: RunName) -> None:
    (folder(tmp_path, path) / name).write_text(text)
    assert named(tmp_path, path) == [expected]


def test_a_run_file_applies_to_all_runs_below_it_and_the_nearest_takes_precedence(tmp_path: Path) -> None:
    folder(tmp_path, "first/a")
    (tmp_path / "first" / "run.yaml").write_text("{alpha: 5, seed: 0}")
    (tmp_path / "first" / "a" / "run.yaml").write_text("seed: 1")
    assert named(tmp_path, "first/a", "first/b") == [RunName("alpha=5", 5.0, 1), RunName("alpha=5", 5.0, 0)]


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("run.yaml", "alpha: five", "run.yaml: alpha cannot be 'five'."),
        ("run.yaml", "alpha: -1", "run.yaml: alpha cannot be -1."),
        ("run.yaml", "alpha: .nan", "run.yaml: alpha cannot be nan."),
        ("run.yaml", "seed: 0.5", "run.yaml: seed cannot be 0.5."),
        ("run.yaml", "seed: true", "run.yaml: seed cannot be True."),
        ("run.yaml", "arm: ''", "run.yaml: arm cannot be ''."),
        ("run.yaml", "alpha: [", "run.yaml is not a valid run file."),
        ("run.json", '{"alpha": 5', "run.json is not a valid run file."),
        ("run.yaml", "- alpha", "run.yaml has no fields with values."),
    ],
)
def test_an_invalid_run_file_is_named(tmp_path: Path, name: str, text: str, what: str) -> None:
    (tmp_path / name).write_text(text)
    assert problem(tmp_path, [[tmp_path]]) == f"{what} {FILE_FIX}"


def test_order_is_base_model_then_alphas_then_arms_without_an_alpha() -> None:
    ordered = [
        RunName("base", None, None),
        RunName("alpha=0", 0.0, 0),
        RunName("alpha=0", 0.0, 10),
        RunName("dropout", 0.0, 0),
        RunName("alpha=5", 5.0, 0),
        RunName("alpha=5,noise=gaussian", 5.0, 0),
        RunName("alpha=15", 15.0, 0),
        RunName("weight-decay", None, 0),
    ]
    shuffled = [ordered[index] for index in (5, 2, 7, 0, 6, 1, 4, 3)]
    assert sorted(shuffled, key=lambda name: name.order) == ordered


def test_folders_of_single_runs_and_arms_are_combined(tmp_path: Path) -> None:
    parts = {tmp_path / "runs" / f"alpha={alpha}": [f"{alpha}a", f"{alpha}b"] for alpha in (0, 5)}
    whole = {tmp_path / "others": ["x", "y"], tmp_path / "empty": []}
    single = {tmp_path / "runs" / "weight decay": ["z"]}
    assert by_common_folder({**parts, **whole, **single}) == [
        (tmp_path / "others", ["x", "y"]),
        (tmp_path / "runs", ["0a", "0b", "5a", "5b", "z"]),
    ]
    assert by_common_folder(single) == [(tmp_path / "runs" / "weight decay", ["z"])]
