"""Preparing tokenizers: missing end tokens, padding tokens and chat templates, and the model's configurations."""

from importlib.resources import files
from typing import Any, cast

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.trainer_utils import align_special_tokens

from neftune_cli.data.chat_template import Chat, ChatTemplate
from neftune_cli.data.examples import Message
from neftune_cli.errors import UsageError
from neftune_cli.models.tokenizer import prepare_tokenizer
from tests.tiny_models import tiny_llama

WORDS = ("None", "a", "###", "User", "Assistant", "The", "answer", ".", "question", "?", ":")
SPECIAL = ("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<unk>", "<pad>")
CHATML = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
PAD_REASON = "is used. Masks and labels are computed from lengths."
PLAIN_NOTE = "The model has no chat template; turns start with '### User:' and '### Assistant:'."


def tokenizer_of(*special: str, opens_with_bos: bool = False, **names: Any) -> PreTrainedTokenizerFast:
    """Return a tokenizer of whole words; the `special` tokens get the first ids, in order."""
    vocabulary = {token: number for number, token in enumerate((*special, *WORDS))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="a"))
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words.add_special_tokens(list(special))
    if opens_with_bos:
        words.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", vocabulary["<s>"])])
    return PreTrainedTokenizerFast(tokenizer_object=words, **names)


def model_of(tokenizer: PreTrainedTokenizerFast, **settings: Any) -> LlamaForCausalLM:
    ends = {"eos_token_id": None, "bos_token_id": None, "pad_token_id": None}
    return cast(LlamaForCausalLM, tiny_llama(**{"vocab_size": len(tokenizer), **ends, **settings}))


def test_complete_tokenizer_is_unchanged() -> None:
    tokenizer = tokenizer_of(*SPECIAL, eos_token="<|im_end|>", pad_token="<pad>", chat_template=CHATML)
    assert prepare_tokenizer(tokenizer, model_of(tokenizer)) == ()
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.chat_template) == ("<|im_end|>", "<pad>", CHATML)


def test_plain_template_renders_hand_written_text() -> None:
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
def test_plain_template_starts_with_the_begin_token_if_pretraining_did(opens_with_bos: bool, opening: str) -> None:
    tokenizer = tokenizer_of(
        *SPECIAL, opens_with_bos=opens_with_bos, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    prepare_tokenizer(tokenizer, model_of(tokenizer))
    text = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert text == f"{opening}### User:\nHi"


def test_named_templates_without_a_default_are_replaced() -> None:
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
def test_padding_token_is_an_existing_token(special: tuple[str, ...], names: dict[str, Any], chosen: str) -> None:
    tokenizer = tokenizer_of(*special, eos_token="</s>", **names)
    model = model_of(tokenizer)
    before = model.get_input_embeddings().weight.shape
    notes = prepare_tokenizer(tokenizer, model)
    assert notes[-1] == f"The tokenizer has no usable padding token; '{chosen}' {PAD_REASON}"
    assert tokenizer("", padding="max_length", max_length=1)["input_ids"] == [special.index(chosen)]
    assert model.config.pad_token_id == model.generation_config.pad_token_id == special.index(chosen)
    assert model.get_input_embeddings().weight.shape == before


def test_padding_token_added_without_an_embedding_is_replaced() -> None:
    tokenizer = tokenizer_of("</s>", eos_token="</s>")
    model = model_of(tokenizer)
    tokenizer.add_special_tokens({"pad_token": "[new]"})
    prepare_tokenizer(tokenizer, model)
    assert tokenizer.pad_token == "</s>"


def test_end_of_turn_token_of_the_template_becomes_the_end_token() -> None:
    tokenizer = tokenizer_of(*SPECIAL, eos_token="</s>", pad_token="<pad>", chat_template=CHATML)
    model = model_of(tokenizer, eos_token_id=1)
    assert prepare_tokenizer(tokenizer, model) == (
        "Responses end with '<|im_end|>', the end-of-turn token of the chat template.",
    )
    assert tokenizer.eos_token == "<|im_end|>"
    assert model.generation_config.eos_token_id == [3, 1]
    assert model.config.eos_token_id == [3, 1]


def test_end_of_turn_token_that_is_not_marked_as_special_becomes_the_end_token() -> None:
    tokenizer = tokenizer_of("<unk>", "</s>", "<pad>", eos_token="</s>", pad_token="<pad>")
    tokenizer.add_tokens([AddedToken(token, special=False) for token in ("\n", "<|im_start|>", "<|im_end|>")])
    tokenizer.chat_template = CHATML.replace("<|im_end|>", "\n<|im_end|>")
    assert prepare_tokenizer(tokenizer, model_of(tokenizer)) == (
        "Responses end with '<|im_end|>', the end-of-turn token of the chat template.",
    )
    ids = tokenizer("a<|im_end|>")["input_ids"]
    assert tokenizer.eos_token_id == ids[-1]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a"


@pytest.mark.parametrize("start", ["", "\n", "  \n", "  {% set x = 1 %}\n"])
@pytest.mark.parametrize("named", [False, True])
def test_a_template_writes_the_end_token_that_it_was_written_for(start: str, named: bool) -> None:
    template = start + CHATML.replace("<|im_end|>\n' }}", "<|im_end|>' + eos_token + '\n' }}")
    template += "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}"
    tokenizer = tokenizer_of(*SPECIAL, eos_token="</s>", pad_token="<pad>")
    tokenizer.chat_template = {"default": template, "tool_use": template} if named else template
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    expected = tokenizer.apply_chat_template(turns, tokenize=False)
    assert str(expected).count("</s>") == 3
    prepare_tokenizer(tokenizer, model_of(tokenizer))
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.apply_chat_template(turns, tokenize=False) == expected


def test_the_variant_of_trl_is_found_for_a_template_that_writes_another_end_token() -> None:
    template = files("trl").joinpath("chat_templates", "phi3.jinja").read_text()
    tokenizer = tokenizer_of("</s>", "<|end|>", "<pad>", eos_token="</s>", pad_token="<pad>", chat_template=template)
    chat = Chat((Message(role="user", content="Hi"), Message(role="assistant", content="Hello")))
    expected = ChatTemplate(tokenizer, all_turns=True).marked(chat)
    assert expected
    prepare_tokenizer(tokenizer, model_of(tokenizer))
    assert tokenizer.eos_token == "<|end|>"
    assert ChatTemplate(tokenizer, all_turns=True).marked(chat) == expected


def test_a_special_token_after_one_that_is_not_special_remains_the_end_token() -> None:
    tokenizer = tokenizer_of("<unk>", "</s>", "<pad>", eos_token="</s>", pad_token="<pad>")
    tokenizer.add_tokens([AddedToken("</answer>", special=False)])
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}</answer></s>{% endfor %}"
    assert prepare_tokenizer(tokenizer, model_of(tokenizer)) == ()
    assert tokenizer.eos_token == "</s>"


