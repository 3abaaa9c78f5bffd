"""Records of trials: the result of a finished trial, the state of a running one, and their schema version."""

import math
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from neftune_cli.metrics import HELD_OUT_RESPONSES, METRICS, PROBE_PREFIX, Margin, Metric, task_metric_key

SCHEMA_VERSION = 4
HELD_OUT_SPLIT, PROBE_SPLIT = "held-out", "probe"
"""Values of the field `split`: held-out examples, and the fixed probe of training examples."""
_LARGEST_LOSS = 700.0
"""In nats. The perplexity of a larger loss would exceed the range of floating-point numbers."""


def perplexity(loss: float) -> float:
    """Return exp of a loss in nats per token, at most exp(700)."""
    return math.exp(min(loss, _LARGEST_LOSS))


class Record(BaseModel):
    """Base class of stored records: immutable; unknown fields are errors unless a subclass allows them."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TrialState(StrEnum):
    """State of a trial."""

    RUNNING = "running"
    STOPPED = "stopped"
    """Interrupted. The sweep's command resumes it from its checkpoint, if there is one."""
    DONE = "done"
    FAILED = "failed"


class Phase(StrEnum):
    """Current activity of a running trial, as displays show it."""

    STARTING = "starting"
    """A worker has acquired the lease of the trial and has not reported yet, so `state.json` never has this phase."""
    LOADING = "loading"
    """The trial loads the model and the data."""
    TRAINING = "training"
    """The trial is fine-tuned; the noise-off losses after each epoch but the last are part of this phase."""
    GENERATING = "generating"
    """The trial measures its last noise-off losses, writes responses to prompts and scores them."""
    EVALUATING = "evaluating"
    """lm-evaluation-harness evaluates the trained model."""


class TrialStatus(Record):
    """Content of `state.json`: the current state of a trial, with times, process and resources."""

    schema_version: int = SCHEMA_VERSION
    """Version of the file format."""
    trial: str
    """Id of the trial."""
    state: TrialState
    """`running`, `stopped`, `done` or `failed`."""
    reason: str = ""
    """Reason of a failure, in one line."""
    attempts: int = 1
    """Attempts so far, resumes included."""
    phase: str = ""
    """Current activity: `loading`, `training`, `generating` or `evaluating`; empty unless the trial is running."""
    step: int = 0
    """Finished optimizer steps."""
    steps: int = 0
    """Planned optimizer steps."""
    loss: float | None = None
    """Training loss of the last step, in nats per completion token."""
    tokens_per_second: float | None = None
    """Training speed in tokens per second, without padding."""
    seconds: float | None = None
    """Time in seconds of all attempts, without work that was lost in a crash; for a base model whose results are copied
    from another sweep, the time in that sweep."""
    seconds_in_all: float | None = None
    """Time in seconds of all attempts, with work that was lost in a crash."""
    side_by_side: int | None = None
    """Number of trials that could run in parallel, this one included, on one machine or on a cluster."""
    peak_memory: int | None = None
    """Peak memory of the process in bytes; on a GPU, memory of the device."""
    parameters: int | None = None
    """Number of parameters of the model, adapters included; null before responses are generated."""
    trained_parameters: int | None = None
    """Number of parameters that were trained; null for the base model, and before responses are generated."""
    host: str = ""
    """Name of the machine."""
    process: int | None = None
    """Process id of the worker."""
    started: str = ""
    """Start of the first attempt, ISO 8601."""
    updated: str = ""
    """Last update, ISO 8601."""


class LossMetrics(Record):
    """Losses in nats per completion token."""

    train_loss: float | None
    """Noisy training loss, mean over the last epoch; null for the base model."""
    train_loss_clean: float
    """Noise-off loss on the probe of training examples."""
    eval_loss: float
    """Noise-off loss on held-out examples."""
    eval_perplexity: float
    """Perplexity on held-out examples: exp of `eval_loss`, at most exp(700)."""


