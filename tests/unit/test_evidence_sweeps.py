"""Trials are shown together if they differ in noise and seed alone, and told apart by what else differs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.errors import UsageError
from neftune_cli.evidence.measurements import Evidence
from neftune_cli.evidence.sweeps import sweep_evidence
from neftune_cli.records import TrialRecord
from neftune_cli.store import SweepFolder
from tests.finished_trials import leave

Records = list[TrialRecord]
RECIPE = resolve_sweep(None, {}).train.model_dump()


def test_one_sweep_is_one_setting(tmp_path: Path, hand_made_records: Records) -> None:
    (found,) = sweep_evidence([_sweep(tmp_path / "one", hand_made_records)])

    assert found.name == "one"
    assert found.apart == ""
    assert [(trial.arm, trial.seed) for trial in found.trials] == [
        ("base", None),
        *((arm, seed) for arm in ("alpha=0", "alpha=5") for seed in (0, 1, 2)),
    ]
    assert found.setting.description == "tiny on bios (3 epochs, learning rate 0.001, batch size 16)"


def test_comparable_sweeps_are_shown_together_and_shared_trials_once(
    tmp_path: Path, hand_made_records: Records
) -> None:
    stronger = [_changed(record, "alpha=10", noise={"alpha": 10.0}) for record in hand_made_records[4:]]
    folders = [
        _sweep(tmp_path / "one", hand_made_records),
        _sweep(tmp_path / "two", [*hand_made_records[:4], *stronger]),
    ]

    (found,) = sweep_evidence(folders)

    assert found.name == "one + two"
    assert found.folders == (str(tmp_path / "one"), str(tmp_path / "two"))
    assert len(found.trials) == 10
    assert list(dict.fromkeys(trial.arm for trial in found.trials)) == ["base", "alpha=0", "alpha=5", "alpha=10"]


def test_another_recipe_is_never_mixed_in(tmp_path: Path, hand_made_records: Records) -> None:
    slower = {**RECIPE, "learning_rate": 0.0005}
    other = [_changed(record, record.arm, train=slower) for record in hand_made_records[1:]]
    folders = [
        _sweep(tmp_path / "one", hand_made_records),
        _sweep(tmp_path / "two", other, train={"learning_rate": 0.0005}),
    ]

    first, second = sweep_evidence(folders)

    assert (len(first.trials), len(second.trials)) == (7, 6)
    assert second.apart == (
        "Not compared with one, because more than the noise differs: train: learning_rate 0.0005 instead of 0.001."
    )


def test_other_data_of_the_same_name_is_told_apart(tmp_path: Path, hand_made_records: Records) -> None:
    other = [_changed(record, record.arm, data="e") for record in hand_made_records]

    _, second = sweep_evidence([_sweep(tmp_path / "one", hand_made_records), _sweep(tmp_path / "two", other)])

    assert second.apart.endswith("differs: data bios (e) instead of bios (d).")


def test_a_stray_trial_within_one_sweep_is_told_apart(tmp_path: Path, hand_made_records: Records) -> None:
    stray = _changed(hand_made_records[4], "alpha=5", train={**RECIPE, "batch_size": 4})

    first, second = sweep_evidence([_sweep(tmp_path / "one", [*hand_made_records, stray])])

    assert (first.name, second.name) == ("one, part 1", "one, part 2")
    assert [trial.trial for trial in second.trials] == [stray.trial]


def test_arms_may_change_the_recipe_where_the_sweep_says_so(tmp_path: Path, hand_made_records: Records) -> None:
    decayed = {**RECIPE, "sft": {"weight_decay": 0.1}}
    experiment = tmp_path / "experiment.yaml"
    arms = "[{alpha: 0}, {alpha: 5}, {name: weight decay, alpha: 0, train: {weight_decay: 0.1}}]"
    experiment.write_text(f"model: tiny\narms: {arms}\n")
    others = [_changed(record, "weight decay", train=decayed, noise=None) for record in hand_made_records[1:4]]

    (found,) = sweep_evidence([_sweep(tmp_path / "one", [*hand_made_records, *others], experiment)])

    assert len(found.trials) == 10
    assert found.notes == ("weight decay also differs in the recipe: weight_decay 0.1.",)


def test_one_name_for_two_kinds_of_noise_is_two_names(tmp_path: Path, hand_made_records: Records) -> None:
    gaussian = {"alpha": 5.0, "noise": "gaussian"}
    other = [_changed(record, "alpha=5", noise=gaussian) for record in hand_made_records[4:]]

    (found,) = sweep_evidence([_sweep(tmp_path / "one", hand_made_records), _sweep(tmp_path / "two", other)])

    assert list(dict.fromkeys(_arms(found))) == ["base", "alpha=0", "alpha=5", "alpha=5 (two)"]


def test_a_sweep_without_trials_says_what_is_unfinished(tmp_path: Path) -> None:
    (found,) = sweep_evidence([_sweep(tmp_path / "young", [])])

    assert (found.name, found.trials) == ("young", ())


def test_a_damaged_trial_is_set_apart_and_the_others_go_on(tmp_path: Path, hand_made_records: Records) -> None:
    folder = _sweep(tmp_path / "one", hand_made_records)
    places = {place.label: place for place in folder.trials()}
    examples = places["alpha=5,seed=0"].path / "examples.parquet"
    examples.write_bytes(b"x" * examples.stat().st_size)
    (places["alpha=5,seed=1"].path / "record.json").write_text("{")

    (found,) = sweep_evidence([folder])

    assert [(trial.arm, trial.seed) for trial in found.trials][-2:] == [("alpha=0", 2), ("alpha=5", 2)]
    assert found.unfinished[:2] == (
        "alpha=5,seed=1 can't be used: its record.json is damaged; the sweep command trains it again",
        f"alpha=5,seed=0: {examples} is damaged. Restore it, or remove the trial's folder to train it again.",
    )


def test_trials_that_have_not_begun_are_missing_too(tmp_path: Path, hand_made_records: Records) -> None:
    (found,) = sweep_evidence([_sweep(tmp_path / "one", hand_made_records)])

    assert found.unfinished == tuple(f"alpha=10,seed={seed} has not started" for seed in (0, 1, 2))


def test_one_trial_with_two_results_is_refused(tmp_path: Path, hand_made_records: Records) -> None:
    changed = hand_made_records[4].loss.model_copy(update={"eval_loss": 9.9})
    other = [*hand_made_records[:4], hand_made_records[4].model_copy(update={"loss": changed})]

    with pytest.raises(UsageError, match=r"have different results of trial id of alpha=5 0\. Leave one"):
        sweep_evidence([_sweep(tmp_path / "one", hand_made_records), _sweep(tmp_path / "two", other)])


def test_the_digest_is_that_of_the_manifest(tmp_path: Path, hand_made_records: Records) -> None:
    folder = _sweep(tmp_path / "one", hand_made_records)
    assert sweep_evidence([folder])[0].manifest_digest is None

    (folder.path / "manifest.json").write_bytes(b'{"a": 1}')

    # printf '{"a": 1}' | sha256sum
    digest = "f9d86028c6e0d64e225186f96acb69338b2c59764df79162107f5c4bb34d1310"
    (found,) = sweep_evidence([folder])
    assert found.manifest == '{"a": 1}'
    assert found.manifest_digest == digest


def _arms(evidence: Evidence) -> list[str]:
    return [trial.arm for trial in evidence.trials]


def _changed(record: TrialRecord, arm: str, **identity: Any) -> TrialRecord:
    changed: Mapping[str, Any] = {
        "arm": arm,
        "trial": f"{abs(hash((record.trial, arm, repr(identity)))):x}",
        "identity": {**record.identity, **identity},
    }
    return record.model_copy(update=changed)


def _sweep(path: Path, records: Records, experiment: Path | None = None, **flags: Any) -> SweepFolder:
    folder = SweepFolder(path)
    arms = {} if experiment else {"alphas": [0.0, 5.0, 10.0]}
    folder.open(resolve_sweep(experiment, {**arms, "seeds": [0, 1, 2], **flags}))
    for record in records:
        trial = folder.trial(record.trial, record.arm, record.seed)
        leave(trial, record)
    return folder