def test_missing_end_token_is_taken_from_the_model_or_from_common_names() -> None:
    of_model = tokenizer_of(*SPECIAL, pad_token="<pad>")
    notes = prepare_tokenizer(of_model, model_of(of_model, eos_token_id=3))
    assert notes[0] == "The tokenizer defines no end-of-sequence token; responses end with '<|im_end|>'."
    well_known = tokenizer_of("<|end|>", "<pad>", pad_token="<pad>")
    prepare_tokenizer(well_known, model_of(well_known, eos_token_id=99))
    assert well_known.eos_token == "<|end|>"


def test_trainer_has_no_special_tokens_to_align(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = tokenizer_of(*SPECIAL, bos_token="<s>", eos_token="</s>", chat_template=CHATML)
    model = model_of(tokenizer, eos_token_id=1)
    prepare_tokenizer(tokenizer, model)
    before = (model.config.to_dict(), model.generation_config.to_dict())
    align_special_tokens(model, tokenizer)
    assert (model.config.to_dict(), model.generation_config.to_dict()) == before


def test_no_usable_end_token() -> None:
    tokenizer = tokenizer_of("<pad>", pad_token="<pad>")
    with pytest.raises(UsageError) as error:
        prepare_tokenizer(tokenizer, model_of(tokenizer))
    assert str(error.value) == (
        "The tokenizer has no end-of-sequence token with an embedding in the model, so responses could never end. "
        'Define one in its tokenizer_config.json, for example "eos_token": "</s>".'
    )


def test_template_with_tokens_without_embedding() -> None:
    tokenizer = tokenizer_of("</s>", eos_token="</s>", chat_template=CHATML)
    model = model_of(tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    with pytest.raises(UsageError) as error:
        prepare_tokenizer(tokenizer, model)
    assert str(error.value) == (
        "The chat template uses '<|im_end|>' (token 13), but the model has 12 embeddings. "
        "Use the tokenizer that the model was trained with, in the model's directory."
    )


def test_broken_template() -> None:
    tokenizer = tokenizer_of("</s>", eos_token="</s>", chat_template="{% for %}")
    with pytest.raises(UsageError, match=r"cannot render a prompt and a response.*Fix chat_template\.jinja"):
        prepare_tokenizer(tokenizer, model_of(tokenizer))


def test_a_package_that_is_too_old_is_not_blamed_on_the_template(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tokenizer_of("</s>", eos_token="</s>", chat_template=CHATML)
    model = model_of(tokenizer)

    def refuse(*_: object, **__: object) -> str:
        raise ImportError("apply_chat_template requires jinja2>=3.1.6 to be installed. Your version is 3.1.0.")

    monkeypatch.setattr(type(tokenizer), "apply_chat_template", refuse)
    with pytest.raises(UsageError) as error:
        prepare_tokenizer(tokenizer, model)
    assert "requires jinja2>=3.1.6" in str(error.value)
    assert "Install this version of the package." in str(error.value)
    assert "chat_template.jinja" not in str(error.value)


PARTS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% for part in m.content %}{{ part.text }}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
)


@pytest.mark.parametrize("template", [PARTS, PARTS.replace("part.text", "part['text'] | trim")])
def test_end_of_turn_token_of_a_template_that_reads_parts_only(template: str) -> None:
    tokenizer = tokenizer_of(*SPECIAL, eos_token="</s>", pad_token="<pad>", chat_template=template)
    assert prepare_tokenizer(tokenizer, model_of(tokenizer)) == (
        "Responses end with '<|im_end|>', the end-of-turn token of the chat template.",
    )


def test_template_that_fails_with_an_error_of_python() -> None:
    broken = "{% for m in messages %}{{ m.content + 1 }}{% endfor %}"
    tokenizer = tokenizer_of("</s>", eos_token="</s>", pad_token="</s>", chat_template=broken)
    with pytest.raises(UsageError, match=r"cannot render a prompt and a response: can only concatenate str"):
        prepare_tokenizer(tokenizer, model_of(tokenizer))
