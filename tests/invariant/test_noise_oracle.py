"""The noise on a model compared with the paper's formula and with transformers' hook.

The embeddings are zero, so their output is the noise.
"""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from transformers.integrations.neftune import activate_neftune

from neftune_cli.noise import attach_noise
from tests.tiny_models import tiny_llama, with_zero_embeddings

ALPHA = 5.0
DIM = 32
REPEATS = 40
PADDED = torch.tensor([[1] * 12, [0] * 5 + [1] * 7, [1] * 3 + [0] * 9])
FULL = torch.ones(3, 12, dtype=torch.long)

Noise = NDArray[np.float32]


def zero_embedded_llama() -> Any:
    return with_zero_embeddings(tiny_llama(hidden_size=DIM, intermediate_size=16))


def noise_of(model: Any, mask: torch.Tensor) -> Noise:
    """Return the output of the embeddings in many forwards: (repeats, batch, length, dim)."""
    outputs: list[Noise] = []
    hook = model.get_input_embeddings().register_forward_hook(
        lambda module, args, output: outputs.append(output.detach().numpy().copy())
    )
    for _ in range(REPEATS):
        model(input_ids=torch.ones_like(mask), attention_mask=mask)
    hook.remove()
    return np.stack(outputs)


def our_noise(mask: torch.Tensor, **options: Any) -> Noise:
    model = zero_embedded_llama()
    with attach_noise(model, ALPHA, **options):
        return noise_of(model, mask)


def upstream_noise(mask: torch.Tensor) -> Noise:
    model = zero_embedded_llama()
    activate_neftune(model, ALPHA)
    torch.manual_seed(0)
    return noise_of(model, mask)


@pytest.fixture(scope="module")
def padded_noise() -> Noise:
    return our_noise(PADDED)


@pytest.mark.parametrize("row", range(3))
def test_noise_of_real_tokens_agrees_with_the_papers_formula(padded_noise: Noise, row: int) -> None:
    length = int(PADDED[row].sum())
    half_width = ALPHA / np.sqrt(length * DIM)
    values = padded_noise[:, row, PADDED[row] == 1].ravel()
    assert np.abs(values).max() <= half_width * (1 + 1e-6)
    assert values.var() == pytest.approx(ALPHA**2 / (3 * length * DIM), rel=0.05)
    assert stats.kstest(values / half_width, stats.uniform(-1, 2).cdf).pvalue > 0.001


def test_the_noise_norm_of_every_token_agrees_with_the_paper(padded_noise: Noise) -> None:
    length = PADDED.sum(1, keepdim=True).numpy()
    mean_square = (padded_noise**2).sum(-1).mean(0)  # (batch, length)
    expected = np.where(PADDED == 1, ALPHA**2 / (3 * length), 0)
    np.testing.assert_allclose(mean_square, expected, rtol=0.15)


def test_padding_has_exactly_no_noise(padded_noise: Noise) -> None:
    assert not padded_noise[:, PADDED == 0].any()


def test_coordinates_and_tokens_are_independent(padded_noise: Noise) -> None:
    draws = padded_noise[:, 0].reshape(REPEATS * 12, DIM)
    correlation = np.corrcoef(draws, rowvar=False) - np.eye(DIM)
    assert np.abs(correlation).max() < 5 / np.sqrt(len(draws))
    assert len(np.unique(draws, axis=0)) == len(draws)


@pytest.mark.parametrize("row", range(3))
def test_the_hf_scale_has_the_noise_of_transformers_including_padding(row: int) -> None:
    ours, theirs = our_noise(PADDED, noise_scale="hf")[:, row], upstream_noise(PADDED)[:, row]
    assert stats.ks_2samp(ours.ravel(), theirs.ravel()).pvalue > 0.001
    assert np.abs(ours).max() == pytest.approx(np.abs(theirs).max(), rel=0.01)
    padding = PADDED[row] == 0
    assert ours[:, padding].any() == theirs[:, padding].any() == bool(padding.any())


def test_without_padding_paper_and_transformers_agree() -> None:
    ours, theirs = our_noise(FULL), upstream_noise(FULL)
    assert stats.ks_2samp(ours.ravel(), theirs.ravel()).pvalue > 0.001


def test_with_padding_paper_and_transformers_differ(padded_noise: Noise) -> None:
    ours, theirs = padded_noise[:, 2, :3], upstream_noise(PADDED)[:, 2, :3]
    assert np.abs(ours).max() / np.abs(theirs).max() == pytest.approx(2, rel=0.02)  # 3 real tokens in a row of 12
