"""Noise attached to models: arguments of a call, selection of the noisy call, and errors.

The embeddings of the models are zero, so their output is the noise. Bernoulli noise has the same magnitude in every
coordinate, which determines the length in the formula.
"""

import io
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.integrations.neftune import activate_neftune, neftune_post_forward_hook

from neftune_cli.errors import UsageError
from neftune_cli.noise import NEFTuneEmbedding, attach_noise
from tests.tiny_models import tiny_llama, with_zero_embeddings

DIM = 16
IDS = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
MASKED_LENGTHS = [[4, 4, 4, 4], [2, 2, 0, 0]]


def zeroed_llama() -> Any:
    return with_zero_embeddings(tiny_llama(hidden_size=DIM))


def tiny_t5() -> Any:
    config = T5Config(vocab_size=20, d_model=DIM, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    config.decoder_start_token_id = 0
    return with_zero_embeddings(T5ForConditionalGeneration(config))


def tiny_bart() -> Any:
    encoder = {"encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
    decoder = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32}
    config = BartConfig(vocab_size=20, d_model=DIM, **encoder, **decoder)  # type: ignore[arg-type]
    return with_zero_embeddings(BartForConditionalGeneration(config))


@contextmanager
def outputs_of(embedding: nn.Module) -> Iterator[list[Tensor]]:
    outputs: list[Tensor] = []
    hook = embedding.register_forward_hook(lambda module, args, output: outputs.append(output.detach().clone()))
    yield outputs
    hook.remove()


def lengths_used(model: Any, *args: Any, alpha: float = 5.0, **kwargs: Any) -> list[list[int]]:
    """Return the length in the formula of each token's noise, computed from its norm; 0 without noise."""
    with (
        attach_noise(model, alpha, noise="bernoulli"),
        outputs_of(model.get_input_embeddings()) as outputs,
    ):
        model(*args, **kwargs)
    norm = outputs[0].norm(dim=-1)  # alpha / sqrt(3 L), by the paper
    return torch.where(norm > 0, alpha**2 / (3 * norm**2), 0.0).round().int().tolist()


def test_the_mask_is_read_from_keyword_and_positional_arguments() -> None:
    assert lengths_used(zeroed_llama(), input_ids=IDS, attention_mask=MASK) == MASKED_LENGTHS
    assert lengths_used(zeroed_llama(), IDS, attention_mask=MASK) == MASKED_LENGTHS
    assert lengths_used(zeroed_llama(), IDS, MASK) == MASKED_LENGTHS


def test_packed_rows_are_read_from_their_positions() -> None:
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2]])
    lengths = lengths_used(zeroed_llama(), input_ids=torch.ones(1, 7, dtype=torch.long), position_ids=positions)
    assert lengths == [[4, 4, 4, 4, 3, 3, 3]]


def test_flattened_rows_are_read_from_their_boundaries() -> None:
    boundaries = torch.tensor([0, 4, 7], dtype=torch.int32)
    lengths = lengths_used(zeroed_llama(), input_ids=torch.ones(1, 7, dtype=torch.long), cu_seq_lens_q=boundaries)
    assert lengths == [[4, 4, 4, 4, 3, 3, 3]]


def test_without_mask_or_positions_a_row_is_one_example() -> None:
    assert lengths_used(zeroed_llama(), IDS) == [[4] * 4] * 2


def test_arguments_of_a_forward_replaced_by_the_trainer_are_read() -> None:
    model = zeroed_llama()
    original = model.forward
    model.forward = types.MethodType(lambda self, *args, **kwargs: original(*args, **kwargs), model)
    assert lengths_used(model, input_ids=IDS, attention_mask=MASK) == MASKED_LENGTHS
    assert lengths_used(model, IDS, MASK) == MASKED_LENGTHS


@pytest.mark.parametrize("task", ["CAUSAL_LM", None])
def test_a_peft_model_gets_noise_and_gradients(task: str | None) -> None:
    model = get_peft_model(zeroed_llama(), LoraConfig(r=2, target_modules=["q_proj"], task_type=task)).train()
    assert lengths_used(model, IDS, MASK) == MASKED_LENGTHS
    with attach_noise(model):
        model(input_ids=IDS, labels=IDS).loss.backward()
    assert all(weight.grad is not None for name, weight in model.named_parameters() if "lora" in name)


