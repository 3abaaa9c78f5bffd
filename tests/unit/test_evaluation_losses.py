"""Noise-off losses compared with the losses that transformers returns for single, unpadded examples."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import (
    Cohere2Config,
    Cohere2ForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutputWithPast
from trl.trainer.utils import add_fused_lm_head

from neftune_cli.data.examples import Example, TokenizedExample
from neftune_cli.errors import TrialError
from neftune_cli.evaluation import losses
from neftune_cli.evaluation.losses import example_losses, mean_loss
from neftune_cli.models.language_model import parameter_counts, short_factor_length
from tests.tiny_models import one_at_a_time, tiny_llama

LONG_ROPE = {
    "rope_type": "longrope",
    "original_max_position_embeddings": 9,
    "short_factor": [1.0] * 4,
    "long_factor": [8.0, 4.0, 2.0, 6.0],
    "factor": 4.0,
    "rope_theta": 1e4,
}
VOCABULARY = 40
PAD = 0
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}


def llama() -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**SIZES, attention_dropout=0.5))


def gpt2() -> PreTrainedModel:
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=2, n_positions=64, initializer_range=0.3)
    )


def gemma2_with_softcapping() -> PreTrainedModel:
    return Gemma2ForCausalLM(Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=1.0))


def cohere2_with_scaled_logits() -> PreTrainedModel:
    return Cohere2ForCausalLM(Cohere2Config(**SIZES, logit_scale=0.25))


def granite_with_scaled_logits() -> PreTrainedModel:
    return GraniteForCausalLM(GraniteConfig(**SIZES, logits_scaling=4.0))


class RemoteCodeLlama(LlamaForCausalLM):
    """An architecture from outside transformers, without support for `logits_to_keep`."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> CausalLMOutputWithPast:
        assert "logits_to_keep" not in kwargs
        output: CausalLMOutputWithPast = super().forward(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        return output


def remote_code_llama() -> PreTrainedModel:
    return RemoteCodeLlama(LlamaConfig(**SIZES))


def seeded(build: Callable[[], PreTrainedModel]) -> PreTrainedModel:
    torch.manual_seed(0)
    return build()


def tokenized(prompt_length: int, completion_length: int) -> TokenizedExample:
    ids = torch.randint(1, VOCABULARY, (prompt_length + completion_length,)).tolist()
    return TokenizedExample(Example("id", (), "", "id"), tuple(ids), prompt_length)


def examples_of_many_lengths() -> list[TokenizedExample]:
    torch.manual_seed(1)
    lengths = [(5, 3), (12, 1), (0, 9), (2, 20), (7, 7), (1, 1), (30, 4), (0, 2)]
    return [tokenized(*pair) for pair in lengths]


BUILDERS = [
    llama,
    gpt2,
    gemma2_with_softcapping,
    cohere2_with_scaled_logits,
    granite_with_scaled_logits,
    remote_code_llama,
]


@pytest.mark.parametrize("tokens", [1, 40, 1000])
@pytest.mark.parametrize("build", BUILDERS)
def test_losses_equal_those_of_single_unpadded_examples(build: Callable[[], PreTrainedModel], tokens: int) -> None:
    model, examples = seeded(build), examples_of_many_lengths()
    expected = one_at_a_time(model, examples)
    model.train()
    found = example_losses(model, examples, pad_token_id=PAD, tokens=tokens)
    assert found == pytest.approx(expected, rel=1e-5)
    assert max(expected) - min(expected) > 0.1


def test_losses_of_a_lora_model_include_its_adapter() -> None:
    model = get_peft_model(seeded(llama), LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    examples = examples_of_many_lengths()
    found = example_losses(model, examples, pad_token_id=PAD, tokens=100)
    with model.disable_adapter():
        assert found != pytest.approx(example_losses(model, examples, pad_token_id=PAD, tokens=100), rel=1e-3)
    merged: Any = model.merge_and_unload()
    assert found == pytest.approx(one_at_a_time(merged, examples), rel=1e-4)


def test_the_fused_lm_head_of_the_sft_trainer_does_not_change_losses() -> None:
    model, examples = seeded(llama), examples_of_many_lengths()
    expected = one_at_a_time(model, examples)
    add_fused_lm_head(model)
    assert example_losses(model, examples, pad_token_id=PAD, tokens=100) == pytest.approx(expected, rel=1e-5)


def test_logits_are_computed_for_completions_only_in_batches_of_limited_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "LOGITS_AT_ONCE", 34 * VOCABULARY)
    model, examples = seeded(llama), examples_of_many_lengths()
    expected = one_at_a_time(model, examples)
    rows: list[int] = []
    model.lm_head.register_forward_hook(lambda head, inputs, logits: rows.append(logits[..., 0].numel()))
    assert example_losses(model, examples, pad_token_id=PAD, tokens=100) == pytest.approx(expected, rel=1e-5)
    assert max(rows) <= 34
    assert sum(rows) == 3 + 1 + 8 + 20 + 7 + 1 + 4 + 1


def test_bfloat16_logits_are_normalized_in_float32() -> None:
    model, examples = seeded(llama).bfloat16(), examples_of_many_lengths()
    model.train(False)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([examples[3].input_ids])).logits[0, 1:-1].double()
    expected = -logits.log_softmax(-1)[torch.arange(20), torch.tensor(examples[3].input_ids[2:])].mean().item()
    assert example_losses(model, [examples[3]], pad_token_id=PAD, tokens=100) == pytest.approx([expected], rel=1e-5)


