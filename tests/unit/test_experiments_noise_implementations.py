"""Measurements in docs/noise.md, compared with values computed by hand from the formula and from upstream's source.

If a test of upstream fails after an update of transformers, upstream has changed, and docs/noise.md must be updated.
"""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.noise_implementations.__main__ import as_markdown, findings
from experiments.noise_implementations.failure import aftermath
from experiments.noise_implementations.finding import Finding, attach_nothing, attach_ours, attach_upstream
from experiments.noise_implementations.randomness import (
    draws_from_global_generator,
    dropout_that_differs,
    equal_steps_after_resuming,
    second_epoch,
)
from experiments.noise_implementations.search import searched_alphas
from experiments.noise_implementations.size import effective_alpha, layouts, padded
from experiments.noise_implementations.tiny_models import alpha_of, bart, granite, llama, t5
from neftune_cli.noise.callback import NEFTuneCallback

TOLERANCE = 0.05
DOCUMENT = Path(__file__).parents[2] / "docs" / "noise.md"


def test_effective_alpha_of_noise_with_known_alpha() -> None:
    half_width = 2 / math.sqrt(150 * 64)  # of alpha 2 for 150 tokens of width 64
    noise = torch.empty(200, 150, 64).uniform_(-half_width, half_width, generator=torch.Generator().manual_seed(0))
    assert alpha_of(noise, 150) == pytest.approx(2, rel=1e-3)


@pytest.mark.parametrize(
    ("layout", "upstream"),
    # 5 * sqrt(150 / row): upstream uses the length of the row.
    zip(layouts(), (5.0, 3.536, 2.5, 1.353), strict=True),
    ids=lambda value: getattr(value, "name", ""),
)
def test_effective_alpha_depends_on_the_layout_upstream_only(layout: Any, upstream: float) -> None:
    inputs = layout.inputs
    assert effective_alpha(llama(), attach_ours, inputs, slice(150)) == pytest.approx(5.0, abs=TOLERANCE)
    assert effective_alpha(llama(), attach_upstream, inputs, slice(150)) == pytest.approx(upstream, abs=TOLERANCE)


@pytest.mark.parametrize(("build", "upstream"), [(t5, 0.0), (bart, 0.0), (granite, 60.0)])
def test_effective_alpha_in_models_that_upstream_gets_wrong(build: Any, upstream: float) -> None:
    inputs = padded((150,), 150)
    assert effective_alpha(build(), attach_ours, inputs, slice(150)) == pytest.approx(5.0, abs=TOLERANCE)
    assert effective_alpha(build(), attach_upstream, inputs, slice(150)) == pytest.approx(upstream, rel=0.01)


def test_upstream_draws_from_the_global_generator_even_at_alpha_0() -> None:
    assert [draws_from_global_generator(attach_ours, alpha) for alpha in (5.0, 0.0)] == [False, False]
    assert [draws_from_global_generator(attach_upstream, alpha) for alpha in (5.0, 0.0)] == [True, True]


def test_upstream_changes_dropout_as_much_as_another_seed() -> None:
    assert dropout_that_differs(attach_ours) == 0
    assert dropout_that_differs(attach_upstream) == pytest.approx(2 * 0.1 * 0.9, abs=0.005)


def test_upstream_reorders_examples_unless_the_sampler_has_its_own_seed() -> None:
    for seedable in (True, False):
        without = second_epoch(attach_nothing, seedable=seedable)
        assert second_epoch(attach_ours, seedable=seedable) == without
        assert (second_epoch(attach_nothing, 5.0, seedable=seedable) == without) is seedable


def test_failed_training_upstream_leaves_a_hook_that_affects_the_next_one() -> None:
    left = aftermath([], upstream_alpha=5.0)
    assert (left.hooks, left.hooks_after_second, left.next_forward) == (1, 1, "raises AttributeError")
    assert left.second_alpha == pytest.approx(5 * math.sqrt(2), abs=2 * TOLERANCE)  # two independent noises


@pytest.mark.parametrize(("callbacks", "alpha"), [([], 0.0), ([NEFTuneCallback(alpha=5.0)], 5.0)])
def test_failed_training_without_upstream_noise_leaves_no_hook(callbacks: Any, alpha: float) -> None:
    left = aftermath(callbacks)
    assert (left.hooks, left.hooks_after_second, left.next_forward) == (0, 0, "works")
    assert left.second_alpha == pytest.approx(alpha, abs=TOLERANCE)


@pytest.mark.parametrize("noise", ["callback", "upstream"])
def test_resumed_training_draws_the_same_noise(noise: Any) -> None:
    assert equal_steps_after_resuming(noise) == 2


def test_hyperparameter_search_upstream_does_not_vary_alpha() -> None:
    pytest.importorskip("optuna")
    searched = searched_alphas(5.0)
    assert list(searched) == [5.0, 10.0, 15.0]
    assert list(searched.values()) == pytest.approx([5.0] * 3, abs=TOLERANCE)


def test_every_row_of_the_table_has_four_cells() -> None:
    table = as_markdown([Finding("measured", "1", "2", "3")]).splitlines()
    assert table[1:] == ["| --- | --- | --- | --- |", "| measured | 1 | 2 | 3 |"]


@pytest.mark.slow
def test_document_contains_the_measured_table() -> None:
    pytest.importorskip("optuna")
    document = DOCUMENT.read_text()
    rows = as_markdown(tuple(findings())).splitlines()[2:]
    assert [row for row in rows if row not in document] == []
