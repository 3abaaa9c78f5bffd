"""Run trials in this process: inspect, prepare, calibrate and run, with model and data kept between trials."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, cast

from torch import nn

from neftune_cli.config.field_problems import place_in_recipe
from neftune_cli.config.spec import SweepSpec, TrialSpec
from neftune_cli.data.examples import InstructionData
from neftune_cli.errors import Problem, Problems, TrialError
from neftune_cli.models.loading import LoadedModel
from neftune_cli.models.sources import ModelSource
from neftune_cli.records import Phase, TrialRecord
from neftune_cli.store import LeasedTrial, SweepFolder
from neftune_cli.sweeps.executors import Job
from neftune_cli.sweeps.failures import is_out_of_memory
from neftune_cli.sweeps.inspection import (
    Inspection,
    LoadedSizes,
    ResolvedAlphas,
    data_facts,
    model_facts,
    resolved_evaluation,
    with_alphas,
)
from neftune_cli.sweeps.plan import trial_folder
from neftune_cli.sweeps.trial_state import TrialStateWriter
from neftune_cli.training.cost import Calibration
from neftune_cli.training.hardware import (
    device_kind,
    environment,
    gpu_count,
    gpu_models,
    release_memory,
    restore_torch_settings,
)
from neftune_cli.training.lora import frozen_experts_notes
from neftune_cli.training.model_cache import ModelCache
from neftune_cli.training.prepared_data import PreparedData
from neftune_cli.training.recipe_check import check_recipe
from neftune_cli.training.stop_request import StopRequest
from neftune_cli.training.trial import ReportProgress, Trial, TrialOutput, TrialProgress, halvings_to_resume
from neftune_cli.training.trial_log import Redirect, redirect_library_output

if TYPE_CHECKING:
    from neftune_cli.evaluation.harness_tasks import LoadedTasks
    from neftune_cli.trackers.live import LiveRuns


_TASKS_NOTE = (
    "lm-evaluation-harness evaluates the base model and each trained model: {}. "
    "Estimates from a calibration do not include the time of this evaluation."
)


class TrialRunner:
    """Run one trial at a time.

    Args:
        redirect: redirects output to the trial's log while a trial runs.
    """

    def __init__(self, redirect: Redirect = redirect_library_output) -> None:
        self._cache = ModelCache()
        self._redirect = redirect

    def inspect(self, spec: SweepSpec) -> Inspection:
        """Return the facts that a plan needs. TRL is imported only if a recipe sets SFTConfig fields."""
        problems = Problems()
        source = problems.attempt(lambda: self._cache.source(spec))
        data = problems.attempt(lambda: self._cache.data(spec))
        for index in range(len(spec.arms)):
            problems.add(_recipe_problems(spec, index))
        if spec.load_in_4bit:
            problems.add(_quantization_problems(spec))
        tasks = problems.attempt(lambda: self._tasks(spec))
        resolved = ResolvedAlphas(spec)
        if source is not None and data is not None and not problems.found:
            resolved = problems.attempt(lambda: self._with_alphas(spec, data)) or resolved
        return Inspection(
            spec=resolved.spec,
            notes=(*resolved.notes, *([_TASKS_NOTE.format(tasks.description)] if tasks else ())),
            problems=problems.found,
            device=device_kind(),
            gpus=gpu_count(),
            gpu_models=gpu_models(),
            environment=environment(lora=False, load_in_4bit=spec.load_in_4bit),
            lora_environment=environment(lora=True, load_in_4bit=spec.load_in_4bit),
            model=model_facts(source) if source else None,
            data=data_facts(data) if data else None,
            lm_eval=tasks.spec if tasks else None,
        )

    def prepare(self, trials: Sequence[TrialSpec]) -> LoadedSizes:
        """Load the model, tokenize the data for each maximum length of the trials, and return the sizes.

        Raises:
            UsageError: the model cannot be loaded or trained, or the data do not fit it.
        """
        from neftune_cli.training.mixture_of_experts import router_loss_problems
        from neftune_cli.training.trainability import check_trainable

        prepared = {trial.train.max_length: self._cache.prepared_data(trial) for trial in trials}
        loaded, ranks = self._cache.shared_model(trials[0]), {trial.train.lora_rank for trial in trials}
        problems = Problems()
        for rank in ranks:
            problems.attempt(partial(check_trainable, loaded, trials[0].model, rank))
        problems.add(router_loss_problems(loaded.model, trials[0].model, (trial.train for trial in trials)))
        problems.raise_any()
        return _loaded_sizes(loaded, prepared, ranks)

    def calibrate(self, trial: TrialSpec, seconds: float) -> Calibration:
        """Measure the cost of a trial with this recipe in at most `seconds`, as far as this can be known beforehand.

        Raises:
            UsageError: the model cannot be loaded, or the data do not fit it.
            TrialError: a prompt leaves no room for a response in the model's context.
        """
        from neftune_cli.training.calibration import calibrate

        prepared = self._cache.prepared_data(trial)
        try:
            return calibrate(self._cache.model_copy(trial), prepared, trial, seconds)
        finally:
            release_memory(device_kind())

    def run(
        self,
        job: Job,
        sweep: SweepFolder,
        stop: StopRequest,
        *,
        on_lease: Callable[[], None] = lambda: None,
    ) -> TrialRecord | None:
        """Run a trial and return its record, or None if another process holds the lease.

        If the trial already has a record, return that.

        Args:
            job: the trial and its settings.
            sweep: the sweep's folder.
            stop: requests that the trial writes a checkpoint and ends.
            on_lease: called when this process has acquired the lease and the trial has no record.

        Raises:
            TrialStopped: the trial was asked to stop.
            LeaseLost: this process has lost the lease.
            Exception: any other reason why the trial failed.
        """
        stop.raise_if_requested()
        trial = job.trial
        leased = trial_folder(sweep, trial).acquire_lease(lease_seconds=job.settings.lease_seconds)
        if leased is None:
            return None
        try:
            sys.audit("neftune.trial-leased", trial.id)
            return leased.folder.record() or self._run_leased(job, sweep, leased, stop, on_lease)
        finally:
            leased.release()
            sys.audit("neftune.trial-released", trial.id)
            release_memory(device_kind())

    def _run_leased(
        self,
        job: Job,
        sweep: SweepFolder,
        leased: LeasedTrial,
        stop: StopRequest,
        on_lease: Callable[[], None],
    ) -> TrialRecord:
        on_lease()
        with (
            TrialStateWriter(leased, job, sweep.path) as state,
            self._redirect(state.log_path),
            restore_torch_settings(),
        ):
            sys.audit("neftune.trial-started", job.trial.id)
            state.update(TrialProgress(Phase.LOADING))
            return self._run_with_halving(job, sweep, leased, state.update, stop)

    def _run_with_halving(
        self, job: Job, sweep: SweepFolder, leased: LeasedTrial, report: ReportProgress, stop: StopRequest
    ) -> TrialRecord:
        """Run a trial. If it runs out of memory and the settings allow it, restart it with half the batch size."""
        halvings = halvings_to_resume(leased.folder, job.halvings)
        while True:
            try:
                return self._run_once(job, sweep, leased, report, stop, halvings)
            except Exception as error:
                if not (is_out_of_memory(error) and job.may_halve_batch(halvings)):
                    raise
                print(f"Out of memory ({error}). Restarting with half the batch size.", file=sys.stderr)
            # outside the except block, so that the exception no longer keeps tensors alive
            leased.drop_checkpoints()
            release_memory(device_kind())
            halvings += 1

    def _run_once(
        self,
        job: Job,
        sweep: SweepFolder,
        leased: LeasedTrial,
        report: ReportProgress,
        stop: StopRequest,
        halvings: int,
    ) -> TrialRecord:
        from neftune_cli.training.trial_run import run_trial

        trial, cache = job.trial, self._cache
        _check_unchanged(trial, cache.source(trial.spec), cache.data(trial.spec))
        with stop.interruptible():
            tasks = _planned_tasks(trial, cache)
            prepared = cache.prepared_data(trial.spec)
            loaded = cache.model_copy(trial.spec)
        with _live_runs(job, sweep, leased) as live:
            output, settings = TrialOutput(leased, report, live), job.settings
            return run_trial(
                trial, loaded, prepared, output, tasks=tasks, settings=settings, stop=stop, halvings=halvings
            )

    def _tasks(self, spec: SweepSpec) -> "LoadedTasks | None":
        return self._cache.tasks(spec.evaluation.lm_eval, spec.evaluation.lm_eval_limit)

    def _with_alphas(self, spec: SweepSpec, data: InstructionData) -> ResolvedAlphas:
        return with_alphas(spec, resolved_evaluation(spec, data.generation), self._cache.prepared_data)


def _live_runs(job: Job, sweep: SweepFolder, leased: LeasedTrial) -> "AbstractContextManager[LiveRuns | None]":
    if job.settings.tracking is None:
        return nullcontext()
    from neftune_cli.trackers.live import live_runs

    return live_runs(job.settings.tracking, job.trial, leased.folder, sweep)


def _recipe_problems(spec: SweepSpec, index: int) -> Iterator[Problem]:
    """Yield the problems of an arm's recipe, with the field of the arm if the arm overrides it."""
    arm, found = spec.arms[index], Problems()
    found.attempt(lambda: check_recipe(spec.recipe_of(arm)))
    for problem in found.found:
        yield replace(problem, field=place_in_recipe(arm, index, str(problem.field[-1])))


