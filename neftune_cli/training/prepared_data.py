"""Prepare the data of a trial: tokenize the examples, and measure lengths and embedding norms."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from neftune_cli.config.spec import TrialSpec
from neftune_cli.data.bad_rows import BadRowCount
from neftune_cli.data.examples import Example, InstructionData, TokenizedExample, TokenizedExamples
from neftune_cli.data.hash_split import MIN_EXAMPLES, probe_notes
from neftune_cli.data.tokenization import MAX_LENGTH_OPTION, length_notes, require_examples, tokenize_parts
from neftune_cli.errors import Problem, UsageError
from neftune_cli.models.sources import ModelSource

if TYPE_CHECKING:
    from neftune_cli.models.loading import LoadedModel

PROBE_PROMPTS = 64
"""Maximum number of probe examples with whose prompts responses are generated."""


@dataclass(frozen=True)
class PreparedData:
    """Tokenized examples of a data set. All arms and seeds with the same maximum lengths share one."""

    source: ModelSource
    train: tuple[TokenizedExample, ...]
    held_out: tuple[TokenizedExample, ...]
    probe: tuple[TokenizedExample, ...]
    pad_token_id: int
    device: str
    median_length: float
    """Median length of a training example, in tokens."""
    embedding_norm: float
    """Median L2 norm of the training tokens' embeddings before fine-tuning, as the first layer receives them."""
    notes: tuple[str, ...]
    """Notes for the user on the model and on the lengths of the examples."""

    @property
    def probe_prompts(self) -> tuple[TokenizedExample, ...]:
        """Return the probe examples with whose prompts responses are generated."""
        return self.probe[:PROBE_PROMPTS]


def prepare_data(
    source: ModelSource, loaded: "LoadedModel", data: InstructionData, spec: TrialSpec, *, device: str
) -> PreparedData:
    """Tokenize the data for a model: training examples to the training length, others to the evaluation length.

    Raises:
        UsageError: fewer than two training or held-out examples fit the maximum length, or an example exceeds the
            model's context.
    """
    in_training = _Limit(spec.train.max_length)
    in_evaluation = _Limit(spec.evaluation.max_length)
    if in_evaluation != in_training:
        in_evaluation = in_evaluation._replace(setting="evaluation.max_length")
    parts = {
        "training": (data.train, in_training),
        "held-out": (data.held_out, in_evaluation),
        "probe": (data.probe[: spec.evaluation.probe_examples], in_evaluation),
    }
    train, held_out, probe = _tokenized(parts, source, loaded, spec, data.row_count)
    return PreparedData(
        source=source,
        train=train.examples,
        held_out=held_out.examples,
        probe=probe.examples,
        pad_token_id=loaded.tokenizer.pad_token_id,
        device=device,
        median_length=median(len(example.input_ids) for example in train.examples),
        embedding_norm=_median_embedding_norm(loaded, train.examples),
        notes=(
            *loaded.notes,
            *probe_notes(spec.evaluation.probe_examples, len(data.train)),
            *length_notes(train, "training", in_training.tokens, setting=in_training.setting),
            *length_notes(held_out, "held-out", in_evaluation.tokens, setting=in_evaluation.setting),
            *_untrained_notes(probe, train),
            *_context_notes(loaded, (held_out, probe), spec.evaluation.max_new_tokens),
            *_long_rope_notes(loaded, train, (held_out, probe), spec.evaluation.max_new_tokens),
        ),
    )


def _untrained_notes(probe: TokenizedExamples, train: TokenizedExamples) -> Iterator[str]:
    """Yield a note if probe examples fit the maximum length of the evaluation, but not that of the training."""
    trained = {one.example.id for one in train.examples}
    if untrained := sum(one.example.id not in trained for one in probe.examples):
        yield (
            f"{untrained} of {len(probe.examples)} probe examples are not trained on: their prompts fill "
            f"{MAX_LENGTH_OPTION}, but not evaluation.max_length. Their losses do not show how well the model has "
            "memorized the training data."
        )


