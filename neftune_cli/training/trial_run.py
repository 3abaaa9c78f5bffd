"""Run one trial: fine-tune a model under noise, measure it with the noise off, and write the record."""

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from neftune_cli.config.run_settings import TrialSettings
from neftune_cli.errors import TrialStopped
from neftune_cli.evaluation.harness_tasks import LoadedTasks, harness_randomness
from neftune_cli.metrics import response_metrics
from neftune_cli.models.language_model import LanguageModel, parameter_counts
from neftune_cli.models.loading import LoadedModel, move_to
from neftune_cli.records import ExampleLoss, Phase, TrialRecord
from neftune_cli.store import (
    TASK_DOCUMENTS_FILE,
    TASK_SCORES_FILE,
    LeasedTrial,
    TrialFolder,
    finished_in_another_sweep,
)
from neftune_cli.training.fine_tuning import FinalModel, fine_tune
from neftune_cli.training.learning_curve import loss_points
from neftune_cli.training.lora import name_task_and_base
from neftune_cli.training.prepared_data import PreparedData
from neftune_cli.training.stop_request import StopRequest
from neftune_cli.training.trial import Trial, TrialOutput, TrialProgress, halved_batch
from neftune_cli.training.trial_metrics import (
    MeasuredResponses,
    curve_subset,
    loss_metrics,
    measure_losses_and_responses,
    noise_size,
)


def run_trial(
    trial: Trial,
    loaded: LoadedModel,
    prepared: PreparedData,
    output: TrialOutput,
    *,
    settings: TrialSettings,
    stop: StopRequest,
    halvings: int,
    tasks: LoadedTasks | None,
) -> TrialRecord:
    """Run one trial, from its newest checkpoint if there is one, and write its record.

    Args:
        trial: the trial to run.
        loaded: a fresh model, which the trial modifies.
        prepared: tokenized examples to train and measure on.
        output: destinations of the results.
        settings: how the trial is run.
        stop: ends the trial, with a checkpoint if training has finished or is under way.
        halvings: number of times to halve the batch size to fit in memory; checkpoints with another number are ignored.
        tasks: tasks of lm-evaluation-harness, or None.

    Raises:
        TrialStopped: a stop was requested. The trial resumes from its checkpoint, if there is one.
        TrialError: the loss is not finite, or the applied noise does not match the formula.
        LeaseLost: this process has lost the lease.
    """
    leased = output.leased
    metrics = {metric.key for metric in response_metrics()}
    if trial.is_base and (earlier := finished_in_another_sweep(leased.folder, metrics)):
        return _copied(earlier, output)
    final = (
        _untrained(loaded, prepared, leased, stop)
        if trial.is_base
        else fine_tune(trial, loaded, prepared, output, settings=settings, stop=stop, halvings=halvings)
    )
    output.report(_generating(final.model, is_base=trial.is_base))
    last_losses, responses = _measured(final, trial, loaded, prepared, output, stop)
    losses = [*final.losses, *last_losses]
    task_files = _evaluated(final, loaded, output, tasks, stop) if tasks else {}
    if settings.keep_model and not trial.is_base:
        _save(final.model, loaded, leased)
    notes = tuple(_notes(trial, prepared, halvings, settings.processes))
    record = _record(trial, prepared, final, losses, responses, notes)
    output.finish(record, losses, responses.generations, task_files)
    return record


def _record(
    trial: Trial,
    prepared: PreparedData,
    final: FinalModel,
    losses: Sequence[ExampleLoss],
    responses: MeasuredResponses,
    notes: tuple[str, ...],
) -> TrialRecord:
    return TrialRecord(
        trial=trial.id,
        arm=trial.arm,
        alpha=trial.alpha,
        seed=trial.seed,
        loss=loss_metrics(losses, train_loss=final.train_loss()),
        eval=responses.held_out,
        probe_eval=responses.probe,
        noise=None if trial.is_base else noise_size(trial.spec.noise, prepared),
        attestation=final.attestation,
        identity=trial.identity,
        notes=notes,
    )


def _notes(trial: Trial, prepared: PreparedData, halvings: int, processes: int) -> Iterator[str]:
    yield f"Measured on {len(prepared.probe)} training and {len(prepared.held_out)} held-out examples."
    yield from _curve_notes(trial, prepared)
    yield from _noise_notes(trial)
    yield from _memory_notes(trial, halvings, processes)


