"""Whatever a tokenizer lacks, it can hold a conversation afterwards, and the model's configurations agree with it."""

from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.trainer_utils import align_special_tokens

from neftune_cli.errors import UsageError
from neftune_cli.models.chat_template import prepare_tokenizer

WORDS = ("None", "a", "###", "User", "Assistant", "The", "answer", ".", "question", "?", ":")
SPECIAL = ("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<unk>", "<pad>")
CHATML = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
PAD_REASON = "(masks and labels come from lengths)."
PLAIN_NOTE = "The model has no chat template; turns are headed '### User:' and '### Assistant:'."


def tokenizer_of(*special: str, opens_with_bos: bool = False, **names: Any) -> PreTrainedTokenizerFast:
    """Build a tokenizer of whole words; `special` tokens take the first ids, in order."""
    vocabulary = {token: number for number, token in enumerate((*special, *WORDS))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="a"))
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words.add_special_tokens(list(special))
    if opens_with_bos:
        words.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", vocabulary["<s>"])])
    return PreTrainedTokenizerFast(tokenizer_object=words, **names)


def model_of(tokenizer: PreTrainedTokenizerFast, **settings: Any) -> LlamaForCausalLM:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"eos_token_id": None, "bos_token_id": None, "pad_token_id": None}
    return LlamaForCausalLM(LlamaConfig(**{"vocab_size": len(tokenizer), **sizes, **ends, **settings}))


def test_complete_tokenizer_stays_as_it_is() -> None:
    tokenizer = tokenizer_of(*SPECIAL, eos_token="<|im_end|>", pad_token="<pad>", chat_template=CHATML)
    assert prepare_tokenizer(tokenizer, model_of(tokenizer)) == ()
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.chat_template) == ("<|im_end|>", "<pad>", CHATML)


def test_plain_template_as_written_by_hand() -> None:
    tokenizer = tokenizer_of(*SPECIAL, eos_token="</s>", pad_token="<pad>")
    assert prepare_tokenizer(tokenizer, model_of(tokenizer)) == (PLAIN_NOTE,)
    turns = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye"},
    ]
    assert tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) == (
        "### System:\nBe kind.\n\n### User:\nHi\n\n### Assistant:\nHello</s>\n\n### User:\nBye\n\n### Assistant:\n"
    )
    assert tokenizer.apply_chat_template(turns[1:3], tokenize=False) == "### User:\nHi\n\n### Assistant:\nHello</s>"


@pytest.mark.parametrize(("opens_with_bos", "opening"), [(True, "<s>"), (False, "")])
def test_plain_template_opens_as_pretraining_texts_did(opens_with_bos: bool, opening: str) -> None:
    tokenizer = tokenizer_of(
        *SPECIAL, opens_with_bos=opens_with_bos, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    prepare_tokenizer(tokenizer, model_of(tokenizer))
    text = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert text == f"{opening}### User:\nHi"


def test_named_templates_without_a_default_are_no_template() -> None:
    tokenizer = tokenizer_of(*SPECIAL, eos_token="</s>", pad_token="<pad>")
    tokenizer.chat_template = {"tool_use": CHATML}
    assert prepare_tokenizer(tokenizer, model_of(tokenizer)) == (PLAIN_NOTE,)


@pytest.mark.parametrize(
    ("special", "names", "chosen"),
    [
        (("</s>", "<unk>", "<pad>"), {}, "<pad>"),
        (("</s>", "<unk>"), {}, "<unk>"),
        (("</s>", "[U]"), {"unk_token": "[U]"}, "[U]"),
        (("</s>",), {}, "</s>"),
    ],
)
def test_padding_takes_an_existing_token(special: tuple[str, ...], names: dict[str, Any], chosen: str) -> None:
    tokenizer = tokenizer_of(*special, eos_token="</s>", **names)
    model = model_of(tokenizer)
    before = model.get_input_embeddings().weight.shape
    notes = prepare_tokenizer(tokenizer, model)
    assert notes[-1] == f"The tokenizer has no usable padding token; '{chosen}' pads {PAD_REASON}"
    assert tokenizer("", padding="max_length", max_length=1)["input_ids"] == [special.index(chosen)]
    assert model.config.pad_token_id == model.generation_config.pad_token_id == special.index(chosen)
    assert model.get_input_embeddings().weight.shape == before


def test_padding_token_added_without_an_embedding_is_replaced() -> None:
    tokenizer = tokenizer_of("</s>", eos_token="</s>")
    model = model_of(tokenizer)
    tokenizer.add_special_tokens({"pad_token": "[new]"})
    prepare_tokenizer(tokenizer, model)
    assert tokenizer.pad_token == "</s>"


def test_base_model_with_a_chat_template_ends_answers_as_the_template_does() -> None:
    tokenizer = tokenizer_of(*SPECIAL, eos_token="</s>", pad_token="<pad>", chat_template=CHATML)
    model = model_of(tokenizer, eos_token_id=1)
    assert prepare_tokenizer(tokenizer, model) == ("Answers end with '<|im_end|>', as the chat template ends a turn.",)
    assert tokenizer.eos_token == "<|im_end|>"
    assert model.generation_config.eos_token_id == [3, 1]
    assert model.config.eos_token_id == [3, 1]


def test_end_token_comes_from_the_model_first_then_from_well_known_names() -> None:
    of_model = tokenizer_of(*SPECIAL, pad_token="<pad>")
    notes = prepare_tokenizer(of_model, model_of(of_model, eos_token_id=3))
    assert notes[0] == "The tokenizer names no end-of-sequence token; '<|im_end|>' ends answers."
    well_known = tokenizer_of("<|end|>", "<pad>", pad_token="<pad>")
    prepare_tokenizer(well_known, model_of(well_known, eos_token_id=99))
    assert well_known.eos_token == "<|end|>"


def test_trainer_finds_nothing_left_to_align(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = tokenizer_of(*SPECIAL, bos_token="<s>", eos_token="</s>", chat_template=CHATML)
    model = model_of(tokenizer, eos_token_id=1)
    prepare_tokenizer(tokenizer, model)
    before = (model.config.to_dict(), model.generation_config.to_dict())
    align_special_tokens(model, tokenizer)
    assert (model.config.to_dict(), model.generation_config.to_dict()) == before


def test_no_end_token_at_all() -> None:
    tokenizer = tokenizer_of("<pad>", pad_token="<pad>")
    with pytest.raises(UsageError) as caught:
        prepare_tokenizer(tokenizer, model_of(tokenizer))
    assert str(caught.value) == (
        "The tokenizer has no end-of-sequence token that the model knows, so answers could never end. "
        'Name one in its tokenizer_config.json, for instance "eos_token": "</s>".'
    )


def test_template_with_tokens_that_the_model_does_not_embed() -> None:
    tokenizer = tokenizer_of("</s>", eos_token="</s>", chat_template=CHATML)
    model = model_of(tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    with pytest.raises(UsageError) as caught:
        prepare_tokenizer(tokenizer, model)
    assert str(caught.value) == (
        "The chat template uses '<|im_end|>' (token 13), but the model embeds 12 tokens only. "
        "Pass the tokenizer that the model was trained with, in the model's directory."
    )


def test_broken_template() -> None:
    tokenizer = tokenizer_of("</s>", eos_token="</s>", chat_template="{% for %}")
    with pytest.raises(UsageError, match=r"can't write a question and its answer.*Mend chat_template\.jinja"):
        prepare_tokenizer(tokenizer, model_of(tokenizer))
