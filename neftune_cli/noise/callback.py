"""The noise as a callback for any trainer of transformers or TRL: on while it trains, off whatever happens."""

import sys
import warnings
from collections.abc import Callable, Iterator
from functools import wraps
from types import FrameType
from typing import Any, TypedDict

from torch import nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from neftune_cli.noise.attachment import AttachedNoise, attach_noise
from neftune_cli.noise.attestation import EVERY, MeterState
from neftune_cli.noise.batch import NoiseTarget
from neftune_cli.noise.conflicts import take_off_upstream_noise
from neftune_cli.noise.draws import Noise, check_choice
from neftune_cli.noise.lengths import NoiseScale, check_alpha
from neftune_cli.noise.schedule import NoiseSchedule, scheduled_share
from neftune_cli.records import Attestation


class _Options(TypedDict):
    """What `NEFTuneCallback` takes."""

    alpha: float
    seed: int | None
    noise: Noise
    noise_scale: NoiseScale
    schedule: NoiseSchedule
    target: NoiseTarget


class Measurements(TypedDict):
    """What was measured of the noise in a training, and in how many steps; plain numbers."""

    steps: int
    meter: MeterState


class NEFTuneCallback(TrainerCallback, ExportableState):
    """Adds NEFTune noise to whatever a trainer trains.

        SFTTrainer(model, train_dataset=data, callbacks=[NEFTuneCallback(alpha=5.0)]).train()

    Attaches `attach_noise` when training begins and takes it off when it ends, by an exception or Ctrl-C too. Every
    checkpoint of the trainer holds how far the noise's stream had come, and a resumed training goes on there. Processes
    that train together draw different noise.

    A trainer's own `neftune_noise_alpha` is warned of and switched off, so that there is one noise and not two.

    Args:
        alpha: the noise magnitude.
        seed: decides the draws; the trainer's `seed` unless given.
        noise: distribution of a coordinate.
        noise_scale: `paper` takes each example's own length, `hf` the padded one.
        schedule: how alpha falls over the training's steps: `constant`, or to zero, `linear` or `cosine`.
        target: which real tokens get noise.

    Raises:
        UsageError: alpha, or the name of something, is wrong. When training begins: what `attach_noise` raises.

    """

    def __init__(
        self,
        alpha: float = 5.0,
        *,
        seed: int | None = None,
        noise: Noise = "uniform",
        noise_scale: NoiseScale = "paper",
        schedule: NoiseSchedule = "constant",
        target: NoiseTarget = "all",
    ) -> None:
        check_choice("noise schedule", schedule, NoiseSchedule)
        self._options: _Options = {
            "alpha": check_alpha(alpha),
            "seed": seed,
            "noise": noise,
            "noise_scale": noise_scale,
            "schedule": schedule,
            "target": target,
        }
        self._noise: AttachedNoise | None = None
        self._steps = 0
        self._begins = False
        self._measured_before: Measurements | None = None

    @property
    def attestation(self) -> Attestation | None:
        """What was measured of the noise in the training that runs or ran last; None before the first."""
        return self._noise.attestation if self._noise else None

    @property
    def deviations(self) -> tuple[str, ...]:
        """What of the noise wasn't as it should be, one clause each; none before the first training."""
        if self._noise is None:
            return ()
        calls, clean = self._noise.attestation.calls, self._options["alpha"] == 0
        missing = () if clean or calls >= self._steps else (f"only {calls} calls in {self._steps} steps were noisy",)
        return (*self._noise.deviations, *missing)

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """See to it that a training that fails takes the noise off."""
        _take_off_on_failure(_calling_trainer())

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Guard the training; the noise waits for the first epoch, as what runs by now can't be guarded any more."""
        self.take_off()
        _take_off_on_failure(_calling_trainer())
        self._begins = True

    def on_epoch_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **_: Any,
    ) -> None:
        """Put the noise on, at the beginning of its stream or where the resumed checkpoint left it."""
        if not self._begins:
            return
        assert model is not None
        self._begins = False
        if getattr(args, "neftune_noise_alpha", None) is not None:
            warnings.warn(_TWO_NOISES.format(args.neftune_noise_alpha), stacklevel=2)
            take_off_upstream_noise(model)
        self._noise = self._attach(model, args)
        self._steps = 0
        saved: Any = state.stateful_callbacks  # by now a dictionary, whatever its annotation says
        if state.global_step:
            self._go_on(saved.get(type(self).__name__), state.global_step)
        if self._measured_before is not None:
            self._noise.go_on_measuring(self._measured_before["meter"])
            self._steps, self._measured_before = self._measured_before["steps"], None
        saved[type(self).__name__] = self.state()

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Set the alpha that the schedule has for this step."""
        assert self._noise is not None
        share = scheduled_share(self._options["schedule"], state.global_step / max(state.max_steps, 1))
        self._noise.alpha = self._options["alpha"] * share
        if self._steps % EVERY == 0:
            self._noise.count_hooks()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Count the step."""
        self._steps += 1

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Take the noise off."""
        self.take_off()
        _unwrap(_calling_trainer())

    def take_off(self) -> None:
        """Take the noise off, if it is on."""
        if self._noise is not None:
            self._noise.detach()

    @property
    def draws(self) -> int:
        """How many forwards got noise, those before a resumption included: the state that a checkpoint keeps."""
        return self._noise.state_dict()["draws"] if self._noise else 0

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, in the form that transformers' `ExportableState` has for it."""
        return {"args": dict(self._options), "attributes": {_DRAWS: self.draws}}

    def measurements(self) -> Measurements:
        """Return what `attestation` and `deviations` are made from, while the noise is on."""
        assert self._noise is not None
        return {"steps": self._steps, "meter": self._noise.measurements()}

    def go_on_measuring(self, before: Measurements) -> None:
        """Let them speak of what was measured before too, once the next training begins.

        Transformers' own checkpoints hold what decides the draws alone: after a resumption from one of those, they
        speak of what has been trained since.
        """
        self._measured_before = before

    def _attach(self, model: nn.Module, args: TrainingArguments) -> AttachedNoise:
        options = self._options
        return attach_noise(
            model,
            options["alpha"],
            args.seed if options["seed"] is None else options["seed"],
            noise=options["noise"],
            noise_scale=options["noise_scale"],
            target=options["target"],
            rank=_data_rank(args),
        )

    def _go_on(self, saved: Any, step: int) -> None:
        assert self._noise is not None
        draws = saved.get("attributes", {}).get(_DRAWS) if isinstance(saved, dict) else None
        if draws is None:
            warnings.warn(_NOT_IN_CHECKPOINT.format(step), stacklevel=3)
            return
        self._noise.load_state_dict({"draws": draws})


