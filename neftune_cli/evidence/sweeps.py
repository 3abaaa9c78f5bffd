"""Evidence from sweeps: trials that differ in noise, seed and declared overrides of their arms only."""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, count
from pathlib import PurePath
from typing import Any

import numpy as np

from neftune_cli.config.canonical_json import canonical_json
from neftune_cli.config.executors import placement_options
from neftune_cli.config.identity import has_other_method, recipe_identity
from neftune_cli.config.spec import BASE_ARM, NOISE_DETAILS, AnalysisSpec, NoiseSpec, SweepSpec
from neftune_cli.errors import Problem, Problems, UsageError
from neftune_cli.evidence.added_metrics import with_stored_scores
from neftune_cli.evidence.folders import check_files
from neftune_cli.evidence.grouping import note_on_repeated_trials, with_deciding_one, with_differences
from neftune_cli.evidence.lm_eval import with_task_scores
from neftune_cli.evidence.measurements import AnalysisPlan, Evidence, Measurements, Setting, TrialOrigin
from neftune_cli.evidence.trials import read_trial
from neftune_cli.formatting import listed
from neftune_cli.metrics import METRICS, Margin, names_function
from neftune_cli.records import TrialRecord
from neftune_cli.store import SweepFolder, folder_label
from neftune_cli.store.manifest import Manifest, manifest_of

_ARM_PARTS = ("noise", "repeat")
"""Parts of a trial's identity that belong to its arm. The seed of the random streams follows from `repeat` too."""


@dataclass(frozen=True)
class _SweepTrial:
    """A finished trial with two identities. Trials with equal `setting_identity` are comparable."""

    sweep: SweepFolder
    setting: Setting
    setting_identity: str
    """Canonical JSON of its identity without seed, noise, repeat and overrides of its arm."""
    arm_identity: str
    """Canonical JSON of its noise, its repeat and the overrides of its arm."""
    overrides: Mapping[str, Any]
    """Declared overrides of the recipe of its arm."""
    is_control: bool
    """Whether its arm is a control of the sweep."""
    measurements: Measurements


def sweep_evidence(folders: Sequence[SweepFolder], *, scored_again: str | None = None) -> list[Evidence]:
    """Return the finished trials of these sweeps, grouped by setting, in the order of the folders.

    Arms may differ in the recipe if their sweep declares the override. Any other difference starts a separate group. A
    sweep without a finished trial gives evidence without trials, which lists its unfinished trials.

    Args:
        folders: the sweeps.
        scored_again: key of a sweep's own metric whose stored scores are not read, because its function is called.

    Raises:
        UsageError: a file is damaged, a `sweep.yaml` does not fit its trials, or two folders differ in a trial.
    """
    groups: dict[tuple[str, bool], list[_SweepTrial]] = {}
    problems = Problems()
    contents = {folder: read for folder in folders if (read := problems.attempt(partial(_read, folder)))}
    problems.raise_any()
    empty = [
        folder for folder, content in contents.items() if all(trial.measurements.is_base for trial in content.trials)
    ]
    for folder, content in contents.items():
        is_single = _is_single_run(folder)
        for trial in content.trials if folder not in empty else ():
            groups.setdefault((trial.setting_identity, is_single), []).append(trial)
    combined = with_deciding_one([_combined(trials, contents, scored_again) for trials in groups.values()])
    return [
        *with_differences(combined),
        *(_evidence_without_trials(folder, contents[folder]) for folder in empty),
    ]


def _is_single_run(folder: SweepFolder) -> bool:
    """Return whether a folder has one arm with one seed, as `neftune train` writes it.

    Single training runs are compared with each other, and separately from sweeps.
    """
    spec = folder.spec()
    return spec is not None and len(spec.arms) == len(spec.seeds) == 1


@dataclass(frozen=True)
class _FolderContents:
    """Trials of a sweep, in all its settings."""

    trials: Sequence[_SweepTrial]
    """Finished trials."""
    unfinished: Sequence[str]
    """One sentence for each damaged or unfinished trial."""
    failed: Sequence[str]
    """Labels of the failed trials."""
    unusable: Sequence[str]
    """Labels of the finished trials of which a file is missing or damaged."""

    @property
    def ended(self) -> set[str]:
        """Return the labels of the finished and of the failed trials."""
        return {*map(_label, self.trials), *self.failed}


