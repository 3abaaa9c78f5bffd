"""Perplexity of a loss."""

import math

import pytest

from neftune_cli.records import perplexity


@pytest.mark.parametrize(("loss", "expected"), [(0.0, 1.0), (math.log(7), 7.0), (1000.0, 1.0142320547350045e304)])
def test_perplexity_is_finite_for_every_loss(loss: float, expected: float) -> None:
    assert perplexity(loss) == pytest.approx(expected, rel=1e-12)
    assert perplexity(math.inf) == perplexity(700.0)


def test_the_perplexity_of_nan_is_nan() -> None:
    assert math.isnan(perplexity(math.nan))
