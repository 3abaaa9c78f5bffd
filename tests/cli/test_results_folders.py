"""Results folders that a command cannot use: messages with a fix, and no file written or lost."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.store import SweepFolder
from tests.command_line import Neftune

SWEEP = ("sweep", "--max-steps", "1", "--train-examples", "8", "--eval-examples", "4", "--quiet")


def _open_sweep(path: Path, fields: Mapping[str, Any] | None = None) -> None:
    SweepFolder(path).open(resolve_sweep(None, fields or {}))


def test_a_folder_with_a_different_sweep_is_not_changed(neftune: Neftune, tmp_path: Path) -> None:
    _open_sweep(tmp_path / "there", {"train": {"epochs": 9.0}})
    before = (tmp_path / "there" / "sweep.yaml").read_bytes()
    result = neftune("sweep", "--epochs", "1", "--output", "there", "--quiet")
    assert result.err == (
        "Error: there has a different sweep: train.epochs is 9.0 in the folder and 1.0 in this command.\n"
        "  Use --output with another folder, or the same options.\n"
    )
    assert result.code == 2
    assert (tmp_path / "there" / "sweep.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--noises", "unifrom", "'unifrom'"),
        ("--set", "wieght_decay=0.1", "'wieght_decay'"),
        ("--seeds", "x", "'x'"),
        ("--alphas", "x", "'x'"),
    ],
)
def test_an_invalid_option_is_reported_instead_of_a_different_sweep(
    neftune: Neftune, tmp_path: Path, option: str, value: str, named: str
) -> None:
    _open_sweep(tmp_path / "there", {"train": {"epochs": 9.0}})
    result = neftune("sweep", option, value, "--output", "there", "--quiet")
    assert named in result.err.partition("\n")[0]
    assert "different sweep" not in result.err
    assert result.code == 2


def test_a_folder_with_other_files_is_refused(neftune: Neftune, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").touch()
    result = neftune("sweep", "--output", "photos", "--quiet")
    assert result.err == ("Error: photos has files but no sweep.\n  Use --output with an empty or a new folder.\n")


def test_the_option_that_plans_the_looks_of_a_folder_is_named(neftune: Neftune, tmp_path: Path) -> None:
    _open_sweep(tmp_path / "there", {"until_decided": True, "looks": [3, 4]})
    result = neftune("sweep", "--output", "there", "--quiet")
    assert result.err == (
        "Error: there has a different sweep: analysis.looks is [3, 4] in the folder and [] in this command.\n"
        "  Add --until-decided --looks 3,4 to continue that sweep. Use --output with another folder, or the same "
        "options.\n"
    )


@pytest.mark.parametrize(
    ("options", "fix"),
    [
        (
            ("--until-decided",),
            "The folder has a fixed number of seeds: leave out --until-decided, or `looks` in the experiment file. Use "
            "--output with ",
        ),
        (
            ("--margin", "0.05"),
            "`neftune compare there --margin eval_loss=0.05` needs no new trials. Use --output with ",
        ),
        (
            ("--metric", "bleu", "--margin", "0.5"),
            "`neftune compare there --metric bleu --margin bleu=0.5` needs no new trials. Use --output with ",
        ),
        (("--margin", "0.05", "--epochs", "2"), "Use --output with "),
        (("--margin", "0.05", "--alphas", "0,5,20"), "Use --output with "),
        (("--margin", "0.05", "--seeds", "4"), "Use --output with "),
        (
            ("--margin", "0.05", "--seeds", "2"),
            "`neftune compare there --margin eval_loss=0.05` needs no new trials. Use --output with ",
        ),
    ],
)
def test_the_way_on_with_another_analysis_is_named(
    neftune: Neftune, tmp_path: Path, options: tuple[str, ...], fix: str
) -> None:
    _open_sweep(tmp_path / "there")
    result = neftune("sweep", *options, "--output", "there", "--quiet")
    assert (result.code, result.err.splitlines()[1].strip()) == (2, f"{fix}another folder, or the same options.")


def test_no_comparison_is_named_for_a_command_without_the_margin_of_the_folder(
    neftune: Neftune, tmp_path: Path
) -> None:
    _open_sweep(tmp_path / "there", {"analysis": {"margin": "0.05"}})
    result = neftune("sweep", "--output", "there", "--quiet")
    assert result.err == (
        "Error: there has a different sweep: analysis.margin is '0.05' in the folder and not set in this command.\n"
        "  Use --output with another folder, or the same options.\n"
    )


def test_a_plan_for_a_file_is_refused(neftune: Neftune, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = neftune("sweep", "--output", "file", "--dry-run", "--no-estimate", "--quiet")
    assert result.err == "Error: --output file is a file.\n  Use an empty or a new folder.\n"
    assert result.code == 2


@pytest.mark.parametrize("more", [(), ("--dry-run", "--no-estimate")])
def test_a_folder_that_cannot_be_written_is_refused(neftune: Neftune, tmp_path: Path, more: tuple[str, ...]) -> None:
    (tmp_path / "file").touch()
    result = neftune(*SWEEP, "--output", "file/sweep", *more)
    assert result.err.removeprefix("Reading model and data ...\n") == (
        "Error: file/sweep is not writable: file is not a writable folder.\n  Use --output with a writable folder.\n"
    )
    assert result.code == 2


@pytest.mark.parametrize("command", ["status", "compare", "export --to tensorboard", "push --output copy"])
def test_a_missing_path_is_wrong_usage_and_a_folder_without_sweeps_has_no_results(
    command: str, neftune: Neftune, tmp_path: Path
) -> None:
    name, *options = command.split()
    (tmp_path / "empty").mkdir()

    missing, empty = (neftune(name, path, *options) for path in ("nowhere", "empty"))

    assert (missing.code, missing.err.splitlines()[0]) == (2, "Error: nowhere does not exist.")
    assert (empty.code, empty.err.startswith("Error: There is no sweep in empty")) == (3, True)