def _read(folder: SweepFolder) -> _FolderContents:
    spec = folder.spec()
    finished, unfinished = folder.contents()
    check_files(folder, [record for _, record in finished])
    peft = _peft(spec, [record for _, record in finished])
    controls = {arm.name for arm in spec.arms if arm.control} if spec else set()
    trials = []
    for trial_folder, record in finished:
        overrides = _recipe_overrides(spec, record)
        shared = _comparable_identity(spec, record, peft, declared=overrides is not None)
        arm = canonical_json(_arm_identity(record, overrides))
        try:
            trial = replace(read_trial(trial_folder, record), details=_details(record, overrides or {}))
        except UsageError as error:
            unfinished.append(f"{trial_folder.folder_label}: {error}")
        else:
            setting = _setting(spec, shared)
            is_control = record.arm in controls
            trials.append(_SweepTrial(folder, setting, canonical_json(shared), arm, overrides or {}, is_control, trial))
    if not unfinished:
        return _FolderContents(trials, (), (), ())
    unusable = folder.unusable_trials(one for one, _ in finished)
    return _FolderContents(trials, unfinished, folder.failed_trials(), unusable)


def _not_started(folder: SweepFolder, finished: Set[str]) -> Iterator[str]:
    """Yield a sentence for each declared trial that has no folder yet, and has finished in no compared sweep."""
    started = {trial_folder.folder_label for trial_folder in folder.trials()}
    labels = [folder_label(BASE_ARM), *_declared_labels(folder)] if folder.spec() else []
    return (f"{label} has not started" for label in labels if label not in started | finished)


def _declared_labels(folder: SweepFolder) -> list[str]:
    """Return the labels of the trials that a sweep with a fixed number of seeds declares; none with planned looks."""
    spec = folder.spec()
    if spec is None or spec.analysis.has_planned_looks:  # decided arms get no further seeds
        return []
    return [folder_label(arm.name, seed) for arm in spec.arms for seed in spec.seeds]


def _label(trial: _SweepTrial) -> str:
    return folder_label(trial.measurements.arm, trial.measurements.seed)


def _declared_arms(sweeps: Sequence[SweepFolder], group: Sequence[_SweepTrial], names: Mapping[str, str]) -> list[str]:
    """Return the arms that the sweeps declare, without controls, by the names of their trials if there are any."""
    shown = {(trial.sweep, trial.measurements.arm): names[trial.arm_identity] for trial in reversed(group)}
    specs = {folder: spec for folder in sweeps if (spec := folder.spec())}
    return [
        shown.get((folder, arm.name), arm.name)
        for folder, spec in specs.items()
        for arm in spec.arms
        if not arm.control
    ]


def _shared_controls(group: Sequence[_SweepTrial], names: Mapping[str, str]) -> Iterator[str]:
    """Return the arms that are controls in every sweep that has them."""
    others = {names[trial.arm_identity] for trial in group if not trial.is_control}
    return (name for name in names.values() if name not in others)


def _recipe_overrides(spec: SweepSpec | None, record: TrialRecord) -> dict[str, Any] | None:
    """Return the recipe overrides of the trial's arm; None if the trial is not declared in the sweep's spec."""
    arm = next((arm for arm in spec.arms if arm.name == record.arm), None) if spec else None
    if record.seed is None:
        return {}
    if spec is None or arm is None or recipe_identity(spec.recipe_of(arm)) != record.identity.get("train"):
        return None
    return arm.train


def _details(record: TrialRecord, overrides: dict[str, Any]) -> tuple[str, ...]:
    """Return the noise fields with other values than the default, without alpha, and the overrides."""
    noise = record.identity.get("noise") or {}
    default = NoiseSpec().model_dump()
    changed = {field: noise[field] for field in NOISE_DETAILS if field in noise and noise[field] != default[field]}
    return tuple(f"{field}={value}" for field, value in {**changed, **overrides}.items())


def _arm_identity(record: TrialRecord, overrides: dict[str, Any] | None) -> dict[str, Any]:
    """Return the part of the identity that the trials of an arm share, and no other arm has."""
    own = {part: record.identity.get(part) for part in _ARM_PARTS}
    return {**own, "train": overrides, "base": record.seed is None}


def _peft(spec: SweepSpec | None, records: Sequence[TrialRecord]) -> str | None:
    """Return the version of peft with which all arms of a sweep are trained; None if not all arms use LoRA."""
    if spec is None or any("lora_rank" in arm.train for arm in spec.arms):
        return None
    versions = (record.identity.get("environment", {}).get("peft") for record in records)
    return next(filter(None, versions), None)


