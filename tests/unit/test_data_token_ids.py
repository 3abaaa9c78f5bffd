"""Token ids of texts in which some special tokens are ordinary text, with tokenizers that add a space to a text."""

from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from neftune_cli.data.examples import Message
from neftune_cli.data.layouts import example
from neftune_cli.data.token_ids import TokenIds
from neftune_cli.data.tokenization import tokenize

KINDS_WITH_SPACE = ["legacy", "first", "always"]
"""When a space is added: before each part of a text between special tokens (legacy, always), before a text (first)."""
KINDS = [*KINDS_WITH_SPACE, "never"]
SPECIAL = ("<s>", "</s>")
PARTS = [*SPECIAL, *SPECIAL, "a", "b", " ", "s", "<", "\n", "é"]
CHAT = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)


@cache
def tokenizer_of(kind: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer as those of Llama 2 and Mistral. All kinds have the same vocabulary."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(special_tokens=[*special, *(f"<0x{byte:02X}>" for byte in range(256))])
    backend.train_from_iterator(["a b ab ba", "a</ s>b a< b s>a", "[INST] a [/INST] b"] * 9, trainer)
    steps: list[decoders.Decoder] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence(steps)
    if kind == "legacy":
        backend.pre_tokenizer = None
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=kind, split=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = CHAT
    return tokenizer


def decoded(kind: str, ids: Sequence[int]) -> str:
    return str(tokenizer_of(kind).decode(list(ids)))


def as_ordinary(text: str, kind: str) -> list[int]:
    """Return the token ids of one call of the tokenizer that reads all special tokens as ordinary text."""
    ids: list[int] = tokenizer_of(kind)(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return ids


@pytest.mark.parametrize("kind", KINDS_WITH_SPACE)
@given(st.lists(st.tuples(st.sampled_from(PARTS), st.booleans()), min_size=1, max_size=12))
@settings(deadline=None, max_examples=150)
def test_special_tokens_of_the_data_are_encoded_with_the_text_around_them(
    kind: str, parts: list[tuple[str, bool]]
) -> None:
    """Between special tokens of the template, the ids are those of one call that reads all as ordinary text.

    Tokenizers that add no space encode the text before, in and after each special token of the data separately.
    """
    text, ordinary, stretches = "", [], [""]
    for part, is_of_data in parts:
        if part in SPECIAL and not is_of_data:
            stretches += [part, ""]
        else:
            stretches[-1] += part
            ordinary += [(len(text), len(text) + len(part))] if part in SPECIAL else []
        text += part
    expected: list[int] = []
    for number, stretch in enumerate(stretches):
        if number % 2:
            expected.append(tokenizer_of(kind).get_vocab()[stretch])
        elif stretch:
            expected += as_ordinary(stretch, "never" if kind == "first" and number else kind)
    assert TokenIds(tokenizer_of(kind)).of(text, ordinary) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_special_token_in_a_conversation_adds_no_space(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    turns = [Message(role="user", content="a</s>b <s> a"), Message(role="assistant", content="b</s>a and <s>b")]
    one = tokenize([example(turns[:1], turns[1]["content"])], tokenizer, max_length=99).examples[0]
    assert [token for token in one.input_ids if token in (1, 2)] == [1, 2]
    assert decoded(kind, one.input_ids).replace("<s> [", "<s>[") == (
        "<s>[INST] a</s>b <s> a [/INST] b</s>a and <s>b</s>"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_places_are_those_of_the_text(kind: str) -> None:
    text = "<s>a</s>b</s>a<s>b</s>"
    ordinary = [(4, 8), (14, 17)]
    ids = TokenIds(tokenizer_of(kind))
    ((first, last),) = ids.places(text, ordinary, [(13, 18)])
    assert decoded(kind, ids.of(text, ordinary)[first:last]).strip() == "a<s>b"


def test_characters_for_private_use_are_text() -> None:
    private = "\U000f0001" * 3
    ids = TokenIds(tokenizer_of("legacy")).of(f"{private}a</s>b", [(4, 8)])
    assert decoded("legacy", ids).replace(" ", "") == f"{private}a</s>b"
    assert not {1, 2} & set(ids)
