"""Plan of a sweep: the trials of a spec, checked against the contents of the results folder."""

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Protocol

from neftune_cli.config.field_problems import place_in_recipe
from neftune_cli.config.identity import base_identity, trial_id, trial_identity
from neftune_cli.config.spec import (
    BASE_ARM,
    DEFAULT_LOOKS,
    MIN_SEEDS,
    AnalysisSpec,
    ArmSpec,
    HarnessTasks,
    SweepSpec,
    TrainSpec,
)
from neftune_cli.errors import Problem, Problems, UsageError, alternatives, did_you_mean
from neftune_cli.formatting import and_more, counted, listed
from neftune_cli.metrics import HELD_OUT_LOSS, HELD_OUT_RESPONSES, METRICS, PROBE_RESPONSES, Margin, names_function
from neftune_cli.store import LABEL_LENGTH, SweepFolder, TrialFolder, folder_label
from neftune_cli.sweeps.earlier_sweep import (
    check_covers_folder,
    check_extends,
    check_records,
    check_running_trials,
    existing_spec,
    merged,
    notes_on_earlier_sweep,
)
from neftune_cli.sweeps.inspection import DataFacts, Inspection, ModelFacts, resolved_evaluation
from neftune_cli.training.trial import Trial


@dataclass(frozen=True)
class Plan:
    """The trials of a sweep, or those up to a planned look: the base trial first, then seed by seed all arms.

    In this order, an interrupted sweep has the same seeds for all arms and can be compared.
    """

    spec: SweepSpec
    """The sweep to run: that of the inspection, merged with the sweep in the folder."""
    model: ModelFacts
    """That of the inspection; never None here."""
    data: DataFacts
    """Those of the inspection; never None here."""
    trials: tuple[Trial, ...]
    inspection: Inspection
    """The facts about the requested sweep."""
    notes: tuple[str, ...] = ()
    """Notes for the user: those of the inspection, then notes on the folder, the seeds and the baseline."""
    stored: SweepSpec | None = None
    """The sweep that was in the folder; None if there was none."""
    not_run_again: frozenset[str] = frozenset()
    """Ids of trials that are not run again: those of earlier looks, and failed ones that a test at a look left out."""

    @property
    def all_notes(self) -> tuple[str, ...]:
        """Return the notes of the plan and of its data."""
        return (*self.notes, *self.data.notes)


def make_plan(spec: SweepSpec, folder: SweepFolder, inspect: Callable[[SweepSpec], Inspection]) -> Plan:
    """Return the plan of a spec, merged with the sweep in the folder.

    Args:
        spec: the requested sweep.
        folder: the results folder.
        inspect: returns the facts that only a process with torch can find.

    Raises:
        UsageError: all problems of the model, the data, the recipe and the folder.
    """
    problems, begin, stored = Problems(), time.monotonic(), None
    found = replace(inspect(spec), seconds=time.monotonic() - begin)
    problems.add(found.problems)
    if not problems.found:  # an invalid option would also look like a different sweep in the folder
        stored = problems.attempt(lambda: existing_spec(folder))
    requested = _with_template_time(found.spec, stored, found.model)
    if stored is not None:
        problems.attempt(partial(check_extends, folder, stored, requested))
    problems.attempt(folder.manifest)  # refused here if it is damaged, before anything is written
    problems.add(analysis_problems(spec, found.lm_eval, found.data))
    if found.data is not None:
        problems.attempt(partial(check_targets, spec, found.data))
        problems.add(_batch_problems(spec, found.data.train_examples))
    problems.raise_any()
    assert found.model is not None
    assert found.data is not None
    merged_spec = merged(stored, requested) if stored else requested
    trials = tuple(_trials(merged_spec, found, found.model, found.data))
    _check_distinct(trials, [arm.name for arm in stored.arms] if stored else ())
    check_records(folder, trials)
    check_running_trials(folder, trials)
    if folder.has_lost_spec():
        check_covers_folder(folder, merged_spec, trials)
    notes = (
        *found.notes,
        *notes_on_earlier_sweep(folder, merged_spec, requested),
        *_notes_on_unusable_trials(folder, trials),
        *_notes_on_seeds(merged_spec),
        *_notes_on_baseline(merged_spec),
    )
    return Plan(merged_spec, found.model, found.data, trials, found, notes, stored)


