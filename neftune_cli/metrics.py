"""Metrics: declarations of all quantities that a trial measures, and a registry for those of other packages.

Evaluation computes the declared scores. Analysis and reporting read units, directions, margins and table columns. This
module imports neither torch nor the libraries that compute scores.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal

from neftune_cli.config.registry import Registry, imported
from neftune_cli.errors import Problem
from neftune_cli.margins import Margin as Margin  # noqa: PLC0414 - modules that declare metrics import it from here

LARGEST_PLAIN_NUMBER = 1e5
"""Larger numbers are written with an exponent, because a diverged perplexity would widen its column."""

_MOST_DECIMALS = 12

UNITS_OF_NUMBERS = ("nats", "characters")
"""Units that are written after a number. `Metric.unit` can also be a range or a condition, which are not."""

NOISY_TRAINING_LOSS, NOISE_OFF_TRAINING_LOSS = "train_loss", "train_loss_clean"
HELD_OUT_LOSS = "eval_loss"
"""Key of the default primary metric, which also determines the best epoch."""
HELD_OUT_PERPLEXITY = "eval_perplexity"
TRUNCATED = "truncated"
"""Key of the share of truncated responses, which generation measures."""
KEYS_WITHOUT_SCORE = (NOISY_TRAINING_LOSS, NOISE_OFF_TRAINING_LOSS, HELD_OUT_LOSS, HELD_OUT_PERPLEXITY, TRUNCATED)
"""Keys of the metrics without a scoring function: training and generation measure them."""
PROBE_PREFIX = "probe_"
"""Prefix of the keys of metrics of responses to training prompts."""
CORRECTNESS_METRICS = ("exact_match", "rouge_l")
"""Keys of the scores, from 0 to 1, of the agreement of responses with their references. They can show learning although
the held-out loss rises. The first screen shows one of them."""
RESERVED_KEYS = ("split", "example", "cluster", "kind", "prompt", "reference", "response", "tokens")
"""Fields of a line of `generations.jsonl` that are not metrics."""
LOSS_TABLE = "Loss"
HELD_OUT_RESPONSES, PROBE_RESPONSES = "Generation on held-out prompts", "Generation on training prompts"
TASKS_TABLE, INSPECT_TABLE, TRAINER_TABLE = "lm-eval", "inspect", "Scores that the trainers logged"
"""Titles of the tables of metrics: `Metric.section`. The last three are those of metrics of other tools."""

ItemScore = Callable[[str, str], float]
"""Scoring function of a per-item metric: (response, reference) -> value in the metric's unit."""
CorpusScore = Callable[[Sequence[str], Sequence[str]], float | None]
"""Scoring function of a corpus-level metric: (responses, references) -> value, None if it is undefined."""


