"""NEFTune noise as a callback for any trainer of transformers or TRL, removed when training ends or fails."""

import sys
import warnings
from collections.abc import Callable, Iterator
from functools import update_wrapper
from types import FrameType
from typing import Any, Self, TypedDict

from torch import nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from neftune_cli.config.choices import NoiseScale, NoiseTarget, check_choice
from neftune_cli.config.noises import DISTRIBUTIONS, SCHEDULES
from neftune_cli.config.spec import NoiseSpec
from neftune_cli.config.values import check_alpha, check_seed
from neftune_cli.errors import Problem, UsageError
from neftune_cli.noise.attachment import AttachedNoise, attach_noise
from neftune_cli.noise.attestation import MEASURE_EVERY, MeterTotals
from neftune_cli.noise.conflicts import remove_upstream_noise
from neftune_cli.noise.lengths import WRAPPED_ROWS
from neftune_cli.records import Attestation


class _Options(TypedDict):
    """Arguments of `NEFTuneCallback`."""

    alpha: float
    seed: int | None
    noise: str
    noise_scale: NoiseScale
    schedule: str
    target: NoiseTarget


class NoiseTotals(TypedDict):
    """Totals of the measured noise of a training run, and the number of steps with an alpha above 0; plain numbers."""

    steps: int
    meter: MeterTotals


class NEFTuneCallback(TrainerCallback, ExportableState):
    """Adds NEFTune noise to the model that a trainer trains.

        SFTTrainer(model, train_dataset=data, callbacks=[NEFTuneCallback(alpha=5.0)]).train()

    The callback calls `attach_noise` when training begins and removes the noise when training ends, also after an
    exception or Ctrl-C. Each checkpoint of the trainer holds the number of draws, and a resumed training continues with
    the next draw. Processes that train together draw different noise.

    If the training arguments set `neftune_noise_alpha`, the callback warns and removes transformers' noise.

    Args:
        alpha: noise size, 0 to 1e6.
        seed: determines the draws; the trainer's `seed` by default.
        noise: name of the distribution of one coordinate, for example `uniform`.
        noise_scale: `paper` uses the length of each example, `hf` the padded length.
        schedule: name of the change of alpha over the training steps, for example `constant` or `linear`.
        target: the real tokens that get noise.

    Raises:
        UsageError: alpha is not a number from 0 to 1e6, `seed` is not a whole number from 0 to 2**32 - 1, or a name is
            unknown. When training begins: see `attach_noise`. At a step: the callback was added after the training
            began, or another training with the same callback ended meanwhile.
    """

    def __init__(
        self,
        alpha: float = 5.0,
        *,
        seed: int | None = None,
        noise: str = "uniform",
        noise_scale: NoiseScale = "paper",
        schedule: str = "constant",
        target: NoiseTarget = "all",
    ) -> None:
        DISTRIBUTIONS[noise]  # raises UsageError for an unknown name
        SCHEDULES[schedule]
        check_choice("noise scale", noise_scale, NoiseScale)
        check_choice("noise target", target, NoiseTarget)
        self._options: _Options = {
            "alpha": check_alpha(alpha),
            "seed": check_seed(seed),
            "noise": noise,
            "noise_scale": noise_scale,
            "schedule": schedule,
            "target": target,
        }
        self._noise: AttachedNoise | None = None
        self._steps = 0
        self._starting = self._training = False
        self._earlier: NoiseTotals | None = None

    @classmethod
    def from_spec(cls, spec: NoiseSpec, *, seed: int) -> Self:
        """Return the callback that applies the noise of an arm."""
        return cls(
            spec.alpha,
            seed=seed,
            noise=spec.distribution,
            noise_scale=spec.noise_scale,
            schedule=spec.noise_schedule,
            target=spec.noise_target,
        )

    @property
    def attestation(self) -> Attestation | None:
        """Return the measurements of the noise in the current or last training; None before the first."""
        return self._noise.attestation if self._noise else None

    @property
    def deviations(self) -> tuple[str, ...]:
        """Return the deviations from the expected measurements, one clause each; none before the first training."""
        if self._noise is None:
            return ()
        calls, steps = self._noise.attestation.calls, self._steps
        missing = () if calls >= steps else (f"only {calls} calls in {steps} steps had noise",)
        return (*self._noise.deviations, *missing)

    def set_padded_length(self, length: int) -> None:
        """Set the padded length of the next batch, for the noise scale `hf`.

        The trainer may compute the batch in parts.
        """
        if self._noise is not None:
            self._noise.padded_length = length

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Wrap the trainer's methods so that a failed training removes the noise."""
        _remove_noise_on_failure(_calling_trainer())

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Wrap the trainer's methods, and let the first epoch attach the noise.

        A callback that was added with `add_callback` wraps them only now. `train` and this event are already running,
        so their wrappers have no effect: if a later callback failed at this event, noise that was attached here would
        remain. The methods that `train` calls from here on are wrapped.

        Raises:
            UsageError: the trainer packs rows from which the lengths of the examples cannot be known.
        """
        self.detach()
        is_wrapped = getattr(args, "packing", False) and getattr(args, "packing_strategy", "") == "wrapped"
        if is_wrapped and self._options["alpha"] and self._options["noise_scale"] == "paper":
            raise UsageError(WRAPPED_ROWS)
        _remove_noise_on_failure(_calling_trainer())
        self._starting = True

    def on_epoch_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **_: Any,
    ) -> None:
        """Attach the noise once per training. After a resume, its draws continue where the checkpoint ended."""
        if not self._starting:
            return
        assert model is not None
        self._starting = False
        if getattr(args, "neftune_noise_alpha", None) is not None:
            warnings.warn(_TWO_NOISES.format(args.neftune_noise_alpha), stacklevel=2)
            remove_upstream_noise(model)
        self._noise = self._attach(model, args)
        self._training = True
        self._steps = 0
        saved: Any = state.stateful_callbacks  # a dictionary at this point; the annotation says list
        if state.global_step:
            self._resume(saved.get(type(self).__name__), state.global_step)
        if self._earlier is not None:
            self._noise.resume_totals(self._earlier["meter"])
            self._steps, self._earlier = self._earlier["steps"], None
        # the trainer cannot save if the checkpoint from which it resumed lacks this key
        saved[type(self).__name__] = self.state()

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Set alpha to the schedule's value for this step."""
        noise = self._noise_of_this_training()
        factor = SCHEDULES[self._options["schedule"]].factor_at(state.global_step / max(state.max_steps, 1))
        noise.alpha = self._options["alpha"] * factor
        if self._steps % MEASURE_EVERY == 0:
            noise.count_hooks()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Count the step if it has noise: a schedule may set alpha to 0 for some steps."""
        self._steps += self._noise_of_this_training().alpha > 0

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Remove the noise."""
        self._end()
        _unwrap(_calling_trainer())

    def detach(self) -> None:
        """Remove the noise if it is attached."""
        if self._noise is not None:
            self._noise.detach()

    @property
    def draws(self) -> int:
        """Return the number of forwards that got noise, including those before a resume; a checkpoint stores it."""
        return self._noise.draws if self._noise else 0

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint in the format of transformers' `ExportableState`."""
        return {"args": dict(self._options), "attributes": {_DRAWS: self.draws}}

    def totals(self) -> NoiseTotals:
        """Return the totals from which `attestation` and `deviations` are computed, while the noise is attached."""
        assert self._noise is not None
        return {"steps": self._steps, "meter": self._noise.totals()}

    def resume_totals(self, earlier: NoiseTotals) -> None:
        """Continue earlier totals when the next training begins.

        Transformers' own checkpoints hold the number of draws and no measurements: after a resume from one of them,
        `attestation` covers the steps since the resume.
        """
        self._earlier = earlier

    def _noise_of_this_training(self) -> AttachedNoise:
        if self._noise is None or not self._training:
            raise UsageError(_NO_NOISE)
        return self._noise

    def _end(self) -> None:
        self.detach()
        self._training = False

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

    def _resume(self, saved: Any, step: int) -> None:
        assert self._noise is not None
        draws = saved.get("attributes", {}).get(_DRAWS) if isinstance(saved, dict) else None
        if draws is None:
            warnings.warn(_NOT_IN_CHECKPOINT.format(step), stacklevel=3)
            return
        self._noise.load_state_dict({"draws": draws})


