"""How to compare, as far as the user has a choice."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean

from neftune_cli.analysis.aligned import TrialsByArm
from neftune_cli.evidence.metrics import Margin, Metric


@dataclass(frozen=True)
class Choices:
    """Baseline, metric, confidence and margins; what is left out is decided by the evidence."""

    baseline: str | None = None
    """Name or alpha of an arm; by default the first trained one."""
    metric: str | None = None
    """Key of the metric that the advice is about; by default the held-out loss."""
    confidence: float = 0.95
    margins: Mapping[str, Margin] = field(default_factory=dict)
    """Metric key to what counts as no difference, in place of the metric's own."""

    def margin(self, metric: Metric, arms: TrialsByArm, baseline: str) -> float:
        """Return what counts as no difference beside this baseline's finite scores, in the metric's unit."""
        scores = [trial.scores.get(metric.key) for trial in arms[baseline].values()]
        known = [score for score in scores if score is not None and math.isfinite(score)]
        return self.margin_beside(metric, fmean(known)) if known else 0.0

    def margin_beside(self, metric: Metric, mean: float) -> float:
        """Return what counts as no difference of a metric beside a baseline of this mean, in the metric's unit."""
        return self.margins.get(metric.key, metric.margin).at(mean)


DEFAULT_CHOICES = Choices()
"""What happens when the user chooses nothing."""
