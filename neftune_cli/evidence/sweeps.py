"""Evidence from sweep folders: comparable trials, which differ only in noise and seed or in declared overrides."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from neftune_cli.config.identity import canonical_json
from neftune_cli.config.spec import NOISE_DETAILS, ArmSpec, NoiseSpec, SweepSpec
from neftune_cli.errors import Problem, UsageError
from neftune_cli.evidence.measurements import Evidence, ItemValues, Measurements, Setting, with_differences
from neftune_cli.metrics import METRICS, PROBE_PREFIX, response_metrics
from neftune_cli.records import HELD_OUT, PROBE, Generation, TrialRecord, perplexity
from neftune_cli.store import SweepFolder, TrialFolder, trial_label

if TYPE_CHECKING:
    from pyarrow import Table


@dataclass(frozen=True)
class _Found:
    """One trial with the identities that determine its comparable trials."""

    folder: SweepFolder
    setting: Setting
    setting_identity: str
    """Canonical JSON of everything that can change its numbers, without noise, seed and overrides of its arm."""
    arm_identity: str
    """Canonical JSON of its noise and of the overrides of its arm."""
    trial: Measurements


def sweep_evidence(folders: Sequence[SweepFolder]) -> list[Evidence]:
    """Return the finished trials of these sweeps, grouped by setting, in the order of the folders.

    Arms may override the recipe if their sweep declares it. Any other difference makes a separate setting. A sweep
    without a finished trial is included without trials, so that its unfinished trials can be reported.

    Raises:
        UsageError: a record is invalid, or two folders have different results of the same trial.

    """
    groups: dict[tuple[str, bool], list[_Found]] = {}
    read = {folder: _read(folder) for folder in folders}
    missing = {folder: lines for folder, (_, lines) in read.items()}
    empty = [folder for folder, (found, _) in read.items() if all(one.trial.is_base for one in found)]
    for folder, (found, _) in read.items():
        for trial in found if folder not in empty else ():
            groups.setdefault((trial.setting_identity, _is_single_training(folder)), []).append(trial)
    together = [_together(found, missing) for found in groups.values()]
    return [*with_differences(together), *(_evidence_without_trials(folder, missing[folder]) for folder in empty)]


def _is_single_training(folder: SweepFolder) -> bool:
    """Return whether a folder has one arm with one seed, as `neftune train` makes it.

    Such trainings are compared with each other, but not added to a sweep.
    """
    spec = folder.spec()
    return spec is not None and len(spec.arms) == len(spec.seeds) == 1


def _read(folder: SweepFolder) -> tuple[list[_Found], list[str]]:
    """Return the finished trials of a sweep, and a sentence for each damaged, unfinished or missing one."""
    spec = folder.spec()
    finished, missing = folder.contents()
    found = []
    for place, record in finished:
        overrides = _recipe_overrides(spec, record)
        shared = _shared_identity(spec, record, declared=overrides is not None)
        arm = canonical_json({"noise": record.identity.get("noise"), "train": overrides, "base": record.seed is None})
        try:
            trial = replace(read_trial(place, record), details=_details(record, overrides or {}))
        except UsageError as error:
            missing.append(f"{place.label}: {error}")
        else:
            found.append(_Found(folder, _setting(spec, shared), canonical_json(shared), arm, trial))
    return found, [*missing, *_not_started(folder, spec)]


def _not_started(folder: SweepFolder, spec: SweepSpec | None) -> Iterator[str]:
    """Yield a sentence for each declared trial that has no folder yet."""
    started = {place.label for place in folder.trials()}
    declared = [trial_label(arm.name, seed) for arm in spec.arms for seed in spec.seeds] if spec else []
    return (f"{label} has not started" for label in declared if label not in started)


def _recipe_overrides(spec: SweepSpec | None, record: TrialRecord) -> dict[str, Any] | None:
    """Return the overrides of the trial's arm in the recipe; None if the sweep does not declare such a trial."""
    arm = next((arm for arm in spec.arms if arm.name == record.arm), None) if spec else None
    if record.seed is None:
        return {}
    if spec is None or arm is None or spec.recipe_of(arm).model_dump() != record.identity.get("train"):
        return None
    return arm.train