class EvalMetrics(Record):
    """Scores of greedy responses to prompts; null where a metric is undefined for the data.

    Metrics that other packages register (`neftune_cli.metrics`) are further fields.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float | None]

    exact_match: float | None
    """Share of responses equal to the reference after normalization of case and white space, 0 to 1."""
    rouge_l: float | None
    """Mean ROUGE-L F-measure, 0 to 1."""
    bleu: float | None
    """Corpus BLEU, 0 to 100."""
    response_chars: float | None
    """Mean length of the responses in characters."""
    repetition_2gram: float | None
    """Share of repeated 2-grams in responses cut to equal length, 0 to 100 (NEFTune paper, section 5)."""
    log_diversity: float | None
    """Log-diversity of responses cut to equal length (NEFTune paper, section 5); higher is more diverse."""
    truncated: float | None
    """Share of responses cut off by the token limit or the end of the model's context, 0 to 1."""


LOSS_METRICS = tuple(LossMetrics.model_fields)
EVAL_METRICS = tuple(EvalMetrics.model_fields)
"""Metrics that every record has. `EvalMetrics` may have more."""


class NoiseSize(Record):
    """Size of the noise by the formula, and that of the embeddings of this model and data."""

    median_length: float
    """Tokens in the median training example."""
    noise_norm: float
    """Root mean square of the L2 norm of one token's noise at the median length."""
    embedding_norm: float
    """Median L2 norm of the training tokens' embeddings."""

    @property
    def ratio(self) -> float:
        """Return the noise norm as a share of the embedding norm."""
        return self.noise_norm / self.embedding_norm


class Attestation(Record):
    """Noise that a training run measured at the output of its embedding module, in some of the forward passes."""

    calls: int
    """Forward passes with noise."""
    measured_calls: int
    """Measured forward passes among them."""
    rms: float | None
    """Root mean square of the noise divided by the value of the formula; 1 is correct, null is not measured."""
    noise_to_embedding: float | None
    """Norm of the noise divided by norm of the embeddings, both root mean squares over noised tokens."""
    noised_share: float | None
    """Share of real tokens with noise, 0 to 1."""
    noised_padding: float | None
    """Share of padding and placeholder tokens with noise, 0 to 1; null if there are none."""
    evaluation_calls: int
    """Forward passes with noise in evaluation."""
    hooks: int
    """Hooks on the model that add noise."""


class TrialRecord(Record):
    """Content of `record.json`: the result of a finished trial. It is written last, by an atomic write."""

    schema_version: int = SCHEMA_VERSION
    """Version of the file format."""
    trial: str
    """Id of the trial: a hash of the model, the data, the spec and the environment."""
    arm: str
    """Name of the arm."""
    alpha: float | None
    """Noise size; null for the base model only."""
    seed: int | None
    """Seed; null for the base model only."""
    loss: LossMetrics
    """Losses."""
    eval: EvalMetrics
    """Scores of the responses to held-out prompts; each is null if there are none."""
    probe_eval: EvalMetrics | None = None
    """Scores of the responses to probe prompts; null if there are none, and in records of schema versions 1 and 2."""
    noise: NoiseSize | None = None
    """Size of the noise and of the embeddings; null for the base model, and with the noise scale `hf`."""
    attestation: Attestation | None = None
    """Measured noise; null for the base model, and in records of schema version 1."""
    identity: dict[str, Any]
    """Everything that the id is a hash of."""
    notes: tuple[str, ...] = ()
    """Remarks for the user."""
    files: dict[str, int] = {}
    """Size in bytes of each result file of the trial; empty in records of schema versions up to 3."""


class MetricScores(Record):
    """Content of `metric_scores.json`: scores of the responses by the function that `--metric` of a sweep names."""

    schema_version: int = SCHEMA_VERSION
    """Version of the file format."""
    key: str
    """The function, `module:function`."""
    name: str
    """Name of the metric in tables."""
    unit: str
    """Unit or range of the metric; empty if it has none."""
    goal: Literal["lower", "higher"] | None
    """Direction of improvement."""
    decimals: int
    """Decimals of the metric in tables."""
    margin: str
    """Equivalence margin of the metric, which `--margin` replaces."""
    values: dict[str, dict[str, float]]
    """Scores by id of the trial and id of the example."""

    @classmethod
    def of(cls, metric: Metric, values: dict[str, dict[str, float]]) -> Self:
        """Return the scores with the declaration of their metric."""
        declared = {field: getattr(metric, field) for field in _DECLARED_FIELDS}
        return cls(**declared, margin=metric.margin.written(), values=values)

    def metric(self) -> Metric | None:
        """Return the declaration of the metric, None if the margin is not valid."""
        declared = {field: getattr(self, field) for field in _DECLARED_FIELDS}
        margin = Margin.parse(self.margin)
        if margin is None:
            return None
        return Metric(**declared, margin=margin, section=HELD_OUT_RESPONSES, stored=False)