def _data_rank(args: TrainingArguments) -> int:
    """Return the index of this process among those with different data; tensor parallel processes share data."""
    parallelism = getattr(args, "parallelism_config", None)
    return int(args.process_index) // int(getattr(parallelism, "tp_size", 1) or 1)


def _calling_trainer() -> Trainer | None:
    """Return the trainer that runs the callback, from the call stack: transformers does not pass it to callbacks."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if isinstance(caller := frame.f_locals.get("self"), Trainer):
            return caller
        frame = frame.f_back
    return None


def _remove_noise_on_failure(trainer: Trainer | None) -> None:
    """Wrap the methods that run the training, because transformers has no callback event for a failure.

    The wrappers of methods other than `train` serve callbacks added with `add_callback`: their first event occurs
    within `train`.
    """
    for owner, name in _guarded_methods(trainer):
        method = getattr(owner, name, None)
        if method is not None and not isinstance(method, _MethodWithNoiseRemoval):
            setattr(owner, name, _MethodWithNoiseRemoval(method, trainer))


def _unwrap(trainer: Trainer | None) -> None:
    """Restore the trainer's methods: the wrappers refer to the trainer and would keep it in memory."""
    for owner, name in _guarded_methods(trainer):
        if isinstance(vars(owner).get(name), _MethodWithNoiseRemoval):
            delattr(owner, name)


def _guarded_methods(trainer: Trainer | None) -> Iterator[tuple[Any, str]]:
    if trainer is not None:
        yield from ((trainer, name) for name in ("train", "_run_epoch", "_finalize_training"))
        yield trainer.callback_handler, "call_event"


class _MethodWithNoiseRemoval:
    """A trainer's method that removes the noise on failure; a deep copy calls the method of the copied trainer."""

    def __init__(self, method: Callable[..., Any], trainer: Any) -> None:
        update_wrapper(self, method)
        self._method = method
        self._trainer = trainer

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self._method(*args, **kwargs)
        except BaseException:
            for callback in self._trainer.callback_handler.callbacks:
                if isinstance(callback, NEFTuneCallback):
                    callback._end()
            _unwrap(self._trainer)
            raise


_DRAWS = "resumed_draws"
"""Key of the number of draws in `state`. transformers also sets an attribute of this name on a callback that it
restores; it is not read."""

_NO_NOISE = Problem(
    "This training has no noise: its NEFTuneCallback was added after the training began, or was also used in "
    "another training, which ended during this one.",
    "Give each trainer a NEFTuneCallback of its own before it trains.",
)
_TWO_NOISES = (
    "neftune_noise_alpha={:g} in the training arguments is ignored: NEFTuneCallback adds the noise. "
    "Remove one of the two."
)
_NOT_IN_CHECKPOINT = (
    "The checkpoint of step {} holds no state of NEFTuneCallback, so the noise restarts at its first draw. "
    "Check whether the checkpoint was trained without the callback."
)
