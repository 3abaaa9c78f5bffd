"""Nested state, as optimizers have it, taken apart into JSON and tensors, and put together again exactly."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

_SCALARS = (bool, int, float, str)


class NotPlainError(TypeError):
    """A value is neither a container, a plain tensor, an array, a number nor a text."""


def take_apart(value: Any) -> tuple[Any, dict[str, Tensor]]:
    """Return a nested state as JSON values, in which the tensors are names, and the tensors by those names.

    JSON keeps a float exactly. Containers become `{"kind": content}`, so that tuples, and keys that are no texts, stay
    what they are.

    Raises:
        NotPlainError: something in it can be kept as none of these.
    """
    tensors: dict[str, Tensor] = {}
    return _apart(value, tensors), tensors


def put_together(plain: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return what `take_apart` was given.

    Raises:
        KeyError: a tensor is missing.
        ValueError: `take_apart` didn't write this.
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
    raise NotPlainError(f"{type(value).__name__} can't be kept as JSON or as a plain tensor")


def _all_together(content: list[Any], tensors: Mapping[str, Tensor]) -> Iterator[Any]:
    return (put_together(one, tensors) for one in content)


_TOGETHER: dict[str, Callable[[Any, Mapping[str, Tensor]], Any]] = {
    "dict": lambda content, tensors: {put_together(key, tensors): put_together(one, tensors) for key, one in content},
    "list": lambda content, tensors: list(_all_together(content, tensors)),
    "tuple": lambda content, tensors: tuple(_all_together(content, tensors)),
    "array": lambda content, _: np.array(content[1], dtype=content[0]),
    "tensor": lambda content, tensors: tensors[content],
}