@dataclass(frozen=True)
class Metric:
    """One measured quantity of a trial: its meaning, its format, and the computation of its value."""

    key: str
    """Field of `LossMetrics` or `EvalMetrics`, with the prefix `probe_` for training prompts. Metrics of other tools
    have keys such as `task/metric`."""
    name: str
    """Name in tables and sentences, with a capital letter, for example `Held-out loss`."""
    unit: str
    """Second line of the heading: unit, range or condition."""
    goal: Literal["lower", "higher"] | None
    """Direction of improvement; None if neither direction is an improvement."""
    decimals: int
    margin: Margin
    """Equivalence margin, unless `--margin` sets another."""
    section: str = LOSS_TABLE
    """Title of the metric's table. The metrics in the table HELD_OUT_RESPONSES are scores of responses."""
    bounds: tuple[float, float] = (-math.inf, math.inf)
    """Lowest and highest possible value."""
    per_item: bool = True
    """Whether the trial's value is the mean over items. Otherwise the metric is a corpus-level metric."""
    on_training_prompts: bool = False
    """Whether responses to training prompts are scored as well. The key of this score has the prefix `probe_`."""
    stored: bool = True
    """For per-item scores of responses: whether `generations.jsonl` has them. Otherwise `compare` computes them."""
    score: str | ItemScore | CorpusScore | None = field(default=None, hash=False)  # a callable object may have no hash
    """Scoring function, or `module:function` to import it at first use: an `ItemScore` if `per_item`, otherwise a
    `CorpusScore`."""
    item: str = "held-out example"
    """Noun for an item of the metric, whose plural ends with `s`."""

    @property
    def title(self) -> str:
        """Return the name with an arrow in the direction of improvement, as a heading of tables."""
        return self.name_within + self.arrow

    @property
    def label(self) -> str:
        """Return the name with the key, which the options `--metric` and `--margin` take."""
        return f"{self.name_within} ({self.key})"

    @property
    def arrow(self) -> str:
        """Return a space and an arrow in the direction of improvement, empty if there is none."""
        return {"lower": " ↓", "higher": " ↑", None: ""}[self.goal]

    @property
    def name_within(self) -> str:
        """Return the name for use within a sentence: `held-out loss`, and `ROUGE-L` unchanged."""
        return self.name if self.name[1:2].isupper() else self.name[:1].lower() + self.name[1:]

    @property
    def scored_per_item(self) -> bool:
        """Return whether `generations.jsonl` has the score of each response."""
        return self.section == HELD_OUT_RESPONSES and self.per_item and self.stored

    def number(self, value: float) -> str:
        """Return `value` as text, with a true minus sign."""
        return self._formatted(value, sign="-")

    def gain(self, before: float, after: float) -> float:
        """Return the improvement from one value to another, in the metric's unit; without a goal, the increase."""
        return before - after if self.goal == "lower" else after - before

    def signed(self, value: float) -> str:
        """Return `value` as text, with a plus or minus sign."""
        return self._formatted(value, sign="+")

    def assumed(self, value: float) -> str:
        """Return a margin or an assumed difference as `signed` does, or with two digits if that would show zero.

        >>> METRICS["eval_loss"].assumed(-0.00000667), METRICS["eval_loss"].assumed(0.0123)
        ('\N{MINUS SIGN}6.7e-06', '+0.0123')
        """
        if not 0 < abs(value) < 10.0**-self.decimals / 2:
            return self.signed(value)
        return ("+" if value > 0 else "\N{MINUS SIGN}") + f"{abs(value):.1e}"

    def margin_size(self, size: float) -> str:
        """Return a margin as `amount` does, or with two digits if that would show zero."""
        return self.assumed(size).lstrip("+") + self.unit_suffix

    def resolving(self, size: float) -> "Metric":
        """Return the metric with the decimals that show this size with two significant digits, at most its own.

        >>> METRICS["eval_loss"].resolving(0.1116).signed(-0.1116)
        '\N{MINUS SIGN}0.11'
        """
        if not (math.isfinite(size) and size > 0):
            return self
        return replace(self, decimals=min(self.decimals, max(0, 1 - math.floor(math.log10(size)))))

    def showing(self, size: float) -> "Metric":
        """Return the metric with the decimals that show this size with three significant digits, if it shows only one.

        >>> from dataclasses import replace
        >>> small = replace(METRICS["rouge_l"], decimals=3)
        >>> small.showing(0.00016).number(0.00016), small.showing(0.016).number(0.016)
        ('0.000160', '0.016')
        """
        if not 0 < size < 10.0 ** (1 - self.decimals):  # also false for NaN
            return self
        return replace(self, decimals=min(_MOST_DECIMALS, 2 - math.floor(math.log10(size))))

    def amount(self, value: float) -> str:
        """Return the absolute size of `value` with the unit, if there is one.

        >>> METRICS["eval_loss"].amount(-0.0123), METRICS["eval_loss"].amount(0.00001)
        ('0.0123 nats', 'less than 0.0001 nats')
        """
        size, smallest = abs(value), 10.0**-self.decimals
        number = f"less than {self.number(smallest)}" if 0 < size < smallest / 2 else self.number(size)
        return number + self.unit_suffix

    @property
    def unit_suffix(self) -> str:
        """Return a space and the unit, for use after a number; empty if the metric has no unit of measurement."""
        return f" {self.unit}" if self.unit in UNITS_OF_NUMBERS else ""

    def _formatted(self, value: float, sign: str) -> str:
        style = f".{self.decimals}f" if abs(value) < LARGEST_PLAIN_NUMBER else ".2e"
        return format(value, sign + style).replace("-", "\N{MINUS SIGN}")

    def scoring_function(self) -> Any:
        """Return the scoring function, imported if necessary; None if the metric has none."""
        return imported(self.score)


