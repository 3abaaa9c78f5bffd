"""Errors of `gather`: paths that are not folders, and folders without results."""

from pathlib import Path

import pytest

from neftune_cli.errors import NothingToCompareError, UsageError
from neftune_cli.evidence.gathering import gather


def test_an_empty_folder_raises(tmp_path: Path) -> None:
    with pytest.raises(NothingToCompareError, match=f"There is no sweep in {tmp_path}, and no run of a trainer"):
        gather([tmp_path])


def test_every_path_that_is_not_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "two").touch()

    with pytest.raises(UsageError) as caught:
        gather([tmp_path / "one", tmp_path / "two"])

    assert [problem.what for problem in caught.value.problems] == [
        f"{tmp_path}/one does not exist.",
        f"{tmp_path}/two is a file, not a folder.",
    ]


def test_the_sweep_that_contains_a_path_is_suggested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results" / "bios" / "trials").mkdir(parents=True)
    (tmp_path / "results" / "bios" / "sweep.yaml").touch()

    with pytest.raises(UsageError) as caught:
        gather([Path("results/bios/sweep.yaml"), Path("elsewhere")])

    file, missing = caught.value.problems
    assert file.fix == "Use the folder of the sweep, results/bios."
    assert missing.fix.startswith("Use a results folder of `neftune sweep`, for example results/tiny-bios")
