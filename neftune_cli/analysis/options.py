"""Options of a comparison: baseline arm, primary metric, confidence level and equivalence margins."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean

from neftune_cli.analysis.alignment import TrialsByArm
from neftune_cli.metrics import Margin, Metric


@dataclass(frozen=True)
class ComparisonOptions:
    """Options that the user can set. The evidence determines the defaults of those that are not set."""

    baseline: str | None = None
    """Name or alpha of an arm. Default: the first trained arm."""
    metric: str | None = None
    """Key of the primary metric, on which the advice is based. Default: held-out loss."""
    confidence: float = 0.95
    margins: Mapping[str, Margin] = field(default_factory=dict)
    """Metric key to equivalence margin, in place of the metric's own margin."""

    def margin(
        self, metric: Metric, arms: TrialsByArm, baseline: str, base: Mapping[str, float | None] | None = None
    ) -> float:
        """Return the equivalence margin in the metric's unit.

        Args:
            metric: declares the rule, unless the user set another.
            arms: trials, for margins that are relative to the mean of the baseline's finite scores, over the seeds that
                another arm has as well.
            baseline: name of the baseline.
            base: scores of the base model, for margins that are a share of the gain of fine-tuning.
        """
        paired = {seed for arm, trials in arms.items() if arm != baseline for seed in trials} or set(arms[baseline])
        scores = [trial.scores.get(metric.key) for seed, trial in arms[baseline].items() if seed in paired]
        known = [score for score in scores if score is not None and math.isfinite(score)]
        if not known:
            return 0.0
        before = (base or {}).get(metric.key)
        gain = None if before is None else (before - fmean(known)) * (1 if metric.goal == "lower" else -1)
        return self.margins.get(metric.key, metric.margin).at(fmean(known), gain)


DEFAULT_OPTIONS = ComparisonOptions()
"""Options of a user who sets none."""