def _quantization_problems(spec: SweepSpec) -> Iterator[Problem]:
    from neftune_cli.models.quantization import quantization_problems

    return quantization_problems(spec.recipe_of(arm).lora_rank for arm in spec.arms)


def _loaded_sizes(
    loaded: LoadedModel, prepared: Mapping[int, PreparedData], lora_ranks: Iterable[int | None]
) -> LoadedSizes:
    """Return the sizes of a model and of its tokenized data.

    Args:
        loaded: the model.
        prepared: the data by maximum length in training.
        lora_ranks: ranks of the trials' adapters; None for full fine-tuning.
    """
    model, config = cast(nn.Module, loaded.model), loaded.model.config.get_text_config()
    weights = list(model.parameters())  # yields tied weights once
    embeddings = cast(nn.Embedding, loaded.model.get_input_embeddings()).weight
    ranks = list(lora_ranks)
    notes = [note for one in prepared.values() for note in one.notes]
    return LoadedSizes(
        notes=tuple(dict.fromkeys([*notes, *(frozen_experts_notes(model) if any(ranks) else ())])),
        trainable=max(_trainable(loaded, rank) for rank in ranks),
        weight_bytes=sum(weight.numel() * weight.element_size() for weight in weights),
        vocabulary=embeddings.shape[0],
        width=embeddings.shape[1],
        layers=int(getattr(config, "num_hidden_layers", 1)),
        longest=max(map(_longest, prepared.values())),
        training_examples={str(max_length): len(one.train) for max_length, one in prepared.items()},
    )


