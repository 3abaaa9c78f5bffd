"""TRL's trainer, able to say everything that it would take to go on later, and to go on from that bit by bit."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from trl.trainer.sft_trainer import SFTTrainer

from neftune_cli.noise.callback import NEFTuneCallback
from neftune_cli.training.checkpoint_files import Snapshot, changing_tensors
from neftune_cli.training.generators import generator_states, restore_generators


class ResumableTrainer(SFTTrainer):
    """An SFTTrainer whose checkpoints are snapshots: transformers' own are pickled, and leave a part of this out.

    What is overridden are the places where transformers reads a checkpoint; where it does that, and how it finds the
    place in the data, stays its own.
    """

    _resumed: Snapshot | None = None

    def go_on(self, snapshot: Snapshot, folder: Path) -> None:
        """Train from a snapshot to the end; from one of a training that had ended, only prepare the model.

        Args:
            snapshot: what `snapshot` returned.
            folder: where it was read from, since transformers takes the step from its file there.
        """
        self._resumed = snapshot
        self._total_train_tokens = snapshot.state["tokens"]
        self.train(resume_from_checkpoint=str(folder))

    def snapshot(self, **more: Any) -> Snapshot:
        """Return the training's state at the end of a step, with whatever callbacks have to keep beside it."""
        assert self.optimizer is not None
        assert self.lr_scheduler is not None
        scaler = getattr(self.accelerator, "scaler", None)
        state = {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.lr_scheduler.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else None,
            "generators": generator_states(),
        }
        return self._snapshot({**state, **more})

    def trained_snapshot(self, **more: Any) -> Snapshot:
        """Return the state of a training that has ended: the weights, and whatever else is to be kept."""
        return self._snapshot(more)

    def _snapshot(self, state: dict[str, Any]) -> Snapshot:
        noises = [one for one in self.callback_handler.callbacks if isinstance(one, NEFTuneCallback)]
        callbacks: Any = {type(one).__name__: one.state() for one in noises}  # its annotation says a list
        trainer = replace(self.state, log_history=[], stateful_callbacks=callbacks)
        weights = changing_tensors(cast(nn.Module, self.model))
        return Snapshot(weights, trainer, {**state, "tokens": self._total_train_tokens})

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log a step; a loss that isn't finite must not stay in the sum of the next one's."""
        is_step = "loss" in logs
        super().log(logs, start_time)
        if is_step:
            self._tr_loss.zero_()

    def _run_epoch(self, *arguments: Any, **named: Any) -> None:
        if self.state.global_step < self.state.max_steps:  # in the last epoch there may be more data than steps
            super()._run_epoch(*arguments, **named)  # type: ignore[no-untyped-call]

    def _load_from_checkpoint(self, *_: Any, **__: Any) -> None:
        tensors = changing_tensors(cast(nn.Module, self.model))
        with torch.no_grad():
            for name, tensor in self._taken_up.weights.items():
                tensors[name].copy_(tensor)
        self._taken_up.weights.clear()  # they would stay in memory as long as the training lasts

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        state = self._taken_up.state if checkpoint is not None else {}
        if "optimizer" in state:
            assert self.lr_scheduler is not None
            load_optimizer(self.optimizer, state.pop("optimizer"))
            self.lr_scheduler.load_state_dict(state["scheduler"])

    def _load_scaler(self, checkpoint: str | None) -> None:
        if checkpoint is not None and (scaler := self._taken_up.state.get("scaler")) is not None:
            self.accelerator.scaler.load_state_dict(scaler)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            restore_generators(self._taken_up.state["generators"])

    @property
    def _taken_up(self) -> Snapshot:
        assert self._resumed is not None
        return self._resumed


def load_optimizer(optimizer: Any, state: dict[str, Any]) -> None:
    """Give an optimizer a state in tensors of its own, each in the precision that it was kept in.

    Torch gives each the parameter's, which would round what an optimizer keeps more precisely.
    """
    optimizer.load_state_dict(state)
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    numbers = [one for group in state["param_groups"] for one in group["params"]]
    for parameter, number in zip(parameters, numbers, strict=True):
        loaded = optimizer.state.get(parameter, {})
        for name, kept in state["state"].get(number, {}).items():
            if isinstance(kept, Tensor):
                loaded[name] = kept.to(loaded[name].device, copy=True)
