"""Grouping of trials: trials that differ only in noise and seed are compared, all others are separate."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from neftune_cli.analysis.comparison import compare_arms
from neftune_cli.config.identity import METHOD_VERSION, recipe_identity
from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.errors import UsageError
from neftune_cli.evidence.folders import trial_folders
from neftune_cli.evidence.measurements import Evidence
from neftune_cli.evidence.sweeps import sweep_evidence
from neftune_cli.metrics import HELD_OUT_RESPONSES, REGISTERED_METRICS, Margin, Metric, register_metric
from neftune_cli.records import EvalMetrics, TrialRecord
from neftune_cli.store import SweepFolder
from neftune_cli.store.manifest import Manifest
from tests.finished_trials import write_failed_trial, write_trial
from tests.registries import restored

Records = list[TrialRecord]
RECIPE = recipe_identity(resolve_sweep(None, {}).train)


def test_one_sweep_is_one_setting(tmp_path: Path, hand_made_records: Records) -> None:
    (found,) = sweep_evidence([_sweep(tmp_path / "one", hand_made_records)])

    assert found.name == "one"
    assert found.difference_from_first == ""
    assert [(trial.arm, trial.seed) for trial in found.trials] == [
        ("base", None),
        *((arm, seed) for arm in ("alpha=0", "alpha=5") for seed in (0, 1, 2)),
    ]
    assert found.setting.description == "tiny on bios (3 epochs, learning rate 0.001, batch size 16)"


def test_comparable_sweeps_are_combined_with_shared_trials_once(tmp_path: Path, hand_made_records: Records) -> None:
    stronger = [_changed(record, "alpha=10", noise={"alpha": 10.0}) for record in hand_made_records[4:]]
    folders = [
        _sweep(tmp_path / "one", hand_made_records),
        _sweep(tmp_path / "two", [*hand_made_records[:4], *stronger]),
    ]

    (found,) = sweep_evidence(folders)

    assert found.name == "one + two"
    assert found.origin.folders == (str(tmp_path / "one"), str(tmp_path / "two"))
    assert len(found.trials) == 10
    assert list(dict.fromkeys(trial.arm for trial in found.trials)) == ["base", "alpha=0", "alpha=5", "alpha=10"]
    note = (
        "3 trials with equal results in several sweeps, for example alpha=0, seed 0 in one and two: each counts once."
    )
    assert found.note_on_repeated_trials == note
    assert note in compare_arms(found).notes
    assert sweep_evidence(folders[:1])[0].note_on_repeated_trials == ""


def test_declared_analyses_do_not_apply_to_several_sweeps(tmp_path: Path, hand_made_records: Records) -> None:
    stronger = [_changed(record, "alpha=10", noise={"alpha": 10.0}) for record in hand_made_records[4:]]
    planned = _sweep(tmp_path / "one", hand_made_records, until_decided=True, looks=(3, 5), seeds=list(range(5)))
    planned.write_manifest(Manifest())
    fixed = _sweep(tmp_path / "two", [*hand_made_records[:4], *stronger])

    (alone,) = sweep_evidence([planned])
    (together,) = sweep_evidence([planned, fixed])

    assert alone.plan is not None
    assert alone.dropped_plans == ()
    assert together.plan is None
    assert together.dropped_plans == ("one",)
    assert compare_arms(together).notes[0] == (
        "The declared analysis of one does not apply to several folders together: the number of seeds counts as fixed. "
        "If it depended on results, p-values are too small."
    )


def test_controls_of_several_sweeps_stay_controls(tmp_path: Path, hand_made_records: Records) -> None:
    """An arm that one of the sweeps compares is no control."""
    repeated = [_changed(record, "A/A control", repeat=1) for record in hand_made_records[1:4]]
    strong = [_changed(record, "positive control", noise={"alpha": 10.0}) for record in hand_made_records[4:]]
    checked = _sweep(tmp_path / "one", [*hand_made_records, *repeated, *strong], alphas=[0.0, 5.0], controls=True)
    same, other = (_sweep(tmp_path / name, hand_made_records) for name in ("two", "three"))
    for record in strong:
        write_trial(other.trial(record.trial, "alpha=10", record.seed), record.model_copy(update={"arm": "alpha=10"}))

    (alone,), (both,), (compared,) = (sweep_evidence(found) for found in ([checked], [checked, same], [checked, other]))

    assert alone.plan is not None
    assert alone.plan.controls == ("A/A control", "positive control")
    assert both.plan is None
    assert both.dropped_plans == ()
    comparisons = [compare_arms(one) for one in (alone, both, compared)]
    roles = [{arm: one.role for arm, one in comparison.assessments("rouge_l").items()} for comparison in comparisons]
    assert roles[0] == roles[1] == {"alpha=5": "arm", "A/A control": "control", "positive control": "control"}
    assert roles[2] == {"alpha=5": "arm", "A/A control": "control", "positive control": "arm"}
    assert [[arm.name for arm in comparison.studied] for comparison in comparisons[1:]] == [
        ["alpha=5"],
        ["alpha=5", "positive control"],
    ]


def test_an_arm_with_another_name_in_a_second_sweep_is_declared_once(
    tmp_path: Path, hand_made_records: Records
) -> None:
    named, unnamed = tmp_path / "named.yaml", tmp_path / "unnamed.yaml"
    named.write_text("arms: [{name: plain, alpha: 0}, {name: mine, alpha: 5}]")
    unnamed.write_text("arms: [{alpha: 0}, {name: mine, alpha: 10}, {alpha: 15}]")
    names = {"alpha=0": "plain", "alpha=5": "mine"}
    first = [record.model_copy(update={"arm": names.get(record.arm, record.arm)}) for record in hand_made_records]
    second = [_changed(record, "mine", noise={"alpha": 10.0}) for record in hand_made_records[4:]]

    (found,) = sweep_evidence(
        [
            _sweep(tmp_path / "one", first, named),
            _sweep(tmp_path / "two", [*hand_made_records[:4], *second], unnamed),
        ]
    )

    assert found.declared_arms == ("plain", "mine", "mine (two)", "alpha=15")
    assert compare_arms(found).arms_without_trials == ("alpha=15",)


def test_trials_of_another_recipe_are_separate(tmp_path: Path, hand_made_records: Records) -> None:
    slower = {**RECIPE, "learning_rate": 0.0005}
    other = [_changed(record, record.arm, train=slower) for record in hand_made_records[1:]]
    folders = [
        _sweep(tmp_path / "one", hand_made_records),
        _sweep(tmp_path / "two", other, train={"learning_rate": 0.0005}),
    ]

    first, second = sweep_evidence(folders)

    assert (len(first.trials), len(second.trials)) == (7, 6)
    assert second.difference_from_first == (
        "Not compared with one, because more than the noise differs: train: learning_rate 0.0005 instead of 0.001."
    )


def test_trials_on_other_data_of_the_same_name_are_separate(tmp_path: Path, hand_made_records: Records) -> None:
    other = [_changed(record, record.arm, data="e") for record in hand_made_records]

    _, second = sweep_evidence([_sweep(tmp_path / "one", hand_made_records), _sweep(tmp_path / "two", other)])

    assert second.difference_from_first.endswith("differs: data bios (e) instead of bios (d).")


def test_an_undeclared_trial_in_a_sweep_is_separate(tmp_path: Path, hand_made_records: Records) -> None:
    undeclared = _changed(hand_made_records[4], "alpha=5", train={**RECIPE, "batch_size": 4})

    first, second = sweep_evidence([_sweep(tmp_path / "one", [*hand_made_records, undeclared])])

    assert (first.name, second.name) == ("one, part 1", "one, part 2")
    assert [trial.trial_id for trial in second.trials] == [undeclared.trial]


@pytest.mark.parametrize(
    ("written", "edited", "named"),
    [
        ("batch_size: 16", "batch_size: 8", "train.batch_size is 8 in the file and 16 in the trials"),
        ("sft: {}", "sft: {weight_decay: 0.1}", "train.weight_decay is 0.1 in the file and not set in the trials"),
        ("alpha: 5.0", "alpha: 7.0", "alpha of the arm alpha=5 is 7.0 in the file and 5.0 in the trials"),
        ("alpha: 5.0", "alpha: 0.0", "alpha of the arm alpha=5 is 0.0 in the file and 5.0 in the trials"),
        (
            "curve_examples: null",
            "curve_examples: 9",
            "evaluation.curve_examples is 9 in the file and not set in the trials",
        ),
    ],
)
def test_a_spec_that_does_not_fit_the_trials_is_refused_with_both_values(
    tmp_path: Path, hand_made_records: Records, written: str, edited: str, named: str
) -> None:
    records = [_changed(one, one.arm, evaluation={"max_length": 256}) for one in hand_made_records]
    file = _sweep(tmp_path / "one", records).path / "sweep.yaml"
    text = file.read_text()
    assert written in text
    file.write_text(text.replace(written, edited))

    with pytest.raises(UsageError) as refused:
        sweep_evidence([SweepFolder(tmp_path / "one")])

    (problem,) = refused.value.problems
    assert problem.what == f"{file} does not fit the finished trials: {named}."


def test_added_seeds_and_arms_and_another_analysis_fit_the_trials(tmp_path: Path, hand_made_records: Records) -> None:
    folder = _sweep(tmp_path / "one", hand_made_records)
    more = {"alphas": [0.0, 5.0, 20.0], "seeds": [0, 1, 2, 3], "analysis": {"metric": "rouge_l"}}
    (folder.path / "sweep.yaml").unlink()
    folder.open(resolve_sweep(None, more))

    (found,) = sweep_evidence([folder])

    assert len(found.trials) == 7


def test_declared_arms_with_another_recipe_are_compared(tmp_path: Path, hand_made_records: Records) -> None:
    decayed = {**RECIPE, "sft": {"weight_decay": 0.1}}
    experiment = tmp_path / "experiment.yaml"
    arms = "[{alpha: 0}, {alpha: 5}, {name: weight decay, alpha: 0, train: {weight_decay: 0.1}}]"
    experiment.write_text(f"model: tiny\narms: {arms}\n")
    others = [_changed(record, "weight decay", train=decayed, noise=None) for record in hand_made_records[1:4]]

    (found,) = sweep_evidence([_sweep(tmp_path / "one", [*hand_made_records, *others], experiment)])

    assert len(found.trials) == 10
    assert found.notes == ("weight decay also differs in the recipe: weight_decay 0.1.",)


def test_an_arm_of_the_same_name_with_other_noise_gets_another_name(tmp_path: Path, hand_made_records: Records) -> None:
    gaussian = {"alpha": 5.0, "noise": "gaussian"}
    other = [_changed(record, "alpha=5", noise=gaussian) for record in hand_made_records[4:]]
    experiment = tmp_path / "experiment.yaml"
    experiment.write_text("model: tiny\narms: [{alpha: 0}, {name: alpha=5, alpha: 5, noise: gaussian}]\n")

    (found,) = sweep_evidence(
        [_sweep(tmp_path / "one", hand_made_records), _sweep(tmp_path / "two", other, experiment)]
    )

    assert list(dict.fromkeys(_arms(found))) == ["base", "alpha=0", "alpha=5", "alpha=5 (two)"]


def test_arms_of_the_same_name_in_sweeps_of_the_same_name_are_told_apart(
    tmp_path: Path, hand_made_records: Records
) -> None:
    folders = []
    for place, decay in enumerate((0.1, 0.2, 0.3)):
        experiment = tmp_path / f"{place}.yaml"
        arms = f"[{{alpha: 0}}, {{name: decay, alpha: 0, train: {{weight_decay: {decay}}}}}]"
        experiment.write_text(f"model: tiny\narms: {arms}\n")
        recipe = {**RECIPE, "sft": {"weight_decay": decay}}
        decayed = [_changed(hand_made_records[1 + place], "decay", train=recipe)]  # seed 0, 1 or 2
        (tmp_path / str(place)).mkdir()
        folders.append(_sweep(tmp_path / str(place) / "same", [*hand_made_records[1:4], *decayed], experiment))

    (found,) = sweep_evidence(folders)

    assert _arms(found)[3:] == ["decay", "decay (same)", "decay (same), 2"]
    assert found.notes == (
        "decay also differs in the recipe: weight_decay 0.1.",
        "decay (same) also differs in the recipe: weight_decay 0.2.",
        "decay (same), 2 also differs in the recipe: weight_decay 0.3.",
    )


def test_files_of_a_trial_are_those_of_the_sweep_in_which_it_has_finished(
    tmp_path: Path, hand_made_records: Records
) -> None:
    finished = _sweep(tmp_path / "one", hand_made_records)
    again = _sweep(tmp_path / "two", hand_made_records[:-1])
    last = hand_made_records[-1]
    write_failed_trial(again.trial(last.trial, last.arm, last.seed), last.trial, "out of memory")

    for folders in ((finished, again), (again, finished)):
        (found,) = sweep_evidence(folders)
        assert trial_folders(found)[last.trial].path.parents[1] == finished.path


def test_the_base_model_belongs_to_a_sweep_whose_curves_have_fewer_examples(
    tmp_path: Path, hand_made_records: Records
) -> None:
    evaluation = {"max_length": 256, "curve_examples": 20}
    records = [
        _changed(one, one.arm, evaluation={"max_length": 256} if one.seed is None else evaluation)
        for one in hand_made_records
    ]
    (found,) = sweep_evidence([_sweep(tmp_path / "one", records, evaluation={"curve_examples": 20})])
    assert _arms(found) == ["base", *["alpha=0"] * 3, *["alpha=5"] * 3]


def test_a_sweep_without_trials_gives_evidence_without_trials(tmp_path: Path) -> None:
    (found,) = sweep_evidence([_sweep(tmp_path / "new", [])])

    assert (found.name, found.trials) == ("new", ())


def test_damaged_trials_are_unfinished_and_others_are_compared(tmp_path: Path, hand_made_records: Records) -> None:
    folder = _sweep(tmp_path / "one", hand_made_records)
    trial_folders = {trial.folder_label: trial for trial in folder.trials()}
    examples = trial_folders["alpha=5,seed=0"].path / "examples.parquet"
    examples.write_bytes(b"x" * examples.stat().st_size)
    (trial_folders["alpha=5,seed=1"].path / "record.json").write_text("{")

    (found,) = sweep_evidence([folder])

    assert [(trial.arm, trial.seed) for trial in found.trials][-2:] == [("alpha=0", 2), ("alpha=5", 2)]
    assert found.unfinished[:2] == (
        "alpha=5,seed=1 cannot be used: its record.json is damaged; the sweep command trains it again",
        f"alpha=5,seed=0: {examples} is damaged. Restore it, or remove the trial's folder to train it again.",
    )


def test_trials_that_have_not_started_are_unfinished(tmp_path: Path, hand_made_records: Records) -> None:
    (found,) = sweep_evidence([_sweep(tmp_path / "one", hand_made_records)])

    assert found.unfinished == tuple(f"alpha=10,seed={seed} has not started" for seed in (0, 1, 2))


def test_a_base_model_without_a_result_is_noticed(tmp_path: Path, hand_made_records: Records) -> None:
    options: dict[str, Any] = {"alphas": [0.0, 5.0], "seeds": [0, 1, 2]}
    without = [record for record in hand_made_records if record.seed is not None]

    (whole,) = sweep_evidence([_sweep(tmp_path / "whole", hand_made_records, **options)])
    (found,) = sweep_evidence([_sweep(tmp_path / "without", without, **options)])

    assert (whole.origin.lacks_base, whole.unfinished) == (False, ())
    assert (found.origin.lacks_base, found.unfinished) == (True, ("base has not started",))


def test_a_base_model_with_other_settings_than_its_sweep_is_noticed(tmp_path: Path, hand_made_records: Records) -> None:
    options: dict[str, Any] = {"alphas": [0.0, 5.0], "seeds": [0, 1, 2]}
    on_other_data = [
        _changed(record, record.arm, data="other") if record.arm == "alpha=5" else record
        for record in hand_made_records
    ]

    with_base, without = sweep_evidence([_sweep(tmp_path / "one", on_other_data, **options)])

    (departure,) = (one for one in compare_arms(without).departures if one.kind == "missing base model")
    assert departure.sentence.startswith("The base model was not measured with the settings of these trials. Margins")
    assert [one.origin.lacks_base for one in (with_base, without)] == [False, False]
    assert "missing base model" not in {one.kind for one in compare_arms(with_base).departures}


def test_trials_of_another_version_of_neftune_are_noticed(tmp_path: Path, hand_made_records: Records) -> None:
    for version, is_other in ((METHOD_VERSION, False), (METHOD_VERSION - 1, True)):
        records = [_changed(one, one.arm, method_version=version) for one in hand_made_records]
        (found,) = sweep_evidence([_sweep(tmp_path / str(version), records)])
        assert found.origin.of_other_version is is_other


def test_declared_trials_that_are_still_to_be_trained_are_noticed_in_all_settings(
    tmp_path: Path, hand_made_records: Records
) -> None:
    options: dict[str, Any] = {"alphas": [0.0, 5.0], "seeds": [0, 1, 2]}
    on_other_data = [
        _changed(record, record.arm, data="other") if record.seed == 2 else record for record in hand_made_records
    ]

    whole, more = _sweep(tmp_path / "whole", hand_made_records, **options), _sweep(tmp_path / "more", hand_made_records)
    in_two_settings = _sweep(tmp_path / "two", on_other_data, **options)

    assert [one.origin.lacks_declared_trials for one in sweep_evidence([whole])] == [False]
    assert [one.origin.lacks_declared_trials for one in sweep_evidence([more])] == [True]
    assert [one.origin.lacks_declared_trials for one in sweep_evidence([in_two_settings])] == [False, False]
    assert [one.origin.lacks_declared_trials for one in sweep_evidence([whole, more])] == [False]


def test_seeds_that_were_added_after_a_comparison_are_noticed(tmp_path: Path, hand_made_records: Records) -> None:
    sweep = _sweep(tmp_path / "one", hand_made_records)
    for seeds in (2, 3):
        sweep.add_look(seeds)

    (found,) = sweep_evidence([sweep])

    assert found.added_seeds == (
        "one was compared with 2 and 3 seeds. If seeds were added because of a result, its p-values are too small. "
        "--until-decided plans such looks.",
    )


def test_a_trial_that_another_compared_sweep_has_is_not_missing(tmp_path: Path, hand_made_records: Records) -> None:
    def is_half(record: TrialRecord) -> bool:
        return record.seed in (None, 0)

    first = _sweep(tmp_path / "one", [one for one in hand_made_records if is_half(one)])
    second = _sweep(tmp_path / "two", [one for one in hand_made_records if one.seed is None or not is_half(one)])

    (found,) = sweep_evidence([first, second])

    assert set(found.unfinished) == {f"alpha=10,seed={seed} has not started" for seed in (0, 1, 2)}


def test_arms_are_declared_whether_or_not_they_have_trials(tmp_path: Path, hand_made_records: Records) -> None:
    treated = [one for one in hand_made_records if one.alpha]

    (found,) = sweep_evidence([_sweep(tmp_path / "one", treated)])

    assert found.declared_arms == ("alpha=0", "alpha=5", "alpha=10")
    assert found.declared_seeds == (0, 1, 2)


@pytest.mark.parametrize(
    ("moved", "parts"),
    [
        ("alpha=5", [({"base", "alpha=0"}, True), ({"alpha=5"}, False)]),
        ("base", [({"base"}, True), ({"alpha=0", "alpha=5"}, True)]),
    ],
)
def test_planned_looks_are_taken_of_the_first_setting_with_a_trained_arm(
    moved: str, parts: list[tuple[set[str], bool]], tmp_path: Path, hand_made_records: Records
) -> None:
    other = {"environment": {"device": "cuda"}}
    records = [
        one.model_copy(update={"identity": {**one.identity, **other}}) if one.arm == moved else one
        for one in hand_made_records
    ]

    found = sweep_evidence([_sweep(tmp_path / "one", records)])

    assert [({trial.arm for trial in one.trials}, one.origin.decides_looks) for one in found] == parts


def test_sweeps_with_lora_of_different_versions_of_peft_are_separate(
    tmp_path: Path, hand_made_records: Records
) -> None:
    recipe = recipe_identity(resolve_sweep(None, {"train": {"lora_rank": 4}}).train)

    def trained_with(version: str) -> SweepFolder:
        identity = {"train": recipe, "environment": {"device": "cpu", "peft": version}}
        records = [one if one.seed is None else _changed(one, one.arm, **identity) for one in hand_made_records]
        return _sweep(tmp_path / version, records, train={"lora_rank": 4})

    found = sweep_evidence([trained_with("0.18"), trained_with("0.19")])

    assert [len(one.trials) for one in found] == [len(hand_made_records)] * 2
    assert found[0].trials[0].is_base
    assert "0.19" in found[1].difference_from_first


def test_different_results_of_the_same_trial_raise(tmp_path: Path, hand_made_records: Records) -> None:
    changed = hand_made_records[4].loss.model_copy(update={"eval_loss": 9.9})
    other = [*hand_made_records[:4], hand_made_records[4].model_copy(update={"loss": changed})]

    with pytest.raises(UsageError, match=r"have different results of trial id of alpha=5 0\. Leave out one"):
        sweep_evidence([_sweep(tmp_path / "one", hand_made_records), _sweep(tmp_path / "two", other)])


def test_a_diverged_trial_in_two_folders_is_the_same_trial(tmp_path: Path, hand_made_records: Records) -> None:
    loss = hand_made_records[4].loss.model_copy(update={"eval_loss": math.nan})
    records = [*hand_made_records[:4], hand_made_records[4].model_copy(update={"loss": loss})]

    (found,) = sweep_evidence([_sweep(tmp_path / "one", records), _sweep(tmp_path / "two", records)])

    assert len(found.trials) == 5


def test_a_copy_of_a_trial_from_before_a_metric_was_registered_is_the_same_trial(
    tmp_path: Path, hand_made_records: Records
) -> None:
    older = _sweep(tmp_path / "one", hand_made_records)
    metric = Metric("words", "Words", "", None, 1, Margin(1), HELD_OUT_RESPONSES, score=lambda *_: 1.0)
    with restored(REGISTERED_METRICS):
        register_metric(metric)
        scores = {record.trial: EvalMetrics(**record.eval.model_dump(), words=1.0) for record in hand_made_records}
        newer = [record.model_copy(update={"eval": scores[record.trial]}) for record in hand_made_records]
        (found,) = sweep_evidence([older, _sweep(tmp_path / "two", newer)])

    assert len(found.trials) == 7


def test_the_digest_is_the_sha256_of_the_manifest(tmp_path: Path, hand_made_records: Records) -> None:
    folder = _sweep(tmp_path / "one", hand_made_records)
    assert sweep_evidence([folder])[0].manifest_digest is None

    (folder.path / "manifest.json").write_bytes(b'{"a": 1}')

    # printf '{"a": 1}' | sha256sum
    digest = "f9d86028c6e0d64e225186f96acb69338b2c59764df79162107f5c4bb34d1310"
    (found,) = sweep_evidence([folder])
    assert found.manifest_texts == ('{"a": 1}',)
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


def _sweep(path: Path, records: Records, experiment: Path | None = None, **options: Any) -> SweepFolder:
    folder = SweepFolder(path)
    arms = {} if experiment else {"alphas": [0.0, 5.0, 10.0]}
    folder.open(resolve_sweep(experiment, {**arms, "seeds": [0, 1, 2], **options}))
    for record in records:
        trial = folder.trial(record.trial, record.arm, record.seed)
        write_trial(trial, record)
    return folder


def test_options_of_the_command_that_say_where_trials_run_are_kept(tmp_path: Path, hand_made_records: Records) -> None:
    folder = _sweep(tmp_path / "one", hand_made_records)
    options = ["--executor", "slurm", "--slurm=partition=gpu", "--nproc", "2"]
    command = ["neftune", "sweep", "--alphas", "0,5", *options[:2], "--detach", *options[2:], "--keep", "all"]
    (folder.path / "manifest.json").write_text(json.dumps({"command": command}))

    (found,) = sweep_evidence([folder])

    assert list(found.origin.run_options) == options