def _details(record: TrialRecord, overrides: dict[str, Any]) -> tuple[str, ...]:
    """Return the differences of a trial other than alpha: noise fields that are not the default, and overrides."""
    noise = record.identity.get("noise") or {}
    usual = NoiseSpec().model_dump()
    unusual = {field: noise[field] for field in NOISE_DETAILS if field in noise and noise[field] != usual[field]}
    return tuple(f"{field}={value}" for field, value in {**unusual, **overrides}.items())


def _shared_identity(spec: SweepSpec | None, record: TrialRecord, *, declared: bool) -> dict[str, Any]:
    """Return the identity that comparable trials share. A trial that its sweep does not declare has its own recipe."""
    recipe = spec.train.model_dump() if spec and declared else record.identity.get("train") or {}
    # LoRA adds a package to the environment that other arms of a sweep do not use
    environment = {part: value for part, value in record.identity.get("environment", {}).items() if part != "peft"}
    shared = {part: value for part, value in record.identity.items() if part not in ("noise", "seed", "base")}
    return {**shared, "environment": environment, "train": recipe}


def _setting(spec: SweepSpec | None, shared: Mapping[str, Any]) -> Setting:
    """Return the setting with names in addition to fingerprints."""
    model, data = (PurePath(name).name for name in ((spec.model, spec.dataset) if spec else ("a model", "data")))
    named = {"model": f"{model} ({shared.get('model')})", "data": f"{data} ({shared.get('data')})"}
    return Setting(model=model, data=data, recipe=shared["train"], shared={**shared, **named})


def _together(found: Sequence[_Found], missing: Mapping[SweepFolder, Sequence[str]]) -> Evidence:
    """Return the trials of one setting: each once, with one name for arms that are the same training."""
    homes = [folder for folder in missing if any(one.folder is folder for one in found)]
    names = _arm_names(found)
    trials = [replace(one, arm=names[identity]) for one, identity in _each_once(found)]
    order = list(names.values())
    manifests = [text for folder in homes if (text := folder.written_manifest())]
    return Evidence(
        name=" + ".join(folder.name for folder in homes),
        setting=found[0].setting,
        trials=tuple(sorted(trials, key=lambda one: (not one.is_base, order.index(one.arm), one.seed or 0))),
        metrics=METRICS,
        folders=tuple(str(folder.path) for folder in homes),
        specs=tuple(folder.written_spec() for folder in homes),
        notes=tuple(_declared_differences(homes, order)),
        unfinished=tuple(line for folder in homes for line in missing[folder]),
        manifest="".join(manifests),
    )


def _each_once(found: Sequence[_Found]) -> Iterator[tuple[Measurements, str]]:
    """Yield each trial once, with the identity of its arm, even if several folders have it.

    Raises:
        UsageError: two folders have different results of the same trial.

    """
    seen: dict[str, _Found] = {}
    for one in found:
        first = seen.setdefault(one.trial.trial, one)
        if first is one:
            yield one.trial, one.arm_identity
        elif first.trial.scores != one.trial.scores:
            raise UsageError(
                Problem(
                    f"{first.folder.path} and {one.folder.path} have different results of trial {one.trial.trial}.",
                    "Leave out one of the folders, or restore the changed one.",
                )
            )


def _arm_names(found: Sequence[_Found]) -> dict[str, str]:
    """Return a name for each kind of training. A name that two kinds share is followed by the name of the sweep."""
    names: dict[str, str] = {}
    for one in found:
        if one.arm_identity not in names:
            taken = one.trial.arm in names.values()
            names[one.arm_identity] = f"{one.trial.arm} ({one.folder.name})" if taken else one.trial.arm
    return names


