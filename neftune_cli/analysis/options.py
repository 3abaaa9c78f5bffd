"""Options of a comparison: baseline arm, primary metric, confidence level and equivalence margins."""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from neftune_cli.analysis.alignment import TrialsByArm, are_finite
from neftune_cli.errors import Problem, UsageError, alternatives, did_you_mean
from neftune_cli.metrics import Margin, Metric


@dataclass(frozen=True)
class ComparisonOptions:
    """Options that the user can set. The evidence determines the defaults of those that are not set."""

    baseline: str | None = None
    """Name or alpha of an arm. Default: the first trained arm."""
    metric: str | None = None
    """Key of the primary metric, on which the advice is based. Default: the declared one, or held-out loss, or else the
    first measured one."""
    confidence: float = 0.95
    margins: Mapping[str, Margin] = field(default_factory=dict)
    """Metric key to equivalence margin, in place of the metric's own margin."""

    def margin(
        self, metric: Metric, arms: TrialsByArm, baseline: str, base_scores: Mapping[str, float | None] | None = None
    ) -> Margin:
        """Return the equivalence margin in the metric's unit, with its rule.

        Args:
            metric: declares the rule, unless the user set another.
            arms: trials, for margins that are relative to the mean of the baseline's finite scores, over the seeds that
                another arm has as well.
            baseline: name of the baseline.
            base_scores: scores of the base model, for margins that are a share of the gain of fine-tuning.
        """
        paired = {seed for arm, trials in arms.items() if arm != baseline for seed in trials} or set(arms[baseline])
        scores = [trial.scores.get(metric.key) for seed, trial in arms[baseline].items() if seed in paired]
        known = [score for score in scores if score is not None and are_finite(score)]
        if not known:
            return Margin(0.0)
        before = (base_scores or {}).get(metric.key)
        gain = None
        if before is not None and are_finite(before):  # an infinite gain would be an infinite margin
            gain = metric.gain(before, fmean(known))
        margin = self.margins.get(metric.key, metric.margin)
        if margin.of_gain is not None:  # without a gain, the metric's own margin applies
            margin = replace(metric.margin, of_gain=margin.of_gain)
        return margin.resolved(fmean(known), gain)

    def arguments(self, measured: Container[str]) -> Iterator[str]:
        """Yield the options of `neftune compare` for those that differ from the defaults, each with its value.

        Args:
            measured: keys of the measured metrics. `neftune compare` refuses a margin of any other metric.
        """
        if self.baseline is not None:
            yield from ("--baseline", self.baseline)
        if self.metric is not None:
            yield from ("--metric", self.metric)
        if self.confidence != DEFAULT_OPTIONS.confidence:
            yield from ("--confidence", f"{self.confidence:.15g}")
        for key, margin in self.margins.items():
            if key in measured:
                yield from ("--margin", f"{key}={margin.written()}")


DEFAULT_OPTIONS = ComparisonOptions()
"""Options of a user who sets none."""

_MARGIN_FIX = "Use eval_loss=0.02 (in its unit), response_chars=10% (of the baseline), or 'eval_loss=1% of gain'."


def check_confidence(confidence: float) -> None:
    """Check a confidence level. Equivalence is tested at twice the level of difference, which must be less than 1.

    Raises:
        UsageError: it is 0.5 or less, or 1 or more.
    """
    if not 0.5 < confidence < 1:
        what = f"--confidence must be larger than 0.5 and less than 1; {confidence:g} was given."
        meant = confidence / 100 if 50 < confidence < 100 else 0.95
        raise UsageError(Problem(what, f"Use --confidence {meant:g}."))


def parse_margins(texts: Sequence[str], known: Sequence[str] | None) -> Mapping[str, Margin]:
    """Parse margins such as `eval_loss=0.02` (in the metric's unit) and `response_chars=10%` (of the baseline's mean).

    Args:
        texts: values of `--margin`.
        known: keys of the measured metrics; None or empty if they are not known.

    Raises:
        UsageError: every text with a wrong form, a size that is not positive and finite, or an unknown metric.
    """
    margins: dict[str, Margin] = {}
    problems = []
    for text in texts:
        key, _, size = (part.strip() for part in text.partition("="))
        margin = Margin.parse(size)
        if margin is None:
            problems.append(Problem(f"--margin {text}: {_margin_fault(text, size)}.", _MARGIN_FIX))
        elif known and key not in known:
            what = f"--margin {text}: the metric {key!r} was not measured."
            problems.append(Problem(what, did_you_mean(key, known) or f"Use {alternatives(known)}."))
        elif key in margins:
            problems.append(Problem(f"--margin {text}: {key} has two margins.", "Use one margin for each metric."))
        else:
            margins[key] = margin
    if problems:
        raise UsageError(*problems)
    return margins


def _margin_fault(text: str, size: str) -> str:
    if size:
        return f"the size must be a number larger than 0; {size!r} was given"
    return "the size is missing" if "=" in text or Margin.parse(text) is None else "the metric is missing"
