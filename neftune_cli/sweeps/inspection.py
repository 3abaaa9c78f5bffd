"""Facts that only a process with torch can find, and that a worker sends to the main process, which has no torch."""

from dataclasses import dataclass

from neftune_cli.config.spec import ResolvedEvaluation, SweepSpec
from neftune_cli.data.examples import GenerationDefaults
from neftune_cli.errors import Problem


@dataclass(frozen=True)
class ModelFacts:
    """Facts about a model."""

    name: str
    fingerprint: str
    has_clock: bool = False
    """Whether the chat template writes the time."""


@dataclass(frozen=True)
class DataFacts:
    """Facts about a data set that was loaded and split."""

    name: str
    fingerprint: str
    train: int
    """Number of training examples."""
    held_out: int
    """Number of held-out examples."""
    probe: int
    """Number of probe examples."""
    has_prompts: bool
    """Whether any training example has a prompt."""
    generation: GenerationDefaults
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Inspection:
    """Facts that a plan needs before model and data are prepared."""

    spec: SweepSpec
    """The given spec, with an alpha for each arm that has a signal-to-noise ratio."""
    notes: tuple[str, ...]
    """One sentence for each alpha computed from a ratio."""
    problems: tuple[Problem, ...]
    """All problems of model, data and recipes."""
    device: str
    """`cuda`, `mps` or `cpu`."""
    gpus: int
    """Number of GPUs."""
    environment: dict[str, str]
    """Everything besides spec, data and weights that can change a trial's numbers."""
    lora_environment: dict[str, str]
    """The same for trials that train LoRA adapters."""
    model: ModelFacts | None
    """None if the model has a problem."""
    data: DataFacts | None
    """None if the data have a problem."""


@dataclass(frozen=True)
class Preparation:
    """Sizes of the loaded model and the tokenized data."""

    notes: tuple[str, ...]
    """Sentences for the user about the model and the lengths of examples."""
    trainable: int
    """Largest number of trained parameters among the trials: all parameters, or those of LoRA adapters."""
    weight_bytes: int
    """Bytes of the weights in memory; tied weights count once."""
    vocabulary: int
    """Number of logits per token."""
    width: int
    """Number of elements of an embedding."""
    layers: int
    longest: int
    """Tokens of the longest training or evaluation example, after truncation."""


def resolved_evaluation(spec: SweepSpec, generation: GenerationDefaults) -> ResolvedEvaluation:
    """Fill in the unset evaluation fields: the length from the recipe, and the generation settings from the data."""
    chosen = spec.evaluation
    return ResolvedEvaluation(
        max_length=chosen.max_length or spec.train.max_length,
        max_new_tokens=chosen.max_new_tokens or generation.max_new_tokens,
        repetition_penalty=chosen.repetition_penalty or generation.repetition_penalty,
    )