def at_look(plan: Plan, seeds: int, arms: Collection[str], before: Plan | None = None) -> Plan:
    """Return the plan up to a look: the trials of the earlier looks, and those that this look adds to them.

    A look needs the base model, and the first seeds of the baseline and of some other arms.

    Args:
        plan: the whole plan.
        seeds: number of seeds.
        arms: names of the other arms.
        before: the plan up to the look before; None at the first look.
    """
    first, used = plan.spec.seeds[:seeds], {plan.spec.arms[0].name, *arms}
    looked_at = frozenset(trial.id for trial in before.trials) if before else frozenset()
    trials = [
        trial
        for trial in plan.trials
        if trial.id in looked_at or trial.is_base or (trial.arm in used and trial.seed in first)
    ]
    return replace(plan, trials=tuple(trials), not_run_again=plan.not_run_again | looked_at)


def steps_of(trial: Trial, examples_by_length: Mapping[str, int], examples_in_data: int) -> int:
    """Return the number of optimizer steps of a trial; 0 for the base model.

    With packing and without `max_steps` it is 0 as well: the number of packed rows is known after tokenization only.

    Args:
        trial: the trial.
        examples_by_length: number of training examples by maximum length, as in `LoadedSizes`.
        examples_in_data: number of training examples in the data. It is used for a trial with another maximum length,
            although some examples may be too long for it.
    """
    train = trial.spec.train
    if trial.is_base or (train.sft.get("packing") and not train.max_steps):
        return 0
    known = available_examples(train, examples_by_length)
    return train.steps(steps_per_epoch(train, examples_in_data if known is None else known))


def available_examples(train: TrainSpec, examples_by_length: Mapping[str, int]) -> int | None:
    """Return the number of training examples that are not too long for a recipe; None if it is not known.

    Args:
        train: the recipe.
        examples_by_length: number of training examples by maximum length, as in `LoadedSizes`.
    """
    return examples_by_length.get(str(train.max_length))


def steps_per_epoch(train: TrainSpec, examples: int) -> int:
    """Return the number of optimizer steps of one epoch over a number of training examples, without packing."""
    return max(1, math.ceil(examples_per_epoch(train, examples) / train.examples_per_step))


def _batch_problems(spec: SweepSpec, examples: int) -> Iterator[Problem]:
    """Yield a problem for each recipe whose epochs have no full batch, if only full batches are used."""
    for index, arm in enumerate(spec.arms):
        train, field = spec.recipe_of(arm), "dataloader_drop_last"
        if train.sft.get(field) and examples < train.batch_size:
            place = place_in_recipe(arm, index, field)
            there_are = f"there {'is' if examples == 1 else 'are'} only {counted(examples, 'training example')}"
            what = f"{there_are}, fewer than a batch of {train.batch_size}, so no step would be taken."
            yield Problem(what, f"Use --batch-size {examples} or less, or remove {field}.", place)


def examples_per_epoch(train: TrainSpec, examples: int) -> int:
    """Return the number of examples that one epoch uses: all, or those in whole batches if the last one is dropped."""
    return examples - examples % train.batch_size if train.sft.get("dataloader_drop_last") else examples


def trial_folder(folder: SweepFolder, trial: Trial) -> TrialFolder:
    """Return the folder of a trial, which may not exist yet."""
    return folder.trial(trial.id, trial.arm, trial.seed)


def missing_trials(plan: Plan, folder: SweepFolder, *, retry_failed: bool = False) -> list[Trial]:
    """Return the trials to run: those without a record, and without a failure unless failed trials are retried.

    Trials of earlier looks are not run again.
    """
    new = [trial for trial in plan.trials if trial.id not in plan.not_run_again]
    without = [trial for trial in new if trial_folder(folder, trial).record() is None]
    return [trial for trial in without if retry_failed or trial_folder(folder, trial).failure_reason() is None]


class _HasSeed(Protocol):
    @property
    def seed(self) -> int | None: ...


def missing_in_words(trials: Sequence[_HasSeed], missing: Sequence[_HasSeed]) -> str:
    """Return what is left to run: `12 trials and the base model to run`, or `3 of 12 trials to run`.

    Args:
        trials: all trials of a plan. The base model has no seed, and is not counted.
        missing: those to run.
    """
    total, count = (sum(one.seed is not None for one in some) for some in (trials, missing))
    share = counted(total, "trial") if count == total else f"{count} of {counted(total, 'trial')}"
    return f"{share}{' and the base model' if len(missing) > count else ''} to run"


