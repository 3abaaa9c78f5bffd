"""Prepare a tokenizer for conversations: add a missing end token, padding token or chat template."""

from collections.abc import Iterable, Iterator

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from neftune_cli.data.bad_rows import RowError
from neftune_cli.data.chat_template import Chat, ChatTemplate, with_end_token
from neftune_cli.data.examples import Message
from neftune_cli.errors import Problem, UsageError
from neftune_cli.noise.placement import embedding_weight

PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{% if not loop.first %}{{ '\n\n' }}{% endif %}"
    "{{ '### ' + message['role'] | capitalize + ':\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n\n### Assistant:\n' }}{% endif %}"
)
"""For models without a template: headings in plain text, so that no new token has to be learned."""

END_TOKENS = ("</s>", "<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<|end|>", "<eos>", "[EOS]")
PAD_TOKENS = ("<pad>", "<|pad|>", "[PAD]", "<|padding|>", "<|finetune_right_pad_id|>", "<unk>")
"""Tokens that are rarely or never used in pretraining."""
RESPONSE = "The answer."
"""Placeholder for a response, to find the text that the template writes around it."""


def prepare_tokenizer(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> tuple[str, ...]:
    """Add missing special tokens and a missing chat template to a tokenizer, and update the model's configurations.

    Afterwards `eos_token` is the token that ends a turn in the chat template, `pad_token` is a token that has an
    embedding, and the model's configurations contain both. Tokens that ended a text before still do. Embeddings are
    never resized.

    Returns:
        Notes for the user on the changes, one sentence each.

    Raises:
        UsageError: there is no usable end-of-sequence token, or the chat template cannot be rendered, or it uses tokens
            without embedding.
    """
    ends = _end_ids(tokenizer, model)
    notes = (
        *_add_end_token(tokenizer, model, ends),
        *_add_chat_template(tokenizer),
        *_end_turns_with_end_token(tokenizer, model),
        *_add_pad_token(tokenizer, model),
    )
    _align_configurations(tokenizer, model, ends)
    return notes


def _end_ids(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> list[int]:
    """Return the end-of-sequence ids of tokenizer, generation configuration and model configuration."""
    declared = (
        tokenizer.eos_token_id,
        getattr(model.generation_config, "eos_token_id", None),
        getattr(model.config.get_text_config(), "eos_token_id", None),
    )
    flat = (token for value in declared for token in (value if isinstance(value, list) else [value]))
    return list(dict.fromkeys(token for token in flat if token is not None))


def _add_end_token(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, ends: list[int]) -> Iterator[str]:
    if tokenizer.eos_token_id is not None and _has_embedding(tokenizer.eos_token, tokenizer, model):
        return
    of_model = filter(None, tokenizer.convert_ids_to_tokens(ends))
    token = _first_with_embedding((*of_model, *END_TOKENS), tokenizer, model)
    if token is None:
        what = (
            "The tokenizer has no end-of-sequence token with an embedding in the model, so responses could never end."
        )
        raise UsageError(Problem(what, 'Define one in its tokenizer_config.json, for example "eos_token": "</s>".'))
    tokenizer.add_special_tokens({"eos_token": token})
    yield f"The tokenizer defines no end-of-sequence token; responses end with '{token}'."


def _add_chat_template(tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    template = tokenizer.chat_template
    if template and (isinstance(template, str) or "default" in template):
        return
    opening = "{{ bos_token }}" if _opens_with_bos(tokenizer) else ""
    tokenizer.chat_template = opening + PLAIN_TEMPLATE
    yield "The model has no chat template; turns start with '### User:' and '### Assistant:'."


def _opens_with_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    first: list[int] = tokenizer("a")["input_ids"][:1]
    return tokenizer.bos_token_id is not None and first == [tokenizer.bos_token_id]


def _end_turns_with_end_token(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Iterator[str]:
    """Use the token that ends a turn in the chat template as `eos_token`; in base models they often differ.

    Otherwise every completion would end with two end tokens.
    """
    conversation = _conversation(tokenizer)
    _check_embedded(conversation, tokenizer, model)
    end_of_turn = _end_of_turn(conversation, tokenizer)
    if end_of_turn is not None and end_of_turn != tokenizer.eos_token_id:
        token = str(tokenizer.convert_ids_to_tokens(end_of_turn))
        templates, before = tokenizer.chat_template, str(tokenizer.eos_token)
        tokenizer.chat_template = (
            {name: with_end_token(template, before) for name, template in templates.items()}
            if isinstance(templates, dict)
            else with_end_token(templates, before)
        )
        tokenizer.add_special_tokens({"eos_token": token})
        yield f"Responses end with '{token}', the end-of-turn token of the chat template."


def _conversation(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a prompt and RESPONSE, rendered by the chat template."""
    chat = Chat((Message(role="user", content="A question?"), Message(role="assistant", content=RESPONSE)))
    try:
        return ChatTemplate(tokenizer).text(chat)
    except RowError as error:
        cause = error.__cause__
        what = f"The model's chat template cannot render a prompt and a response: {cause}"
        is_package = isinstance(cause, ImportError)  # missing, or too old for transformers
        of_template = "Fix chat_template.jinja, or delete it to use a plain template."
        fix = "Install this version of the package." if is_package else of_template
        raise UsageError(Problem(what, fix)) from error


def _check_embedded(text: str, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    """Raise a UsageError if the template uses tokens that have no embedding in the model."""
    highest = max(_token_ids(text, tokenizer), default=0)
    if highest >= (embedded := len(embedding_weight(model))):
        token = tokenizer.convert_ids_to_tokens(highest)
        what = f"The chat template uses '{token}' (token {highest}), but the model has {embedded} embeddings."
        raise UsageError(Problem(what, "Use the tokenizer that the model was trained with, in the model's directory."))


def _end_of_turn(conversation: str, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the first special token after the response, or None if the template writes none.

    Many fine-tuned models have end-of-turn tokens that were added without being special. White space is none.
    """
    after = _token_ids(conversation.partition(RESPONSE)[2], tokenizer)
    added = {number for number, token in tokenizer.added_tokens_decoder.items() if not str(token).isspace()}
    return next((token for known in (_special_ids(tokenizer), added) for token in after if token in known), None)


def _token_ids(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    token_ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return token_ids


def _special_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    added = (number for number, token in tokenizer.added_tokens_decoder.items() if token.special)
    return {*added, *tokenizer.all_special_ids}


def _add_pad_token(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Iterator[str]:
    if tokenizer.pad_token_id is not None and _has_embedding(tokenizer.pad_token, tokenizer, model):
        return
    known = (tokenizer.unk_token,) if tokenizer.unk_token else ()
    token = _first_with_embedding((*PAD_TOKENS, *known), tokenizer, model) or str(tokenizer.eos_token)
    tokenizer.add_special_tokens({"pad_token": token})
    yield f"The tokenizer has no usable padding token; '{token}' is used. Masks and labels are computed from lengths."


def _first_with_embedding(
    tokens: Iterable[str], tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel
) -> str | None:
    return next((token for token in tokens if _has_embedding(token, tokenizer, model)), None)


def _has_embedding(token: str, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> bool:
    """Return whether the token is in the vocabulary and has an embedding in the model."""
    number: int | None = tokenizer.get_vocab().get(token)
    return number is not None and number < len(embedding_weight(model))


def _align_configurations(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, ends: list[int]) -> None:
    """Write the special tokens to the configurations that transformers' Trainer and `generate` read."""
    end_ids = list(dict.fromkeys([tokenizer.eos_token_id, *ends]))
    for settings in (model.config, model.config.get_text_config(), model.generation_config):
        if settings is not None:
            settings.eos_token_id = end_ids if len(end_ids) > 1 else end_ids[0]
            settings.pad_token_id = tokenizer.pad_token_id
            if tokenizer.bos_token_id is not None:
                settings.bos_token_id = tokenizer.bos_token_id
