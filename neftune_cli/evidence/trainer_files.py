"""Files that a trainer of transformers or TRL writes to its output folder."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from neftune_cli.errors import Problem, UsageError

STATE_FILE = "trainer_state.json"

_FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---", re.S)
_DAMAGED_FIX = "Restore the file, or move its folder elsewhere."
_EMPTY_FIX = "Train with a smaller logging_steps, or leave out the run."
_TIMING_SUFFIXES = ("_runtime", "_per_second", "_time", "_num_tokens")
"""Suffixes of logged values that are not metrics."""


class LoggedLine(BaseModel):
    """One entry of a log history. Further logged values are read if they are metrics of an evaluation."""

    model_config = ConfigDict(frozen=True, extra="allow")

    step: int = 0
    epoch: float = 0.0
    loss: float | None = None
    """Mean training loss since the previous entry with a loss, in nats per token."""
    eval_loss: float | None = None
    learning_rate: float | None = None
    num_tokens: float | None = None
    train_runtime: float | None = None
    """Written once, at the end of training."""

    @property
    def custom_scores(self) -> dict[str, float]:
        """Return custom metrics of an evaluation: name to value."""
        logged = (self.model_extra or {}).items()
        return {
            name: float(value)
            for name, value in logged
            if name.startswith("eval_") and not name.endswith(_TIMING_SUFFIXES) and isinstance(value, int | float)
        }


class TrainerState(BaseModel):
    """The content of `trainer_state.json` (transformers' `TrainerState`)."""

    model_config = ConfigDict(frozen=True)

    global_step: int
    epoch: float = 0.0
    max_steps: int = 0
    num_train_epochs: float = 0
    """Planned number of epochs, rounded up."""
    train_batch_size: int | None = None
    """Batch size of one process, without gradient accumulation."""
    log_history: tuple[LoggedLine, ...] = ()
    stateful_callbacks: dict[str, Any] | None = None

    @property
    def has_finished(self) -> bool:
        """Return whether training finished, also if a callback stopped it early."""
        control = (self.stateful_callbacks or {}).get("TrainerControl")
        arguments = control.get("args") if isinstance(control, dict) else None
        was_stopped = isinstance(arguments, dict) and arguments.get("should_training_stop") is True
        has_runtime = any(line.train_runtime is not None for line in self.log_history)
        return was_stopped or has_runtime or self.global_step >= self.max_steps


@dataclass(frozen=True)
class TrainerRun:
    """The run in one output folder."""

    folder: Path
    state: TrainerState
    """The latest state of the folder and its checkpoints."""
    card_settings: dict[str, Any]
    """Model, data and LoRA rank from the model card and the adapter configuration, as far as they are known."""

    @cached_property
    def known(self) -> dict[str, Any]:
        """Return the known settings other than noise and seed: part to value."""
        state = self.state
        values = {
            **self.card_settings,
            "num_train_epochs": state.num_train_epochs,
            "max_steps": state.max_steps,
            "train_batch_size": state.train_batch_size,
        }
        return {part: value for part, value in values.items() if value is not None}

    @cached_property
    def learning_rates(self) -> dict[int, float]:
        """Return the logged learning rates: step to value."""
        return {line.step: line.learning_rate for line in self.state.log_history if line.learning_rate is not None}

    @property
    def evaluated_at(self) -> int | None:
        """Return the step of the last evaluation, None if there was none."""
        return next((line.step for line in reversed(self.state.log_history) if line.eval_loss is not None), None)


def read_run(folder: Path) -> TrainerRun:
    """Return the run of an output folder.

    Raises:
        UsageError: its latest state is not valid or has no loss.
    """
    checkpoints = sorted(folder.glob(f"checkpoint-*/{STATE_FILE}"), key=_step, reverse=True)
    states = {path: _read_state(path) for path in (folder / STATE_FILE, *checkpoints[:1]) if path.is_file()}
    latest = max(states, key=lambda path: states[path].global_step)
    if not any(line.loss is not None or line.eval_loss is not None for line in states[latest].log_history):
        raise UsageError(Problem(f"{latest} has no loss in its log history.", _EMPTY_FIX))
    return TrainerRun(folder, states[latest], dict(_card_settings((folder, latest.parent))))


def _step(checkpoint: Path) -> int:
    _, _, number = checkpoint.parent.name.rpartition("-")
    return int(number) if number.isdecimal() else -1


def _read_state(path: Path) -> TrainerState:
    try:
        return TrainerState.model_validate_json(path.read_bytes())
    except ValidationError as error:
        details = error.errors()[0]
        where = ": ".join([".".join(map(str, details["loc"])), details["msg"]]).removeprefix(": ")
        raise UsageError(Problem(f"{path} is not valid ({where}).", _DAMAGED_FIX)) from None
    except OSError as error:
        raise UsageError(Problem(f"Cannot read {path}: {error.strerror}.", _DAMAGED_FIX)) from None


def _card_settings(folders: Sequence[Path]) -> Iterator[tuple[str, Any]]:
    """Yield model, data and LoRA rank from TRL's model card, and then from the adapter configuration."""
    for folder in folders:
        card = _front_matter(folder / "README.md")
        for part, field in (("model", "base_model"), ("data", "datasets")):
            if value := card.get(field):
                yield part, ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    for folder in folders:
        adapter = _json(folder / "adapter_config.json")
        for part, field in (("model", "base_model_name_or_path"), ("LoRA rank", "r")):
            if value := adapter.get(field):
                yield part, value


def _front_matter(path: Path) -> dict[str, Any]:
    """Return the fields of a model card; empty if the card is missing or not valid, because it is optional."""
    try:
        found = _FRONT_MATTER.match(path.read_text(encoding="utf-8"))
        values = yaml.safe_load(found[1]) if found else None
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return values if isinstance(values, dict) else {}


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
