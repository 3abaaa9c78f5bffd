"""The embedded model is what its card says: small, safe, knowing its people, and new to instructions."""

import hashlib

import pytest

from experiments.tiny_base.probe import completion_accuracy
from neftune_cli.models.loading import LoadedModel, load_model
from neftune_cli.models.sources import find_model


@pytest.fixture(scope="module")
def tiny() -> LoadedModel:
    return load_model(find_model("tiny"))


def test_it_is_small_and_its_card_names_its_hash() -> None:
    weights = (find_model("tiny").path / "model.safetensors").read_bytes()
    card = (find_model("tiny").path / "README.md").read_text(encoding="utf-8")
    assert len(weights) < 10_000_000
    assert hashlib.sha256(weights).hexdigest() in card


def test_it_has_two_to_five_million_parameters(tiny: LoadedModel) -> None:
    assert 2_000_000 < tiny.model.num_parameters() < 5_000_000
    assert tiny.notes == ()


def test_it_completes_paraphrases_it_never_read(tiny: LoadedModel) -> None:
    assert completion_accuracy(tiny.model, tiny.tokenizer, every=30) >= 0.9  # 240 of 7,200 facts


def test_it_has_never_seen_a_conversation(tiny: LoadedModel) -> None:
    prompt = [{"role": "user", "content": "Where was Ada Voss born?"}]
    text = tiny.tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    assert text == "<|user|> Where was Ada Voss born?<|end|><|assistant|>"
