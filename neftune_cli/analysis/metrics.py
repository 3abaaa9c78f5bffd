"""What each metric is called, its unit, which way is good and how many digits mean something: words for the judging."""

from dataclasses import dataclass
from typing import Literal

LARGEST_PLAIN_NUMBER = 1e5
"""Above it numbers are written with an exponent: a diverged perplexity would stretch its whole column."""


@dataclass(frozen=True)
class Metric:
    """One measured quantity of a trial, and how it is written."""

    key: str
    """Field of `LossMetrics` or `EvalMetrics`."""
    name: str
    """What a sentence calls it."""
    heading: str
    unit: str
    """Second line of its heading: unit, range or condition."""
    goal: Literal["lower", "higher"] | None
    """Which way is good; None where neither is by itself."""
    decimals: int

    @property
    def title(self) -> str:
        """Return the heading with an arrow in the direction that is good."""
        arrow = {"lower": " ↓", "higher": " ↑", None: ""}[self.goal]
        return self.heading + arrow

    def number(self, value: float) -> str:
        """Return `value` for people, with a true minus sign."""
        return self._written(value, sign="-")

    def signed(self, value: float) -> str:
        """Return `value` for people, with its sign even where that is a plus."""
        return self._written(value, sign="+")

    def _written(self, value: float, sign: str) -> str:
        style = f".{self.decimals}f" if abs(value) < LARGEST_PLAIN_NUMBER else ".2e"
        return format(value, sign + style).replace("-", "\N{MINUS SIGN}")


METRICS: dict[str, Metric] = {
    metric.key: metric
    for metric in (
        # Lower training loss isn't good in itself: memorising lowers it, and noise is meant to raise it.
        Metric("train_loss", "Noisy training loss", "train loss", "noisy, nats", None, 4),
        Metric("train_loss_clean", "Noise-off training loss", "train loss", "noise off, nats", None, 4),
        Metric("eval_loss", "Held-out loss", "held-out loss", "nats", "lower", 4),
        Metric("eval_perplexity", "Held-out perplexity", "perplexity", "held-out", "lower", 3),
        Metric("exact_match", "Exact match", "exact match", "0 to 1", "higher", 3),
        Metric("rouge_l", "ROUGE-L", "ROUGE-L", "0 to 1", "higher", 3),
        Metric("bleu", "BLEU", "BLEU", "0 to 100", "higher", 2),
        Metric("response_chars", "Answer length", "length", "characters", None, 1),
        Metric("repetition_2gram", "Repeated 2-grams", "repetition", "% of 2-grams", "lower", 2),
        Metric("log_diversity", "Log-diversity", "log-diversity", "", "higher", 3),
        Metric("truncated", "Truncated answers", "truncated", "0 to 1", "lower", 3),
    )
}
"""Every metric of a record by its key, in the order of the tables."""
