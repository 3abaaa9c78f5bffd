"""Facts for planning that only a process with torch can find: about machine, model, data and needs of trials."""

from dataclasses import dataclass

from neftune_cli.config.spec import ResolvedEvaluation, SweepSpec
from neftune_cli.data.examples import GenerationDefaults
from neftune_cli.errors import Problem


@dataclass(frozen=True)
class ModelFacts:
    """Name and fingerprint of a model."""

    name: str
    fingerprint: str


@dataclass(frozen=True)
class DataFacts:
    """Properties of a data set after loading and splitting."""

    name: str
    fingerprint: str
    train: int
    """Number of training examples."""
    held_out: int
    probe: int
    has_prompts: bool
    """Whether any training example has a prompt."""
    generation: GenerationDefaults
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Inspection:
    """Facts about spec, machine, model and data."""

    spec: SweepSpec
    """The given spec, with an alpha for each arm that had a signal-to-noise ratio."""
    notes: tuple[str, ...]
    """One sentence for each alpha that was computed from a signal-to-noise ratio."""
    problems: tuple[Problem, ...]
    """All problems of model, data and recipes."""
    device: str
    """`cuda`, `mps` or `cpu`."""
    gpus: int
    """Number of available GPUs."""
    environment: dict[str, str]
    """Versions and hardware properties that can change a trial's numbers."""
    lora_environment: dict[str, str]
    """The same for LoRA training."""
    model: ModelFacts | None
    """None if it has a problem."""
    data: DataFacts | None
    """None if it has a problem."""


@dataclass(frozen=True)
class Preparation:
    """Properties of model and data after loading them for trials."""

    notes: tuple[str, ...]
    """Notes for the user on the model and the lengths of the examples."""
    trainable: int
    """Largest number of trained parameters of a trial: all, or those of its adapters."""
    weight_bytes: int
    """Size of the weights in bytes; tied weights count once."""
    vocabulary: int
    """Number of logits per token."""
    width: int
    """Embedding dimension."""
    layers: int
    longest: int
    """Length in tokens of the longest example after cutting."""


def resolved_evaluation(spec: SweepSpec, generation: GenerationDefaults) -> ResolvedEvaluation:
    """Return the evaluation settings with defaults from the recipe (length) and the data set (generation)."""
    chosen = spec.evaluation
    return ResolvedEvaluation(
        max_length=chosen.max_length or spec.train.max_length,
        max_new_tokens=chosen.max_new_tokens or generation.max_new_tokens,
        repetition_penalty=chosen.repetition_penalty or generation.repetition_penalty,
    )
