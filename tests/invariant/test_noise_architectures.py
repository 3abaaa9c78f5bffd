"""Input of the first layer in several architectures, compared with the paper's formula and transformers' hook.

The reference is the formula of the authors' train.py, in numpy: uniform noise of half-width alpha / sqrt(L * dim),
where L is the sum of the example's mask, and no noise on padding. The noise is the difference between the first
layer's inputs in training and in evaluation. The models have no dropout.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model
from scipy import stats
from torch import Tensor, nn
from transformers.integrations.neftune import neftune_post_forward_hook

from neftune_cli.noise import attach_noise

ALPHA = 5.0
DIM = 32
COPIES = 60
"""Number of copies of each example in the batch; every copy gets a separate draw."""
IMAGE = 39
MASK = torch.tensor([[1] * 12, [0] * 5 + [1] * 7, [1] * 3 + [0] * 9])
LENGTHS = (12, 7, 3)

Noise = NDArray[np.float32]
"""(examples, copies, length, dim)"""

DECODER: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": DIM,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}
VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,  # so that an image is 4 patches
}


@dataclass(frozen=True)
class Architecture:
    """A tiny model of one architecture and its modules under test."""

    name: str
    build: Callable[[], Any]
    first_layer: Callable[[Any], nn.Module]
    embedding: Callable[[Any], nn.Module] = lambda model: model.get_input_embeddings()
    multiplier: float = 1.0
    """Factor on the embeddings after their module; `hf` noise, like that of transformers, is multiplied by it."""

    def __str__(self) -> str:
        return self.name


def first_decoder_layer(model: Any) -> nn.Module:
    return model.model.layers[0]  # type: ignore[no-any-return]


def llama() -> Any:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**DECODER))


def gpt2() -> Any:
    sizes = {"vocab_size": 40, "n_positions": 16, "n_embd": DIM, "n_layer": 1, "n_head": 2}
    config = transformers.GPT2Config(**sizes, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0)  # type: ignore[arg-type]
    return transformers.GPT2LMHeadModel(config)


def gemma3() -> Any:
    return transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(**DECODER, head_dim=16))


def qwen3() -> Any:
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**DECODER, head_dim=16))


def granite() -> Any:
    return transformers.GraniteForCausalLM(transformers.GraniteConfig(**DECODER, embedding_multiplier=12.0))


def falcon_h1() -> Any:
    mamba = {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1}
    config = transformers.FalconH1Config(**DECODER, **mamba, mamba_chunk_size=4, embedding_multiplier=7.0)  # type: ignore[arg-type]
    return transformers.FalconH1ForCausalLM(config)


def recurrent_gemma() -> Any:
    sizes = DECODER | {"num_hidden_layers": 3, "num_key_value_heads": 1}
    return transformers.RecurrentGemmaForCausalLM(
        transformers.RecurrentGemmaConfig(**sizes, lru_width=DIM, attention_window_size=16)
    )


def afmoe() -> Any:
    sizes = DECODER | {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    return transformers.AfmoeForCausalLM(transformers.AfmoeConfig(**sizes, mup_enabled=True))


def ctrl() -> Any:
    sizes = {"vocab_size": 40, "n_positions": 16, "n_embd": DIM, "dff": 16, "n_layer": 1, "n_head": 2}
    return transformers.CTRLLMHeadModel(transformers.CTRLConfig(**sizes, embd_pdrop=0.0, resid_pdrop=0.0))  # type: ignore[arg-type]


def t5() -> Any:
    config = transformers.T5Config(
        vocab_size=40, d_model=DIM, d_kv=8, d_ff=16, num_layers=1, num_heads=2, dropout_rate=0.0
    )
    return transformers.T5ForConditionalGeneration(config)


def pegasus() -> Any:
    config = transformers.PegasusConfig(
        vocab_size=40,
        d_model=DIM,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        dropout=0.0,
        scale_embedding=True,
    )
    return transformers.PegasusForConditionalGeneration(config)


def encoder_embedding(model: Any) -> nn.Module:
    return model.get_encoder().embed_tokens  # type: ignore[no-any-return]


LLAMA = Architecture("Llama", llama, first_decoder_layer)
GRANITE = Architecture("Granite", granite, first_decoder_layer, multiplier=12.0)
GEMMA3 = Architecture("Gemma 3", gemma3, first_decoder_layer)
T5 = Architecture("T5", t5, lambda model: model.encoder.block[0], encoder_embedding)
ARCHITECTURES = (
    LLAMA,
    Architecture("GPT-2", gpt2, lambda model: model.transformer.h[0]),
    GEMMA3,
    Architecture("Qwen 3", qwen3, first_decoder_layer),
    GRANITE,
    Architecture("Falcon-H1", falcon_h1, first_decoder_layer, multiplier=7.0),
    T5,
    Architecture(
        "Pegasus", pegasus, lambda model: model.model.encoder.layers[0], encoder_embedding, multiplier=DIM**0.5
    ),
)
UNNAMED_MULTIPLIER = (
    Architecture("RecurrentGemma", recurrent_gemma, first_decoder_layer, multiplier=DIM**0.5),
    Architecture("AFMoE", afmoe, first_decoder_layer, multiplier=DIM**0.5),
    Architecture("CTRL", ctrl, lambda model: model.transformer.h[0], multiplier=DIM**0.5),
)


def received(model: Any, first_layer: nn.Module, call: dict[str, Tensor]) -> Tensor:
    """Return the input of the first layer in one forward: (batch, length, dim)."""
    inputs: list[Tensor] = []

    def remember(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        inputs.append((args[0] if args else kwargs["hidden_states"]).detach().clone())

    hook = first_layer.register_forward_pre_hook(remember, with_kwargs=True)
    model(**call)
    hook.remove()
    return inputs[0]


def added(model: Any, first_layer: nn.Module, call: dict[str, Tensor]) -> Tensor:
    """Return the noise in the input of the first layer: (batch, length, dim)."""
    noisy = received(model.train(), first_layer, call)
    return noisy - received(model.eval(), first_layer, call)


def batch(model: Any) -> dict[str, Tensor]:
    torch.manual_seed(1)
    mask = MASK.repeat_interleave(COPIES, 0)
    ids = torch.randint(3, 30, mask.shape)
    decoder = {"decoder_input_ids": ids[:, :2]} if model.config.is_encoder_decoder else {}
    return {"input_ids": ids, "attention_mask": mask, **decoder}


def model_of(architecture: Architecture) -> Any:
    torch.manual_seed(0)
    model = architecture.build()
    for module in model.modules():  # small relative to the noise, so that rounding of the difference is negligible
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=1e-3)
    return model


def our_noise(architecture: Architecture, **options: Any) -> Noise:
    model = model_of(architecture)
    with attach_noise(model, ALPHA, **options):
        noise = added(model, architecture.first_layer(model), batch(model))
    return noise.view(len(LENGTHS), COPIES, -1, DIM).numpy()


def upstream_noise(architecture: Architecture) -> Noise:
    """Return the noise of transformers' hook on the embedding that forward calls; in T5, transformers uses another."""
    model = model_of(architecture)
    embedding: Any = architecture.embedding(model)
    embedding.neftune_noise_alpha = ALPHA
    embedding.register_forward_hook(neftune_post_forward_hook)
    noise = added(model, architecture.first_layer(model), batch(model))
    return noise.view(len(LENGTHS), COPIES, -1, DIM).numpy()


