"""What each metric is called, its unit, which way is good, which digits mean something, and what change is small."""

from dataclasses import dataclass
from typing import Literal

LARGEST_PLAIN_NUMBER = 1e5
"""Above it numbers are written with an exponent: a diverged perplexity would stretch its whole column."""

HELD_OUT_LOSS = "eval_loss"
"""Key of the metric that decides where the user names no other, and by which trainings are stopped in time."""
LOSS, HELD_OUT_ANSWERS, PROBE_ANSWERS = "Loss", "Generation on held-out prompts", "Generation on training prompts"
"""Titles of the tables that metrics stand in."""


@dataclass(frozen=True)
class Margin:
    """The largest difference that counts as none, in the metric's unit or as a share of the baseline's mean."""

    size: float
    relative: bool = False

    def at(self, baseline: float) -> float:
        """Return the margin in the metric's unit beside a baseline of this mean."""
        return self.size * abs(baseline) if self.relative else self.size


@dataclass(frozen=True)
class Metric:
    """One measured quantity of a trial, and how it is written."""

    key: str
    """Field of `LossMetrics` or `EvalMetrics`, `probe_` before it for answers to training prompts, or `task/metric`."""
    name: str
    """What a sentence calls it."""
    heading: str
    unit: str
    """Second line of its heading: unit, range or condition."""
    goal: Literal["lower", "higher"] | None
    """Which way is good; None where neither is by itself."""
    decimals: int
    margin: Margin
    """Differences up to it are taken for none, unless the user sets another."""
    section: str = LOSS
    """Title of the table it stands in."""

    @property
    def title(self) -> str:
        """Return the heading with an arrow in the direction that is good."""
        arrow = {"lower": " ↓", "higher": " ↑", None: ""}[self.goal]
        return self.heading + arrow

    @property
    def name_within(self) -> str:
        """Return the name as it stands within a sentence: `held-out loss`, but `ROUGE-L`."""
        return self.name if self.name[1:2].isupper() else self.name[:1].lower() + self.name[1:]

    def number(self, value: float) -> str:
        """Return `value` for people, with a true minus sign."""
        return self._written(value, sign="-")

    def signed(self, value: float) -> str:
        """Return `value` for people, with its sign even where that is a plus."""
        return self._written(value, sign="+")

    def _written(self, value: float, sign: str) -> str:
        style = f".{self.decimals}f" if abs(value) < LARGEST_PLAIN_NUMBER else ".2e"
        return format(value, sign + style).replace("-", "\N{MINUS SIGN}")


_ONE_PERCENT, _TWO_PERCENT, _FIVE_PERCENT = (Margin(share, relative=True) for share in (0.01, 0.02, 0.05))
_ANSWERS = HELD_OUT_ANSWERS

METRICS: dict[str, Metric] = {
    metric.key: metric
    for metric in (
        # Lower training loss isn't good in itself: memorising lowers it, and noise is meant to raise it. Of data learnt
        # by heart it is so small that a margin in nats would call everything equal.
        Metric("train_loss", "Noisy training loss", "train loss", "noisy, nats", None, 4, _TWO_PERCENT),
        Metric("train_loss_clean", "Noise-off training loss", "train loss", "noise off, nats", None, 4, _TWO_PERCENT),
        Metric("eval_loss", "Held-out loss", "held-out loss", "nats", "lower", 4, Margin(0.01)),
        Metric("eval_perplexity", "Held-out perplexity", "perplexity", "held-out", "lower", 3, _ONE_PERCENT),
        Metric("exact_match", "Exact match", "exact match", "0 to 1", "higher", 3, Margin(0.02), _ANSWERS),
        Metric("rouge_l", "ROUGE-L", "ROUGE-L", "0 to 1", "higher", 3, Margin(0.02), _ANSWERS),
        Metric("bleu", "BLEU", "BLEU", "0 to 100", "higher", 2, Margin(2.0), _ANSWERS),
        Metric("response_chars", "Answer length", "length", "characters", None, 1, _FIVE_PERCENT, _ANSWERS),
        Metric("repetition_2gram", "Repeated 2-grams", "repetition", "% of 2-grams", "lower", 2, Margin(1.0), _ANSWERS),
        Metric("log_diversity", "Log-diversity", "log-diversity", "", "higher", 3, _FIVE_PERCENT, _ANSWERS),
        Metric("truncated", "Truncated answers", "truncated", "0 to 1", "lower", 3, Margin(0.02), _ANSWERS),
        Metric("probe_rouge_l", "Training ROUGE-L", "ROUGE-L", "0 to 1", None, 3, Margin(0.02), PROBE_ANSWERS),
        Metric("probe_bleu", "Training BLEU", "BLEU", "0 to 100", None, 2, Margin(2.0), PROBE_ANSWERS),
    )
}
"""Every metric of a record by its key, in the order of the tables."""
