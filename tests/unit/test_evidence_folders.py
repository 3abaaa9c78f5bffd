"""Sweeps at and below the paths that a user names, also behind links, each once."""

import shutil
from pathlib import Path

import pytest

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.evidence.folders import find_sweeps, sweeps_without_spec
from neftune_cli.store import SweepFolder, is_sweep
from neftune_cli.store.manifest import Manifest
from tests.finished_trials import trial_record, write_trial


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    sweep = SweepFolder(tmp_path / "sweep")
    sweep.open(resolve_sweep(None, {"alphas": [0.0, 5.0], "seeds": [0, 1]}))
    return sweep


def test_find_sweeps_finds_sweeps_below_a_folder(folder: SweepFolder, tmp_path: Path) -> None:
    assert [sweep.name for sweep in find_sweeps([tmp_path])] == ["sweep"]
    assert [sweep.path for sweep in find_sweeps([folder.path])] == [folder.path]


def test_a_sweep_that_several_paths_name_is_found_once(
    folder: SweepFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a link").symlink_to(folder.path)
    monkeypatch.chdir(tmp_path)
    paths = [folder.path, Path("sweep"), tmp_path / "a link", Path()]
    assert [sweep.path for sweep in find_sweeps(paths)] == [folder.path]
    assert [sweep.path for sweep in find_sweeps(paths[2:])] == [tmp_path / "a link"]


def test_sweeps_behind_links_below_a_folder_are_found_once(folder: SweepFolder, tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    (results / "m").symlink_to(folder.path)
    assert [sweep.path for sweep in find_sweeps([results])] == [results / "m"]
    (results / "a").symlink_to("z")
    shutil.copytree(folder.path, results / "z")
    (results / "z" / "cycle").symlink_to(results)
    assert [sweep.path for sweep in find_sweeps([results])] == [results / "m", results / "z"]
    shutil.copytree(folder.path, tmp_path / "around")
    (results / "up").symlink_to("..")
    assert [sweep.path for sweep in find_sweeps([results])] == [results / "m", results / "z"]


def test_a_sweep_without_spec_behind_a_link_is_found(folder: SweepFolder, tmp_path: Path) -> None:
    write_trial(folder.trial("abc", "alpha=0", 0), trial_record("abc", "alpha=0", 0, 1.0))
    folder.write_manifest(Manifest())
    (folder.path / "sweep.yaml").unlink()
    (tmp_path / "results").mkdir()
    (tmp_path / "results/link").symlink_to(folder.path)
    assert [one.path for one in sweeps_without_spec([tmp_path / "results"])] == [tmp_path / "results/link"]


def test_sweeps_are_in_the_order_of_the_paths_and_sorted_below_each(tmp_path: Path) -> None:
    for name in ("b/two", "b/one", "a/three"):
        (tmp_path / name / "trials").mkdir(parents=True)
        (tmp_path / name / "sweep.yaml").touch()
    assert [one.name for one in find_sweeps([tmp_path / "b", tmp_path / "a"])] == ["one", "two", "three"]
    assert [one.name for one in find_sweeps([tmp_path / "b/two", tmp_path])] == ["two", "three", "one"]


def test_folder_with_sweep_yaml_of_another_program_is_no_sweep(folder: SweepFolder, tmp_path: Path) -> None:
    other = tmp_path / "other program"
    other.mkdir()
    (other / "sweep.yaml").write_text("method: grid")
    assert [sweep.path for sweep in find_sweeps([tmp_path])] == [folder.path]
    assert [is_sweep(place) for place in (folder.path, other, tmp_path)] == [True, False, False]


def test_a_path_that_begins_with_a_dash_is_made_absolute_for_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("-dash", "plain"):
        SweepFolder(Path(f"./{name}")).open(resolve_sweep(None, {"alphas": [0.0, 5.0], "seeds": [0]}))
    assert [one.path for one in find_sweeps([Path("./-dash"), Path("./plain")])] == [tmp_path / "-dash", Path("plain")]
