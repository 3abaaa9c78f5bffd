"""Attaching noise to models: what is read from a call, which call is noised, what is refused.

The models' embeddings are zero, so that what they return is the noise itself; and Bernoulli noise has the same size in
every coordinate, so that its size tells the length that was used.
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
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.integrations.neftune import activate_neftune, neftune_post_forward_hook

from neftune_cli.errors import UsageError
from neftune_cli.noise import NEFTuneEmbedding, attach_noise

DIM = 16
IDS = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
MASKED_LENGTHS = [[4, 4, 4, 4], [2, 2, 0, 0]]


def tiny_llama() -> Any:
    sizes = {"hidden_size": DIM, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return with_zero_embeddings(LlamaForCausalLM(LlamaConfig(vocab_size=20, **sizes)))  # type: ignore[arg-type]


def tiny_t5() -> Any:
    config = T5Config(vocab_size=20, d_model=DIM, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    config.decoder_start_token_id = 0
    return with_zero_embeddings(T5ForConditionalGeneration(config))


def tiny_bart() -> Any:
    encoder = {"encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
    decoder = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32}
    config = BartConfig(vocab_size=20, d_model=DIM, **encoder, **decoder)  # type: ignore[arg-type]
    return with_zero_embeddings(BartForConditionalGeneration(config))


def with_zero_embeddings(model: Any) -> Any:
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            nn.init.zeros_(module.weight)
    return model.train()


@contextmanager
def outputs_of(embedding: nn.Module) -> Iterator[list[Tensor]]:
    outputs: list[Tensor] = []
    hook = embedding.register_forward_hook(lambda module, args, output: outputs.append(output.detach().clone()))
    yield outputs
    hook.remove()


def lengths_used(model: Any, *args: Any, alpha: float = 5.0, **kwargs: Any) -> list[list[int]]:
    """Return the length that each token's noise was made for, worked out from its size; 0 where there is none."""
    with (
        attach_noise(model, alpha, noise="bernoulli"),
        outputs_of(model.get_input_embeddings()) as outputs,
    ):
        model(*args, **kwargs)
    norm = outputs[0].norm(dim=-1)  # alpha / sqrt(3 L), by the paper
    return torch.where(norm > 0, alpha**2 / (3 * norm**2), 0.0).round().int().tolist()


def test_the_mask_of_the_call_is_read_by_keyword_and_by_position() -> None:
    assert lengths_used(tiny_llama(), input_ids=IDS, attention_mask=MASK) == MASKED_LENGTHS
    assert lengths_used(tiny_llama(), IDS, attention_mask=MASK) == MASKED_LENGTHS
    assert lengths_used(tiny_llama(), IDS, MASK) == MASKED_LENGTHS


def test_packed_rows_are_read_from_their_positions() -> None:
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2]])
    lengths = lengths_used(tiny_llama(), input_ids=torch.ones(1, 7, dtype=torch.long), position_ids=positions)
    assert lengths == [[4, 4, 4, 4, 3, 3, 3]]


def test_flattened_rows_are_read_from_their_boundaries() -> None:
    boundaries = torch.tensor([0, 4, 7], dtype=torch.int32)
    lengths = lengths_used(tiny_llama(), input_ids=torch.ones(1, 7, dtype=torch.long), cu_seq_lens_q=boundaries)
    assert lengths == [[4, 4, 4, 4, 3, 3, 3]]


def test_without_mask_or_positions_a_row_is_one_example() -> None:
    assert lengths_used(tiny_llama(), IDS) == [[4] * 4] * 2


def test_a_forward_replaced_by_the_trainer_is_read_too() -> None:
    model = tiny_llama()
    original = model.forward
    model.forward = types.MethodType(lambda self, *args, **kwargs: original(*args, **kwargs), model)
    assert lengths_used(model, input_ids=IDS, attention_mask=MASK) == MASKED_LENGTHS
    assert lengths_used(model, IDS, MASK) == MASKED_LENGTHS


@pytest.mark.parametrize("task", ["CAUSAL_LM", None])
def test_a_peft_model_is_read_and_learns(task: str | None) -> None:
    model = get_peft_model(tiny_llama(), LoraConfig(r=2, target_modules=["q_proj"], task_type=task)).train()
    assert lengths_used(model, IDS, MASK) == MASKED_LENGTHS
    with attach_noise(model):
        model(input_ids=IDS, labels=IDS).loss.backward()
    assert all(weight.grad is not None for name, weight in model.named_parameters() if "lora" in name)


