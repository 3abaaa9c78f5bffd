"""The bundled model matches its model card: size, hash, knowledge of the people, and no instruction tuning."""

import hashlib

import pytest

from experiments.tiny_base.probe import completion_accuracy
from neftune_cli.models.loading import LoadedModel, load_model
from neftune_cli.models.sources import find_model


@pytest.fixture(scope="module")
def tiny() -> LoadedModel:
    return load_model(find_model("tiny"))


def test_weights_are_small_and_match_the_hash_of_the_card() -> None:
    weights = (find_model("tiny").path / "model.safetensors").read_bytes()
    card = (find_model("tiny").path / "README.md").read_text(encoding="utf-8")
    assert len(weights) < 10_000_000
    assert hashlib.sha256(weights).hexdigest() in card


def test_number_of_parameters(tiny: LoadedModel) -> None:
    assert 2_000_000 < tiny.model.num_parameters() < 5_000_000
    assert tiny.notes == ()


def test_completion_accuracy_on_unseen_paraphrases(tiny: LoadedModel) -> None:
    assert completion_accuracy(tiny.model, tiny.tokenizer, every=30) >= 0.9  # 240 of 7,200 facts


def test_chat_template(tiny: LoadedModel) -> None:
    prompt = [{"role": "user", "content": "Where was Ada Voss born?"}]
    text = tiny.tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    assert text == "<|user|> Where was Ada Voss born?<|end|><|assistant|>"