def names_function(key: str | None) -> bool:
    """Return whether the key of a metric has the form `module:function`: a function of the user."""
    module, colon, name = (key or "").partition(":")
    return bool(colon) and name.isidentifier() and all(part.isidentifier() for part in module.split("."))


def task_metric_key(task: str, metric: str, filter_: str, filters: int) -> str:
    """Return the key of a metric of lm-evaluation-harness, with the filter if the task has several.

    >>> task_metric_key("gsm8k", "exact_match", "strict-match", 2), task_metric_key("piqa", "acc", "none", 1)
    ('gsm8k/exact_match (strict-match)', 'piqa/acc')
    """
    return f"{task}/{metric}" + (f" ({filter_})" if filters > 1 else "")


class MetricRegistry(Registry[Metric]):
    """Registry of the metrics that trials measure."""

    def problems_of(self, declaration: Metric) -> Iterator[Problem]:
        """Yield each reason why a metric cannot be used, such as a reserved key, or that nothing computes it."""
        yield from super().problems_of(declaration)
        if not isinstance(declaration, Metric) or declaration.key in KEYS_WITHOUT_SCORE:
            return
        is_scored = isinstance(declaration.score, str) or callable(declaration.score)
        if not is_scored or declaration.section != HELD_OUT_RESPONSES:
            fix = "Give it a scoring function and section=HELD_OUT_RESPONSES."
            yield Problem(f"Nothing computes the metric {declaration.key!r}.", fix)

    def name_problems(self, name: str) -> Iterator[Problem]:
        """Yield the reason why a metric cannot have this key, if there is one."""
        is_usable = isinstance(name, str) and name.isidentifier()
        if not is_usable or name.startswith(PROBE_PREFIX) or name in RESERVED_KEYS:
            taken = f"without the prefix {PROBE_PREFIX}, and none of {', '.join(RESERVED_KEYS)}"
            yield Problem(f"A metric cannot have the key {name!r}.", f"Use an identifier {taken}.")


REGISTERED_METRICS = MetricRegistry("metric", "neftune.metrics", Metric, lambda metric: metric.key)
"""Declared metrics. Those of training prompts are derived from them in METRICS."""


def register_metric(metric: Metric) -> Metric:
    """Add a metric in this process. A package declares an entry point of the group `neftune.metrics` instead.

    Raises:
        UsageError: the key is registered already or cannot be used, or nothing computes the metric.
    """
    return REGISTERED_METRICS.register(metric)


def response_metrics() -> tuple[Metric, ...]:
    """Return the metrics of responses to prompts, in the order of the tables."""
    return tuple(metric for metric in REGISTERED_METRICS.values() if metric.section == HELD_OUT_RESPONSES)


class _Metrics(Mapping[str, Metric]):
    """All metrics by key: the registered ones, then those of responses to training prompts."""

    def __getitem__(self, key: str) -> Metric:
        return _with_training_prompts(tuple(REGISTERED_METRICS.values()))[key]

    def __iter__(self) -> Iterator[str]:
        return iter(_with_training_prompts(tuple(REGISTERED_METRICS.values())))

    def __len__(self) -> int:
        return len(_with_training_prompts(tuple(REGISTERED_METRICS.values())))


@cache
def _with_training_prompts(metrics: tuple[Metric, ...]) -> dict[str, Metric]:
    derived = (_on_training_prompts(metric) for metric in metrics if metric.on_training_prompts)
    return {metric.key: metric for metric in (*metrics, *derived)}


