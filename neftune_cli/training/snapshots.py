"""Snapshots of a training run and their files: tensors as safetensors, everything else as JSON, no pickles."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from neftune_cli.errors import NeftuneError

_WEIGHTS, _TENSORS, _STATE = "weights.safetensors", "state.safetensors", "state.json"


class UnreadableCheckpoint(NeftuneError):  # noqa: N818
    """A checkpoint is damaged, incomplete, or belongs to another model."""


class UnsupportedStateError(TypeError):
    """A value is neither a container, a plain tensor, an array, a number nor a string."""


@dataclass(frozen=True)
class Snapshot:
    """The complete state of a training run at the end of a step, or after its last step."""

    weights: dict[str, Tensor]
    """The tensors that training changes: trainable parameters and buffers."""
    trainer: TrainerState
    """The state of transformers' Trainer, without its log, which the learning curve replaces."""
    state: dict[str, Any]
    """Nested state of `ResumableTrainer`, `LearningCurveCallback` and `CheckpointCallback`."""


def write_snapshot(snapshot: Snapshot, folder: Path) -> None:
    """Write a snapshot into an empty folder.

    Raises:
        UnsupportedStateError: part of the state can be stored neither as JSON nor as a plain tensor.
        OSError: a file cannot be written, for example because the disk is full.
    """
    plain, tensors = split_tensors(snapshot.state)
    _save(snapshot.weights, folder / _WEIGHTS)
    _save(tensors, folder / _TENSORS)
    (folder / _STATE).write_text(json.dumps(plain), encoding="utf-8")
    snapshot.trainer.save_to_json(str(folder / TRAINER_STATE_NAME))


def read_snapshot(folder: Path, model: nn.Module) -> Snapshot:
    """Return the snapshot in a folder, on the CPU.

    Args:
        folder: the folder that `write_snapshot` wrote.
        model: the model that the weights must fit.

    Raises:
        UnreadableCheckpoint: a file is missing, truncated or damaged, or the weights belong to another model.
    """
    try:
        weights, tensors = load_file(folder / _WEIGHTS), load_file(folder / _TENSORS)
        state = join_tensors(json.loads((folder / _STATE).read_text(encoding="utf-8")), tensors)
        trainer = TrainerState.load_from_json(str(folder / TRAINER_STATE_NAME))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableCheckpoint(f"The checkpoint {folder.name} cannot be read: {error}.") from error
    _check_fit(weights, model, folder.name)
    return Snapshot(weights, trainer, state)


def changing_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors that training may change: trainable parameters, tied ones once, and buffers."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {**trained, **dict(model.named_buffers())}


def _check_fit(weights: dict[str, Tensor], model: nn.Module, name: str) -> None:
    expected = {key: (one.shape, one.dtype) for key, one in changing_tensors(model).items()}
    found = {key: (one.shape, one.dtype) for key, one in weights.items()}
    if expected != found:
        different = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
        raise UnreadableCheckpoint(f"The checkpoint {name} belongs to another model: {different[0]} does not fit.")


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    try:
        save_file(_without_shared_memory(tensors), path)
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from error


def _without_shared_memory(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors, with copies of those that share memory with an earlier one; safetensors refuses these."""
    seen: set[tuple[str, int]] = set()
    separate = {}
    for name, tensor in tensors.items():
        storage = str(tensor.device), tensor.untyped_storage().data_ptr()
        separate[name] = (tensor.detach().clone() if storage in seen else tensor.detach()).contiguous()
        seen.add(storage)
    return separate


def split_tensors(value: Any) -> tuple[Any, dict[str, Tensor]]:
    """Split a nested state into JSON values, with names in place of tensors, and the tensors by name.

    JSON keeps floats exactly. Each container becomes an object with its kind as the only key, for example
    `{"tuple": [...]}`, which preserves tuples and keys that are not strings.

    Raises:
        UnsupportedStateError: a value can be stored neither as JSON nor as a plain tensor.
    """
    tensors: dict[str, Tensor] = {}
    return _encoded(value, tensors), tensors


def join_tensors(plain: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return the nested state that `split_tensors` split.

    Raises:
        KeyError: a tensor is missing.
        ValueError: `split_tensors` did not write these values.
    """
    if not isinstance(plain, dict):
        return plain
    ((kind, content),) = plain.items()
    if kind not in _DECODERS:
        raise ValueError(f"unknown kind of value {kind!r}")
    return _DECODERS[kind](content, tensors)


def _encoded(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, np.generic):
        return _encoded(value.item(), tensors)
    if value is None or isinstance(value, _SCALARS):
        return value
    if isinstance(value, dict):
        return {"dict": [[_encoded(key, tensors), _encoded(one, tensors)] for key, one in value.items()]}
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_encoded(one, tensors) for one in value]}
    if isinstance(value, np.ndarray):
        return {"array": [str(value.dtype), value.tolist()]}
    if type(value) in (Tensor, torch.nn.Parameter) and value.layout == torch.strided and not value.is_quantized:
        name = f"{len(tensors):05}"
        tensors[name] = value.detach()
        return {"tensor": name}
    raise UnsupportedStateError(f"{type(value).__name__} can be stored neither as JSON nor as a plain tensor")


def _decoded_items(content: list[Any], tensors: Mapping[str, Tensor]) -> Iterator[Any]:
    return (join_tensors(one, tensors) for one in content)


_SCALARS = (bool, int, float, str)

_DECODERS: dict[str, Callable[[Any, Mapping[str, Tensor]], Any]] = {
    "dict": lambda content, tensors: {join_tensors(key, tensors): join_tensors(one, tensors) for key, one in content},
    "list": lambda content, tensors: list(_decoded_items(content, tensors)),
    "tuple": lambda content, tensors: tuple(_decoded_items(content, tensors)),
    "array": lambda content, _: np.array(content[1], dtype=content[0]),
    "tensor": lambda content, tensors: tensors[content],
}
