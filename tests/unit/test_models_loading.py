"""Loading causal language models in float32 without output, and error messages for all other models."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaForCausalLM,
    LlamaModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    XLNetConfig,
    XLNetLMHeadModel,
)
from transformers.utils import logging

from experiments.tiny_base.pretrain import embedding_norms
from neftune_cli.errors import UsageError
from neftune_cli.models.loading import LoadedModel, load_model
from neftune_cli.models.sources import find_model
from neftune_cli.noise.placement import embedding_weight
from tests.tiny_architectures import DECODER, Architecture, architecture
from tests.tiny_models import tiny_llama

VOCABULARY = ("<pad>", "</s>", "a", "b", "c", "d")
TEMPLATE = "{% for m in messages %}{{ m.content }}</s>{% endfor %}"
PASS_A_DECODER = "Use a decoder model, such as SmolLM2, Qwen, Llama or GPT-2."
FETCH_AGAIN = "Copy or download it again (in a git clone: git lfs pull)."
LLAMA: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
SIZE: dict[str, Any] = {"vocab_size": len(VOCABULARY), "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1}


def llama(**settings: Any) -> LlamaForCausalLM:
    return cast(LlamaForCausalLM, tiny_llama(**{**LLAMA, **SIZE, **settings}))


def saved(directory: Path, model: PreTrainedModel) -> Path:
    vocabulary = {token: number for number, token in enumerate(VOCABULARY)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="a"))
    words.add_special_tokens(["<pad>", "</s>"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", chat_template=TEMPLATE
    )
    tokenizer.save_pretrained(directory)
    model.save_pretrained(directory)
    return directory


def load(directory: Path) -> LoadedModel:
    return load_model(find_model(str(directory)))


def error_message(directory: Path) -> str:
    with pytest.raises(UsageError) as error:
        load(directory)
    return str(error.value)


def edit_config(directory: Path, **changes: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_weights_are_loaded_in_float32(tmp_path: Path, stored: torch.dtype) -> None:
    model = cast("Any", llama()).to(stored)
    loaded = load(saved(tmp_path, model))
    state = loaded.model.state_dict()
    assert all(torch.equal(state[name], weight.float()) for name, weight in model.state_dict().items())
    assert {weight.dtype for weight in state.values()} == {torch.float32}
    assert not loaded.model.training
    assert loaded.notes == ()


def test_tokenizer_is_loaded_with_the_model(tmp_path: Path) -> None:
    tokenizer = load(saved(tmp_path, llama())).tokenizer
    assert tokenizer("a")["input_ids"] == [2]
    assert (tokenizer.pad_token, tokenizer.eos_token, tokenizer.chat_template) == ("<pad>", "</s>", TEMPLATE)


def test_tied_embeddings_stay_tied(tmp_path: Path) -> None:
    model = load(saved(tmp_path, llama(tie_word_embeddings=True))).model
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize(
    "model",
    [
        GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=8, **SIZE)),
        GPTNeoXForCausalLM(GPTNeoXConfig(**{**LLAMA, **SIZE})),  # its configuration says is_decoder=False
    ],
)
def test_other_decoder_architectures(tmp_path: Path, model: PreTrainedModel) -> None:
    assert type(load(saved(tmp_path, model)).model) is type(model)


def test_loading_prints_nothing_and_restores_logging_settings(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path, llama())
    capfd.readouterr()
    verbosity, hook = logging.get_verbosity(), logging.set_tqdm_hook(None)
    logging.set_tqdm_hook(hook)
    load(tmp_path)
    assert capfd.readouterr() == ("", "")
    assert logging.get_verbosity() == verbosity
    assert logging.set_tqdm_hook(hook) == hook


def test_note_on_unused_weights(tmp_path: Path) -> None:
    model = llama()
    model.register_parameter("score", torch.nn.Parameter(torch.zeros(2)))
    assert load(saved(tmp_path, model)).notes == (
        "Ignored weights of the checkpoint that the model does not use: score.",
    )


def test_embedding_norms_computed_by_hand() -> None:
    model = llama()
    with torch.no_grad():
        embedding_weight(model).zero_()
        embedding_weight(model)[2, :2] = torch.tensor([3.0, 4.0])
    norms = embedding_norms(model.bfloat16())
    assert norms.tolist() == [0, 0, 5, 0, 0, 0]
    assert norms.dtype == torch.float32
    assert not norms.requires_grad


def test_damaged_weights(tmp_path: Path) -> None:
    path = saved(tmp_path, llama()) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    text = error_message(tmp_path)
    assert text.startswith(f"The weights of '{tmp_path}' cannot be loaded: a file is damaged (")
    assert text.endswith(f"). {FETCH_AGAIN}")


def test_git_lfs_pointer_in_place_of_weights(tmp_path: Path) -> None:
    saved(tmp_path, llama())
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert error_message(tmp_path).endswith(FETCH_AGAIN)


def test_damaged_tokenizer(tmp_path: Path) -> None:
    saved(tmp_path, llama())
    (tmp_path / "tokenizer.json").write_text("{")
    text = error_message(tmp_path)
    assert text.startswith(f"The tokenizer of '{tmp_path}' cannot be loaded: ")
    assert text.endswith(FETCH_AGAIN)


def test_encoder_decoder_model(tmp_path: Path) -> None:
    model = T5ForConditionalGeneration(T5Config(d_model=16, d_ff=16, d_kv=8, num_layers=1, vocab_size=6))
    assert error_message(saved(tmp_path, model)) == (
        f"'{tmp_path}' is an encoder-decoder model (t5), which cannot be trained. {PASS_A_DECODER}"
    )


def bert(model_class: type[PreTrainedModel]) -> PreTrainedModel:
    return model_class(BertConfig(**LLAMA, vocab_size=6))


def xlnet() -> PreTrainedModel:
    return XLNetLMHeadModel(XLNetConfig(vocab_size=6, d_model=16, n_layer=1, n_head=2, d_inner=16))


@pytest.mark.parametrize("build", [partial(bert, BertForMaskedLM), partial(bert, BertModel), xlnet])
def test_bidirectional_model(tmp_path: Path, build: Callable[[], PreTrainedModel]) -> None:
    torch.manual_seed(0)
    assert error_message(saved(tmp_path, build())) == (
        f"'{tmp_path}' is not a causal language model: its predictions depend on later tokens. {PASS_A_DECODER}"
    )


def test_weights_that_are_not_numbers(tmp_path: Path) -> None:
    model = llama()
    with torch.no_grad():
        model.lm_head.weight[2] = torch.nan
    assert error_message(saved(tmp_path, model)) == (
        f"'{tmp_path}' predicts logits that are not numbers (NaN). Check its weights, or pass another model."
    )


def test_model_that_reads_images_is_loaded_with_a_note(tmp_path: Path) -> None:
    directory = architecture("llava").save(tmp_path)
    loaded = load(directory)
    assert type(loaded.model).__name__ == "LlavaForConditionalGeneration"
    assert loaded.notes == (
        f"'{directory}' also reads images. It is trained and measured on text; its other parts stay as they are.",
    )


def test_configuration_that_fails_in_the_forward_pass(tmp_path: Path) -> None:
    directory = Architecture("helium", {**DECODER, "head_dim": 16}).save(tmp_path)  # heads need head_dim 8
    text = error_message(directory)
    assert text.startswith(f"'{directory}' fails on a text of four tokens: ")
    assert text.endswith("Check its config.json, or pass another model.")


def test_unknown_architecture(tmp_path: Path) -> None:
    edit_config(saved(tmp_path, llama()), model_type="llama-17")
    assert error_message(tmp_path) == (
        f"The installed version of transformers does not support the architecture of '{tmp_path}': llama-17. "
        "Upgrade it (pip install -U transformers), or pass another model."
    )


def test_model_with_its_own_code(tmp_path: Path) -> None:
    edit_config(saved(tmp_path, llama()), model_type="mine", auto_map={"AutoModelForCausalLM": "modeling_mine.Mine"})
    (tmp_path / "modeling_mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert error_message(tmp_path) == (
        f"'{tmp_path}' has its own code for the architecture mine. Code of models is never run. "
        "Use a model whose architecture is part of transformers."
    )
    assert not (tmp_path / "ran").exists()


def test_model_without_language_modeling_head(tmp_path: Path) -> None:
    assert error_message(saved(tmp_path, LlamaModel(llama().config))) == (
        f"The weights of '{tmp_path}' are incomplete: lm_head.weight is missing. "
        "Use a checkpoint of the complete model, including the language modeling head."
    )


def test_weights_of_another_shape(tmp_path: Path) -> None:
    edit_config(saved(tmp_path, llama()), vocab_size=7)
    assert error_message(tmp_path) == (
        f"The weights of '{tmp_path}' do not fit its config.json: lm_head.weight is (6, 16), not (7, 16) (and 1 more). "
        "Use a directory whose files belong together."
    )