def _context_notes(loaded: "LoadedModel", measured: Sequence[TokenizedExamples], max_new_tokens: int) -> Iterator[str]:
    """Yield a note if the model's context leaves less than the maximum length to the responses to some prompts."""
    from neftune_cli.models.language_model import context_length

    context = context_length(loaded.model)
    held_out, probe = (part.examples for part in measured)
    prompted = [one for one in (*held_out, *probe[:PROBE_PROMPTS]) if one.example.has_prompt]
    if context and (short := sum(one.prompt_length + max_new_tokens > context for one in prompted)):
        yield (
            f"{short} of {len(prompted)} prompts leave fewer than {max_new_tokens} tokens (--max-new-tokens) in the "
            f"model's context of {context} tokens. A response that reaches the end of the context counts as truncated."
        )


def _long_rope_notes(
    loaded: "LoadedModel", train: TokenizedExamples, measured: Sequence[TokenizedExamples], max_new_tokens: int
) -> Iterator[str]:
    """Yield a note if long examples, or long responses, change the position factors of the others in a batch."""
    from neftune_cli.models.language_model import short_factor_length

    limit = short_factor_length(loaded.model)
    evaluated = [one for part in measured for one in part.examples]
    lengths = [len(one.input_ids) for one in (*train.examples, *evaluated)]
    longest = max(*lengths, *(one.prompt_length + max_new_tokens for one in evaluated))
    if limit is not None and min(lengths) <= limit < longest:
        yield (
            f"If an example of a batch has more than {limit} tokens, the model uses other position factors (LongRoPE) "
            f"for the whole batch. The longest example or response can have {longest} tokens, so losses and responses "
            f"depend on the batch. To keep every length at {limit} tokens or fewer, lower {MAX_LENGTH_OPTION} and "
            "--max-new-tokens."
        )


class _Limit(NamedTuple):
    """Maximum length of an example, and the name of its setting for messages."""

    tokens: int
    setting: str = MAX_LENGTH_OPTION


def _tokenized(
    parts: Mapping[str, tuple[tuple[Example, ...], _Limit]],
    source: ModelSource,
    loaded: "LoadedModel",
    spec: TrialSpec,
    row_count: BadRowCount,
) -> list[TokenizedExamples]:
    """Return the tokenized examples of the parts, in the order of `parts`.

    `row_count` counts the rows that they were read from.

    Raises:
        UsageError: an example exceeds the model's context or cannot be tokenized, or too few are left in a part.
    """
    from neftune_cli.models.language_model import context_length
    from neftune_cli.noise.placement import embedding_weight

    vocabulary = len(embedding_weight(loaded.model))
    lengths = [(examples, limit.tokens) for examples, limit in parts.values()]
    results = tokenize_parts(lengths, loaded.tokenizer, inputs=spec, vocabulary=vocabulary, row_count=row_count)
    for tokenized, (name, (_, limit)) in zip(results, parts.items(), strict=True):
        context = context_length(loaded.model)
        least = 1 if name == "probe" else MIN_EXAMPLES
        require_examples(tokenized, name, limit.tokens, setting=limit.setting, context=context, least=least)
    for tokenized, (_, limit) in zip(results, parts.values(), strict=True):
        check_context(tokenized, source.name, loaded, setting=limit.setting)
    return results


def check_context(
    tokenized: TokenizedExamples, name: str, loaded: "LoadedModel", *, setting: str = MAX_LENGTH_OPTION
) -> None:
    """Raise a UsageError if an example is longer than the context of the model `name`.

    `setting` is the name of the maximum length.
    """
    from neftune_cli.models.language_model import context_length

    context = context_length(loaded.model)
    longest = max(len(example.input_ids) for example in tokenized.examples)
    if context and longest > context:
        what = f"The longest example has {longest} tokens, but the context of {name} is {context} tokens."
        raise UsageError(Problem(what, f"Use {setting} {context} or less."))


def _median_embedding_norm(loaded: "LoadedModel", examples: tuple[TokenizedExample, ...]) -> float:
    import torch

    from neftune_cli.noise.placement import first_layer_embeddings

    tokens = torch.tensor(list(_tokens(examples))).unique()
    norms = torch.linalg.vector_norm(first_layer_embeddings(loaded.model, tokens), dim=-1)
    by_token = dict(zip(tokens.tolist(), norms.tolist(), strict=True))
    return float(median(by_token[token] for token in _tokens(examples)))


def _tokens(examples: tuple[TokenizedExample, ...]) -> Iterator[int]:
    return (token for example in examples for token in example.input_ids)
