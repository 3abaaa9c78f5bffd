"""The files of a checkpoint: tensors as safetensors, everything else as JSON, and nothing that could run when read."""

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
    """A checkpoint isn't what was written, or belongs to another model."""


@dataclass(frozen=True)
class Snapshot:
    """A training at the end of a step, or trained to the end: everything that it takes to go on as if nothing was."""

    weights: dict[str, Tensor]
    """What training changes of the model: the parameters that are trained, and the buffers."""
    trainer: TrainerState
    """The state that transformers keeps, without its log, which the curve stands for."""
    state: dict[str, Any]
    """The nested rest: see `ResumableTrainer`, `LearningCurveCallback` and `CheckpointCallback`."""


def write_snapshot(snapshot: Snapshot, folder: Path) -> None:
    """Write a snapshot into an empty folder.

    Raises:
        UnsupportedStateError: something of the state can be kept neither as JSON nor as a plain tensor.
        OSError: there is no space for it, say.
    """
    plain, tensors = split_tensors(snapshot.state)
    _save(snapshot.weights, folder / _WEIGHTS)
    _save(tensors, folder / _TENSORS)
    (folder / _STATE).write_text(json.dumps(plain), encoding="utf-8")
    snapshot.trainer.save_to_json(str(folder / TRAINER_STATE_NAME))


def read_snapshot(folder: Path, model: nn.Module) -> Snapshot:
    """Return the snapshot in a folder, on the CPU.

    Args:
        folder: where `write_snapshot` wrote it.
        model: what the weights are to fit.

    Raises:
        UnreadableCheckpoint: a file is missing, cut or damaged, or the weights are those of another model.
    """
    try:
        weights, tensors = load_file(folder / _WEIGHTS), load_file(folder / _TENSORS)
        state = join_tensors(json.loads((folder / _STATE).read_text(encoding="utf-8")), tensors)
        trainer = TrainerState.load_from_json(str(folder / TRAINER_STATE_NAME))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableCheckpoint(f"The checkpoint {folder.name} can't be read: {error}.") from error
    _check_fit(weights, model, folder.name)
    return Snapshot(weights, trainer, state)


def changing_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return what training may change of a model: the parameters that are trained, tied ones once, and the buffers."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {**trained, **dict(model.named_buffers())}


def _check_fit(weights: dict[str, Tensor], model: nn.Module, name: str) -> None:
    wanted = {key: (one.shape, one.dtype) for key, one in changing_tensors(model).items()}
    found = {key: (one.shape, one.dtype) for key, one in weights.items()}
    if wanted != found:
        odd = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
        raise UnreadableCheckpoint(f"The checkpoint {name} is of another model: {odd[0]} doesn't fit.")


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    try:
        save_file(_apart_in_memory(tensors), path)
    except SafetensorError as error:
        raise OSError(f"{path} can't be written: {error}") from error


def _apart_in_memory(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors without shared memory, which safetensors refuses, each as its own copy where it had some."""
    seen: set[tuple[str, int]] = set()
    apart = {}
    for name, tensor in tensors.items():
        storage = str(tensor.device), tensor.untyped_storage().data_ptr()
        apart[name] = (tensor.detach().clone() if storage in seen else tensor.detach()).contiguous()
        seen.add(storage)
    return apart


_SCALARS = (bool, int, float, str)


class UnsupportedStateError(TypeError):
    """A value is neither a container, a plain tensor, an array, a number nor a text."""


def split_tensors(value: Any) -> tuple[Any, dict[str, Tensor]]:
    """Return a nested state as JSON values, in which the tensors are names, and the tensors by those names.

    JSON keeps a float exactly. Containers become `{"kind": content}`, so that tuples, and keys that are no texts, stay
    what they are.

    Raises:
        UnsupportedStateError: something in it can be kept as none of these.
    """
    tensors: dict[str, Tensor] = {}
    return _apart(value, tensors), tensors


def join_tensors(plain: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return what `split_tensors` was given.

    Raises:
        KeyError: a tensor is missing.
        ValueError: `split_tensors` didn't write this.
    """
    if not isinstance(plain, dict):
        return plain
    ((kind, content),) = plain.items()
    if kind not in _TOGETHER:
        raise ValueError(f"{kind} is no kind of value")
    return _TOGETHER[kind](content, tensors)


def _apart(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, np.generic):
        return _apart(value.item(), tensors)
    if value is None or isinstance(value, _SCALARS):
        return value
    if isinstance(value, dict):
        return {"dict": [[_apart(key, tensors), _apart(one, tensors)] for key, one in value.items()]}
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_apart(one, tensors) for one in value]}
    if isinstance(value, np.ndarray):
        return {"array": [str(value.dtype), value.tolist()]}
    if type(value) in (Tensor, torch.nn.Parameter) and value.layout == torch.strided and not value.is_quantized:
        name = f"{len(tensors):05}"
        tensors[name] = value.detach()
        return {"tensor": name}
    raise UnsupportedStateError(f"{type(value).__name__} can't be kept as JSON or as a plain tensor")


def _all_together(content: list[Any], tensors: Mapping[str, Tensor]) -> Iterator[Any]:
    return (join_tensors(one, tensors) for one in content)


_TOGETHER: dict[str, Callable[[Any, Mapping[str, Tensor]], Any]] = {
    "dict": lambda content, tensors: {join_tensors(key, tensors): join_tensors(one, tensors) for key, one in content},
    "list": lambda content, tensors: list(_all_together(content, tensors)),
    "tuple": lambda content, tensors: tuple(_all_together(content, tensors)),
    "array": lambda content, _: np.array(content[1], dtype=content[0]),
    "tensor": lambda content, tensors: tensors[content],
}
