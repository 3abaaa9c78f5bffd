"""The sweep that is already in a results folder: checks that a command may extend it, and the merged spec."""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from neftune_cli.config.arm_names import trial_label
from neftune_cli.config.identity import has_other_method
from neftune_cli.config.spec import DEFAULT_LOOKS, SweepSpec
from neftune_cli.errors import Problem, UsageError
from neftune_cli.formatting import listed
from neftune_cli.metrics import HELD_OUT_LOSS
from neftune_cli.records import TrialRecord
from neftune_cli.store import SWEEP_FILE, SweepFolder, check_writable, folder_label
from neftune_cli.training.trial import Trial


def existing_spec(folder: SweepFolder) -> SweepSpec | None:
    """Return the sweep in the folder; None if there is none, or if its `sweep.yaml` is missing.

    Raises:
        UsageError: the folder is not writable, has other files, or its sweep is damaged.
    """
    if folder.path.exists() and not folder.path.is_dir():
        raise UsageError(Problem(f"--output {folder.path} is a file.", "Use an empty or a new folder."))
    check_writable(folder.path)
    stored = folder.spec()
    if stored is None and folder.has_foreign_files() and not folder.has_lost_spec():
        what = f"{folder.path} has files but no sweep."
        raise UsageError(Problem(what, "Use --output with an empty or a new folder."))
    return stored


def check_extends(folder: SweepFolder, stored: SweepSpec, requested: SweepSpec) -> None:
    """Refuse a requested sweep that differs from the one in the folder in more than additional arms and seeds.

    With planned looks, arms and seeds must be the same.
    """
    if different := list(differences(stored, requested)):
        _check_method(folder, folder.records())  # options cannot make its trials reusable
        what = f"{folder.path} has a different sweep: {'; '.join(different)}."
        fix = f"{_way_on(folder, stored, requested)}Use --output with another folder, or the same options."
        raise UsageError(Problem(what, fix))
    if not requested.analysis.has_planned_looks:
        return
    arms = [arm.name for arm in stored.arms]
    if set(arms) != {arm.name for arm in requested.arms}:
        what = f"{folder.path} has planned looks for other arms: {', '.join(arms)}."
        raise UsageError(Problem(what, "Use the same arms, or --output with another folder."))
    if set(stored.seeds) != set(requested.seeds):
        what = f"{folder.path} has planned looks for other seeds: {', '.join(map(str, stored.seeds))}."
        raise UsageError(Problem(what, "Use the same seeds, or --output with another folder."))


def merged(stored: SweepSpec, requested: SweepSpec) -> SweepSpec:
    """Return the requested sweep with the arms and seeds of both, those of the stored one first.

    If all arms are alphas in ascending order, so are the merged ones. Adding arms in any order gives the same tables.
    Seeds are sorted, unless looks are planned: they take the first seeds of the order in which the sweep started.
    """
    arms = {arm.name: arm for arm in (*stored.arms, *requested.arms)}
    ordered = list(arms.values())
    if _has_ascending_alphas(stored) and _has_ascending_alphas(requested):
        ordered.sort(key=lambda arm: arm.alpha or 0.0)
    seeds = dict.fromkeys((*stored.seeds, *requested.seeds))
    in_order = tuple(seeds) if stored.analysis.has_planned_looks else tuple(sorted(seeds))
    return requested.model_copy(update={"arms": tuple(ordered), "seeds": in_order})


def notes_on_earlier_sweep(folder: SweepFolder, merged_spec: SweepSpec, requested: SweepSpec) -> Iterator[str]:
    """Yield notes on what the folder's sweep adds to the requested one, or keeps, and on a missing `sweep.yaml`."""
    if folder.has_lost_spec():
        yield f"{folder.path / SWEEP_FILE} is missing. This command writes it again, and keeps the finished trials."
    yield from _unrequested_trials(folder, merged_spec, requested)
    yield from _kept_baseline(folder, merged_spec, requested)


