"""Tokenization compared with hand-written tokens for small chat templates."""

import string
from typing import Final

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from neftune_cli.data.examples import Example, Message, TokenizedExample, TokenizedExamples
from neftune_cli.data.tokenization import length_notes, require_examples, tokenize
from neftune_cli.errors import UsageError

OPEN: Final = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}"
ASK: Final = "{% if add_generation_prompt %}<assistant>{% endif %}"
TURNS = f"{OPEN}<end>{{% endfor %}}{ASK}"
TURNS_IN_LINES = f"{OPEN}<end>\n{{% endfor %}}{ASK}"
WITHOUT_END = f"{OPEN}{{% endfor %}}{ASK}"
OTHER_END = f"{OPEN}<eot>{{% endfor %}}{ASK}"
THINKING = f"{OPEN}<end>{{% endfor %}}{ASK}{{% if add_generation_prompt %}}~{{% endif %}}"
PLAIN = "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'user' %}:{% endif %}{% endfor %}"
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + TURNS
)
MARKERS = ["<system>", "<user>", "<assistant>", "<end>", "<eot>"]


def tokenizer_with(template: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer of single characters, except that `:4` is one token."""
    characters = [*string.printable, ":4"]
    vocabulary = {token: index for index, token in enumerate(characters)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE(vocab=vocabulary, merges=[(":", "4")])),
        eos_token="<end>",
        additional_special_tokens=MARKERS,
    )
    tokenizer.chat_template = template
    return tokenizer


def example_of(answer: str, *turns: tuple[str, str]) -> Example:
    prompt = tuple(Message(role=role, content=content) for role, content in turns)
    return Example(id="0" * 16, prompt=prompt, completion=answer, cluster="0" * 16)


def parts_of(example: TokenizedExample, tokenizer: PreTrainedTokenizerFast) -> tuple[list[str], list[str]]:
    tokens = [str(token) for token in tokenizer.convert_ids_to_tokens(list(example.input_ids))]
    return tokens[: example.prompt_length], tokens[example.prompt_length :]


@pytest.mark.parametrize(
    ("template", "prompt", "completion"),
    [
        (TURNS, ["<user>", "Q", "<end>", "<assistant>"], ["4", "2", "<end>"]),
        (TURNS_IN_LINES, ["<user>", "Q", "<end>", "\n", "<assistant>"], ["4", "2", "<end>"]),
        (WITHOUT_END, ["<user>", "Q", "<assistant>"], ["4", "2", "<end>"]),
        (OTHER_END, ["<user>", "Q", "<eot>", "<assistant>"], ["4", "2", "<eot>", "<end>"]),
        (THINKING, ["<user>", "Q", "<end>", "<assistant>", "~"], ["4", "2", "<end>"]),
        (PLAIN, ["Q", ":"], ["4", "2", "<end>"]),
    ],
    ids=[
        "turns",
        "line break after the turn",
        "no end-of-turn token",
        "end-of-turn token other than eos",
        "prompt is not a prefix",
        "token across the border",
    ],
)
def test_prompt_and_completion_tokens(template: str, prompt: list[str], completion: list[str]) -> None:
    tokenizer = tokenizer_with(template)
    (example,) = tokenize([example_of("42", ("user", "Q"))], tokenizer, max_length=64).examples
    assert parts_of(example, tokenizer) == (prompt, completion)
    assert example.labels[: len(prompt)] == [-100] * len(prompt)


def test_prompt_tokens_equal_the_generation_prompt_of_the_template() -> None:
    tokenizer = tokenizer_with(TURNS)
    turns = [("system", "S"), ("user", "Q"), ("assistant", "A"), ("user", "R")]
    (example,) = tokenize([example_of("B", *turns)], tokenizer, max_length=64).examples
    generation_prompt = tokenizer.apply_chat_template(
        [{"role": role, "content": content} for role, content in turns],
        add_generation_prompt=True,
        return_dict=False,
    )
    assert list(example.prompt_ids) == generation_prompt


def test_plain_texts_have_no_prompt_tokens_and_keep_their_order() -> None:
    tokenizer = tokenizer_with(TURNS)
    examples = [example_of("ab"), example_of("c", ("user", "Q")), example_of("d<end>")]
    tokenized = tokenize(examples, tokenizer, max_length=64).examples
    assert [example.example for example in tokenized] == examples
    assert parts_of(tokenized[0], tokenizer) == ([], ["a", "b", "<end>"])
    assert parts_of(tokenized[2], tokenizer) == ([], ["d", "<end>"])


@pytest.mark.parametrize(
    ("max_length", "completion", "dropped", "truncated"),
    [(7, "42<end>", 0, 0), (6, "42", 0, 1), (5, "4", 0, 1), (4, None, 1, 0), (1, None, 1, 0)],
)
def test_maximum_length(max_length: int, completion: str | None, dropped: int, truncated: int) -> None:
    tokenizer = tokenizer_with(TURNS)
    tokenized = tokenize([example_of("42", ("user", "Q"))], tokenizer, max_length=max_length)
    completions = ["".join(parts_of(example, tokenizer)[1]) for example in tokenized.examples]
    assert completions == ([completion] if completion else [])
    assert (tokenized.dropped, tokenized.truncated) == (dropped, truncated)


def test_no_examples() -> None:
    assert tokenize([], tokenizer_with(TURNS), max_length=8) == TokenizedExamples((), 0, 0)


def test_conversation_that_the_chat_template_rejects() -> None:
    with pytest.raises(UsageError) as error:
        tokenize([example_of("4", ("system", "Be brief."), ("user", "Q"))], tokenizer_with(NO_SYSTEM), max_length=64)
    assert str(error.value) == (
        "The conversation that starts with 'Be brief.': the model's chat template rejects a conversation "
        "(System role not supported). Change its turns, or use a model whose template accepts them."
    )


def test_all_examples_dropped_is_an_error() -> None:
    with pytest.raises(UsageError) as error:
        require_examples(TokenizedExamples((), 40, 0, 99), "training", 64)
    assert str(error.value) == (
        "All 40 training examples were dropped: the prompt alone fills --max-length 64. "
        "Use --max-length 99 or more, or shorten the prompts."
    )


@pytest.mark.parametrize(
    ("prompt", "example", "fix"),
    [
        (70, 99, "Use --max-length 99 or more, or shorten the prompts."),
        (70, 600, "Use --max-length 512, the context of this model, or shorten the prompts."),
        (511, 600, "Use --max-length 512, the context of this model, or shorten the prompts."),
        (512, 600, "Shorten the prompts, or use another model: the context of this one is 512 tokens."),
    ],
)
def test_the_fix_for_dropped_examples_depends_on_the_context(prompt: int, example: int, fix: str) -> None:
    tokenized = TokenizedExamples((), 40, 0, shortest_dropped=example, shortest_prompt=prompt)
    with pytest.raises(UsageError) as error:
        require_examples(tokenized, "training", 64, context=512)
    assert error.value.problems[0].fix == fix


def test_too_few_examples_that_are_left_are_an_error() -> None:
    one = TokenizedExample(example_of("a"), (1,), 0)
    with pytest.raises(UsageError) as error:
        require_examples(TokenizedExamples((one,), 5, 0, 70, bad_rows=1), "held-out", 64, least=2)
    assert str(error.value) == (
        "5 of 7 held-out examples were dropped: the prompt alone fills --max-length 64. At least 2 are needed. "
        "Use --max-length 70 or more, or shorten the prompts."
    )
    with pytest.raises(UsageError, match=r"^1 of 4 held-out examples can be rendered and tokenized\. Correct the"):
        require_examples(TokenizedExamples((one,), 0, 0, bad_rows=3), "held-out", 64, least=2)


def test_notes_count_dropped_and_truncated_examples() -> None:
    one = TokenizedExample(example_of("a"), (1,), 0)
    assert length_notes(TokenizedExamples((one,) * 8, 2, 3), "held-out", 64) == (
        "2 of 10 held-out examples dropped: the prompt alone fills --max-length 64.",
        "3 of 10 held-out examples truncated: the completion was cut at --max-length 64.",
    )
    assert length_notes(TokenizedExamples((one,), 0, 0), "held-out", 64) == ()
    require_examples(TokenizedExamples((one,), 5, 0), "held-out", 64)