def _declared_differences(homes: Sequence[SweepFolder], arms: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for each arm with declared overrides of the recipe."""
    for folder in homes:
        spec = folder.spec()
        for arm in spec.arms if spec else ():
            if arm.train and arm.name in arms:
                yield f"{arm.name} also differs in the recipe: {_written(arm)}."


def _written(arm: ArmSpec) -> str:
    return ", ".join(f"{field} {value}" for field, value in arm.train.items())


def _evidence_without_trials(folder: SweepFolder, missing: Sequence[str]) -> Evidence:
    setting = Setting(model="", data="", recipe={}, shared={})
    return Evidence(folder.name, setting, (), METRICS, (str(folder.path),), unfinished=tuple(missing))


def read_trial(folder: TrialFolder, record: TrialRecord) -> Measurements:
    """Return the measurements of a finished trial.

    Raises:
        UsageError: a file of the trial is damaged.

    """
    losses = _by_split_and_epoch(folder.example_losses())
    held_out = {epoch: values for (split, epoch), values in losses.items() if split == HELD_OUT}
    return Measurements(
        trial=record.trial,
        arm=record.arm,
        alpha=record.alpha,
        seed=record.seed,
        scores=scores_of(record),
        items=dict([*_loss_items(losses), *_answer_items(folder.generations())]),
        held_out_by_epoch=held_out,
        curve=tuple(folder.curve()),
        noise_ratio=record.noise.ratio if record.noise else None,
        attestation=record.attestation,
        notes=record.notes,
    )


def scores_of(record: TrialRecord) -> dict[str, float | None]:
    """Return every metric of a record by its key, None if it is undefined."""
    probe = record.probe_eval.model_dump() if record.probe_eval else {}
    scores = {
        **record.loss.model_dump(),
        **record.eval.model_dump(),
        **{PROBE_PREFIX + key: value for key, value in probe.items()},
    }
    return {key: scores.get(key) for key in METRICS}


_LossesByEpoch = dict[tuple[str, int], ItemValues]
"""(split, epoch) to losses."""


def _by_split_and_epoch(table: "Table | None") -> _LossesByEpoch:
    if table is None:
        return {}
    columns = {name: table.column(name).to_pylist() for name in ("split", "epoch", "example", "cluster")}
    # pyarrow's conversion to numpy imports pandas
    losses, tokens = (np.array(table.column(name).to_pylist(), dtype=np.float64) for name in ("loss", "tokens"))
    found: _LossesByEpoch = {}
    start = 0
    for key, rows in groupby(zip(columns["split"], columns["epoch"], strict=True)):
        part = slice(start, start := start + sum(1 for _ in rows))
        items, clusters = tuple(columns["example"][part]), tuple(columns["cluster"][part])
        found[key] = ItemValues(items, clusters, losses[part], tokens[part])
    return found


def _loss_items(losses: _LossesByEpoch) -> Iterator[tuple[str, ItemValues]]:
    last = max((epoch for _, epoch in losses), default=0)
    if values := losses.get((PROBE, last)):
        yield "train_loss_clean", values
    if values := losses.get((HELD_OUT, last)):
        yield "eval_loss", values
        yield "eval_perplexity", _perplexities(values)


def _perplexities(losses: ItemValues) -> ItemValues:
    """Return values whose mean is the perplexity: exp is linearized at the trial's mean loss."""
    mean = float(np.average(losses.values, weights=losses.weights))
    return ItemValues(losses.items, losses.clusters, perplexity(mean) * (1 + losses.values - mean), losses.weights)


def _answer_items(generations: Sequence[Generation]) -> Iterator[tuple[str, ItemValues]]:
    for split, prefix in ((HELD_OUT, ""), (PROBE, PROBE_PREFIX)):
        answers = [answer for answer in generations if answer.split == split]
        items, clusters = tuple(one.example for one in answers), tuple(one.cluster for one in answers)
        for key, scores in _scores_by_item(answers).items():
            yield prefix + key, ItemValues(items, clusters, np.array(scores, dtype=np.float64), np.ones(len(answers)))


def _scores_by_item(answers: Sequence[Generation]) -> dict[str, list[float]]:
    """Return the per-item scores of responses by metric, without metrics that some of the responses lack.

    A trial that ran before a metric was registered lacks it. `reference_chars` is the length of the reference.
    """
    if not answers:
        return {}
    scores = {
        metric.key: [getattr(answer, metric.key) for answer in answers]
        if metric.stored
        else [metric.scoring_function()(answer.response, answer.reference) for answer in answers]
        for metric in response_metrics()
        if metric.per_item and (not metric.stored or all(hasattr(answer, metric.key) for answer in answers))
    }
    return {**scores, "reference_chars": [len(answer.reference) for answer in answers]}
