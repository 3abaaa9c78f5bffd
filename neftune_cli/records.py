"""What a run leaves behind: the record of a finished trial, its state while it runs, and their schema version."""

import math
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 4
HELD_OUT, PROBE = "held-out", "probe"
"""Splits that are measured: examples no arm trained on, and the fixed training examples."""
_LARGEST_LOSS = 700.0
"""In nats; the perplexity of a larger one would soon be no finite number."""


def perplexity(loss: float) -> float:
    """Return exp of a loss in nats per token; that of a loss above 700 stays at exp(700)."""
    return math.exp(min(loss, _LARGEST_LOSS))


class Record(BaseModel):
    """Base of everything that is written as JSON: immutable, and strict about its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TrialState(StrEnum):
    """Where a trial stands."""

    RUNNING = "running"
    STOPPED = "stopped"
    """Interrupted, and going on from its checkpoint when the sweep's command is given again."""
    DONE = "done"
    FAILED = "failed"


class TrialStatus(Record):
    """The content of `state.json`: the last thing known of a trial, and all that is known of its time and place."""

    schema_version: int = SCHEMA_VERSION
    trial: str
    state: TrialState
    reason: str = ""
    """Why it failed, in one line."""
    attempts: int = 1
    """How often it was begun or gone on with."""
    phase: str = ""
    step: int = 0
    steps: int = 0
    loss: float | None = None
    """The last step's, in nats per completion token."""
    tokens_per_second: float | None = None
    seconds: float | None = None
    """Time that went into it so far, lost work left out."""
    seconds_in_all: float | None = None
    """Time spent on it, in all attempts."""
    side_by_side: int | None = None
    """How many trials shared the machine, itself included."""
    peak_memory: int | None = None
    """Most memory its process has held, in bytes: the device's where it is a GPU."""
    host: str = ""
    process: int | None = None
    started: str = ""
    updated: str = ""


class LossMetrics(Record):
    """Losses in nats per completion token; `train_loss` is the noisy one, mean over the last epoch."""

    train_loss: float | None
    train_loss_clean: float
    eval_loss: float
    eval_perplexity: float


class EvalMetrics(Record):
    """Scores of greedy responses to prompts; null where a metric is undefined for the data.

    Metrics that other packages register (`neftune_cli.metrics`) are further fields.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float | None]

    exact_match: float | None
    """Share of responses equal to the reference after normalization of case and white space, 0 to 1."""
    rouge_l: float | None
    """Mean F-measure, 0 to 1."""
    bleu: float | None
    """Corpus BLEU, 0 to 100."""
    response_chars: float | None
    """Mean length in characters."""
    repetition_2gram: float | None
    """Share of repeated 2-grams in fixed-length chunks, 0 to 100 (NEFTune paper, section 5)."""
    log_diversity: float | None
    """Log-diversity of fixed-length chunks (NEFTune paper, section 5); higher is more diverse."""
    truncated: float | None
    """Share of responses cut off by the token limit, 0 to 1."""


LOSS_METRICS = tuple(LossMetrics.model_fields)
EVAL_METRICS = tuple(EvalMetrics.model_fields)
"""Metrics that every record has. `EvalMetrics` may have more."""


class NoiseMeasurement(Record):
    """What the noise amounts to on this model and data."""

    median_length: float
    """Tokens in the median training example."""
    noise_norm: float
    """Expected L2 norm of one token's noise at the median length."""
    embedding_norm: float
    """Median L2 norm of the training tokens' embeddings."""

    @property
    def ratio(self) -> float:
        """Return the noise norm as a share of the embedding norm."""
        return self.noise_norm / self.embedding_norm


class Attestation(Record):
    """What a training measured of its own noise, every few calls, where the embeddings leave their module."""

    calls: int
    """Forwards that got noise."""
    measured_calls: int
    """Those of them that the figures below are from."""
    rms: float | None
    """Root mean square of the noise over what the formula gives, 1 being right; None where nothing was measured."""
    noise_to_embedding: float | None
    """Norm of the noise over the norm of the embeddings, both as root mean square over the noised tokens."""
    noised_share: float | None
    """Share of the real tokens that got noise, 0 to 1."""
    noised_padding: float | None
    """Share of padding and placeholders that got noise, 0 to 1; None where there was none."""
    evaluation_calls: int
    """Calls of the model in evaluation that were noisy."""
    hooks: int
    """Hooks that added noise to the model."""


class TrialRecord(Record):
    """The content of `record.json`: written last and whole, so that it proves everything beside it."""

    schema_version: int = SCHEMA_VERSION
    trial: str
    """The trial's id: a hash of everything that can change its numbers."""
    arm: str
    alpha: float | None
    """None for the base arm and for nothing else."""
    seed: int | None
    loss: LossMetrics
    eval: EvalMetrics
    """Scores of the answers to the held-out prompts."""
    probe_eval: EvalMetrics | None = None
    """Scores of the answers to probe prompts; None where the data has no prompts, and in records of schema version 1
    and 2."""
    noise: NoiseMeasurement | None = None
    attestation: Attestation | None = None
    """None for the base, and in records of schema version 1."""
    identity: dict[str, Any]
    """Everything the id was hashed from."""
    notes: tuple[str, ...] = ()
    files: dict[str, int] = {}
    """Size in bytes of each file beside it that it speaks for; empty in records of schema version 3 and older."""


class CurvePoint(Record):
    """One line of `metrics.jsonl`: a logged training step or an evaluation after an epoch."""

    step: int
    epoch: float
    train_loss: float | None = None
    eval_loss: float | None = None
    learning_rate: float | None = None
    tokens: int | None = None
    """Training tokens seen so far, padding left out."""
    train_loss_clean: float | None = None


class ExampleLoss(Record):
    """One row of `examples.parquet`: the noise-off loss of one example after one epoch."""

    split: str
    """`probe` (training examples) or `held-out`."""
    epoch: int
    """0 for the model before fine-tuning."""
    example: str
    cluster: str
    loss: float
    """Nats per completion token."""
    tokens: int


class Generation(Record):
    """One line of `generations.jsonl`: a prompt, its reference, and the greedy response with its scores.

    Per-item metrics that other packages register (`neftune_cli.metrics`) are further fields.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float]

    split: str = HELD_OUT
    """`held-out` or `probe` (training examples); older files, which have held-out answers alone, don't say."""
    example: str
    cluster: str
    kind: str
    prompt: str
    """The rendered prompt, special tokens included."""
    reference: str
    response: str
    tokens: int
    truncated: bool
    exact_match: bool
    rouge_l: float