def _copied(earlier: TrialFolder, output: TrialOutput) -> TrialRecord:
    """Write the results of the same base model, measured in another sweep, and return their record."""
    record, table = earlier.record(), earlier.example_losses()
    assert record is not None
    assert table is not None
    print(f"The base model was measured before. Its results are copied from {earlier.path}.")
    output.leased.report_time_of(earlier)  # cost estimates need the time of a measurement, not that of a copy
    output.leased.rewrite_metrics(earlier.curve())
    losses = [ExampleLoss.model_validate(row) for row in table.to_pylist()]
    task_files = {name: path.read_text("utf-8") for name, path in earlier.task_files().items()}
    output.finish(record, losses, earlier.generations(), task_files)
    return record


def _untrained(loaded: LoadedModel, prepared: PreparedData, leased: LeasedTrial, stop: StopRequest) -> FinalModel:
    leased.rewrite_metrics([])
    with stop.interruptible():
        move_to(loaded.model, prepared.device)
        sys.audit("neftune.model-loaded")
    return FinalModel(loaded.model, "A loss of the base model is not finite. Check the weights of the model.")


def _generating(model: LanguageModel, *, is_base: bool) -> TrialProgress:
    """Return the progress at the start of the last losses and the responses, with the numbers of parameters."""
    count, trained = parameter_counts(model)
    return TrialProgress(Phase.GENERATING, parameters=count, trained_parameters=None if is_base else trained)


def _measured(
    final: FinalModel,
    trial: Trial,
    loaded: LoadedModel,
    prepared: PreparedData,
    output: TrialOutput,
    stop: StopRequest,
) -> tuple[list[ExampleLoss], MeasuredResponses]:
    """Measure the losses of the model, add them to its learning curve, and generate and score its responses."""
    epoch, evaluation = math.ceil(final.epoch), trial.spec.evaluation
    with _resumable(final, stop):
        losses, responses = measure_losses_and_responses(
            final.model,
            loaded.tokenizer,
            prepared,
            evaluation,
            epoch=epoch,
            not_finite_message=final.not_finite_message,
        )
    subset = None if trial.is_base else curve_subset(prepared, evaluation.curve_examples)
    for point in loss_points(losses, subset, step=final.step, epoch=final.epoch):
        output.append(point)
    sys.audit("neftune.epoch-measured", epoch)
    sys.audit("neftune.responses-generated", trial.id)
    return losses, responses


def _evaluated(
    final: FinalModel, loaded: LoadedModel, output: TrialOutput, tasks: LoadedTasks, stop: StopRequest
) -> dict[str, str]:
    """Return the files of lm-evaluation-harness."""
    output.report(TrialProgress(Phase.EVALUATING))
    with harness_randomness():  # imports of the harness draw random numbers
        from neftune_cli.evaluation.harness import run_tasks
    with _resumable(final, stop):
        found = run_tasks(final.model, loaded.tokenizer, tasks)
    sys.audit("neftune.tasks-evaluated")
    return {TASK_SCORES_FILE: found.scores_json(), TASK_DOCUMENTS_FILE: found.documents_json()}


@contextmanager
def _resumable(final: FinalModel, stop: StopRequest) -> Iterator[None]:
    """Write a checkpoint of the trained model if a stop is requested during the block."""
    try:
        with stop.interruptible():
            yield
    except TrialStopped:
        final.write_checkpoint()
        raise


def _noise_notes(trial: Trial) -> Iterator[str]:
    """Yield notes on settings of the noise that its reported norm does not show."""
    noise = trial.spec.noise
    if noise.alpha and noise.noise_schedule != "constant":
        schedule = f"alpha follows the {noise.noise_schedule} schedule during training"
        yield f"{trial.arm}: {schedule}; the reported noise norm is that of alpha {noise.alpha:g}."
    if noise.alpha and noise.noise_target != "all":
        yield f"{trial.arm}: only {noise.noise_target} tokens get noise."


def _curve_notes(trial: Trial, prepared: PreparedData) -> Iterator[str]:
    most = trial.spec.evaluation.curve_examples
    if most and not trial.is_base and curve_subset(prepared, most):
        held_out, probe = (min(most, len(part)) for part in (prepared.held_out, prepared.probe))
        measured = f"{held_out} held-out and {probe} probe examples (--curve-examples)"
        yield f"The loss curves, and the best epoch, are those of {measured}."


def _memory_notes(trial: Trial, halvings: int, processes: int) -> Iterator[str]:
    if halvings:
        whole, _ = halved_batch(trial.spec.train, 0, processes)
        at_once, _ = halved_batch(trial.spec.train, halvings, processes)
        yield f"{trial.label}: batches of {whole} were computed as {whole // at_once} x {at_once} to fit in memory."


def _save(model: LanguageModel, loaded: LoadedModel, leased: LeasedTrial) -> None:
    """Save the model (with LoRA: the adapter only) and its tokenizer as safetensors."""
    name_task_and_base(model)
    with leased.new_model() as path:
        model.save_pretrained(str(path))
        loaded.tokenizer.save_pretrained(path)
