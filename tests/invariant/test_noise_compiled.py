"""Compiled models get the same noise as uncompiled ones, in one graph without recompilation for a new alpha."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from neftune_cli.errors import UsageError
from neftune_cli.noise import attach_noise
from tests.bigram import bigram
from tests.tiny_models import tiny_llama

IDS = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 0, 0]])
LABELS = torch.tensor([[-100, -100, 3, 4, 5], [-100, 7, 8, -100, -100]])
PADDED = {"input_ids": IDS, "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]), "labels": LABELS}
PACKED = {"input_ids": IDS, "position_ids": torch.tensor([[0, 1, 2, 0, 1]] * 2), "labels": LABELS}
ALPHAS = (5.0, 4.0, 3.0, 2.0, 1.0)

Compile = Callable[[Any, Any], Any]


def as_a_wrapper(model: Any, backend: Any) -> Any:
    return torch.compile(model, backend=backend, fullgraph=True)


def in_place(model: Any, backend: Any) -> Any:
    model.compile(backend=backend, fullgraph=True)
    return model


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def trained(model: Any, noise: Any, call: dict[str, Tensor]) -> list[Tensor]:
    """Return the loss and the gradient of the embeddings for one step per alpha."""
    figures: list[Tensor] = []
    for alpha in ALPHAS:
        noise.alpha = alpha
        loss = model(**call).loss
        model.zero_grad()
        loss.backward()
        figures += [loss.detach(), model.get_input_embeddings().weight.grad.clone()]
    return figures


def eager(build: Callable[[], Any], call: dict[str, Tensor], **options: Any) -> list[Tensor]:
    model = build()
    with attach_noise(model, **options) as noise:
        return trained(model, noise, call)


def clean_loss(build: Callable[[], Any]) -> Tensor:
    with torch.no_grad():
        return build().eval()(**PADDED).loss  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("build", "backend", "compiled"),
    [
        (bigram, "aot_eager", as_a_wrapper),
        (bigram, "aot_eager", in_place),
        pytest.param(tiny_llama, "aot_eager", as_a_wrapper, marks=pytest.mark.slow),
        pytest.param(tiny_llama, "aot_eager", in_place, marks=pytest.mark.slow),
        pytest.param(tiny_llama, "inductor", as_a_wrapper, marks=pytest.mark.slow),
        pytest.param(tiny_llama, "inductor", in_place, marks=pytest.mark.slow),
    ],
)
def test_a_schedule_runs_in_one_graph_with_the_noise_of_an_uncompiled_model(
    build: Callable[[], Any], backend: str, compiled: Compile
) -> None:
    model, counter = build(), CompileCounterWithBackend(backend)
    with attach_noise(model) as noise:
        running = compiled(model, counter)
        figures = trained(running, noise, PADDED)
        assert counter.frame_count == 1
        with torch.no_grad():
            evaluated = running.eval()(**PADDED).loss
        assert noise.draws == len(ALPHAS)
    for actual, expected in zip(figures, eager(build, PADDED), strict=True):
        torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(evaluated, clean_loss(build))


@pytest.mark.parametrize(
    ("call", "options"),
    [
        (PACKED, {}),
        (PADDED, {"target": "completion"}),
        (PADDED, {"noise": "gaussian", "noise_scale": "hf"}),
    ],
    ids=["packed", "completions", "gaussian at transformers' scale"],
)
def test_layouts_targets_and_distributions_are_the_same_when_compiled(
    call: dict[str, Tensor], options: dict[str, Any]
) -> None:
    model, counter = bigram(), CompileCounterWithBackend("aot_eager")
    with attach_noise(model, **options) as noise:
        figures = trained(as_a_wrapper(model, counter), noise, call)
    assert counter.frame_count == 1
    for actual, expected in zip(figures, eager(bigram, call, **options), strict=True):
        torch.testing.assert_close(actual, expected)


def test_a_compiled_model_measures_its_noise() -> None:
    model = bigram()
    with attach_noise(model) as noise:
        trained(as_a_wrapper(model, "aot_eager"), noise, PADDED)
    attested = noise.attestation
    assert (attested.calls, attested.measured_calls, attested.hooks) == (len(ALPHAS), 1, 1)
    assert noise.deviations == ()


def test_a_compiled_model_has_no_noise_after_detach() -> None:
    model = bigram()
    running = as_a_wrapper(model, "aot_eager")
    with attach_noise(model, alpha=50.0):
        assert running(**PADDED).loss.item() != pytest.approx(clean_loss(bigram).item())
    torch.testing.assert_close(running(**PADDED).loss.detach(), clean_loss(bigram))


def test_a_second_attachment_to_a_compiled_model_uses_its_own_seed() -> None:
    model = bigram()
    running = as_a_wrapper(model, "aot_eager")
    losses = []
    for seed in (0, 1, 0):
        with attach_noise(model, alpha=50.0, seed=seed):
            losses.append(running(**PADDED).loss.item())
    assert losses[0] == losses[2] != losses[1]


def test_a_change_to_alpha_0_and_back_takes_effect() -> None:
    model = bigram()
    with attach_noise(model, alpha=50.0) as noise:
        running = as_a_wrapper(model, "aot_eager")
        noisy = [running(**PADDED).loss.item()]
        noise.alpha = 0.0
        torch.testing.assert_close(running(**PADDED).loss.detach(), clean_loss(bigram))
        noise.alpha = 50.0
        noisy.append(running(**PADDED).loss.item())
    assert noise.draws == 2
    assert clean_loss(bigram).item() not in noisy


def test_missing_labels_raise_the_same_error() -> None:
    call = {name: PADDED[name] for name in ("input_ids", "attention_mask")}
    with (
        attach_noise(model := bigram(), target="prompt"),
        pytest.raises(UsageError, match="without labels of the shape of input_ids"),
    ):
        as_a_wrapper(model, "aot_eager")(**call)
