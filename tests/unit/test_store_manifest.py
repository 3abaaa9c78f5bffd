"""Manifests as files: the bytes of a round trip, files of earlier and later versions, and the order of the fields."""

import json
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from neftune_cli.errors import UsageError
from neftune_cli.store import SweepFolder
from neftune_cli.store.manifest import Manifest, Workers
from neftune_cli.sweeps.manifest import new_manifest, with_estimate, with_measured_cost
from tests.finished_trials import trial_record, write_trial
from tests.manifests import cost_estimate
from tests.unit.test_sweeps_estimate import planned

COST = {
    "trials": {"a": 1.5, "b": 20.25},
    "seconds": 21.75,
    "peak_memory": 1073741824,
    "workers": 2,
    "source": "calibration and earlier trials",
    "tokens": {"a": 0, "b": 999},
    "lowest_seconds": None,
    "highest_seconds": None,
    "calibrated": "",
}
WRITTEN: dict[str, Any] = {
    "started": "2026-11-28T14:51:05+00:00",
    "ended": None,
    "command": ["neftune", "sweep", "--dataset", "Märchen.jsonl"],
    "directory": "/home/ada",
    "folder": "/home/ada/results/bios",
    "versions": {"python": "3.11.7", "neftune": "0.1.0", "torch": "2.13.0+cpu"},
    "git": {"commit": "60a43880", "dirty": False},
    "hardware": {
        "device": "cpu",
        "precision": "float32",
        "processor": "x86_64",
        "cores": 2,
        "gpus": None,
        "system": "Linux-6.18-x86_64",
    },
    "workers": {"number": 2, "threads": 1},
    "model": "tiny",
    "data": "bios",
    "fingerprints": {"model": "b85e8c7c684b9072", "data": "e1b48f81a84190f2"},
    "notes": ["32 examples for training."],
    "plan": [
        {"trial": "a", "arm": "base", "seed": None, "steps": 0},
        {"trial": "b", "arm": "alpha=5", "seed": 0, "steps": 6},
    ],
    "estimate": None,
    "truth": COST,
    "trials": {
        "b": {"attempts": 1, "seconds": 20.25, "peak_memory": None, "parameters": 64, "trained_parameters": 64},
    },
    "looks": [3, 5],
    "settled": {"3": [], "5": ["alpha=5,seed=1"]},
    "schema_version": 4,
}
"""A manifest with every field, in the order of the file."""
OLDEST: dict[str, Any] = {
    "started": "2026-09-01T10:00:00+00:00",
    "ended": "2026-09-01T10:05:00+00:00",
    "command": ["neftune", "sweep"],
    "versions": {"python": "3.11.2"},
    "git": None,
    "hardware": {"device": "cpu", "processor": "x86_64", "cores": 2, "system": "Linux"},
    "model": "tiny",
    "data": "bios",
    "fingerprints": {"model": "b85e", "data": "ff51"},
    "notes": [],
    "trials": {"b": {"seconds": 20.0, "peak_memory": 5}},
}
"""The fields of the first version."""
TWO = Workers(number=2, threads=1)


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    (tmp_path / "trials").mkdir()
    return SweepFolder(tmp_path)


def write(folder: SweepFolder, content: dict[str, Any]) -> bytes:
    """Write a manifest with the standard library, and return its bytes."""
    path = folder.path / "manifest.json"
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path.read_bytes()


def read(folder: SweepFolder) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder.path / "manifest.json").read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize("content", [WRITTEN, {**OLDEST, "schema_version": 4}, {"looks": [3], "schema_version": 4}])
def test_reading_and_writing_keeps_the_bytes(folder: SweepFolder, content: dict[str, Any]) -> None:
    before = write(folder, content)

    folder.write_manifest(folder.manifest())

    assert (folder.path / "manifest.json").read_bytes() == before


def test_every_field_is_in_the_round_trip() -> None:
    assert list(WRITTEN) == list(Manifest.model_fields)


def test_fields_that_an_older_version_lacks_have_defaults(folder: SweepFolder) -> None:
    write(folder, OLDEST)

    manifest = folder.manifest()

    assert (manifest.plan, manifest.looks, manifest.estimate, manifest.truth) == ((), (), None, None)
    assert (manifest.workers.number, manifest.workers.threads, manifest.directory) == (0, None, "")
    assert manifest.trials["b"].seconds == 20.0
    assert manifest.trials["b"].parameters is None


