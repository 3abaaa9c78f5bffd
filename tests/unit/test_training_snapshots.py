"""Nested state comes back from JSON and tensors as it was, bit for bit; what can't be kept so is refused."""

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
    "dictionary that looks like ours": {"tensor": "00000", "list": [1]},
    "python's generator": random.Random(3).getstate(),
    "nothing": {},
}


def there_and_back(value: Any) -> Any:
    plain, tensors = split_tensors(value)
    return join_tensors(json.loads(json.dumps(plain)), tensors)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_values_and_their_types_come_back(value: Any) -> None:
    assert repr(there_and_back(value)) == repr(value)


def test_nan_comes_back() -> None:
    assert math.isnan(there_and_back({"lr": math.nan})["lr"])


def test_tensors_stay_tensors_under_names_of_their_own() -> None:
    one, other = torch.arange(3, dtype=torch.bfloat16), torch.tensor(2)
    plain, tensors = split_tensors({"a": [one], "b": (other,)})
    assert len(tensors) == 2
    back = join_tensors(json.loads(json.dumps(plain)), tensors)
    assert torch.equal(back["a"][0], one)
    assert back["a"][0].dtype == torch.bfloat16
    assert torch.equal(back["b"][0], other)


def test_numpys_generator_goes_on() -> None:
    generator = np.random.RandomState(5)
    generator.normal(size=3)  # leaves half a pair behind, which is part of the state
    state = there_and_back(generator.get_state())
    expected = generator.normal(size=4)
    generator.set_state(state)
    assert generator.normal(size=4).tolist() == expected.tolist()


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, torch.eye(2).to_sparse(), b"bytes"], ids=lambda one: type(one).__name__
)
def test_what_can_be_kept_as_neither_is_refused(value: Any) -> None:
    with pytest.raises(UnsupportedStateError):
        split_tensors([value])


@pytest.mark.parametrize("plain", [{"odd": 1}, {}, {"dict": 1, "list": 2}])
def test_what_was_not_written_by_it_is_refused(plain: Any) -> None:
    with pytest.raises(ValueError):
        join_tensors(plain, {})
