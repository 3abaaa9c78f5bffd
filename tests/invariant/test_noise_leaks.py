"""Invariant 3: no noise in evaluation, generation or the output head, and no hook left on any exit."""

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from neftune_cli.errors import UsageError
from neftune_cli.noise import attach_noise
from tests.tiny_models import hooks_on, tiny_llama

IDS = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])


def generate(model: Any) -> list[list[int]]:
    return model.generate(IDS, max_new_tokens=6, do_sample=False, pad_token_id=0).tolist()  # type: ignore[no-any-return]


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def fail(*_: object) -> None:
    raise RuntimeError("out of memory")


def test_evaluation_mode_has_no_noise() -> None:
    model = tiny_llama().eval()
    expected = model(input_ids=IDS).logits
    with attach_noise(model, alpha=50.0) as noise:
        assert torch.equal(model(input_ids=IDS).logits, expected)
    assert noise.draws == 0


def test_generation_has_no_noise_in_training_mode() -> None:
    model = tiny_llama()
    expected = generate(model)
    with attach_noise(model, alpha=500.0) as noise:
        assert generate(model) == expected
    assert model.training
    assert noise.draws == 0


def test_a_forward_without_gradients_has_no_noise() -> None:
    model = tiny_llama()
    with attach_noise(model, alpha=50.0), torch.no_grad():
        noisy = model(input_ids=IDS).logits
    assert torch.equal(noisy, model(input_ids=IDS).logits)


def test_a_tied_head_uses_the_weight_without_noise() -> None:
    model = tiny_llama(tie_word_embeddings=True)
    clean = model(input_ids=IDS, output_hidden_states=True)
    weight = model.get_input_embeddings().weight.detach().clone()
    with attach_noise(model, alpha=50.0):
        noisy = model(input_ids=IDS, output_hidden_states=True)
    torch.testing.assert_close(noisy.logits, noisy.hidden_states[-1] @ weight.T)
    assert not torch.equal(noisy.hidden_states[0], clean.hidden_states[0])
    assert torch.equal(model.get_input_embeddings().weight, weight)


def test_no_hook_is_left_after_success() -> None:
    model = tiny_llama()
    expected = model(input_ids=IDS).logits
    with attach_noise(model) as noise:
        assert hooks_on(model) > 0
        assert not torch.equal(model(input_ids=IDS).logits, expected)
    assert hooks_on(model) == 0
    assert torch.equal(model(input_ids=IDS).logits, expected)
    noise.detach()


@pytest.mark.parametrize(("failure", "error"), [(fail, RuntimeError), (interrupt, KeyboardInterrupt)])
def test_no_hook_is_left_when_a_forward_fails(failure: Any, error: type[BaseException]) -> None:
    model = tiny_llama()
    breaking = model.lm_head.register_forward_hook(failure)
    with pytest.raises(error), attach_noise(model):
        model(input_ids=IDS)
    breaking.remove()
    assert hooks_on(model) == 0
    with attach_noise(model):
        model(input_ids=IDS)


def test_no_hook_is_left_when_a_generator_is_closed() -> None:
    def steps(model: Any) -> Iterator[float]:
        with attach_noise(model):
            while True:
                yield model(input_ids=IDS, labels=IDS).loss.item()

    model = tiny_llama()
    training = steps(model)
    next(training)
    assert hooks_on(model) > 0
    training.close()  # type: ignore[attr-defined]
    assert hooks_on(model) == 0


def test_no_hook_is_left_by_an_attachment_that_raises() -> None:
    model = tiny_llama()
    for options in ({"alpha": -1.0}, {"noise": "pink"}, {"noise_scale": "row"}):
        with pytest.raises(UsageError):
            attach_noise(model, **options)
    assert hooks_on(model) == 0


def saved_and_loaded(model: Any) -> Any:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model)), saved_and_loaded])
def test_a_copy_of_a_model_with_noise_has_none(copied: Callable[[Any], Any]) -> None:
    model = tiny_llama()
    expected = model(input_ids=IDS).logits
    with attach_noise(model, alpha=50.0) as noise:
        model(input_ids=IDS)
        made = copied(model)
        assert torch.equal(made(input_ids=IDS).logits, expected)
        assert not torch.equal(model(input_ids=IDS).logits, expected)
        assert noise.draws == 2
    assert torch.equal(made(input_ids=IDS).logits, expected)
    with attach_noise(made, alpha=50.0) as noise:
        assert not torch.equal(made(input_ids=IDS).logits, expected)
        copy.deepcopy(made)
    assert noise.draws == 1
    assert torch.equal(made(input_ids=IDS).logits, expected)


def test_the_batch_is_cleared_when_its_forward_fails() -> None:
    model = tiny_llama()
    model.lm_head.register_forward_hook(fail)
    with attach_noise(model):
        with pytest.raises(RuntimeError, match="out of memory"):
            model(input_ids=IDS)
        with pytest.raises(UsageError, match="not through the model"):
            model.get_input_embeddings()(IDS)
