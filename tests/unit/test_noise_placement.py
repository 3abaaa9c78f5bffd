"""Placement of noise in a model: input embedding, multiplier, placeholders and argument names."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from torch import Tensor, nn
from transformers import (
    AfmoeConfig,
    AfmoeForCausalLM,
    BartConfig,
    BartForConditionalGeneration,
    BigBirdConfig,
    BigBirdForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    T5GemmaConfig,
    T5GemmaForConditionalGeneration,
    T5GemmaModuleConfig,
    WhisperConfig,
    WhisperForConditionalGeneration,
    XLNetConfig,
    XLNetLMHeadModel,
)

from neftune_cli.errors import UsageError
from neftune_cli.noise import attach_noise
from neftune_cli.noise.placement import Placement, input_embedding, replaced_embeddings
from tests.tiny_models import tiny_llama

DIM = 16
IDS = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
SIZES: dict[str, Any] = {
    "vocab_size": 20,
    "hidden_size": DIM,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}


def llama() -> Any:
    return tiny_llama(**SIZES)


def t5() -> Any:
    return T5ForConditionalGeneration(T5Config(vocab_size=20, d_model=DIM, d_kv=8, d_ff=16, num_layers=1, num_heads=2))


def bart(*, scale_embedding: bool = False) -> Any:
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = BartConfig(vocab_size=20, d_model=DIM, scale_embedding=scale_embedding, **sizes, **heads)  # type: ignore[arg-type]
    return BartForConditionalGeneration(config)


@pytest.mark.parametrize("build", [t5, bart])
def test_in_an_encoder_decoder_model_the_encoders_embedding_gets_noise(build: Any) -> None:
    model = build()
    assert Placement.of(model).embedding is model.get_encoder().embed_tokens
    assert Placement.of(model).embedding is not model.get_input_embeddings()


def test_in_a_decoder_the_input_embedding_gets_noise() -> None:
    model = llama()
    assert Placement.of(model).embedding is model.model.embed_tokens


def test_a_multiplication_inside_the_embedding_module_is_not_a_multiplier() -> None:
    assert Placement.of(bart(scale_embedding=True)).multiplier == 1.0
    assert Placement.of(llama()).multiplier == 1.0


@pytest.mark.parametrize("multiplier", [12.0, 0.25, 1])
def test_a_multiplication_after_the_embedding_module_is_the_multiplier(multiplier: float) -> None:
    model = GraniteForCausalLM(GraniteConfig(**SIZES, embedding_multiplier=multiplier))
    assert Placement.of(model).multiplier == multiplier
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["embed_tokens"]))
    assert Placement.of(adapted).multiplier == multiplier


def big_bird() -> nn.Module:
    sizes: dict[str, Any] = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    config = BigBirdConfig(vocab_size=20, num_hidden_layers=1, rescale_embeddings=True, is_decoder=True, **sizes)
    return BigBirdForCausalLM(config)


def t5_gemma() -> nn.Module:
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "head_dim": 8}
    module = T5GemmaModuleConfig(vocab_size=20, num_attention_heads=2, num_key_value_heads=1, **sizes)
    return T5GemmaForConditionalGeneration(T5GemmaConfig(encoder=module, decoder=module, vocab_size=20))


def afmoe(*, mup_enabled: bool = True) -> nn.Module:
    return AfmoeForCausalLM(AfmoeConfig(**SIZES, head_dim=8, num_experts=4, mup_enabled=mup_enabled))


@pytest.mark.parametrize("build", [big_bird, t5_gemma, afmoe])
def test_models_that_multiply_by_the_square_root_of_the_width_are_known(build: Callable[[], nn.Module]) -> None:
    assert Placement.of(build()).multiplier == 4.0


def test_afmoe_does_not_multiply_without_its_setting() -> None:
    assert Placement.of(afmoe(mup_enabled=False)).multiplier == 1.0


def test_embeddings_of_a_model_that_looks_up_columns_of_ids_cannot_be_replaced() -> None:
    xlnet: Any = XLNetLMHeadModel(XLNetConfig(vocab_size=20, d_model=DIM, n_layer=1, n_head=2, d_inner=16)).eval()
    fix = "XLNetLMHeadModel does not look up the rows of its input_ids.*Use a model of another architecture"
    with pytest.raises(UsageError, match=fix), replaced_embeddings(xlnet, torch.zeros(1, 4, DIM)):
        xlnet(input_ids=IDS[:1])
    assert not input_embedding(xlnet)._forward_hooks


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ()),
        ({"image_token_id": 7}, (7,)),
        ({"image_token_index": 7, "video_token_id": 3, "audio_token_id": 5}, (3, 5, 7)),
        ({"image_token_id": 7, "video_token_id": 7}, (7,)),
        ({"image_token_id": None}, ()),
    ],
)
def test_placeholders_are_read_from_the_config(options: dict[str, Any], expected: tuple[int, ...]) -> None:
    assert Placement.of(tiny_llama(**SIZES, **options)).placeholders == expected


def test_positional_arguments_are_those_of_the_wrapped_model() -> None:
    first = ("input_ids", "attention_mask", "position_ids")
    assert Placement.of(llama()).argument_names[:3] == first
    untyped = get_peft_model(llama(), LoraConfig(r=2, target_modules=["q_proj"]))
    assert Placement.of(untyped).argument_names[:3] == first
    causal = get_peft_model(llama(), LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    assert Placement.of(causal).argument_names[:2] == first[:2]


ADAPTERS = {
    "LoRA": LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"),
    "IA3": IA3Config(target_modules=["q_proj"], feedforward_modules=[], task_type="CAUSAL_LM"),
    "prefix tuning": PrefixTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"),
    "prompt tuning": PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"),
}


@pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=ADAPTERS)
def test_adapters_get_noise_on_real_tokens_only(adapter: PeftConfig) -> None:
    model = get_peft_model(llama(), adapter).train()
    embedding: Any = input_embedding(model)
    nn.init.zeros_(embedding.weight)
    outputs: list[Tensor] = []
    with attach_noise(model, 6.0, noise="bernoulli") as noise:
        embedding.register_forward_hook(lambda _, __, output: outputs.append(output.detach()))
        model(input_ids=IDS, attention_mask=MASK, labels=IDS).loss.backward()
    norms = 6.0 / (3 * MASK.sum(1, keepdim=True)).sqrt() * MASK  # alpha / sqrt(3 L), by the paper
    torch.testing.assert_close(outputs[0].norm(dim=-1), norms)
    assert noise.draws == 1
    assert all(weight.grad is not None for weight in model.parameters() if weight.requires_grad)


def test_a_quantized_model_gets_noise_in_its_compute_dtype() -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    if not torch.cuda.is_available():
        pytest.skip("bitsandbytes needs a GPU")
    model = llama()
    for layer in model.model.layers:
        linear = layer.mlp.up_proj
        layer.mlp.up_proj = bitsandbytes.nn.Linear4bit(linear.in_features, linear.out_features, bias=False)
    adapted = get_peft_model(model.cuda(), LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")).train()
    with attach_noise(adapted) as noise:
        adapted(input_ids=IDS.cuda(), attention_mask=MASK.cuda(), labels=IDS.cuda()).loss.backward()
    assert noise.draws == 1
    assert noise.deviations == ()


class WithoutEmbeddings(nn.Module):
    def get_input_embeddings(self) -> None:
        return None


class NotImplementedEmbeddings(nn.Module):
    def get_input_embeddings(self) -> nn.Module:
        raise NotImplementedError


@pytest.mark.parametrize("model", [nn.Linear(2, 2), WithoutEmbeddings(), NotImplementedEmbeddings()])
def test_a_model_without_input_embeddings_raises_with_a_fix(model: nn.Module) -> None:
    with pytest.raises(UsageError, match=f"{type(model).__name__} has no input embeddings.*Use a Hugging Face"):
        Placement.of(model)


def test_a_speech_model_raises_in_training() -> None:
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_mel_bins": 4, "max_source_positions": 4}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    config = WhisperConfig(vocab_size=20, d_model=DIM, **sizes, **heads, **tokens)  # type: ignore[arg-type]
    model: Any = WhisperForConditionalGeneration(config).train()
    with attach_noise(model), pytest.raises(UsageError, match="did not call the input embeddings for its input_ids"):
        model(input_features=torch.randn(1, 4, 8), decoder_input_ids=IDS[:1])