def done_trials(plan: Plan, folder: SweepFolder) -> set[str]:
    """Return the ids of trials with a record."""
    return {trial.id for trial in plan.trials if trial_folder(folder, trial).record() is not None}


def failed_trials(plan: Plan, folder: SweepFolder) -> dict[str, str]:
    """Return the reasons of the failed trials without a record, by label, for example "alpha=5, seed 0"."""
    reasons = {trial.label: trial_folder(folder, trial).failure_reason() for trial in plan.trials}
    return {label: reason for label, reason in reasons.items() if reason is not None}


def _with_template_time(spec: SweepSpec, stored: SweepSpec | None, model: ModelFacts | None) -> SweepSpec:
    """Return the spec with the time that the chat template sees, if it gives none itself.

    It is the time of the sweep in the folder. In a new sweep it is the present, if the template writes the time.
    """
    if spec.template_time is not None:
        return spec
    if stored is not None:
        return spec.model_copy(update={"template_time": stored.template_time})
    if model is not None and model.has_clock:
        return spec.model_copy(update={"template_time": datetime.now().isoformat(timespec="seconds")})
    return spec


def analysis_problems(
    spec: SweepSpec, lm_eval: HarnessTasks | None = None, data: DataFacts | None = None
) -> Iterator[Problem]:
    """Yield a problem for a metric that is unknown or not measured, an unreadable margin, and looks without two arms.

    Args:
        spec: the sweep.
        lm_eval: its tasks of lm-evaluation-harness; None if there are none, or if they are not known yet.
        data: facts about its data; None if they are not known.
    """
    analysis = spec.analysis
    yield from _metric_problems(spec, lm_eval, data)
    if analysis.margin is not None and Margin.parse(analysis.margin) is None:
        what = f"{analysis.margin!r} is not a margin larger than 0."
        fix = _fix_of_named_margin(analysis) or "Use 0.02 (in the metric's unit), 10% (of the baseline), or 1% of gain."
        yield Problem(what, fix, ("analysis", "margin"))
    if analysis.has_planned_looks and len(spec.arms) < 2:
        yield Problem("Planned looks need at least one arm besides the baseline.", "Add one, for example --alphas 0,5.")


def _fix_of_named_margin(analysis: AnalysisSpec) -> str:
    """Return the fix for a margin such as `rouge_l=0.1`, which `neftune compare` takes; "" for any other."""
    key, equals, size = (part.strip() for part in (analysis.margin or "").partition("="))
    if not equals or Margin.parse(size) is None:
        return ""
    metric = "" if key == (analysis.metric or HELD_OUT_LOSS) else f", and declare the metric {key}"
    return f"Use {size}{metric}: the margin is that of the primary metric."


def _metric_problems(spec: SweepSpec, lm_eval: HarnessTasks | None, data: DataFacts | None) -> Iterator[Problem]:
    """Yield a problem for a primary metric that does not exist, or that the examples cannot have."""
    key, place = spec.analysis.metric, ("analysis", "metric")
    if key is None:
        return
    of_tasks = lm_eval.metrics if lm_eval else ()
    unmeasured = _sections_without_prompts(data)
    measured = [*(one for one in METRICS if METRICS[one].section not in unmeasured), *of_tasks]
    known, use = (*METRICS, *of_tasks), f"Use {alternatives(measured)}"
    is_checked_elsewhere = (bool(spec.evaluation.lm_eval) and lm_eval is None) or names_function(key)
    if key not in known and not is_checked_elsewhere:
        yield Problem(f"no metric has the key {key!r}.", did_you_mean(key, known) or f"{use}.", place)
        return
    section = METRICS[key].section if key in METRICS else HELD_OUT_RESPONSES if names_function(key) else None
    if data is not None and section in unmeasured:
        examples = "held-out" if section == HELD_OUT_RESPONSES else "training"
        what = f"{key} is measured on responses, and no {examples} example of {data.name} has a prompt."
        yield Problem(what, f"{use}, or data with prompts and completions.", place)


def _sections_without_prompts(data: DataFacts | None) -> tuple[str, ...]:
    """Return the tables whose metrics need prompts that the examples lack; none if the data are not known."""
    if data is None:
        return ()
    has_prompts = {HELD_OUT_RESPONSES: data.has_held_out_prompts, PROBE_RESPONSES: data.has_probe_prompts}
    return tuple(section for section, has in has_prompts.items() if not has)


