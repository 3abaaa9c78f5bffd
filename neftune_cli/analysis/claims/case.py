"""What the claims are examined on: the arm without noise, the noisy arms of the same recipe, and what was measured."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neftune_cli.analysis.aligned import Aligned, TrialsByArm, align
from neftune_cli.analysis.choices import Choices
from neftune_cli.analysis.paired import PairedComparison
from neftune_cli.analysis.results import EarlyStopping
from neftune_cli.config.spec import NOISE_DETAILS
from neftune_cli.evidence.measurements import Measurements
from neftune_cli.evidence.metrics import HELD_OUT_ANSWERS, METRICS, PROBE_ANSWERS, Metric

SWEEP = "`neftune sweep --alphas 0,5,10,15 --seeds 5`"

_SIZE = re.compile(r"(alpha|snr)=")
_HOW_TO_MEASURE = {
    HELD_OUT_ANSWERS: "Needs answers to held-out prompts: run `neftune sweep` on data with prompts and completions.",
    PROBE_ANSWERS: "Needs answers to training prompts: run the sweep again with this version, on data with prompts.",
}


class NotMeasuredError(Exception):
    """A claim can't be examined on what there is; the message says what to run instead."""


@dataclass(frozen=True)
class Case:
    """The trials that claims about noise are examined on."""

    arms: TrialsByArm
    reference: str
    """The arm without noise that the noisy ones are compared with."""
    noisy: tuple[str, ...]
    """Arms that differ from the reference in noise alone."""
    baseline: str
    """The arm that `stopping` compares with."""
    metrics: Mapping[str, Metric]
    stopping: EarlyStopping | None
    choices: Choices

    def alpha(self, arm: str) -> float:
        """Return the alpha of the reference or of a noisy arm."""
        alpha = _first(self.arms, arm).alpha
        assert alpha is not None
        return alpha

    def like(self, arm: str) -> tuple[str, ...]:
        """Return the noisy arms that differ from this one in alpha alone, and the arm itself."""
        details = noise_details(_first(self.arms, arm))
        return tuple(other for other in self.noisy if noise_details(_first(self.arms, other)) == details)

    def metric(self, key: str) -> Metric:
        """Return a metric that was measured.

        Raises:
            NotMeasuredError: it wasn't.
        """
        if key not in self.metrics:
            raise NotMeasuredError(_how_to_measure(key))
        return self.metrics[key]

    def margin(self, metric: Metric) -> float:
        """Return what counts as no difference to the reference, in the metric's unit."""
        return self.choices.margin(metric, self.arms, self.reference)

    def aligned(self, key: str, noisy: tuple[str, ...]) -> Aligned:
        """Return the reference and those of the noisy arms that share a seed with it, in this order.

        Raises:
            NotMeasuredError: they share no seed and item with this metric.
        """
        metric = self.metric(key)
        sharing = [arm for arm in noisy if align(self._only(self.reference, arm), key)]
        aligned = align(self._only(self.reference, *sharing), key) if sharing else None
        if aligned is None:
            what = f"No seed of {self.reference} and the noisy arms has {metric.name} in both"
            raise NotMeasuredError(f"{what}. {_how_to_measure(key)}")
        return aligned

    def pair(self, first: str, second: str, key: str) -> PairedComparison | None:
        """Return the second arm minus the first; None where they share nothing or a value isn't finite."""
        aligned = align(self._only(first, second), key)
        if aligned is None:
            return None
        return aligned.compare(aligned.arm(first), aligned.arm(second), confidence=self.choices.confidence)

    def _only(self, *arms: str) -> TrialsByArm:
        return {arm: self.arms[arm] for arm in arms}


def reference_arm(arms: TrialsByArm, baseline: str) -> str:
    """Return the baseline if it has no noise, else the first arm that has none.

    Raises:
        NotMeasuredError: every arm has noise, or nobody knows its alpha.
    """
    for arm in (baseline, *arms):
        if _first(arms, arm).alpha == 0:
            return arm
    raise NotMeasuredError(f"Needs an arm with alpha 0: {SWEEP}.")


def noisy_arms(arms: TrialsByArm, reference: str) -> tuple[str, ...]:
    """Return the arms that differ from the reference in noise alone.

    Raises:
        NotMeasuredError: there is none.
    """
    recipe = recipe_details(_first(arms, reference))
    noisy = tuple(
        arm for arm in arms if (_first(arms, arm).alpha or 0) > 0 and recipe_details(_first(arms, arm)) == recipe
    )
    if not noisy:
        raise NotMeasuredError(f"Needs an arm with noise and otherwise the recipe of {reference}: {SWEEP}.")
    return noisy


def noise_details(trial: Measurements) -> frozenset[str]:
    """Return what a trial's arm changes in its noise beside alpha, like `noise=gaussian`."""
    return frozenset(detail for detail in _details(trial) if detail.partition("=")[0] in NOISE_DETAILS)


def recipe_details(trial: Measurements) -> frozenset[str]:
    """Return what a trial's arm changes in the recipe, like `weight_decay=0.1`."""
    return frozenset(_details(trial)) - noise_details(trial)


def _details(trial: Measurements) -> Sequence[str]:
    if trial.details is not None:
        return trial.details
    return [part for part in trial.arm.split(",") if "=" in part and not _SIZE.match(part)]


def _first(arms: TrialsByArm, arm: str) -> Measurements:
    return next(iter(arms[arm].values()))


def _how_to_measure(key: str) -> str:
    metric = METRICS[key]
    return _HOW_TO_MEASURE.get(metric.section, f"Needs {metric.name}, which {SWEEP} measures.")
