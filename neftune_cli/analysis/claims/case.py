"""What the claims are examined on: the arm without noise, the noisy arms of the same recipe, and what was measured."""

from collections.abc import Mapping
from dataclasses import dataclass

from neftune_cli.analysis.aligned import Aligned, TrialsByArm, align, measured_seeds
from neftune_cli.analysis.choices import Choices
from neftune_cli.analysis.claims.not_measured import NotMeasuredError, how_to_measure
from neftune_cli.analysis.claims.recipes import first_trial, noise_details
from neftune_cli.analysis.results import EarlyStopping
from neftune_cli.evidence.metrics import Metric


@dataclass(frozen=True)
class Case:
    """The trials that claims about noise are examined on."""

    arms: TrialsByArm
    reference: str
    """The arm without noise that the noisy ones are compared with."""
    noisy: tuple[str, ...]
    """Arms that differ from the reference in noise alone."""
    unknown: tuple[str, ...]
    """Arms with noise that are left out of every claim: nobody knows what else they change."""
    baseline: str
    """The arm that `stopping` compares with."""
    metrics: Mapping[str, Metric]
    stopping: EarlyStopping | None
    choices: Choices

    def alpha(self, arm: str) -> float:
        """Return the alpha of the reference or of a noisy arm."""
        alpha = first_trial(self.arms, arm).alpha
        assert alpha is not None
        return alpha

    def like(self, arm: str) -> tuple[str, ...]:
        """Return the noisy arms that differ from this one in alpha alone, and the arm itself."""
        details = noise_details(first_trial(self.arms, arm))
        return tuple(other for other in self.noisy if noise_details(first_trial(self.arms, other)) == details)

    def metric(self, key: str) -> Metric:
        """Return a metric that was measured.

        Raises:
            NotMeasuredError: it wasn't.
        """
        if key not in self.metrics:
            raise NotMeasuredError(how_to_measure(key))
        return self.metrics[key]

    def margin(self, metric: Metric) -> float:
        """Return what counts as no difference to the reference, in the metric's unit."""
        return self.choices.margin(metric, self.arms, self.reference)

    def seeds(self, arm: str, key: str) -> frozenset[int]:
        """Return the seeds for which a metric of an arm is known."""
        return frozenset(measured_seeds(self.arms[arm], key))

    def aligned(self, key: str, *arms: str) -> Aligned | None:
        """Return a metric of these arms over the seeds and items that all share, in this order; None if there are none.

        A value may be not finite.
        """
        return align({arm: self.arms[arm] for arm in arms}, key)