def _on_training_prompts(metric: Metric) -> Metric:
    """Return the same metric for training prompts. It has no goal, because high values are a sign of memorization."""
    return replace(
        metric,
        key=PROBE_PREFIX + metric.key,
        name=f"Training {metric.name}",
        goal=None,
        section=PROBE_RESPONSES,
        on_training_prompts=False,
        item=_PROBE_ITEM,
    )


METRICS: Mapping[str, Metric] = _Metrics()
"""Every metric of a record by key, in the order of the tables."""

_ONE_PERCENT, _TWO_PERCENT, _FIVE_PERCENT = (Margin(share, relative=True) for share in (0.01, 0.02, 0.05))
_FROM_0, _SHARE, _PERCENT = (0.0, math.inf), (0.0, 1.0), (0.0, 100.0)
_SCORES = "neftune_cli.evaluation.text_metrics"
_PROBE_ITEM = "probe example"


def _response_chars(response: str, _reference: str) -> float:
    return float(len(response))


# fmt: off
for _metric in (
    # A training loss has no goal: memorization lowers it, and noise raises it. Its margin is relative, because the loss
    # of memorized data is smaller than any reasonable margin in nats.
    Metric(
        key=NOISY_TRAINING_LOSS, name="Noisy training loss", unit="nats", goal=None, decimals=4, margin=_TWO_PERCENT,
        bounds=_FROM_0, per_item=False, item="training example",
    ),
    Metric(
        key=NOISE_OFF_TRAINING_LOSS, name="Noise-off training loss", unit="nats", goal=None, decimals=4,
        margin=_TWO_PERCENT, bounds=_FROM_0, item=_PROBE_ITEM,
    ),
    Metric(
        key=HELD_OUT_LOSS, name="Held-out loss", unit="nats", goal="lower", decimals=4,
        margin=Margin(0.01, of_gain=0.01), bounds=_FROM_0,
    ),
    Metric(
        key=HELD_OUT_PERPLEXITY, name="Held-out perplexity", unit="", goal="lower", decimals=3, margin=_ONE_PERCENT,
        bounds=(1.0, math.inf),
    ),
    Metric(
        key="exact_match", name="Exact match", unit="0 to 1", goal="higher", decimals=3, margin=Margin(0.02),
        section=HELD_OUT_RESPONSES, bounds=_SHARE, score=f"{_SCORES}:exact_match",
    ),
    Metric(
        key="rouge_l", name="ROUGE-L", unit="0 to 1", goal="higher", decimals=3, margin=Margin(0.02),
        section=HELD_OUT_RESPONSES, bounds=_SHARE, on_training_prompts=True, score=f"{_SCORES}:rouge_l",
    ),
    Metric(
        key="bleu", name="BLEU", unit="0 to 100", goal="higher", decimals=2, margin=Margin(2.0),
        section=HELD_OUT_RESPONSES, bounds=_PERCENT, per_item=False, on_training_prompts=True,
        score=f"{_SCORES}:corpus_bleu",
    ),
    Metric(
        key="response_chars", name="Response length", unit="characters", goal=None, decimals=1, margin=_FIVE_PERCENT,
        section=HELD_OUT_RESPONSES, bounds=_FROM_0, stored=False, score=_response_chars,
    ),
    Metric(
        key="repetition_2gram", name="Repetition", unit="% of 2-grams", goal="lower", decimals=2, margin=Margin(1.0),
        section=HELD_OUT_RESPONSES, bounds=_PERCENT, per_item=False, score=f"{_SCORES}:repetition_in_chunks",
    ),
    Metric(
        key="log_diversity", name="Log-diversity", unit="", goal="higher", decimals=3, margin=_FIVE_PERCENT,
        section=HELD_OUT_RESPONSES, per_item=False, score=f"{_SCORES}:log_diversity_in_chunks",
    ),
    Metric(
        key=TRUNCATED, name="Truncated responses", unit="0 to 1", goal="lower", decimals=3, margin=Margin(0.02),
        section=HELD_OUT_RESPONSES, bounds=_SHARE,
    ),
):
    register_metric(_metric)
# fmt: on
