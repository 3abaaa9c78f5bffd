"""Time training steps for a calibration: clocks that wait for the device, and a few real steps of a trial's trainer."""

import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from neftune_cli.config.spec import TrialSpec
from neftune_cli.evaluation.batches import padded_tokens
from neftune_cli.models.language_model import LanguageModel
from neftune_cli.models.loading import LoadedModel
from neftune_cli.training.cost import EXTRAPOLATED, FULLY_MEASURED, PARTLY_MEASURED
from neftune_cli.training.fine_tuning import noise_callback
from neftune_cli.training.micro_batches import MicroBatchTrainer
from neftune_cli.training.model_settings import trainer_settings_undone, unwrapped
from neftune_cli.training.prepared_data import PreparedData
from neftune_cli.training.sft_trainer import build_trainer, sft_config

Clock = Callable[[], float]
"""Return the time in seconds."""


def device_clock(device: str) -> Clock:
    """Return a clock that waits until the device has finished all submitted work."""
    if device == "cpu":
        return time.perf_counter
    wait = torch.cuda.synchronize if device == "cuda" else torch.mps.synchronize

    def now() -> float:
        wait()
        return time.perf_counter()

    return now


@dataclass(frozen=True)
class ForwardCall:
    """The start time of one forward pass, and the size of its input."""

    begin: float
    rows: int
    length: int
    """Tokens per row, padding included."""

    @property
    def tokens(self) -> int:
        """Return the number of tokens, padding included."""
        return self.rows * self.length


class OutOfTime(Exception):  # noqa: N818
    """The next pass would probably end after the time limit."""


@dataclass(frozen=True)
class TimeLimit:
    """The end of the time for a measurement, and the expected duration of a pass."""

    end: float
    """Time on the clock."""
    per_token: float
    """Expected seconds per token, until a pass has ended."""

    def check(self, calls: Sequence[ForwardCall], call: ForwardCall) -> None:
        """Raise `OutOfTime` if a pass of this size would end too late, at the rate of the earlier calls."""
        rate = _per_token_of_passes((*calls, call)) if calls else self.per_token
        if call.begin + rate * call.tokens > self.end:
            raise OutOfTime