def _comparable_identity(
    spec: SweepSpec | None, record: TrialRecord, peft: str | None, *, declared: bool
) -> dict[str, Any]:
    """Return the part of the identity that comparable trials share.

    It includes the recipe of the spec if the trial is declared in it, and otherwise the recipe of the trial. The base
    model has the version of peft of the trained arms, and no trial has one if not all arms use LoRA. A precision that
    an arm overrides belongs to the arm.
    """
    recipe = recipe_identity(spec.train) if spec and declared else record.identity.get("train") or {}
    environment = dict(record.identity.get("environment", {}))
    own_peft = environment.pop("peft", peft)
    if peft is not None:
        environment["peft"] = own_peft
    if spec and any("precision" in arm.train for arm in spec.arms):
        environment.pop("precision", None)
    shared = {part: value for part, value in record.identity.items() if part not in (*_ARM_PARTS, "seed", "base")}
    if spec and record.seed is None and spec.evaluation.curve_examples:  # the base model has no loss curve
        shared["evaluation"] = {**shared.get("evaluation", {}), "curve_examples": spec.evaluation.curve_examples}
    return {**shared, "environment": environment, "train": recipe}


def _setting(spec: SweepSpec | None, shared: Mapping[str, Any]) -> Setting:
    """Return the setting, with names added to the fingerprints of model and data."""
    model, data = (PurePath(name).name for name in ((spec.model, spec.dataset) if spec else ("a model", "data")))
    named = {"model": f"{model} ({shared.get('model')})", "data": f"{data} ({shared.get('data')})"}
    return Setting(model=model, data=data, recipe=shared["train"], shared={**shared, **named})


def _combined(
    group: Sequence[_SweepTrial], contents: Mapping[SweepFolder, _FolderContents], scored_again: str | None
) -> Evidence:
    """Return the evidence of one setting: each trial once, with the same name for equal arms of several sweeps."""
    sweeps = list(dict.fromkeys(trial.sweep for trial in group))
    names = _arm_names(group)
    trials = [replace(trial, arm=names[identity]) for trial, identity in _unique_trials(group)]
    order = list(names.values())
    finished = {*map(_label, group)}
    plan = _plan(sweeps[0]) if len(sweeps) == 1 else None
    manifests = tuple(text for folder in sweeps if (text := folder.manifest_text()))
    seeds = (spec.seeds for folder in sweeps if (spec := folder.spec()))
    combined = Evidence(
        name=" + ".join(folder.name for folder in sweeps),
        setting=group[0].setting,
        trials=tuple(sorted(trials, key=lambda trial: (not trial.is_base, order.index(trial.arm), trial.seed or 0))),
        metrics=METRICS,
        origin=_origin(sweeps, contents, manifests, group[0].setting, trials),
        spec_texts=tuple(folder.spec_text() for folder in sweeps),
        notes=tuple(_override_notes(group, names)),
        note_on_repeated_trials=note_on_repeated_trials([(one.sweep.name, one.measurements) for one in group]),
        unfinished=tuple(
            line for folder in sweeps for line in (*contents[folder].unfinished, *_not_started(folder, finished))
        ),
        added_seeds=tuple(_added_seeds(sweeps)),
        plan=plan,
        dropped_plans=tuple(folder.name for folder in sweeps if len(sweeps) > 1 and _declares_tests(folder)),
        shared_controls=tuple(_shared_controls(group, names)) if len(sweeps) > 1 else (),
        declared_arms=tuple(dict.fromkeys(_declared_arms(sweeps, group, names))),
        declared_seeds=tuple(dict.fromkeys(chain.from_iterable(seeds))),
        manifest_texts=manifests,
    )
    combined = with_task_scores(combined)
    own = plan.metric if plan and names_function(plan.metric) else None
    return with_stored_scores(combined, sweeps[0].metric_scores()) if own and own != scored_again else combined


def _origin(
    sweeps: Sequence[SweepFolder],
    contents: Mapping[SweepFolder, _FolderContents],
    manifests: Sequence[str],
    setting: Setting,
    trials: Sequence[Measurements],
) -> TrialOrigin:
    """Return the origin of the trials of these sweeps.

    Args:
        sweeps: their folders.
        contents: contents of each folder.
        manifests: texts of the manifests. A single one has the cost of the trials.
        setting: setting of these trials.
        trials: these trials.
    """
    manifest = manifest_of(manifests[0]) if len(manifests) == 1 else None
    trained = {trial.trial_id for trial in trials if not trial.is_base}
    seconds, workers = _measured_cost(manifest, trained) if manifest else (None, 1)
    only = contents[sweeps[0]] if len(sweeps) == 1 else None
    return TrialOrigin(
        folders=tuple(str(folder.path) for folder in sweeps),
        is_sweep=True,
        failed_trials=tuple(chain.from_iterable(contents[folder].failed for folder in sweeps)),
        unusable_trials=tuple(chain.from_iterable(contents[folder].unusable for folder in sweeps)),
        lacks_declared_trials=only is not None and bool({*_declared_labels(sweeps[0])} - only.ended),
        lacks_base=only is not None and bool(sweeps[0].spec()) and BASE_ARM not in only.ended,
        has_base_elsewhere=only is not None and BASE_ARM in {*map(_label, only.trials)} - {one.arm for one in trials},
        of_other_version=has_other_method(setting.shared),
        seconds=seconds,
        workers=workers,
        run_options=tuple(placement_options(manifest.command)) if manifest else (),
    )


