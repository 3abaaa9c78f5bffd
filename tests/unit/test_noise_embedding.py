"""NEFTuneEmbedding: noise in training mode, and attributes and state of the wrapped embedding."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM
from transformers.integrations.neftune import activate_neftune

from neftune_cli.errors import UsageError
from neftune_cli.noise import NEFTuneEmbedding, attach_noise
from tests.tiny_models import tiny_llama

IDS = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])


def plain_embedding() -> nn.Embedding:
    torch.manual_seed(0)
    return nn.Embedding(10, 64, padding_idx=0)


def noise_of(wrapper: NEFTuneEmbedding, *inputs: Tensor) -> Tensor:
    noisy: Tensor = wrapper(*inputs)
    clean: Tensor = wrapper.embedding(inputs[0])
    return (noisy - clean).detach()


def largest(noise: Tensor) -> list[float]:
    return noise.abs().amax(-1).flatten().tolist()


def test_noise_is_added_in_training_mode_only() -> None:
    wrapper = NEFTuneEmbedding(plain_embedding())
    assert not torch.equal(wrapper(IDS), wrapper.embedding(IDS))
    wrapper.eval()
    assert torch.equal(wrapper(IDS), wrapper.embedding(IDS))


def test_noise_is_bounded_by_alpha_over_the_root_of_length_times_dim() -> None:
    bound = 5.0 / (4 * 64) ** 0.5
    assert largest(noise_of(NEFTuneEmbedding(plain_embedding(), 5.0), IDS)) == pytest.approx([bound] * 8, rel=0.15)


def test_a_mask_determines_the_length_of_each_row_and_padding_gets_no_noise() -> None:
    noise = noise_of(NEFTuneEmbedding(plain_embedding(), 5.0), IDS, MASK)
    long, short = 5.0 / (4 * 64) ** 0.5, 5.0 / (2 * 64) ** 0.5
    assert largest(noise) == pytest.approx([long] * 4 + [short] * 2 + [0, 0], rel=0.15)
    assert not noise[1, 2:].any()


def test_a_single_unbatched_row_is_one_example() -> None:
    batched = noise_of(NEFTuneEmbedding(plain_embedding()), IDS[1:], MASK[1:])
    torch.testing.assert_close(noise_of(NEFTuneEmbedding(plain_embedding()), IDS[1], MASK[1]), batched[0])


def test_a_single_id_is_an_example_of_one_token() -> None:
    noise = noise_of(NEFTuneEmbedding(plain_embedding(), 5.0), IDS[0, 0])
    assert largest(noise) == pytest.approx([5.0 / 64**0.5], rel=0.15)


@pytest.mark.parametrize(("ids", "mask"), [(IDS, MASK[:1]), (IDS[0], MASK), (IDS.flatten(), MASK), (IDS, MASK[:, 1:])])
def test_a_mask_of_another_shape_raises(ids: Tensor, mask: Tensor) -> None:
    with pytest.raises(UsageError, match="attention_mask has the shape"):
        NEFTuneEmbedding(plain_embedding())(ids, mask)


def test_set_alpha_rescales_the_same_draws() -> None:
    gentle, strong = NEFTuneEmbedding(plain_embedding(), 5.0), NEFTuneEmbedding(plain_embedding(), 5.0)
    strong.set_alpha(15.0)
    torch.testing.assert_close(noise_of(strong, IDS), 3 * noise_of(gentle, IDS), rtol=1e-4, atol=1e-6)
    strong.set_alpha(0)
    assert torch.equal(strong(IDS), strong.embedding(IDS))


@pytest.mark.parametrize("alpha", [-0.1, float("nan"), float("inf"), float("-inf")])
def test_an_invalid_alpha_raises(alpha: float) -> None:
    with pytest.raises(UsageError, match="alpha must be a finite number"):
        NEFTuneEmbedding(plain_embedding(), alpha)
    with pytest.raises(UsageError, match="alpha must be a finite number"):
        NEFTuneEmbedding(plain_embedding()).set_alpha(alpha)


@pytest.mark.parametrize("seed", ["a", -1, 2**32, 1.5, True])
def test_a_seed_is_a_whole_number(seed: Any) -> None:
    with pytest.raises(UsageError, match="seed must be a whole number from 0 to 4294967295"):
        NEFTuneEmbedding(plain_embedding(), seed=seed)


@pytest.mark.parametrize("module", [nn.Linear(3, 3), torch.ones(3, 3)])
def test_only_an_embedding_can_be_wrapped(module: Any) -> None:
    with pytest.raises(UsageError, match=f"wraps an embedding; {type(module).__name__} was given"):
        NEFTuneEmbedding(module)


def test_a_wrapped_embedding_cannot_be_wrapped_again() -> None:
    with pytest.raises(UsageError, match="already has a NEFTuneEmbedding"):
        NEFTuneEmbedding(NEFTuneEmbedding(plain_embedding()))  # type: ignore[arg-type]


def test_an_embedding_with_attached_noise_cannot_be_wrapped() -> None:
    model = tiny_llama()
    with attach_noise(model), pytest.raises(UsageError, match="already has noise from attach_noise"):
        NEFTuneEmbedding(model.get_input_embeddings())
    NEFTuneEmbedding(model.get_input_embeddings())


def test_an_embedding_with_the_noise_of_transformers_cannot_be_wrapped() -> None:
    model = tiny_llama()
    activate_neftune(model, 5.0)
    with pytest.raises(UsageError, match="transformers' own NEFTune hook"):
        NEFTuneEmbedding(model.get_input_embeddings())


def test_gradients_of_the_weight_equal_those_without_noise() -> None:
    plain, wrapper = plain_embedding(), NEFTuneEmbedding(plain_embedding())
    plain(IDS).sum().backward()
    wrapper(IDS).sum().backward()
    assert torch.equal(wrapper.embedding.weight.grad, plain.weight.grad)  # type: ignore[arg-type]


def test_a_checkpoint_that_would_draw_again_raises() -> None:
    wrapper = NEFTuneEmbedding(plain_embedding())
    output = checkpoint(lambda: wrapper(IDS).square(), use_reentrant=False)
    with pytest.raises(UsageError, match="a second time, in the backward pass"):
        output.sum().backward()
    wrapper.eval()
    checkpoint(lambda: wrapper(IDS).square(), use_reentrant=False).sum().backward()


def test_attributes_are_those_of_the_wrapped_embedding() -> None:
    plain = plain_embedding()
    wrapper = NEFTuneEmbedding(plain)
    assert wrapper.weight is plain.weight
    assert (wrapper.num_embeddings, wrapper.embedding_dim, wrapper.padding_idx) == (10, 64, 0)
    assert "alpha=5, noise=uniform, seed=0" in repr(wrapper)


def test_a_state_dict_fits_with_and_without_the_wrapper() -> None:
    plain, wrapper = plain_embedding(), NEFTuneEmbedding(nn.Embedding(10, 64))
    assert wrapper.state_dict().keys() == plain.state_dict().keys()
    wrapper.load_state_dict(plain.state_dict())
    assert torch.equal(wrapper.weight, plain.weight)
    plain.load_state_dict(wrapper.state_dict())


def test_a_deep_copy_continues_with_the_same_draws() -> None:
    wrapper = NEFTuneEmbedding(plain_embedding())
    wrapper(IDS)
    assert torch.equal(copy.deepcopy(wrapper)(IDS), wrapper(IDS))


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_saved_with_the_wrapper_loads_without_it(tied: bool, tmp_path: Path) -> None:
    model = tiny_llama(vocab_size=10, intermediate_size=16, tie_word_embeddings=tied)
    model.set_input_embeddings(NEFTuneEmbedding(model.get_input_embeddings()))
    model.tie_weights()
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == tied
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(loaded.get_input_embeddings()) is nn.Embedding
    assert torch.equal(loaded(IDS).logits, model.eval()(IDS).logits)
