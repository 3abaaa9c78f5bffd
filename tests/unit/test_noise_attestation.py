"""Attestation: expected measurements for correct noise, and one deviation for each provoked error."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.integrations.neftune import activate_neftune, neftune_post_forward_hook

from neftune_cli.config.choices import NoiseScale
from neftune_cli.noise import AttachedNoise, NEFTuneEmbedding, attach_noise
from neftune_cli.noise.draws import NoiseStream
from tests.tiny_models import tiny_llama

DIM = 64
IMAGE = 19
IDS = torch.randint(1, 19, (4, 24), generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([[1] * 24, [1] * 10 + [0] * 14, [0] * 18 + [1] * 6, [1] * 17 + [0] * 7])
PADDED = {"input_ids": IDS, "attention_mask": MASK}
PACKED = {"input_ids": IDS, "position_ids": torch.tensor([[*range(10), *range(9), *[0] * 5]] * 4)}
WITH_PLACEHOLDERS = PADDED | {"input_ids": torch.where(torch.arange(24) % 3 == 1, IMAGE, IDS)}
LAYOUTS = {"padded": PADDED, "packed": PACKED, "placeholders": WITH_PLACEHOLDERS}


def wide_llama(**config: Any) -> Any:
    return tiny_llama(hidden_size=DIM, intermediate_size=16, **config)


def run(model: Any, call: dict[str, Tensor] = PADDED, forwards: int = 11, **options: Any) -> AttachedNoise:
    with attach_noise(model, **options) as noise:
        for _ in range(forwards):
            model(**call)
    return noise


@pytest.mark.parametrize("distribution", ["uniform", "gaussian", "bernoulli"])
@pytest.mark.parametrize("noise_scale", ["paper", "hf"])
@pytest.mark.parametrize("call", LAYOUTS.values(), ids=LAYOUTS)
def test_correct_noise_has_no_deviations(distribution: str, noise_scale: NoiseScale, call: dict[str, Tensor]) -> None:
    noise = run(wide_llama(image_token_id=IMAGE), call, noise=distribution, noise_scale=noise_scale)
    attested = noise.attestation
    assert attested.rms == pytest.approx(1, abs=0.02)
    assert (attested.noised_share, attested.noised_padding) == (1, 1 if noise_scale == "hf" else 0)
    assert (attested.evaluation_calls, attested.hooks) == (0, 1)
    assert noise.deviations == ()


@pytest.mark.parametrize(("forwards", "measured"), [(0, 0), (1, 1), (10, 1), (11, 2), (31, 4)])
def test_every_tenth_call_is_measured(forwards: int, measured: int) -> None:
    attested = run(wide_llama(), forwards=forwards).attestation
    assert (attested.calls, attested.measured_calls) == (forwards, measured)


def test_alpha_0_has_no_measurements_and_no_deviations() -> None:
    noise = run(wide_llama(), alpha=0.0)
    attested = noise.attestation
    assert (attested.calls, attested.rms, attested.noise_to_embedding, attested.noised_padding) == (0, None, None, None)
    assert noise.deviations == ()


def test_noise_to_embedding_is_the_ratio_of_their_norms() -> None:
    model = wide_llama()
    nn.init.constant_(model.get_input_embeddings().weight, 0.5)  # norm 0.5 * sqrt(64) = 4
    row = {"input_ids": torch.ones(1, 12, dtype=torch.long)}
    ratio = run(model, row, alpha=6.0, noise="bernoulli").attestation.noise_to_embedding
    assert ratio == pytest.approx(6 / (3 * 12) ** 0.5 / 4, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_causes_no_deviation(dtype: torch.dtype) -> None:
    model = wide_llama().to(dtype)
    nn.init.normal_(model.get_input_embeddings().weight, std=0.136)  # standard deviation of SmolLM2's embeddings
    noise = run(model, alpha=5.0)
    assert noise.attestation.rms == pytest.approx(1, abs=0.03)
    assert noise.deviations == ()


@pytest.mark.parametrize("target", ["prompt", "completion"])
def test_the_noised_share_is_the_share_of_the_target(target: Any) -> None:
    labels = torch.where(torch.arange(24) < 6, -100, IDS).where(MASK == 1, -100)
    noise = run(wide_llama(), PADDED | {"labels": labels}, target=target)
    named = ((labels != -100) if target == "completion" else (labels == -100)) & (MASK == 1)
    assert noise.attestation.noised_share == pytest.approx(named.sum().item() / MASK.sum().item())
    assert noise.attestation.rms == pytest.approx(1, abs=0.03)
    assert noise.deviations == ()


def test_a_target_without_tokens_is_a_deviation() -> None:
    noise = run(wide_llama(), PADDED | {"labels": IDS}, target="prompt")
    assert noise.deviations == ("the noise target 'prompt' selected none of the measured tokens",)


def test_noise_in_evaluation_is_a_deviation() -> None:
    model = wide_llama()
    model.eval().get_input_embeddings().train()
    noise = run(model)
    assert noise.attestation.evaluation_calls == 11
    assert noise.deviations == ("11 evaluation calls had noise",)


@pytest.mark.parametrize("factor", [0.5, 1.1])
def test_a_wrong_magnitude_is_a_deviation(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = NoiseStream.draw
    monkeypatch.setattr(NoiseStream, "draw", lambda *args: draw(*args) * factor)
    noise = run(wide_llama())
    assert noise.attestation.rms == pytest.approx(factor, rel=0.02)
    assert noise.deviations == (f"the RMS of the noise was {noise.attestation.rms:.3f} times the expected RMS",)


def by_function(model: Any) -> None:
    model.get_input_embeddings().register_forward_hook(neftune_post_forward_hook)


def by_module(model: Any) -> None:
    embedding = model.get_input_embeddings()
    wrapper = NEFTuneEmbedding(nn.Embedding(1, 1))  # the constructor refuses an embedding that has noise
    wrapper.embedding = embedding
    model.set_input_embeddings(wrapper)


def by_closure(model: Any) -> None:
    generator = torch.Generator().manual_seed(0)

    def hook(_: nn.Module, __: object, output: Tensor) -> Tensor:
        return output + torch.empty_like(output).uniform_(-0.13, 0.13, generator=generator)  # 5 / sqrt(24 * 64)

    model.get_input_embeddings().register_forward_hook(hook)


@pytest.mark.parametrize("add", [by_function, by_module])
def test_a_second_noise_source_is_counted(add: Callable[[Any], None]) -> None:
    model = wide_llama()
    with attach_noise(model) as noise:
        noise.count_hooks()
        assert noise.attestation.hooks == 1
        add(model)
        noise.count_hooks()
    assert noise.attestation.hooks == 2
    assert noise.deviations == ("2 hooks added noise, expected 1",)


def test_the_count_of_a_removed_noise_source_is_kept() -> None:
    model = wide_llama()
    with attach_noise(model) as noise:
        upstream = activate_neftune(model, 5.0)
        noise.count_hooks()
        upstream.remove()
        del model.get_input_embeddings().neftune_noise_alpha
        noise.count_hooks()
    assert noise.deviations == ("2 hooks added noise, expected 1",)


@pytest.mark.parametrize("first", [True, False], ids=["before ours", "after ours"])
def test_an_unmarked_noise_source_changes_the_rms(first: bool) -> None:
    model = wide_llama()
    if first:
        by_closure(model)
    with attach_noise(model) as noise:
        if not first:
            by_closure(model)
        for _ in range(11):
            model(**PADDED)
    assert noise.deviations
    assert noise.attestation.rms is not None
    assert noise.attestation.rms > 1.2


def test_measuring_does_not_change_noise_or_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    gradients, measured = [], []
    for every in (2, 1_000_000):
        monkeypatch.setattr("neftune_cli.noise.attestation.MEASURE_EVERY", every)
        model = wide_llama()
        with attach_noise(model) as noise:
            for _ in range(3):
                model(**PADDED, labels=IDS).loss.backward()
        measured.append(noise.attestation.measured_calls)
        gradients.append(model.get_input_embeddings().weight.grad)
    assert measured == [2, 1]
    assert torch.equal(*gradients)


def test_noise_below_the_precision_is_no_deviation() -> None:
    model = wide_llama().to(torch.bfloat16)
    nn.init.normal_(model.get_input_embeddings().weight)
    with attach_noise(model) as noise:
        for step in range(101):
            noise.alpha = 5.0 * (1 - step / 101)
            model(**PADDED)
        noise.alpha = 1e-4
        for _ in range(10):
            model(**PADDED)
    assert noise.deviations == ()
    assert noise.attestation.noised_share == 1


def test_the_hf_scale_needs_no_token_mask() -> None:
    blocks = torch.ones(4, 1, 24, 24, dtype=torch.bool).tril()
    noise = run(wide_llama(), {"input_ids": IDS, "attention_mask": blocks}, noise_scale="hf")
    assert noise.attestation.rms == pytest.approx(1, abs=0.02)
    assert noise.deviations == ()
