"""What a worker tells the process that plans: about the machine, the model, the data and what trials will need."""

from dataclasses import dataclass

from neftune_cli.config.spec import ResolvedEvaluation, SweepSpec
from neftune_cli.data.examples import GenerationDefaults
from neftune_cli.errors import Problem


@dataclass(frozen=True)
class ModelFacts:
    """A model that was found."""

    name: str
    fingerprint: str


@dataclass(frozen=True)
class DataFacts:
    """A data set that was loaded and split."""

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
    """What a plan needs to know and only a process with torch can tell."""

    spec: SweepSpec
    """As it was given, with an alpha for each arm that asked for a signal-to-noise ratio."""
    notes: tuple[str, ...]
    """A sentence for each alpha that was worked out."""
    problems: tuple[Problem, ...]
    """Everything that is wrong with model, data and recipes."""
    device: str
    """`cuda`, `mps` or `cpu`."""
    gpus: int
    """How many GPUs trials can spread over."""
    environment: dict[str, str]
    """What else than spec, data and weights can change a trial's numbers."""
    lora_environment: dict[str, str]
    """The same where adapters are trained."""
    model: ModelFacts | None
    """None where it has a problem."""
    data: DataFacts | None
    """None where they have a problem."""


@dataclass(frozen=True)
class Preparation:
    """What was learnt when model and data were loaded for trials."""

    notes: tuple[str, ...]
    """What the user should know of the model and the examples' lengths."""
    trainable: int
    """Most parameters that one of the trials trains: all, or those of its adapters."""
    weight_bytes: int
    """Bytes of the weights in memory, counting tied ones once."""
    vocabulary: int
    """Number of logits for each token."""
    width: int
    """Elements of an embedding."""
    layers: int
    longest: int
    """Tokens in the longest example that is trained or measured on, after cutting."""


def resolved_evaluation(spec: SweepSpec, generation: GenerationDefaults) -> ResolvedEvaluation:
    """Fill in what a spec leaves to the recipe (length) and the data set (generation)."""
    chosen = spec.evaluation
    return ResolvedEvaluation(
        max_length=chosen.max_length or spec.train.max_length,
        max_new_tokens=chosen.max_new_tokens or generation.max_new_tokens,
        repetition_penalty=chosen.repetition_penalty or generation.repetition_penalty,
    )