def _data_rank(args: TrainingArguments) -> int:
    """Return the number of this process among those with data of their own; tensor parallel ones share theirs."""
    parallelism = getattr(args, "parallelism_config", None)
    return int(args.process_index) // int(getattr(parallelism, "tp_size", 1) or 1)


def _calling_trainer() -> Trainer | None:
    """Return the trainer that is calling back: transformers tells callbacks everything but that."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if isinstance(caller := frame.f_locals.get("self"), Trainer):
            return caller
        frame = frame.f_back
    return None


def _take_off_on_failure(trainer: Trainer | None) -> None:
    """Wrap what runs a training, since no callback is told that one failed.

    All but `train` is for callbacks that come by `add_callback`: they hear of the trainer when `train` runs already.
    """
    for owner, name in _guarded_methods(trainer):
        method = getattr(owner, name, None)
        if method is not None and not hasattr(method, _GUARD):
            setattr(owner, name, _guarded(method, trainer))


def _unwrap(trainer: Trainer | None) -> None:
    """Give the trainer its own methods back: the wrapped ones would keep it, and all it trained, from being freed."""
    for owner, name in _guarded_methods(trainer):
        if hasattr(vars(owner).get(name), _GUARD):
            delattr(owner, name)


def _guarded_methods(trainer: Trainer | None) -> Iterator[tuple[Any, str]]:
    if trainer is not None:
        yield from ((trainer, name) for name in ("train", "_run_epoch", "_finalize_training"))
        yield trainer.callback_handler, "call_event"


def _guarded(method: Callable[..., Any], trainer: Any) -> Callable[..., Any]:
    @wraps(method)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except BaseException:
            for callback in trainer.callback_handler.callbacks:
                if isinstance(callback, NEFTuneCallback):
                    callback.take_off()
            _unwrap(trainer)
            raise

    setattr(guarded, _GUARD, True)
    return guarded


_GUARD = "takes_off_neftune_noise"
_DRAWS = "resumed_draws"
"""Attribute that transformers sets on the callback it makes from a checkpoint; `state` tells the same."""

_TWO_NOISES = (
    "neftune_noise_alpha={:g} in the training arguments is ignored: NEFTuneCallback adds the noise. "
    "Leave one of the two out."
)
_NOT_IN_CHECKPOINT = (
    "The checkpoint of step {} holds no state of NEFTuneCallback: the noise begins its stream anew. "
    "Was it trained without the callback?"
)