def test_a_model_that_peft_wraps_later_keeps_its_noise() -> None:
    inner = tiny_llama()
    with attach_noise(inner) as noise:
        get_peft_model(inner, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")).train()(IDS, MASK)
    assert noise.calls == 1


def test_adapted_embeddings_are_noised() -> None:
    model = get_peft_model(tiny_llama(), LoraConfig(r=2, target_modules=["embed_tokens"], task_type="CAUSAL_LM"))
    assert lengths_used(model.train(), input_ids=IDS, attention_mask=MASK) == MASKED_LENGTHS


def test_gradient_checkpointing_draws_once() -> None:
    model = get_peft_model(tiny_llama(), LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")).train()
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    with attach_noise(model) as noise:
        model(input_ids=IDS, attention_mask=MASK, labels=IDS).loss.backward()
    assert noise.calls == 1


def test_noise_has_the_dtype_of_the_embeddings() -> None:
    model = tiny_llama().to(torch.bfloat16)
    with attach_noise(model), outputs_of(model.get_input_embeddings()) as outputs:
        model(input_ids=IDS)
    assert outputs[0].dtype == torch.bfloat16
    assert outputs[0].any()


@pytest.mark.parametrize("build", [tiny_t5, tiny_bart])
def test_the_encoder_is_noised_and_the_decoder_clean(build: Any) -> None:
    model = build()
    encoder, decoder = model.get_encoder().get_input_embeddings(), model.get_decoder().get_input_embeddings()
    with attach_noise(model) as noise, outputs_of(encoder) as encoded, outputs_of(decoder) as decoded:
        model(input_ids=IDS, attention_mask=MASK, labels=IDS)
    assert noise.calls == 1
    assert encoded[0][MASK == 1].all()
    assert not encoded[0][MASK == 0].any()
    assert not decoded[0].any()


def test_one_embedding_for_encoder_and_decoder_is_noised_for_the_encoder_alone() -> None:
    model = tiny_t5()
    model.set_input_embeddings(model.shared)
    with attach_noise(model), outputs_of(model.shared) as outputs:
        model(input_ids=IDS, labels=IDS)
    assert [bool(output.any()) for output in outputs] == [True, False]


def test_embeddings_that_come_ready_made_are_left_alone() -> None:
    with attach_noise(model := tiny_llama()) as noise:
        model(inputs_embeds=torch.ones(1, 3, DIM))
    assert noise.calls == 0


def test_calls_count_the_noisy_forwards() -> None:
    with attach_noise(model := tiny_llama()) as noise:
        model(input_ids=IDS)
        model.eval()(input_ids=IDS)
        model.train()(input_ids=IDS)
    assert noise.calls == 2
    assert noise.alpha == 5.0


def test_a_compiled_model_gets_the_same_noise() -> None:
    model = tiny_llama()
    with attach_noise(model):
        expected = model(input_ids=IDS, attention_mask=MASK).logits
    with attach_noise(model):
        compiled: Any = torch.compile(model, backend="eager")
        torch.testing.assert_close(compiled(input_ids=IDS, attention_mask=MASK).logits, expected)


def test_a_checkpoint_goes_on_with_the_same_draws() -> None:
    model, file = tiny_llama(), io.BytesIO()
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
    assert noise.calls == 2


@pytest.mark.parametrize("alpha", [-5.0, float("nan"), float("inf")])
def test_an_impossible_alpha_is_refused(alpha: float) -> None:
    with pytest.raises(UsageError, match=f"alpha is {alpha}. Use a finite number"):
        attach_noise(tiny_llama(), alpha)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UsageError, match="noise 'pink' is unknown"):
        attach_noise(tiny_llama(), noise="pink")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="noise scale 'row' is unknown"):
        attach_noise(tiny_llama(), noise_scale="row")  # type: ignore[arg-type]


def test_a_model_without_input_embeddings_is_refused() -> None:
    with pytest.raises(UsageError, match="Linear has no input embeddings"):
        attach_noise(nn.Linear(2, 2))


def test_a_second_attachment_is_refused_until_the_first_is_gone() -> None:
    model = tiny_llama()
    with (
        attach_noise(model),
        pytest.raises(UsageError, match="carries noise from attach_noise or a NEFTuneCallback already"),
    ):
        attach_noise(model)
    attach_noise(model).detach()


def test_noise_on_the_model_inside_is_found_from_outside() -> None:
    inner = tiny_llama()
    outer = get_peft_model(inner, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    with attach_noise(inner), pytest.raises(UsageError, match="already"):
        attach_noise(outer)


def test_an_embedding_that_is_noisy_itself_is_refused() -> None:
    model = tiny_llama()
    model.set_input_embeddings(NEFTuneEmbedding(model.get_input_embeddings()))
    with pytest.raises(UsageError, match="holds a NEFTuneEmbedding already"):
        attach_noise(model)


def test_the_hook_of_transformers_is_refused_before_and_after() -> None:
    model = tiny_llama()
    hook = activate_neftune(model, 5.0)
    with pytest.raises(UsageError, match="transformers' own NEFTune hook"):
        attach_noise(model)
    hook.remove()
    del model.get_input_embeddings().neftune_noise_alpha
    with attach_noise(model):
        activate_neftune(model, 5.0)
        with pytest.raises(UsageError, match="transformers' own NEFTune hook"):
            model(input_ids=IDS)


def test_a_hook_of_transformers_without_its_attribute_is_refused() -> None:
    model = tiny_llama()
    model.get_input_embeddings().register_forward_hook(neftune_post_forward_hook)
    with pytest.raises(UsageError, match="transformers' own NEFTune hook"):
        attach_noise(model)


def test_a_call_past_the_model_that_carries_the_noise_says_so() -> None:
    model = tiny_llama()
    with attach_noise(model), pytest.raises(UsageError, match="not through the model that carries the noise"):
        model.model(input_ids=IDS)


def test_a_forward_that_goes_around_the_embeddings_says_so() -> None:
    class AroundTheEmbedding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(20, DIM)

        def get_input_embeddings(self) -> nn.Module:
            return self.embedding

        def forward(self, input_ids: Tensor) -> Tensor:
            return nn.functional.embedding(input_ids, self.embedding.weight)

    model = AroundTheEmbedding()
    with attach_noise(model), pytest.raises(UsageError, match="without calling the input embeddings"):
        model(IDS)
    with attach_noise(model, alpha=0):
        model(IDS)


def test_a_copy_on_another_device_is_refused() -> None:
    model = tiny_llama()
    with attach_noise(model), pytest.raises(UsageError, match="DataParallel"):
        model._replicate_for_data_parallel()(input_ids=IDS)
