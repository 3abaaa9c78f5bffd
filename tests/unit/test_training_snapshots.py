"""Nested state survives the conversion to JSON and tensors exactly; unsupported values are an error."""

import json
import math
import random
from typing import Any

import numpy as np
import pytest
import torch

from neftune_cli.training.snapshots import UnsupportedStateError, join_tensors, split_tensors

VALUES: dict[str, Any] = {
    "scalars": [None, True, 3, -0.0, 0.1 + 0.2, 5e-324, float("inf"), 10**30, "text"],
    "optimizer": {
        "state": {0: {"step": 3, "betas": (0.9, 0.999)}, 1: {}},
        "param_groups": [{"lr": 1e-3, "params": [0]}],
    },
    "dictionary in the format of the encoding": {"tensor": "00000", "list": [1]},
    "python's generator": random.Random(3).getstate(),
    "empty dictionary": {},
}


def round_trip(value: Any) -> Any:
    plain, tensors = split_tensors(value)
    return join_tensors(json.loads(json.dumps(plain)), tensors)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_values_and_types_are_restored(value: Any) -> None:
    assert repr(round_trip(value)) == repr(value)


def test_nan_is_restored() -> None:
    assert math.isnan(round_trip({"lr": math.nan})["lr"])


def test_tensors_are_restored_with_their_dtype() -> None:
    one, other = torch.arange(3, dtype=torch.bfloat16), torch.tensor(2)
    plain, tensors = split_tensors({"a": [one], "b": (other,)})
    assert len(tensors) == 2
    back = join_tensors(json.loads(json.dumps(plain)), tensors)
    assert torch.equal(back["a"][0], one)
    assert back["a"][0].dtype == torch.bfloat16
    assert torch.equal(back["b"][0], other)


def test_state_of_a_numpy_generator_is_restored() -> None:
    generator = np.random.RandomState(5)
    generator.normal(size=3)  # an odd number: the unused half of a pair is part of the state
    state = round_trip(generator.get_state())
    expected = generator.normal(size=4)
    generator.set_state(state)
    assert generator.normal(size=4).tolist() == expected.tolist()


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, torch.eye(2).to_sparse(), b"bytes"], ids=lambda one: type(one).__name__
)
def test_unsupported_values_are_an_error(value: Any) -> None:
    with pytest.raises(UnsupportedStateError):
        split_tensors([value])


@pytest.mark.parametrize("plain", [{"odd": 1}, {}, {"dict": 1, "list": 2}])
def test_malformed_values_are_an_error(plain: Any) -> None:
    with pytest.raises(ValueError):
        join_tensors(plain, {})