_DECLARED_FIELDS = ("key", "name", "unit", "goal", "decimals")
"""Fields that `MetricScores` has in common with `Metric`."""


def scores_of(record: TrialRecord) -> dict[str, float | None]:
    """Return every metric of a record by its key, None if it is undefined."""
    probe = record.probe_eval.model_dump() if record.probe_eval else {}
    scores = {
        **record.loss.model_dump(),
        **record.eval.model_dump(),
        **{PROBE_PREFIX + key: value for key, value in probe.items()},
    }
    return {key: scores.get(key) for key in METRICS}


def task_scores(results: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return every score in the results of lm-evaluation-harness by the key of its metric.

    >>> task_scores({"arc": {"alias": "arc", "acc,none": 0.5, "acc_stderr,none": "N/A"}})
    {'arc/acc': 0.5}

    Args:
        results: task or group to its entry.
    """
    found = {task: list(scores_in_entry(entry)) for task, entry in results.items()}
    return {
        task_metric_key(task, metric, filter_, filters=sum(other == metric for other, *_ in scores)): value
        for task, scores in found.items()
        for metric, filter_, value in scores
    }


def scores_in_entry(entry: Mapping[str, Any]) -> Iterator[tuple[str, str, float]]:
    """Yield metric, filter and value of each score in the harness's entry for a task or group."""
    for key, value in entry.items():
        metric, comma, filter_ = key.partition(",")
        is_score = comma and not metric.endswith("_stderr") and metric != _NO_METRIC
        if is_score and isinstance(value, int | float):
            yield metric, filter_, value


_NO_METRIC = "bypass"
"""Name of the harness's placeholder score of tasks without metrics, which only generate responses."""


class CurvePoint(Record):
    """One line of `metrics.jsonl`: a logged training step, or an evaluation after an epoch."""

    step: int
    """Optimizer step."""
    epoch: float
    """Epochs so far."""
    train_loss: float | None = None
    """Noisy training loss of the step, in nats per completion token."""
    eval_loss: float | None = None
    """Noise-off loss on held-out examples, in nats per completion token."""
    learning_rate: float | None = None
    """Learning rate of the step."""
    tokens: int | None = None
    """Training tokens so far, without padding."""
    train_loss_clean: float | None = None
    """Noise-off loss on the probe of training examples, in nats per completion token."""
    eval_examples: int | None = None
    """With `--curve-examples`: number of held-out examples of `eval_loss`."""


class ExampleLoss(Record):
    """One row of `examples.parquet`: the noise-off loss of one example after one epoch."""

    split: str
    """`held-out`, or `probe` for training examples."""
    epoch: int
    """Epoch; 0 for the base model."""
    example: str
    """Id of the example, a hash of its content."""
    cluster: str
    """Id of the cluster. Examples of one cluster are not independent, for example questions about one person."""
    loss: float
    """Loss in nats per completion token."""
    tokens: int
    """Completion tokens."""


class Generation(Record):
    """One line of `generations.jsonl`: a prompt, its reference, and the greedy response with its scores.

    Per-item metrics that other packages register (`neftune_cli.metrics`) are further fields.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float]

    split: str = HELD_OUT_SPLIT
    """`held-out`, or `probe` for training examples. Older files lack the field and have held-out responses only."""
    example: str
    """Id of the example, a hash of its content."""
    cluster: str
    """Id of the cluster. Examples of one cluster are not independent, for example questions about one person."""
    kind: str
    """Kind of the example in the bundled data; empty otherwise."""
    prompt: str
    """Rendered prompt with special tokens."""
    reference: str
    """Completion of the example, with its tool calls and reasoning as the chat template renders them."""
    response: str
    """Generated text without special tokens."""
    tokens: int
    """Generated tokens, without the end token."""
    truncated: bool
    """Whether the token limit or the end of the model's context was reached."""
    exact_match: bool
    """Whether response and reference are equal after normalization of case and white space."""
    rouge_l: float
    """ROUGE-L F-measure, 0 to 1."""