def test_a_model_that_peft_wraps_later_keeps_its_noise() -> None:
    inner = zeroed_llama()
    with attach_noise(inner) as noise:
        get_peft_model(inner, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")).train()(IDS, MASK)
    assert noise.draws == 1


def test_adapted_embeddings_get_noise() -> None:
    model = get_peft_model(zeroed_llama(), LoraConfig(r=2, target_modules=["embed_tokens"], task_type="CAUSAL_LM"))
    assert lengths_used(model.train(), input_ids=IDS, attention_mask=MASK) == MASKED_LENGTHS


def test_gradient_checkpointing_draws_once() -> None:
    model = get_peft_model(zeroed_llama(), LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")).train()
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    with attach_noise(model) as noise:
        model(input_ids=IDS, attention_mask=MASK, labels=IDS).loss.backward()
    assert noise.draws == 1


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpoint_around_the_whole_model_raises(reentrant: bool) -> None:
    model = zeroed_llama()
    start = torch.ones((), requires_grad=True)  # a reentrant checkpoint needs an input with a gradient

    def logits(_: Tensor) -> Tensor:
        found: Tensor = model(input_ids=IDS, attention_mask=MASK).logits
        return found

    with attach_noise(model) as noise:
        output = checkpoint(logits, start, use_reentrant=reentrant)
        with pytest.raises(UsageError, match="a second time, in the backward pass"):
            output.logsumexp(-1).sum().backward()
        model.zero_grad()
        model(input_ids=IDS, attention_mask=MASK, labels=IDS).loss.backward()
    assert noise.deviations == ()


def test_noise_has_the_dtype_of_the_embeddings() -> None:
    model = zeroed_llama().to(torch.bfloat16)
    with attach_noise(model), outputs_of(model.get_input_embeddings()) as outputs:
        model(input_ids=IDS)
    assert outputs[0].dtype == torch.bfloat16
    assert outputs[0].any()


@pytest.mark.parametrize("build", [tiny_t5, tiny_bart])
def test_the_encoder_gets_noise_and_the_decoder_does_not(build: Any) -> None:
    model = build()
    encoder, decoder = model.get_encoder().get_input_embeddings(), model.get_decoder().get_input_embeddings()
    with attach_noise(model) as noise, outputs_of(encoder) as encoded, outputs_of(decoder) as decoded:
        model(input_ids=IDS, attention_mask=MASK, labels=IDS)
    assert noise.draws == 1
    assert encoded[0][MASK == 1].all()
    assert not encoded[0][MASK == 0].any()
    assert not decoded[0].any()


def test_a_shared_embedding_gets_noise_in_the_encoder_call_only() -> None:
    model = tiny_t5()
    model.set_input_embeddings(model.shared)
    with attach_noise(model), outputs_of(model.shared) as outputs:
        model(input_ids=IDS, labels=IDS)
    assert [bool(output.any()) for output in outputs] == [True, False]


def test_inputs_embeds_get_no_noise() -> None:
    with attach_noise(model := zeroed_llama()) as noise:
        model(inputs_embeds=torch.ones(1, 3, DIM))
    assert noise.draws == 0


def test_calls_is_the_number_of_noisy_forwards() -> None:
    with attach_noise(model := zeroed_llama()) as noise:
        model(input_ids=IDS)
        model.eval()(input_ids=IDS)
        model.train()(input_ids=IDS)
    assert noise.draws == 2
    assert noise.alpha == 5.0


def test_a_compiled_model_gets_the_same_noise() -> None:
    model = zeroed_llama()
    with attach_noise(model):
        expected = model(input_ids=IDS, attention_mask=MASK).logits
    with attach_noise(model):
        compiled: Any = torch.compile(model, backend="eager")
        torch.testing.assert_close(compiled(input_ids=IDS, attention_mask=MASK).logits, expected)


def test_a_checkpoint_resumes_the_draws() -> None:
    model, file = zeroed_llama(), io.BytesIO()
    with attach_noise(model) as noise, outputs_of(model.get_input_embeddings()) as whole:
        model(input_ids=IDS)
        torch.save(noise.state_dict(), file)
        model(input_ids=IDS)
    file.seek(0)
    with attach_noise(model) as noise, outputs_of(model.get_input_embeddings()) as resumed:
        noise.load_state_dict(torch.load(file, weights_only=True))
        model(input_ids=IDS)
    assert not torch.equal(whole[0], whole[1])
    assert torch.equal(resumed[0], whole[1])
    assert noise.draws == 2


@pytest.mark.parametrize("alpha", [-5.0, float("nan"), float("inf")])
def test_an_invalid_alpha_raises(alpha: float) -> None:
    with pytest.raises(UsageError, match=f"alpha must be a finite number, 0 or larger; {alpha} was given"):
        attach_noise(zeroed_llama(), alpha)


def test_unknown_names_raise() -> None:
    with pytest.raises(UsageError, match="noise distribution 'pink' is unknown"):
        attach_noise(zeroed_llama(), noise="pink")
    with pytest.raises(UsageError, match="noise scale 'row' is unknown"):
        attach_noise(zeroed_llama(), noise_scale="row")  # type: ignore[arg-type]


def test_a_model_without_input_embeddings_raises() -> None:
    with pytest.raises(UsageError, match="Linear has no input embeddings"):
        attach_noise(nn.Linear(2, 2))


def test_a_second_attachment_raises_until_the_first_is_detached() -> None:
    model = zeroed_llama()
    with (
        attach_noise(model),
        pytest.raises(UsageError, match="already has noise from attach_noise or a NEFTuneCallback"),
    ):
        attach_noise(model)
    attach_noise(model).detach()


def test_noise_on_a_wrapped_model_is_found() -> None:
    inner = zeroed_llama()
    outer = get_peft_model(inner, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    with attach_noise(inner), pytest.raises(UsageError, match="already"):
        attach_noise(outer)


def test_attaching_to_a_neftune_embedding_raises() -> None:
    model = zeroed_llama()
    model.set_input_embeddings(NEFTuneEmbedding(model.get_input_embeddings()))
    with pytest.raises(UsageError, match="already has a NEFTuneEmbedding"):
        attach_noise(model)


def test_the_hook_of_transformers_raises_before_and_after_attaching() -> None:
    model = zeroed_llama()
    hook = activate_neftune(model, 5.0)
    with pytest.raises(UsageError, match="transformers' own NEFTune hook"):
        attach_noise(model)
    hook.remove()
    del model.get_input_embeddings().neftune_noise_alpha
    with attach_noise(model):
        activate_neftune(model, 5.0)
        with pytest.raises(UsageError, match="transformers' own NEFTune hook"):
            model(input_ids=IDS)


def test_a_hook_of_transformers_without_its_attribute_raises() -> None:
    model = zeroed_llama()
    model.get_input_embeddings().register_forward_hook(neftune_post_forward_hook)
    with pytest.raises(UsageError, match="transformers' own NEFTune hook"):
        attach_noise(model)


def test_a_call_that_bypasses_the_attached_model_raises() -> None:
    model = zeroed_llama()
    with attach_noise(model), pytest.raises(UsageError, match="not through the model that the noise is attached to"):
        model.model(input_ids=IDS)


def test_a_forward_that_bypasses_the_embeddings_raises() -> None:
    class BypassesEmbedding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(20, DIM)

        def get_input_embeddings(self) -> nn.Module:
            return self.embedding

        def forward(self, input_ids: Tensor) -> Tensor:
            return nn.functional.embedding(input_ids, self.embedding.weight)

    model = BypassesEmbedding()
    with attach_noise(model), pytest.raises(UsageError, match="did not call the input embeddings"):
        model(IDS)
    with attach_noise(model, alpha=0):
        model(IDS)


def test_a_data_parallel_copy_raises() -> None:
    model = zeroed_llama()
    with attach_noise(model), pytest.raises(UsageError, match="DataParallel"):
        model._replicate_for_data_parallel()(input_ids=IDS)