def assert_formula_of_the_paper(noise: Noise) -> None:
    for row, length in enumerate(LENGTHS):
        real = MASK[row].bool().numpy()
        half_width = ALPHA / np.sqrt(length * DIM)
        values = noise[row][:, real].ravel()
        assert np.abs(values).max() == pytest.approx(half_width, rel=0.01)
        assert np.abs(values).max() <= half_width + 1e-5
        assert values.var() == pytest.approx(ALPHA**2 / (3 * length * DIM), rel=0.05)
        assert stats.kstest(values / half_width, stats.uniform(-1, 2).cdf).pvalue > 0.001
        assert not noise[row][:, ~real].any()


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
def test_the_first_layer_receives_the_papers_noise(architecture: Architecture) -> None:
    assert_formula_of_the_paper(our_noise(architecture))


@pytest.mark.parametrize("architecture", UNNAMED_MULTIPLIER, ids=str)
def test_the_first_layer_receives_the_papers_noise_after_an_unnamed_multiplier(architecture: Architecture) -> None:
    assert_formula_of_the_paper(our_noise(architecture))


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
def test_the_hf_scale_has_the_distribution_of_transformers_noise(architecture: Architecture) -> None:
    ours, theirs = our_noise(architecture, noise_scale="hf"), upstream_noise(architecture)
    assert np.abs(ours).max() == pytest.approx(ALPHA / np.sqrt(12 * DIM) * architecture.multiplier, rel=0.01)
    assert stats.ks_2samp(ours.ravel(), theirs.ravel()).pvalue > 0.001
    assert ours[:, :, MASK[2] == 0].all()  # padding is noisy too