def _notes_on_unusable_trials(folder: SweepFolder, trials: Sequence[Trial]) -> Iterator[str]:
    """Yield a note on the trials that have finished, and are run again because a file is missing or damaged."""
    folders = [trial_folder(folder, trial) for trial in trials]
    unusable = [one for one in folders if one.has_lost_files()]
    for one in unusable[:1]:
        yield f"{one.folder_label} {one.why_without_record()}{and_more(unusable)}."


def _notes_on_seeds(spec: SweepSpec) -> Iterator[str]:
    """Yield the planned looks, or a note if a fixed number of seeds cannot lead to a verdict, or rarely does."""
    count = len(spec.seeds)
    if len(spec.arms) < 2:
        return
    if looks := spec.analysis.looks:
        planned = listed([str(seeds) for seeds in looks])
        most = count * len(spec.arms)
        limit = f"Decided arms get no more seeds, so the sweep has at most {most} trials."
        yield f"Looks are planned at {planned} seeds. {limit}"
    elif count < MIN_SEEDS:
        needed = f"a verdict needs at least {MIN_SEEDS} seeds"
        yield f"There will be no verdict: {needed}. Use --until-decided, or --seeds 5."
    elif count < DEFAULT_LOOKS[0]:
        more = f"--until-decided adds seeds until each arm is decided, up to {DEFAULT_LOOKS[-1]} seeds."
        yield f"{count} seeds can show only large differences. {more}"


def _notes_on_baseline(spec: SweepSpec) -> Iterator[str]:
    """Yield a note if every arm has noise, so that the comparison cannot show the effect of the noise."""
    if len(spec.arms) > 1 and all(arm.alpha for arm in spec.arms):
        baseline = spec.arms[0].name
        yield f"Every arm has noise, including the baseline {baseline}. Add alpha 0 to measure the effect of the noise."


def check_targets(spec: SweepSpec, data: DataFacts) -> None:
    """Refuse a noise target that the examples lack, or that cannot be identified."""
    for arm in spec.arms:
        target = spec.noise_details_of(arm).noise_target
        if target == "prompt" and not data.has_prompts:
            what = f"Arm {arm.name!r}: {data.name} has no prompts for noise on prompt tokens."
            raise UsageError(Problem(what, "Use --noise-target all, or data with prompts and completions."))
        if target != "all" and spec.recipe_of(arm).sft.get("label_smoothing_factor"):
            what = (
                f"Arm {arm.name!r}: with label_smoothing_factor, the model does not receive the labels that identify "
                f"{target} tokens."
            )
            raise UsageError(Problem(what, "Leave label_smoothing_factor out, or use --noise-target all."))


def _trials(spec: SweepSpec, found: Inspection, model: ModelFacts, data: DataFacts) -> Iterator[Trial]:
    evaluation = resolved_evaluation(spec, data.generation, found.lm_eval)
    content = {"model_fingerprint": model.fingerprint, "data_fingerprint": data.fingerprint}
    base = spec.trial(ArmSpec(name=BASE_ARM), 0, evaluation)
    identity = base_identity(base, **content, environment=found.environment)
    yield Trial(trial_id(identity), BASE_ARM, base, identity)
    for seed in spec.seeds:
        for arm in spec.arms:
            one = spec.trial(arm, seed, evaluation)
            environment = found.lora_environment if one.train.lora_rank else None
            identity = trial_identity(one, **content, environment=environment or found.environment)
            yield Trial(trial_id(identity), arm.name, one, identity)


def _check_distinct(trials: tuple[Trial, ...], arms_in_folder: Collection[str]) -> None:
    """Refuse two arms with the same settings, and two with the same folder name.

    Two arms of the sweep in the folder may share a folder name: earlier releases allowed it.
    """
    by_id, by_label = dict[str, str](), dict[str, str]()
    for trial in trials:
        if trial.arm != (other := by_id.setdefault(trial.id, trial.arm)):
            raise UsageError(
                Problem(f"The arms {other!r} and {trial.arm!r} have the same settings.", "Remove one of them.")
            )
        other = by_label.setdefault(folder_label(trial.arm, trial.seed), trial.arm)
        if trial.arm != other and not {trial.arm, other}.issubset(arms_in_folder):
            what = f"The arms {other!r} and {trial.arm!r} have the same folder name, {folder_label(trial.arm)!r}."
            fix = f"Rename one of them; its letters and digits must differ in the first {LABEL_LENGTH} characters."
            raise UsageError(Problem(what, fix))