def check_covers_folder(folder: SweepFolder, spec: SweepSpec, trials: tuple[Trial, ...]) -> None:
    """Refuse a sweep for a folder without `sweep.yaml` if the folder has trials or looks that are not part of it.

    Args:
        folder: the results folder, which has no `sweep.yaml`.
        spec: the requested sweep.
        trials: its trials.

    Raises:
        UsageError: the folder has other trials that have started, or other looks.
    """
    planned, looks = {trial.id for trial in trials}, spec.analysis.looks or range(len(spec.seeds) + 1)
    others = [
        *(one.folder_label for one in folder.trials() if one.has_started() and one.id not in planned),
        *(f"a look at {seeds} seeds" for seeds in folder.manifest().looks if seeds not in looks),
    ]
    if others:
        what = (
            f"{folder.path} has no {SWEEP_FILE}, and these parts of it do not belong to the sweep of this command: "
            f"{listed(others)}."
        )
        fix = (
            f"Use the options of the sweep in the folder; the command then writes {SWEEP_FILE} again. "
            "Or use --output with another folder."
        )
        raise UsageError(Problem(what, fix))


def check_records(folder: SweepFolder, trials: tuple[Trial, ...]) -> None:
    """Refuse a trial if the folder has a record of the same arm and seed with another identity.

    Raises:
        UsageError: there is one.
    """
    planned = {(trial.arm, trial.seed): trial for trial in trials}
    for record in folder.records():
        trial = planned.get((record.arm, record.seed))
        if trial is not None and trial.id != record.trial:
            _check_method(folder, [record])
            changed = " and ".join(_changed_parts(record.identity, trial.identity))
            what = f"{folder.path}: the finished trial {trial.label} differs from its plan in {changed}."
            raise UsageError(Problem(what, "Use --output with another folder, or restore what has changed."))


def _check_method(folder: SweepFolder, records: Iterable[TrialRecord]) -> None:
    """Refuse trials of another version of neftune, with another method."""
    for record in records:
        if has_other_method(record.identity):
            trial = trial_label(record.arm, record.seed)
            what = f"{folder.path}: the finished trial {trial} is from another version of neftune."
            raise UsageError(Problem(what, "Use --output with another folder, or that version of neftune."))


def check_running_trials(folder: SweepFolder, trials: tuple[Trial, ...]) -> None:
    """Refuse a trial if another command runs one of the same arm and seed with another identity.

    Raises:
        UsageError: there is one.
    """
    ids = {trial.id for trial in trials}
    labels = {folder_label(trial.arm, trial.seed): trial.label for trial in trials}
    for one in folder.trials():
        if one.folder_label in labels and one.id not in ids and one.is_leased():
            what = (
                f"{folder.path}: another command runs the trial {labels[one.folder_label]} with another model, other "
                "data, or other versions of libraries."
            )
            raise UsageError(Problem(what, "Use the same ones for all commands, or --output with another folder."))


