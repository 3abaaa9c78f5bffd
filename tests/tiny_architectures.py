"""Tiny models with random weights of many architectures, saved with the tokenizer of the bundled model."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSeq2SeqLM,
)

from neftune_cli.data.examples import Example, TokenizedExample
from neftune_cli.models.sources import BUNDLED_MODEL_DIRECTORY

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
TOKENS: dict[str, Any] = {"vocab_size": 2048, "bos_token_id": None, "eos_token_id": 5, "pad_token_id": 1}
HEADS: dict[str, Any] = {
    **TOKENS,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
}
DECODER: dict[str, Any] = {**HEADS, "num_key_value_heads": 2}
EXPERTS: dict[str, Any] = {**DECODER, "num_experts": 4, "num_experts_per_tok": 2}
LOCAL_EXPERTS: dict[str, Any] = {**DECODER, "num_local_experts": 4, "num_experts_per_tok": 2}
GPT: dict[str, Any] = {**TOKENS, "n_positions": 512, "n_embd": 32, "n_layer": 2, "n_head": 4}
STATES: dict[str, Any] = {**TOKENS, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
MAMBA: dict[str, Any] = {"mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 16}
VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}


@dataclass(frozen=True)
class Architecture:
    """The configuration of a tiny model, and what full fine-tuning and LoRA on it lead to."""

    name: str
    settings: dict[str, Any]
    model_type: str = ""
    """Type in transformers, if it is not the name."""
    model_class: Any = AutoModelForCausalLM
    full: str = ""
    """Part of the message that refuses full fine-tuning; empty if the model is trained."""
    lora: str | None = None
    """The same for LoRA; None if it is as for full fine-tuning."""

    def __str__(self) -> str:
        return self.name

    def refusal(self, *, lora: bool) -> str:
        """Return a part of the message that refuses the training, or an empty text."""
        return self.lora if lora and self.lora is not None else self.full

    def save(self, folder: Path) -> Path:
        """Save the model, with random weights, and a tokenizer in a new folder; return it."""
        directory = folder / self.name
        torch.manual_seed(0)
        config = CONFIG_MAPPING[self.model_type or self.name](**self.settings)
        self.model_class.from_config(config).save_pretrained(directory)
        for name in TOKENIZER_FILES:
            shutil.copy(BUNDLED_MODEL_DIRECTORY / name, directory / name)
        return directory


NO_LORA = "cannot be trained with LoRA adapters: Module 'out_proj' is incompatible with Mamba-based models"
ENCODER_DECODER = "is an encoder-decoder model"

ARCHITECTURES = (
    Architecture("llama", DECODER),
    Architecture("llama_tied", {**DECODER, "tie_word_embeddings": True}, "llama"),
    Architecture("mistral", {**DECODER, "sliding_window": 16}),
    Architecture("qwen2", DECODER),
    Architecture("qwen3", {**DECODER, "head_dim": 16}),
    Architecture("phi", HEADS),
    Architecture("phi3", DECODER),
    Architecture("gemma", {**DECODER, "head_dim": 16}),
    Architecture("gemma2", {**DECODER, "head_dim": 16, "query_pre_attn_scalar": 16}),
    Architecture("gemma3_text", {**DECODER, "head_dim": 16}),
    Architecture("olmo2", DECODER),
    Architecture("granite", {**DECODER, "logits_scaling": 8.0, "embedding_multiplier": 12.0}),
    Architecture("starcoder2", DECODER),
    Architecture("cohere", DECODER),
    Architecture("smollm3", DECODER),
    Architecture("stablelm", DECODER),
    Architecture("glm4", {**DECODER, "head_dim": 16}),
    Architecture("exaone4", DECODER),
    # learned positions, LayerNorm and dropout
    Architecture("gpt2", GPT),
    Architecture("gpt_bigcode", GPT),
    Architecture(
        "gpt_neo",
        {
            **TOKENS,
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "max_position_embeddings": 512,
        },
    ),
    Architecture("opt", {**HEADS, "ffn_dim": 64, "word_embed_proj_dim": 32}),
    Architecture(
        "opt_projected", {**HEADS, "ffn_dim": 64, "word_embed_proj_dim": 16, "do_layer_norm_before": False}, "opt"
    ),
    Architecture("biogpt", HEADS),
    # rotary positions, and ALiBi
    Architecture("gpt_neox", HEADS),
    Architecture("gptj", {**GPT, "rotary_dim": 4}),
    Architecture("falcon", HEADS),
    Architecture("falcon_alibi", {**HEADS, "alibi": True}, "falcon"),
    Architecture("bloom", {**TOKENS, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    Architecture("mpt", {**TOKENS, "d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 512}),
    # mixtures of experts
    Architecture("mixtral", LOCAL_EXPERTS),
    Architecture("qwen2_moe", {**EXPERTS, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32}),
    Architecture("qwen3_moe", {**EXPERTS, "moe_intermediate_size": 32, "head_dim": 16}),
    Architecture("olmoe", EXPERTS),
    Architecture("gpt_oss", {**LOCAL_EXPERTS, "head_dim": 16}),
    Architecture("granitemoe", LOCAL_EXPERTS),
    Architecture("phimoe", LOCAL_EXPERTS),
    Architecture(
        "deepseek_v3",
        {
            **HEADS,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "n_group": 1,
            "topk_group": 1,
            "first_k_dense_replace": 1,
            "q_lora_rank": 16,
            "kv_lora_rank": 16,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "v_head_dim": 16,
        },
    ),
    # state spaces, alone and beside attention
    Architecture("mamba", STATES, lora=NO_LORA),
    Architecture("mamba2", {**STATES, "num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 16}, lora=NO_LORA),
    Architecture("falcon_h1", {**DECODER, **MAMBA, "mamba_d_ssm": 32, "mamba_n_heads": 4}, lora=NO_LORA),
    Architecture("bamba", {**DECODER, **MAMBA, "mamba_n_heads": 8, "attn_layer_indices": [1]}),
    Architecture(
        "jamba",
        {
            **EXPERTS,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "mamba_d_state": 8,
        },
    ),
    Architecture("lfm2", {**DECODER, "layer_types": ["conv", "full_attention"]}),
    # text parts of models that read images
    Architecture(
        "gemma3",
        {
            "text_config": {**DECODER, "head_dim": 16},
            "vision_config": VISION,
            "image_token_index": 2047,
            "boi_token_index": 2046,
            "eoi_token_index": 2045,
            "mm_tokens_per_image": 4,
            "eos_token_id": 5,
        },
        model_class=AutoModelForImageTextToText,
    ),
    Architecture(
        "llava",
        {
            "text_config": {"model_type": "llama", **DECODER},
            "vision_config": {"model_type": "clip_vision_model", **VISION},
            "image_token_index": 2047,
        },
        model_class=AutoModelForImageTextToText,
    ),
    Architecture(
        "qwen2_vl",
        {
            "text_config": {**DECODER, "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]}},
            "vision_config": {"depth": 1, "embed_dim": 16, "num_heads": 2, "hidden_size": 32, "patch_size": 4},
            "image_token_id": 2047,
            "video_token_id": 2046,
            "vision_start_token_id": 2045,
            "vision_end_token_id": 2044,
        },
        model_class=AutoModelForImageTextToText,
    ),
    # refused
    Architecture(
        "t5",
        {**TOKENS, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 4},
        model_class=AutoModelForSeq2SeqLM,
        full=ENCODER_DECODER,
    ),
    Architecture(
        "bart",
        {
            **TOKENS,
            "d_model": 32,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 32,
            "decoder_ffn_dim": 32,
            "max_position_embeddings": 512,
        },
        model_class=AutoModelForSeq2SeqLM,
        full=ENCODER_DECODER,
    ),
    Architecture("bert", HEADS, full="its predictions depend on later tokens"),
    Architecture(
        "rwkv",
        {**TOKENS, "hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32},
        full="cannot be measured: it ignores the attention mask",
    ),
    Architecture(
        "recurrent_gemma",
        {**DECODER, "num_hidden_layers": 3, "num_key_value_heads": 1, "lru_width": 32, "attention_window_size": 16},
        full="cannot be measured: it ignores the attention mask",
    ),
    Architecture(
        "llama4_text",
        {**LOCAL_EXPERTS, "intermediate_size_mlp": 64, "head_dim": 16, "attention_chunk_size": 64},
        full="cannot be trained: TRL's trainer fails for its architecture",
    ),
)


EXAMPLES = [
    TokenizedExample(Example(str(number), (), "", str(number)), tuple(range(10, 16 + number)), 3) for number in range(4)
]
"""Examples of 6 to 9 tokens, the first 3 without loss."""


def architecture(name: str) -> Architecture:
    """Return the architecture of a name."""
    return next(one for one in ARCHITECTURES if one.name == name)
