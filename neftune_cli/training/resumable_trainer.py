"""A trainer whose complete state can be saved at a step and resumed from it."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate.utils import FullyShardedDataParallelPlugin
from torch import Tensor, nn

from neftune_cli.noise.callback import NEFTuneCallback
from neftune_cli.training.micro_batches import MicroBatchTrainer
from neftune_cli.training.sharding import (
    WholeModel,
    gathered_optimizer_state,
    load_sharded_optimizer_state,
    load_sharded_weights,
    set_up_sharding,
)
from neftune_cli.training.snapshots import Snapshot, changing_tensors


class ResumableTrainer(MicroBatchTrainer):
    """An SFTTrainer that saves and restores snapshots in place of transformers' checkpoints.

    Transformers' checkpoints are pickled and leave out part of this state. The methods that read a checkpoint are
    replaced. `train`, `log`, `_run_epoch` and the creation of the accelerator are extended. The order in which
    transformers calls them, and its search for the position in the data, are unchanged.
    """

    whole_model: WholeModel | None = None
    """The whole model if the ranks hold shards of it, otherwise None. Assigned after construction."""
    _resumed: Snapshot | None = None

    def create_accelerator_and_postprocess(self) -> None:
        """Create the accelerator, which shards the model if the configuration says so."""
        super().create_accelerator_and_postprocess()
        if self.args.fsdp_plugin_args is not None:
            set_up_sharding(self.accelerator, FullyShardedDataParallelPlugin(**self.args.fsdp_plugin_args))
            self.is_fsdp_enabled = True

    def train(self, *arguments: Any, **named: Any) -> Any:
        """Train to the end, and gather the weights of all shards."""
        output = super().train(*arguments, **named)
        if self.whole_model:
            self.whole_model.gather(cast(nn.Module, self.model))
        return output

    def resume(self, snapshot: Snapshot, folder: Path) -> None:
        """Train from a snapshot to the end. If the snapshot is of a finished training run, only load the weights.

        Args:
            snapshot: the state to resume from.
            folder: the folder that holds the snapshot; transformers reads the step number from a file in it.
        """
        self._resumed = snapshot
        self._total_train_tokens = snapshot.state["tokens"]
        self.train(resume_from_checkpoint=str(folder))

    def snapshot(self, **more: Any) -> Snapshot:
        """Return the state of the training at the end of a step, with additional state of callbacks.

        If the ranks hold shards of the model, all of them must call this, and only rank 0 gets the whole state.
        """
        assert self.optimizer is not None
        assert self.lr_scheduler is not None
        scaler = getattr(self.accelerator, "scaler", None)
        model = cast(nn.Module, self.model)
        if self.whole_model:
            self.whole_model.gather(model)
        state = {
            "optimizer": gathered_optimizer_state(model, self.optimizer)
            if self.whole_model
            else self.optimizer.state_dict(),
            "scheduler": self.lr_scheduler.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else None,
            "generators": generator_states(),
        }
        return self._snapshot({**state, **more})

    def trained_snapshot(self, **more: Any) -> Snapshot:
        """Return the state of a finished training run: the weights, with additional state of callbacks."""
        return self._snapshot(more)

    def _snapshot(self, state: dict[str, Any]) -> Snapshot:
        noises = [one for one in self.callback_handler.callbacks if isinstance(one, NEFTuneCallback)]
        callbacks: Any = {type(one).__name__: one.state() for one in noises}  # annotated as a list in transformers
        trainer = replace(self.state, log_history=[], stateful_callbacks=callbacks)
        model = self.whole_model.module if self.whole_model else cast(nn.Module, self.model)
        weights = changing_tensors(model) if model is not None else {}
        return Snapshot(weights, trainer, {**state, "tokens": self._total_train_tokens})

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log a step, and reset the running loss so that a loss that is not finite does not affect the next step."""
        is_step = "loss" in logs
        super().log(logs, start_time)
        if is_step:
            self._tr_loss.zero_()

    def _run_epoch(self, *arguments: Any, **named: Any) -> None:
        if self.state.global_step < self.state.max_steps:  # the last epoch may have more batches than steps
            super()._run_epoch(*arguments, **named)  # type: ignore[no-untyped-call]

    def _load_from_checkpoint(self, *_: Any, **__: Any) -> None:
        model, weights = cast(nn.Module, self.model), self._resumed_snapshot.weights
        if self.whole_model:
            load_sharded_weights(model, weights)
        else:
            tensors = changing_tensors(model)
            with torch.no_grad():
                for name, tensor in weights.items():
                    tensors[name].copy_(tensor)
        self._resumed_snapshot.weights.clear()  # otherwise they occupy memory until training ends

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        state = self._resumed_snapshot.state if checkpoint is not None else {}
        if "optimizer" in state:
            assert self.lr_scheduler is not None
            if self.whole_model:
                load_sharded_optimizer_state(cast(nn.Module, self.model), self.optimizer, state.pop("optimizer"))
            else:
                load_optimizer(self.optimizer, state.pop("optimizer"))
            self.lr_scheduler.load_state_dict(state["scheduler"])

    def _load_scaler(self, checkpoint: str | None) -> None:
        if checkpoint is not None and (scaler := self._resumed_snapshot.state.get("scaler")) is not None:
            self.accelerator.scaler.load_state_dict(scaler)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            restore_generators(self._resumed_snapshot.state["generators"])

    @property
    def _resumed_snapshot(self) -> Snapshot:
        assert self._resumed is not None
        return self._resumed


def load_optimizer(optimizer: Any, state: dict[str, Any]) -> None:
    """Load an optimizer state into copies of its tensors, each in the dtype that it was saved in.

    `Optimizer.load_state_dict` casts each tensor to the dtype of its parameter, which may lose precision.
    """
    optimizer.load_state_dict(state)
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    numbers = [one for group in state["param_groups"] for one in group["params"]]
    for parameter, number in zip(parameters, numbers, strict=True):
        loaded = optimizer.state.get(parameter, {})
        for name, saved in state["state"].get(number, {}).items():
            if isinstance(saved, Tensor):
                loaded[name] = saved.to(loaded[name].device, copy=True)


def generator_states() -> dict[str, Any]:
    """Return the states of the global random generators of Python, numpy and torch, including those of all GPUs.

    The noise has its own generator, whose state `NEFTuneCallback` saves.
    """
    states: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    return states


def restore_generators(states: dict[str, Any]) -> None:
    """Restore what `generator_states` returned, except states of devices that this process does not see.

    A worker may see one GPU where the previous process saw all of them. Training uses the first visible GPU.
    """
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    for device, state in zip(range(torch.cuda.device_count()), states.get("cuda", ()), strict=False):
        torch.cuda.set_rng_state(state, device)
    if "mps" in states and torch.backends.mps.is_available():
        torch.mps.set_rng_state(states["mps"])
