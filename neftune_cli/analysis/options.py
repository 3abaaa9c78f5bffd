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

    def margin(self, metric: Metric, arms: TrialsByArm, baseline: str) -> float:
        """Return the equivalence margin in the metric's unit.

        A relative margin is a share of the mean of the baseline's finite scores.
        """
        scores = [trial.scores.get(metric.key) for trial in arms[baseline].values()]
        known = [score for score in scores if score is not None and math.isfinite(score)]
        return self.margin_at(metric, fmean(known)) if known else 0.0

    def margin_at(self, metric: Metric, baseline_mean: float) -> float:
        """Return the equivalence margin in the metric's unit, for a baseline with this mean."""
        return self.margins.get(metric.key, metric.margin).at(baseline_mean)


DEFAULT_OPTIONS = ComparisonOptions()
"""Options of a user who sets none."""
