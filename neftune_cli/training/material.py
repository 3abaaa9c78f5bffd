"""What all trials of a sweep share: weights to start from, tokenized examples, and how answers are generated."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from neftune_cli.config.spec import EvaluationSpec
from neftune_cli.data.examples import InstructionData, TokenizedExample, TokenizedExamples
from neftune_cli.data.tokenization import length_notes, require_examples, tokenize
from neftune_cli.models.sources import ModelSource

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EVALUATION_BATCH_SIZE = 32
GENERATION_BATCH_SIZE = 64


@dataclass(frozen=True)
class Material:
    """The same for every arm and seed, so that trials differ in nothing else than their spec."""

    source: ModelSource
    train: tuple[TokenizedExample, ...]
    held_out: tuple[TokenizedExample, ...]
    probe: tuple[TokenizedExample, ...]
    pad_token_id: int
    max_new_tokens: int
    repetition_penalty: float
    device: str
    notes: tuple[str, ...]
    evaluation_batch_size: int = EVALUATION_BATCH_SIZE
    generation_batch_size: int = GENERATION_BATCH_SIZE


def prepare_material(
    source: ModelSource,
    data: InstructionData,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    max_length: int,
    evaluation: EvaluationSpec,
    device: str,
) -> Material:
    """Tokenize the data for one model.

    Raises:
        UsageError: no training or no held-out example fits into the maximum length.
    """
    parts = {
        name: tokenize(examples, tokenizer, max_length=max_length)
        for name, examples in (("training", data.train), ("held-out", data.held_out), ("probe", data.probe))
    }
    for name, tokenized in parts.items():
        require_examples(tokenized, name, max_length)
    train, held_out, probe = (part.examples for part in parts.values())
    return Material(
        source=source,
        train=train,
        held_out=held_out,
        probe=probe,
        pad_token_id=tokenizer.pad_token_id,
        max_new_tokens=evaluation.max_new_tokens or data.generation.max_new_tokens,
        repetition_penalty=evaluation.repetition_penalty or data.generation.repetition_penalty,
        device=device,
        notes=_notes(parts, max_length),
    )


def _notes(parts: dict[str, TokenizedExamples], max_length: int) -> tuple[str, ...]:
    return tuple(note for name in ("training", "held-out") for note in length_notes(parts[name], name, max_length))