def _changed_parts(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    """Yield the parts in which two identities differ. Of the environment, the values are named."""
    for part in dict.fromkeys((*here, *there)):
        before, now = there.get(part), here.get(part)
        if before == now:
            continue
        if part != "environment" or not (isinstance(before, Mapping) and isinstance(now, Mapping)):
            yield part
            continue
        names = [name for name in dict.fromkeys((*before, *now)) if before.get(name) != now.get(name)]
        values = [
            f"{name} {before.get(name, 'none')} in the folder and {now.get(name, 'none')} in this command"
            for name in names
        ]
        yield f"{part} ({', '.join(values)})"


def differences(stored: SweepSpec, requested: SweepSpec) -> Iterator[str]:
    """Yield the differences of two sweeps other than arms and seeds."""
    for name, (before, now) in _different_fields(stored, requested).items():
        yield f"{name} is {_shown(before)} in the folder and {_shown(now)} in this command"


def _different_fields(stored: SweepSpec, requested: SweepSpec) -> dict[str, tuple[Any, Any]]:
    """Return both values of each field other than arms and seeds in which two sweeps differ."""
    before, now = _comparable(stored), _comparable(requested)
    both = {name: (before.get(name), now.get(name)) for name in {**before, **now}}
    return {name: values for name, values in both.items() if values[0] != values[1]}


def _way_on(folder: SweepFolder, stored: SweepSpec, requested: SweepSpec) -> str:
    """Return the advice for a command that differs in planned looks, or in the margin or metric alone."""
    analysis, key = requested.analysis, requested.analysis.metric or HELD_OUT_LOSS
    changed = _different_fields(stored, requested).keys()
    removes_margin = "analysis.margin" in changed and analysis.margin is None
    is_option = changed <= {"analysis.margin", "analysis.metric"} and not removes_margin
    if is_option and not _adds_trials(stored, requested):
        options = (f" --metric {key}" if "analysis.metric" in changed else "") + (
            f" --margin {key}={analysis.margin}" if analysis.margin else ""
        )
        return f"`neftune compare {folder.path}{options}` needs no new trials. "
    return _looks_option(stored, requested)


def _adds_trials(stored: SweepSpec, requested: SweepSpec) -> bool:
    """Return whether the requested sweep has an arm or a seed that the one in the folder lacks."""
    arms = {arm.name for arm in stored.arms}
    return any(arm.name not in arms for arm in requested.arms) or not {*requested.seeds} <= {*stored.seeds}


def _looks_option(stored: SweepSpec, requested: SweepSpec) -> str:
    """Return the advice to plan the looks of the sweep in the folder, or none, if only one of the two has looks."""
    if requested.analysis.has_planned_looks and not stored.analysis.has_planned_looks:
        return "The folder has a fixed number of seeds: leave out --until-decided, or `looks` in the experiment file. "
    if requested.analysis.has_planned_looks or not stored.analysis.has_planned_looks:
        return ""
    others = "" if stored.analysis.looks == DEFAULT_LOOKS else f" --looks {','.join(map(str, stored.analysis.looks))}"
    return f"Add --until-decided{others} to continue that sweep. "


def _unrequested_trials(folder: SweepFolder, merged_spec: SweepSpec, requested: SweepSpec) -> Iterator[str]:
    """Yield a note on arms and seeds of an earlier command that are not part of this one."""
    names = {arm.name for arm in requested.arms}
    more = [
        *(arm.name for arm in merged_spec.arms if arm.name not in names),
        *(f"seed {seed}" for seed in merged_spec.seeds if seed not in requested.seeds),
    ]
    if more:
        also = f"{folder.path} also has {', '.join(more)} from an earlier command."
        yield f"{also} These are compared, too, and missing trials of that command are run."


def _kept_baseline(folder: SweepFolder, merged_spec: SweepSpec, requested: SweepSpec) -> Iterator[str]:
    """Yield a note if this command gives another order of the arms, in which another one is the baseline."""
    baseline, first = merged_spec.arms[0].name, requested.arms[0].name
    if baseline != first and baseline in {arm.name for arm in requested.arms}:
        command = shlex.join(["neftune", "compare", str(folder.path), "--baseline", first])
        other = f"`{command}` compares with {first}."
        yield f"The baseline stays {baseline}, the first arm in {folder.path}. {other}"


def _comparable(spec: SweepSpec) -> dict[str, Any]:
    values = spec.model_dump(mode="json", exclude={"arms", "seeds"})
    for section in ("train", "evaluation", "analysis"):
        fields = values.pop(section)
        values |= {f"{section}.{name}": value for name, value in {**fields.pop("sft", {}), **fields}.items()}
    return values


def _has_ascending_alphas(spec: SweepSpec) -> bool:
    alphas = [arm.alpha or 0.0 for arm in spec.arms]
    return all(arm.varies_only_alpha for arm in spec.arms) and alphas == sorted(alphas)


def _shown(value: Any) -> str:
    return "not set" if value is None else repr(value)
