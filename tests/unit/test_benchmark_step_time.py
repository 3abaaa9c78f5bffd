"""Benchmark of step times: three models with shared weights, and ratios computed by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from experiments.benchmarks.step_time import MODES, Times, compare, models_of_modes, report, step_times
from tests.tiny_models import tiny_llama

IDS = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 0]])
BATCH = {"input_ids": IDS, "attention_mask": (IDS != 0).long(), "labels": IDS}
TIMES: Times = {
    "off": np.array([1.0, 2.0, 4.0, 1.0]),
    "ours": np.array([1.1, 2.0, 4.8, 1.0]),
    "upstream": np.array([2.2, 2.0, 9.6, 1.0]),
}


def test_models_share_weights_and_differ_in_the_noise() -> None:
    model = tiny_llama()
    with models_of_modes(model) as models, torch.no_grad():
        for one in models:
            assert all(a is b for a, b in zip(one.parameters(), model.parameters(), strict=True))
    with models_of_modes(model) as models:
        off, ours, upstream = (one(**BATCH).loss.item() for one in models)
    assert off == model(**BATCH).loss.item()
    assert len({off, ours, upstream}) == 3
    assert not any(module._forward_hooks for one in models for module in one.modules())


def test_every_mode_is_timed_in_every_round_and_trains_the_model() -> None:
    model = tiny_llama()
    before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    times = step_times(model, [BATCH], rounds=2)
    assert tuple(times) == MODES
    assert all(len(seconds) == 2 and (seconds > 0).all() for seconds in times.values())
    assert not torch.equal(nn.utils.parameters_to_vector(model.parameters()), before)


def test_ratios_are_paired_by_round() -> None:
    ratio = compare(TIMES, "ours", "off")  # 1.1, 1, 1.2, 1
    assert ratio.median == pytest.approx(1.05)
    assert ratio.quartiles == pytest.approx((1.0, 1.125))
    assert ratio.total == pytest.approx(8.9 / 8)
    assert ratio.interval == pytest.approx((1.0, 1.2))


def test_report_states_model_and_environment() -> None:
    first, medians, *ratios = report(TIMES, "a model").splitlines()
    assert first.startswith("a model; 4 rounds, ")
    assert f"torch {torch.__version__.split('+')[0]}" in first
    assert medians == "median step: off 1500.0 ms, ours 1550.0 ms, upstream 2100.0 ms"
    assert [line.split()[:2] for line in ratios] == [
        ["ours/off", "1.0500"],
        ["upstream/off", "1.6000"],
        ["ours/upstream", "0.7500"],
    ]
