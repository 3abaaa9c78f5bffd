"""Tokenize examples: render the chat template, tokenize, and truncate to the maximum length."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neftune_cli.data.examples import Example, Message, TokenizedExample, TokenizedExamples
from neftune_cli.errors import Problem, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class _Rendered:
    """A conversation rendered by the chat template."""

    prompt: str
    """Everything before the assistant's turn."""
    completion: str
    """The completion, with the end-of-turn token if the template writes one."""


def tokenize(
    examples: Sequence[Example], tokenizer: "PreTrainedTokenizerBase", *, max_length: int
) -> TokenizedExamples:
    """Tokenize examples for training and scoring.

    Generation starts from the same prompt tokens. The last token is `tokenizer.eos_token` unless the completion was
    truncated. A plain text has no prompt tokens and ends with the same token.

    Args:
        examples: conversations and plain texts, mixed in any order.
        tokenizer: a tokenizer with a chat template and an end-of-sequence token.
        max_length: maximum length of an example, in tokens. A longer completion is truncated. An example whose prompt
            leaves no room for the completion is dropped.

    Raises:
        UsageError: the chat template rejects a conversation.
    """
    tokenized = _tokenized(examples, tokenizer)
    kept = [example for example in tokenized if example.prompt_length < max_length]
    return TokenizedExamples(
        examples=tuple(_truncated(example, max_length) for example in kept),
        dropped=len(tokenized) - len(kept),
        truncated=sum(len(example.input_ids) > max_length for example in kept),
        shortest_dropped=min((len(one.input_ids) for one in tokenized if one.prompt_length >= max_length), default=0),
    )


def require_examples(tokenized: TokenizedExamples, split: str, max_length: int) -> None:
    """Check that examples of a split (`training`, `held-out`) are left.

    Raises:
        UsageError: the maximum length dropped all examples.
    """
    if not tokenized.examples:
        dropped = f"All {tokenized.dropped} {split} examples were dropped"
        what = f"{dropped}: the prompt alone fills --max-length {max_length}."
        fix = f"Use --max-length {tokenized.shortest_dropped} or more, or shorten the prompts."
        raise UsageError(Problem(what, fix))


def length_notes(tokenized: TokenizedExamples, split: str, max_length: int) -> tuple[str, ...]:
    """Return notes on the examples of a split that the maximum length dropped or truncated, if there are any."""
    total = len(tokenized.examples) + tokenized.dropped
    counts = {
        "dropped: the prompt alone fills": tokenized.dropped,
        "truncated: the completion was cut at": tokenized.truncated,
    }
    return tuple(
        f"{number:,} of {total:,} {split} examples {effect} --max-length {max_length}."
        for effect, number in counts.items()
        if number
    )


def _tokenized(examples: Sequence[Example], tokenizer: "PreTrainedTokenizerBase") -> list[TokenizedExample]:
    conversations = iter(_conversations([example for example in examples if example.prompt], tokenizer))
    texts = iter(_texts([example for example in examples if not example.prompt], tokenizer))
    return [next(conversations if example.prompt else texts) for example in examples]


def _texts(examples: Sequence[Example], tokenizer: "PreTrainedTokenizerBase") -> list[TokenizedExample]:
    # Special tokens as in pretraining: models pretrained with a begin-of-sequence token expect it here.
    tokens = _token_ids([example.completion for example in examples], tokenizer, add_special_tokens=True)
    return [
        TokenizedExample(example, _with_end_token(ids, tokenizer), prompt_length=0)
        for example, ids in zip(examples, tokens, strict=True)
    ]


def _conversations(examples: Sequence[Example], tokenizer: "PreTrainedTokenizerBase") -> list[TokenizedExample]:
    rendered = [_render(example, tokenizer) for example in examples]
    prompts = _token_ids([text.prompt for text in rendered], tokenizer)
    wholes = _token_ids([text.prompt + text.completion for text in rendered], tokenizer)
    completions = _token_ids([text.completion for text in rendered], tokenizer)
    return [
        TokenizedExample(example, _with_end_token(_joined(prompt, whole, completion), tokenizer), len(prompt))
        for example, prompt, whole, completion in zip(examples, prompts, wholes, completions, strict=True)
    ]


def _joined(prompt: list[int], whole: list[int], completion: list[int]) -> list[int]:
    """Return the tokens of the whole text, or of both parts separately if a token would span their border."""
    return whole if whole[: len(prompt)] == prompt else prompt + completion


def _render(example: Example, tokenizer: "PreTrainedTokenizerBase") -> _Rendered:
    completion = Message(role="assistant", content=example.completion)
    prompt = _templated(example.prompt, tokenizer, add_generation_prompt=True)
    whole = _templated((*example.prompt, completion), tokenizer, add_generation_prompt=False)
    if not whole.startswith(prompt):
        # Some templates render the last turn differently, for example with an empty line of reasoning.
        return _Rendered(prompt, example.completion)
    return _Rendered(prompt, _up_to_end_of_turn(whole.removeprefix(prompt), str(tokenizer.eos_token)))


def _templated(
    messages: Sequence[Message], tokenizer: "PreTrainedTokenizerBase", *, add_generation_prompt: bool
) -> str:
    from jinja2 import TemplateError

    conversation = [{"role": message["role"], "content": message["content"]} for message in messages]
    try:
        text = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=add_generation_prompt)
    except TemplateError as error:
        what = f"The model's chat template rejects a conversation ({error}): {_description(messages)}"
        raise UsageError(Problem(what, "Change its turns, or use a model whose template accepts them.")) from error
    return str(text)


def _description(messages: Sequence[Message]) -> str:
    roles = ", ".join(message["role"] for message in messages)
    start = messages[0]["content"][:SHOWN_CHARACTERS]
    return f"turns {roles}, starting with '{start}'."


def _up_to_end_of_turn(completion: str, eos_token: str) -> str:
    """Remove the line break that many templates write after the end of a turn."""
    stripped = completion.rstrip()
    return stripped if stripped.endswith(eos_token) else completion


def _token_ids(
    texts: list[str], tokenizer: "PreTrainedTokenizerBase", *, add_special_tokens: bool = False
) -> list[list[int]]:
    if not texts:
        return []
    batch = tokenizer(texts, add_special_tokens=add_special_tokens, return_attention_mask=False, verbose=False)
    token_ids: list[list[int]] = batch["input_ids"]
    return token_ids


def _with_end_token(token_ids: list[int], tokenizer: "PreTrainedTokenizerBase") -> tuple[int, ...]:
    """Append the end-of-sequence token, unless it is there, so that the model learns to stop."""
    eos: int = tokenizer.eos_token_id
    return tuple(token_ids) if token_ids[-1:] == [eos] else (*token_ids, eos)


def _truncated(example: TokenizedExample, max_length: int) -> TokenizedExample:
    return TokenizedExample(example.example, example.input_ids[:max_length], example.prompt_length)