def _longest(prepared: PreparedData) -> int:
    return max(len(one.input_ids) for part in (prepared.train, prepared.held_out, prepared.probe) for one in part)


def _trainable(loaded: LoadedModel, lora_rank: int | None) -> int:
    """Return the number of trained parameters. LoRA adds two matrices of the given rank to each linear layer."""
    model = cast(nn.Module, loaded.model)
    if lora_rank is None:
        return sum(weight.numel() for weight in model.parameters())
    head = loaded.model.get_output_embeddings()
    linear = (module for module in model.modules() if _is_linear(module) and module is not head)
    return lora_rank * sum(sum(_sizes(module)) for module in linear)


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"  # the linear layer of GPT-2


def _sizes(linear: nn.Module) -> tuple[int, ...]:
    """Return the numbers of inputs and outputs of a linear layer, whose weight has another shape if it is quantized."""
    if isinstance(linear, nn.Linear):
        return linear.in_features, linear.out_features
    return tuple(cast(nn.Linear, linear).weight.shape)


def _check_unchanged(trial: Trial, source: ModelSource, data: InstructionData) -> None:
    """Check that model and data are the ones of the plan, because the trial's identity names those."""
    for part, found in (("model", source.fingerprint), ("data", data.fingerprint)):
        if trial.identity[part] != found:
            name = source.name if part == "model" else data.name
            what = f"The {part} {name} changed while the sweep ran."
            raise TrialError(f"{what} Restore the original, or give another folder with --output.")


def _planned_tasks(trial: Trial, cache: ModelCache) -> "LoadedTasks | None":
    """Return the tasks of lm-evaluation-harness, which must be those of the plan."""
    planned = trial.spec.evaluation.lm_eval
    if planned is None or (loaded := cache.tasks(planned.entries, planned.limit)) is None:
        return None
    if (loaded.spec.content, loaded.spec.version) != (planned.content, planned.version):
        names = ", ".join(planned.names)
        what = f"The tasks {names}, their documents or the version of lm-evaluation-harness changed."
        raise TrialError(f"{what} Restore the original, or give another folder with --output.")
    return loaded