def test_a_look_is_added_to_a_manifest_of_an_older_version_and_nothing_else_changes(folder: SweepFolder) -> None:
    write(folder, OLDEST)

    folder.add_look(3)

    assert read(folder) == {**OLDEST, "looks": [3], "schema_version": 4}


def test_commands_that_change_the_manifest_at_once_do_not_lose_the_changes_of_each_other(folder: SweepFolder) -> None:
    write(folder, OLDEST)
    other = Thread(target=SweepFolder(folder.path).add_look, args=(5,))

    def with_note(manifest: Manifest) -> Manifest:
        other.start()
        other.join(0.3)  # the other one ends here only if it does not wait for its turn
        return manifest.model_copy(update={"notes": ("A note.",)})

    folder.update_manifest(with_note)
    other.join()

    assert read(folder) == {**OLDEST, "notes": ["A note."], "looks": [5], "schema_version": 4}


def test_a_change_that_returns_the_same_manifest_writes_nothing(folder: SweepFolder) -> None:
    folder.update_manifest(lambda manifest: manifest)

    assert not (folder.path / "manifest.json").exists()


def test_a_manifest_of_a_look_alone_has_no_other_field(folder: SweepFolder) -> None:
    folder.add_look(3)

    assert read(folder) == {"looks": [3], "schema_version": 4}


def test_unknown_fields_are_kept(folder: SweepFolder) -> None:
    later = {
        **WRITTEN,
        "git": {"commit": "60a43880", "dirty": False, "branch": "main"},
        "truth": {**COST, "energy": 3.5},
        "budget": {"euros": 5},
    }
    write(folder, later)

    folder.add_look(8)

    assert read(folder) == {**later, "looks": [3, 5, 8]}


def test_a_resumed_sweep_keeps_start_costs_looks_and_unknown_fields(folder: SweepFolder) -> None:
    write(folder, {**WRITTEN, "budget": {"euros": 5}})
    plan = planned()

    folder.write_manifest(
        new_manifest(plan, folder.path, folder.manifest(), ["A note."], workers=TWO, training_examples={})
    )

    resumed = read(folder)
    kept = ("started", "estimate", "truth", "trials", "looks", "settled", "budget")
    assert {name: resumed[name] for name in kept} == {name: {**WRITTEN, "budget": {"euros": 5}}[name] for name in kept}
    assert [one["trial"] for one in resumed["plan"]] == [trial.id for trial in plan.trials]
    assert (resumed["ended"], resumed["model"], resumed["notes"]) == (None, plan.spec.model, ["A note."])


def test_a_new_sweep_writes_every_field_in_order(folder: SweepFolder) -> None:
    estimate = cost_estimate({"a": 5.0}, 5.0, lowest_seconds=None, highest_seconds=None, calibrated="")
    manifest = new_manifest(planned(), folder.path, Manifest(), [], workers=TWO, training_examples={})
    write_trial(folder.trial("b", "alpha=5", 0), trial_record("b", "alpha=5", 0), seconds=20.25)
    folder.write_manifest(with_measured_cost(with_estimate(manifest, estimate), folder, estimate, ended=True))

    written = read(folder)

    assert list(written) == list(WRITTEN)
    for name in ("hardware", "workers", "fingerprints", "estimate", "truth"):
        assert list(written[name]) == list(WRITTEN[name] or COST)
    assert list(written["plan"][1]) == list(WRITTEN["plan"][1])
    assert list(written["trials"]["b"]) == list(WRITTEN["trials"]["b"])
    assert written["started"] <= written["ended"]


@pytest.mark.parametrize("content", [{}, {"started": "2026-09-01T10:00:00+00:00"}, {"command": ["neftune"]}])
def test_a_manifest_without_a_field_of_every_version_is_damaged(folder: SweepFolder, content: dict[str, Any]) -> None:
    write(folder, content)

    with pytest.raises(UsageError, match=r"manifest\.json is damaged"):
        folder.whole_manifest()


@pytest.mark.parametrize("content", [OLDEST, WRITTEN])
def test_a_manifest_of_every_version_is_whole(folder: SweepFolder, content: dict[str, Any]) -> None:
    write(folder, content)

    assert folder.whole_manifest() == folder.manifest()


def test_a_sweep_that_has_not_written_its_manifest_yet_is_not_damaged(folder: SweepFolder) -> None:
    assert folder.whole_manifest() == Manifest()