def llava() -> Any:
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**VISION),
        text_config=transformers.LlamaConfig(**DECODER),
        image_token_index=IMAGE,
    )
    return transformers.LlavaForConditionalGeneration(config)


def gemma3_with_images() -> Any:
    config = transformers.Gemma3Config(
        vision_config=transformers.SiglipVisionConfig(**VISION),
        text_config=transformers.Gemma3TextConfig(**DECODER, head_dim=16),
        image_token_index=IMAGE,
        boi_token_index=37,
        eoi_token_index=38,
        mm_tokens_per_image=4,
    )
    return transformers.Gemma3ForConditionalGeneration(config)


@pytest.mark.parametrize("build", [llava, gemma3_with_images])
def test_image_placeholders_get_no_noise_and_are_not_counted(build: Callable[[], Any]) -> None:
    torch.manual_seed(0)
    model, image = build(), [IMAGE] * 4
    ids = torch.tensor([[1, 2, *image, 3, 4], [5, *image, 6, 0, 0], [1, 2, 3, 4, 5, 6, 7, 0]])
    call = {"input_ids": ids, "attention_mask": (ids != 0).long(), "pixel_values": torch.randn(2, 3, 8, 8)}
    if build is gemma3_with_images:
        call["token_type_ids"] = (ids == IMAGE).long()
    with attach_noise(model, ALPHA, noise="bernoulli") as noise:
        norms = added(model, model.model.language_model.layers[0], call).norm(dim=-1)
    text = torch.tensor([[4.0], [2.0], [7.0]])  # tokens of each example that are neither image nor padding
    expected = torch.where((ids == 0) | (ids == IMAGE), 0.0, ALPHA / torch.sqrt(3 * text))
    torch.testing.assert_close(norms, expected, rtol=1e-5, atol=0)
    assert noise.deviations == ()
    assert noise.attestation.noised_padding == 0


@pytest.mark.parametrize("architecture", [LLAMA, GEMMA3, GRANITE, T5], ids=str)
@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["embed_tokens"]},
        {"target_modules": "all-linear", "modules_to_save": ["embed_tokens"]},
        {"target_modules": "all-linear", "trainable_token_indices": {"embed_tokens": [1, 4]}},
    ],
    ids=["LoRA on the embeddings", "full embeddings trained", "some tokens trained"],
)
def test_an_adapter_on_the_embeddings_does_not_change_the_noise(
    architecture: Architecture, options: dict[str, Any]
) -> None:
    model = model_of(architecture)
    layer = architecture.first_layer(model)
    with attach_noise(adapted := get_peft_model(model, LoraConfig(r=2, **options)), ALPHA):
        noise = added(adapted, layer, batch(model))
    assert_formula_of_the_paper(noise.view(len(LENGTHS), COPIES, -1, DIM).numpy())


@pytest.mark.parametrize("architecture", [LLAMA, GEMMA3, GRANITE], ids=str)
def test_gradients_of_a_tied_weight_equal_those_with_noisy_inputs_embeds(architecture: Architecture) -> None:
    model = model_of(architecture)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    weight, call = model.get_input_embeddings().weight, batch(model)
    outputs: list[Tensor] = []
    with attach_noise(model, ALPHA):
        hook = model.get_input_embeddings().register_forward_hook(lambda _, __, output: outputs.append(output.detach()))
        noisy = model.train()(**call, labels=call["input_ids"])
        hook.remove()
    (gradient,) = torch.autograd.grad(noisy.loss, weight)

    clean = model.get_input_embeddings()(ids := call["input_ids"])
    given = clean + (outputs[0] - clean.detach())
    reference = model(inputs_embeds=given, attention_mask=call["attention_mask"], labels=ids)
    (expected,) = torch.autograd.grad(reference.loss, weight)
    assert model.lm_head.weight is weight
    torch.testing.assert_close(noisy.logits, reference.logits)
    torch.testing.assert_close(gradient, expected)
