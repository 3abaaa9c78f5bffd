"""Clocks and samples for a calibration: when a model is called, and which examples stand for the others."""

import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl.trainer.sft_trainer import SFTTrainer

from neftune_cli.config.spec import TrialSpec
from neftune_cli.data.examples import TokenizedExample
from neftune_cli.evaluation.measured_model import LanguageModel
from neftune_cli.models.loading import LoadedModel
from neftune_cli.training.fine_tuning import noise_callback
from neftune_cli.training.prepared_data import PreparedData
from neftune_cli.training.sft_trainer import build_trainer, sft_config

BUDGET = 5.0
"""Seconds that one kind of forward passes may take."""
_FEWEST_ROWS = 4

Clock = Callable[[], float]


def device_clock(device: str) -> Clock:
    """Return a clock that waits until the device has done what it was given."""
    if device == "cpu":
        return time.perf_counter
    wait = torch.cuda.synchronize if device == "cuda" else torch.mps.synchronize

    def now() -> float:
        wait()
        return time.perf_counter()

    return now


@dataclass(frozen=True)
class Forward:
    """One call of a model."""

    begin: float
    tokens: int
    """Padding included."""


@contextmanager
def forwards(model: nn.Module, clock: Clock) -> Iterator[list[Forward]]:
    """Note when the model is called and with how many tokens."""
    calls: list[Forward] = []

    def note(_: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        input_ids = named["input_ids"] if "input_ids" in named else positional[0]
        calls.append(Forward(clock(), input_ids.numel()))

    handle = model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


def around_median(
    examples: Sequence[TokenizedExample], rows: int, length: Callable[[TokenizedExample], int]
) -> list[TokenizedExample]:
    """Return so many examples, those around the median length."""
    begin = max(0, (len(examples) - rows) // 2)
    return sorted(examples, key=length)[begin : begin + rows]


def affordable(rows: int, per_token: float, lengths: Sequence[int], *, times: int) -> int:
    """Return how many of so many rows fit into the budget several times, at a price a token in seconds."""
    return max(_FEWEST_ROWS, min(rows, int(BUDGET / times / (per_token * median(lengths)))))


WARM_UP, FEWEST_STEPS, MOST_STEPS = 2, 5, 20
"""Steps before those that are timed, and how many are timed: the most where a step is quick."""
QUICK, STEP_BUDGET = 2.0, 20.0
"""Seconds of training after which the fewest steps are enough, and after which no further one begins."""

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class TrainingTime:
    """What training takes, in seconds and tokens."""

    setup: float
    per_token: float
    """Seconds a token, padding included."""
    steps_per_epoch: int
    tokens_per_epoch: int
    padded_per_epoch: float


def time_training(
    loaded: LoadedModel, prepared: PreparedData, trial: TrialSpec, clock: Clock
) -> tuple[LanguageModel, TrainingTime]:
    """Train a few steps under the trial's noise and return the model, spoilt, beside what it took."""
    watch = _Stopwatch(clock)
    with tempfile.TemporaryDirectory(prefix="neftune-") as work:
        begin = clock()
        trainer = _trainer(loaded, prepared, trial, [watch, noise_callback(trial)], Path(work))
        built = clock()
        epoch = _Epoch(trainer)
        setattr(trainer, "get_train_dataloader", epoch.longest_first)  # noqa: B010
        with forwards(cast(nn.Module, trainer.model), clock) as calls:
            started = clock()
            trainer.train()
    return cast(LanguageModel, trainer.model), TrainingTime(
        setup=built - begin + watch.begins[0] - started,
        per_token=_seconds_per_token(watch, calls),
        steps_per_epoch=epoch.steps,
        tokens_per_epoch=sum(epoch.lengths),
        padded_per_epoch=epoch.padded_tokens,
    )


def _trainer(
    loaded: LoadedModel, prepared: PreparedData, trial: TrialSpec, callbacks: list[TrainerCallback], work: Path
) -> SFTTrainer:
    short = trial.train.model_copy(update={"max_steps": WARM_UP + MOST_STEPS})
    config = sft_config(short, seed=trial.seed, device=prepared.device, work=work)
    rank = trial.train.lora_rank
    return build_trainer(loaded.model, loaded.tokenizer, prepared.train, config, lora_rank=rank, callbacks=callbacks)


def _seconds_per_token(watch: "_Stopwatch", calls: Sequence[Forward]) -> float:
    """Return the median over the timed steps; over the warm ones among the first, where these had to suffice."""
    spans = list(pairwise(watch.ends))
    return median(
        (end - begin) / sum(one.tokens for one in calls if begin <= one.begin < end)
        for begin, end in spans[WARM_UP - 1 :] or spans
    )


class _Epoch:
    """What a trainer goes through in one epoch, packed where the recipe says so."""

    def __init__(self, trainer: SFTTrainer) -> None:
        self._rows = cast(Any, trainer.train_dataset)
        self._collate: Callable[[list[Any]], Batch] = trainer.data_collator
        self._batch_size = trainer.args.per_device_train_batch_size
        self._accumulated = trainer.args.gradient_accumulation_steps
        self._batches = trainer.get_train_dataloader()
        self.lengths = [len(row) for row in self._rows["input_ids"]]

    @property
    def steps(self) -> int:
        """Return the number of optimizer steps."""
        return -(-len(self._batches) // self._accumulated)

    @property
    def padded_tokens(self) -> int:
        """Return the tokens with the padding: none in flattened batches, else as in batches of a random order."""
        rows, width = self._longest["input_ids"].shape
        if rows == 1 and width == sum(sorted(self.lengths)[-self._batch_size :]):
            return sum(self.lengths)
        order = random.Random(0).sample(self.lengths, len(self.lengths))
        batches = [order[start : start + self._batch_size] for start in range(0, len(order), self._batch_size)]
        return sum(max(batch) * len(batch) for batch in batches)

    def longest_first(self) -> "_LongestFirst":
        """Return the batches of the training after those that warm up, which have the longest examples."""
        return _LongestFirst(self._batches, [self._longest] * (WARM_UP * self._accumulated))

    @cached_property
    def _longest(self) -> Batch:
        by_length = sorted(range(len(self.lengths)), key=self.lengths.__getitem__)
        return self._collate([self._rows[index] for index in by_length[-self._batch_size :]])


class _LongestFirst:
    """The batches of a training, and before them those with the longest examples."""

    def __init__(self, batches: Any, longest: Sequence[Batch]) -> None:
        self._batches, self._longest = batches, longest

    def __len__(self) -> int:
        return len(self._batches) + len(self._longest)

    def __iter__(self) -> Iterator[Any]:
        yield from self._longest
        yield from self._batches

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batches, name)


class _Stopwatch(TrainerCallback):
    """Notes when steps begin and when they are done, logging included; ends a training when it has seen enough."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.begins: list[float] = []
        self.ends: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Note that a step begins."""
        self.begins.append(self._clock())

    def on_log(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """Note that a step is done, and stop after enough of them."""
        if len(self.ends) < state.global_step:  # the summary at the end of a training is logged as well
            self.ends.append(self._clock())
            steps, seconds = len(self.ends) - WARM_UP, self.ends[-1] - self.begins[0]
            enough = seconds > (QUICK if steps >= FEWEST_STEPS else STEP_BUDGET)
            control.should_training_stop |= steps >= 0 and enough
