"""Errors of `gather`: paths that are not folders, folders without results, and broken sweeps."""

from pathlib import Path

import pytest

from neftune_cli.errors import NothingToCompareError, UsageError
from neftune_cli.evidence.gathering import gather
from neftune_cli.records import TrialRecord
from neftune_cli.store import SweepFolder
from neftune_cli.store.manifest import Manifest
from tests.finished_trials import write_sweep_with_responses


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


def test_every_broken_sweep_is_named(tmp_path: Path, hand_made_records: list[TrialRecord]) -> None:
    whole, edited, damaged, unlisted, lost = (SweepFolder(tmp_path / name) for name in ("a", "b", "c", "d", "e"))
    for folder in (whole, edited, damaged, unlisted, lost):
        write_sweep_with_responses(folder, hand_made_records)
        folder.write_manifest(Manifest())
    text = (edited.path / "sweep.yaml").read_text()
    (edited.path / "sweep.yaml").write_text(text.replace("epochs: 3.0", "epochs: 4.0"))
    (damaged.path / "sweep.yaml").write_text("model: [")
    (unlisted.path / "manifest.json").write_text("{")
    (lost.path / "sweep.yaml").unlink()

    with pytest.raises(UsageError) as caught:
        gather([tmp_path])

    starts = [
        f"{edited.path}/sweep.yaml does not fit",
        f"{damaged.path}/sweep.yaml, line 1",
        f"{unlisted.path}/manifest.json is damaged",
        f"{lost.path} has trials, but no sweep.yaml",
    ]
    found = [problem.what for problem in caught.value.problems]
    assert len(found) == len(starts)
    assert all(one.startswith(start) for one, start in zip(found, starts, strict=True))