def test_the_mode_of_every_module_is_restored() -> None:
    model = seeded(llama).train()
    model.lm_head.eval()
    modes = [module.training for module in model.modules()]
    example_losses(model, examples_of_many_lengths(), pad_token_id=PAD, tokens=100)
    assert [module.training for module in model.modules()] == modes
    assert torch.is_grad_enabled()


def test_the_mode_is_restored_after_an_error() -> None:
    model = seeded(llama).train()

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    model.lm_head.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        example_losses(model, examples_of_many_lengths(), pad_token_id=PAD, tokens=100)
    assert model.training
    assert torch.is_grad_enabled()


def test_the_loss_of_a_diverged_model_is_nan() -> None:
    model = seeded(llama)
    torch.nn.init.constant_(model.lm_head.weight, float("nan"))
    assert str(example_losses(model, examples_of_many_lengths()[:1], pad_token_id=PAD, tokens=100)) == "[nan]"


@pytest.mark.parametrize(("prompt_length", "completion_length"), [(4, 0), (0, 1)])
def test_an_example_without_loss_token_raises(prompt_length: int, completion_length: int) -> None:
    with pytest.raises(TrialError, match=r"Example id has no.*--max-length"):
        example_losses(
            seeded(llama), [tokenized(2, 2), tokenized(prompt_length, completion_length)], pad_token_id=PAD, tokens=100
        )


def test_an_empty_list_of_examples_has_no_losses() -> None:
    assert example_losses(seeded(llama), [], pad_token_id=PAD, tokens=100) == []


def test_loss_tokens_are_the_labels_after_the_shift() -> None:
    for one in examples_of_many_lengths():
        assert one.loss_tokens == sum(label != -100 for label in one.labels[1:])


def test_mean_loss_weights_examples_by_their_tokens() -> None:
    assert mean_loss([1.0, 4.0], [3, 1]) == pytest.approx(1.75)
    with pytest.raises(TrialError, match="at least one example"):
        mean_loss([], [])


def test_parameters_are_counted_as_peft_counts_them() -> None:
    model = tiny_llama()
    alone = parameter_counts(model)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    trained, every = adapted.get_nb_trainable_parameters()
    assert parameter_counts(adapted) == (every, trained)
    assert alone == (every - trained, every - trained)


def test_the_length_above_which_an_example_changes_the_positions_of_its_batch() -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES, rope_parameters=LONG_ROPE)).eval()
    assert short_factor_length(model) == 9
    short = torch.arange(1, 6)
    with torch.no_grad():
        alone = model(input_ids=short[None]).logits[0]
        within, above = (
            model(input_ids=torch.stack([torch.cat([short, torch.zeros(length - 5).long()]), torch.arange(length)]))
            for length in (9, 10)
        )
    torch.testing.assert_close(within.logits[0, :5], alone)
    assert (above.logits[0, :5] - alone).abs().max() > 1e-3
    assert short_factor_length(llama()) is None