@contextmanager
def forward_calls(model: nn.Module, clock: Clock, limit: TimeLimit | None = None) -> Iterator[list[ForwardCall]]:
    """Record every forward pass of a model inside the context.

    A pass that would exceed the limit raises `OutOfTime`, and is recorded without tokens.
    """
    calls: list[ForwardCall] = []

    def record(_: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        input_ids = named["input_ids"] if "input_ids" in named else positional[0]
        call = ForwardCall(clock(), *input_ids.shape)
        try:
            if limit is not None:
                limit.check(calls, call)
        except OutOfTime:
            call = ForwardCall(call.begin, 0, 0)
            raise
        finally:
            calls.append(call)

    handle = model.register_forward_pre_hook(record, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


def _per_token_of_passes(calls: Sequence[ForwardCall]) -> float:
    """Return the seconds per token from the begin of the first call to that of the last."""
    return (calls[-1].begin - calls[0].begin) / sum(one.tokens for one in calls[:-1])


WARM_UP_STEPS, MIN_STEPS, MAX_STEPS = 2, 5, 20
"""Number of untimed steps, and the smallest and largest number of timed steps."""
QUICK_SECONDS, STEP_BUDGET_SECONDS = 2.0, 20.0
"""Training time after which MIN_STEPS timed steps are enough, and after which no further step starts."""


@dataclass(frozen=True)
class TrainingTime:
    """Measured durations of training, in seconds, and the steps and tokens of one epoch."""

    setup: float
    per_token: float
    """Seconds per token, padding included."""
    steps_per_epoch: int
    tokens_per_epoch: int
    """Padding excluded."""
    padded_per_epoch: float
    """Tokens, padding included."""
    steps: int
    """Finished steps, warm-up included."""
    uncertainty: float
    """Factor by which the true durations may be longer or shorter."""

    @property
    def shows_peak_memory(self) -> bool:
        """Return whether a step was finished with the state of the optimizer in memory."""
        return self.steps >= WARM_UP_STEPS


def time_training(
    loaded: LoadedModel, prepared: PreparedData, spec: TrialSpec, clock: Clock, limit: TimeLimit
) -> tuple[LanguageModel, TrainingTime]:
    """Train a few steps under the trial's noise. Return the modified model and the measured durations.

    Training ends before the first pass that would exceed the limit, even within a step.
    """
    stopwatch = _Stopwatch(clock, limit.end)
    with tempfile.TemporaryDirectory(prefix="neftune-") as work, trainer_settings_undone(loaded.model):
        begin = clock()
        trainer = _trainer(loaded, prepared, spec, [stopwatch, noise_callback(spec)], Path(work))
        built = clock()
        epoch = _Epoch(trainer)
        setattr(trainer, "get_train_dataloader", epoch.longest_first)  # noqa: B010
        with forward_calls(cast(nn.Module, trainer.model), clock, limit) as calls:
            started = clock()
            with suppress(OutOfTime):
                trainer.train()
    per_token, uncertainty = _seconds_per_token(stopwatch, calls, limit)
    return cast(LanguageModel, unwrapped(cast(nn.Module, trainer.model))), TrainingTime(
        setup=built - begin + stopwatch.begins[0] - started,
        per_token=per_token,
        steps_per_epoch=epoch.steps,
        tokens_per_epoch=sum(epoch.lengths),
        padded_per_epoch=epoch.padded_tokens,
        steps=len(stopwatch.ends),
        uncertainty=uncertainty,
    )


def _trainer(
    loaded: LoadedModel, prepared: PreparedData, spec: TrialSpec, callbacks: list[TrainerCallback], work: Path
) -> MicroBatchTrainer:
    short = spec.train.model_copy(update={"max_steps": WARM_UP_STEPS + MAX_STEPS})
    config = sft_config(short, seed=spec.stream_seed, device=prepared.device, work=work)
    return build_trainer(loaded.model, loaded.tokenizer, prepared.train, config, train=spec.train, callbacks=callbacks)


def _seconds_per_token(stopwatch: "_Stopwatch", calls: Sequence[ForwardCall], limit: TimeLimit) -> tuple[float, float]:
    """Return the seconds per token, and their uncertainty.

    They come from the finished steps; without two of them, from the passes; and without a pass, from the expectation.
    """
    if len(stopwatch.ends) >= WARM_UP_STEPS:
        return _per_token_of_steps(stopwatch, calls), FULLY_MEASURED
    if len(calls) > 1:
        return _per_token_of_passes(calls), PARTLY_MEASURED
    return limit.per_token, EXTRAPOLATED


def _per_token_of_steps(stopwatch: "_Stopwatch", calls: Sequence[ForwardCall]) -> float:
    """Return the median over the timed steps, or over the last warm-up step if there was no time for more."""
    spans = list(pairwise(stopwatch.ends))
    return median(
        (end - begin) / sum(one.tokens for one in calls if begin <= one.begin < end)
        for begin, end in spans[WARM_UP_STEPS - 1 :] or spans
    )


class _Epoch:
    """The batches and lengths of one epoch of a trainer, packed if the recipe packs."""

    def __init__(self, trainer: MicroBatchTrainer) -> None:
        self._rows = cast(Any, trainer.train_dataset)
        self._collate: Callable[[list[Any]], dict[str, torch.Tensor]] = trainer.data_collator
        self._batch_size = trainer.args.per_device_train_batch_size
        self._accumulated = trainer.args.gradient_accumulation_steps
        self._micro_batch_tokens = trainer.micro_batch_tokens
        self._batches = trainer.get_train_dataloader()
        self.lengths = [len(row) for row in self._rows["input_ids"]]

    @property
    def steps(self) -> int:
        """Return the number of optimizer steps."""
        return -(-len(self._batches) // self._accumulated)

    @property
    def padded_tokens(self) -> int:
        """Return the number of tokens, padding included, in batches of random order; flattened batches have none."""
        rows, width = self._longest["input_ids"].shape
        if rows == 1 and width == sum(sorted(self.lengths)[-self._batch_size :]):
            return sum(self.lengths)
        order = random.Random(0).sample(self.lengths, len(self.lengths))
        batches = [order[start : start + self._batch_size] for start in range(0, len(order), self._batch_size)]
        if not self._micro_batch_tokens:
            return sum(max(batch) * len(batch) for batch in batches)
        return sum(padded_tokens(batch, self._micro_batch_tokens) for batch in batches)

    def longest_first(self) -> "_LongestFirst":
        """Return the warm-up batches, which hold the longest examples, followed by the batches of training."""
        return _LongestFirst(self._batches, [self._longest] * (WARM_UP_STEPS * self._accumulated))

    @cached_property
    def _longest(self) -> dict[str, torch.Tensor]:
        by_length = sorted(range(len(self.lengths)), key=self.lengths.__getitem__)
        return self._collate([self._rows[index] for index in by_length[-self._batch_size :]])


class _LongestFirst:
    """A data loader that yields batches of the longest examples before the batches of training."""

    def __init__(self, batches: Any, longest: Sequence[dict[str, torch.Tensor]]) -> None:
        self._batches, self._longest = batches, longest

    def __len__(self) -> int:
        return len(self._batches) + len(self._longest)

    def __iter__(self) -> Iterator[Any]:
        yield from self._longest
        yield from self._batches

    def __getattr__(self, name: str) -> Any:
        # the trainer reads further attributes of its data loader, such as its batch size
        return getattr(self._batches, name)


class _Stopwatch(TrainerCallback):
    """Record the start and end of each step, logging included, and stop training after enough steps.

    Args:
        clock: returns the time.
        limit: time at which no step should be unfinished.
    """

    def __init__(self, clock: Clock, limit: float) -> None:
        self._clock, self._limit = clock, limit
        self.begins: list[float] = []
        self.ends: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Record the start of a step."""
        self.begins.append(self._clock())

    def on_log(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """Record the end of a step, and stop training after enough of them."""
        if len(self.ends) < state.global_step:  # the summary at the end of training is logged as well
            self.ends.append(self._clock())
            steps, seconds = len(self.ends) - WARM_UP_STEPS, self.ends[-1] - self.begins[0]
            enough = seconds > (QUICK_SECONDS if steps >= MIN_STEPS else STEP_BUDGET_SECONDS)
            enough |= self.ends[-1] + (self.ends[-1] - self.begins[-1]) > self._limit
            control.should_training_stop |= steps >= 0 and enough