def _measured_cost(manifest: Manifest, trials: Set[str]) -> tuple[float | None, int]:
    """Return the mean seconds of these trials and the number of workers; None and 1 if the workers are not known."""
    if not manifest.workers.number:
        return None, 1
    timed = [
        resources.seconds
        for trial, resources in manifest.trials.items()
        if trial in trials and resources.seconds is not None
    ]
    return (float(np.mean(timed)) if timed else None), manifest.workers.number


def _unique_trials(group: Sequence[_SweepTrial]) -> Iterator[tuple[Measurements, str]]:
    """Yield each trial with the identity of its arm, once even if several folders have it.

    Raises:
        UsageError: two folders have different results of the same trial.
    """
    seen: dict[str, _SweepTrial] = {}
    for trial in group:
        first = seen.setdefault(trial.measurements.trial_id, trial)
        if first is trial:
            yield trial.measurements, trial.arm_identity
        elif not first.measurements.has_equal_scores(trial.measurements):
            both = f"{first.sweep.path} and {trial.sweep.path}"
            what = f"{both} have different results of trial {trial.measurements.trial_id}."
            raise UsageError(Problem(what, "Leave out one of the folders, or restore the changed one."))


def _arm_names(group: Sequence[_SweepTrial]) -> dict[str, str]:
    """Return arm identity to name. Arms of the same name get the name of their sweep added, then a number."""
    names: dict[str, str] = {}
    for trial in group:
        if trial.arm_identity not in names:
            arm = trial.measurements.arm
            of_sweep = f"{arm} ({trial.sweep.name})"
            candidates = chain([arm, of_sweep], (f"{of_sweep}, {number}" for number in count(2)))
            names[trial.arm_identity] = next(name for name in candidates if name not in names.values())
    return names


def _plan(folder: SweepFolder) -> AnalysisPlan | None:
    """Return the analysis that a sweep declared, with the looks that it has taken; None if it declared nothing."""
    spec = folder.spec()
    if spec is None:
        return None
    controls = tuple(arm.name for arm in spec.arms if arm.control)
    if not (controls or _declares_tests(folder)):
        return None
    declared, manifest = spec.analysis, folder.manifest()
    looks = manifest.planned_looks_taken(declared.looks)
    return AnalysisPlan(
        metric=declared.metric,
        margin=Margin.parse(declared.margin) if declared.margin else None,
        primary_arm=declared.primary_arm,
        controls=controls,
        looks=declared.looks,
        seeds=spec.seeds,
        looks_taken=len(looks),
        excluded=frozenset(chain.from_iterable(manifest.settled[seeds] for seeds in looks))
        if {*looks} <= manifest.settled.keys()
        else None,
    )


def _declares_tests(folder: SweepFolder) -> bool:
    """Return whether a sweep declared a metric, a margin, a primary arm or planned looks."""
    spec = folder.spec()
    return spec is not None and spec.analysis != AnalysisSpec()


def _added_seeds(sweeps: Sequence[SweepFolder]) -> Iterator[str]:
    """Yield a sentence for each sweep with a fixed number of seeds that was compared with fewer seeds before."""
    for folder in sweeps:
        spec, looks = folder.spec(), folder.manifest().looks
        if spec and not spec.analysis.has_planned_looks and len(set(looks)) > 1:
            yield (
                f"{folder.name} was compared with {listed([str(one) for one in sorted(set(looks))])} seeds. If seeds "
                "were added because of a result, its p-values are too small. --until-decided plans such looks."
            )


def _override_notes(group: Sequence[_SweepTrial], names: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each arm with declared overrides of the recipe."""
    for arm, overrides in {names[trial.arm_identity]: trial.overrides for trial in group}.items():
        if overrides:
            text = ", ".join(f"{field} {value}" for field, value in overrides.items())
            yield f"{arm} also differs in the recipe: {text}."


def _evidence_without_trials(folder: SweepFolder, contents: _FolderContents) -> Evidence:
    lines = (*contents.unfinished, *_not_started(folder, frozenset()))
    failed, unusable = tuple(contents.failed), tuple(contents.unusable)
    origin = TrialOrigin((str(folder.path),), is_sweep=True, failed_trials=failed, unusable_trials=unusable)
    return Evidence(folder.name, Setting("", "", {}, {}), (), METRICS, origin, unfinished=lines)
