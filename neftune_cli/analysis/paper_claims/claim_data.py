"""Trials on which claims about noise are tested: an arm without noise and noisy arms of the same recipe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neftune_cli.analysis.alignment import AlignedMetric, TrialsByArm, align, first_trial, measured_seeds
from neftune_cli.analysis.options import ComparisonOptions
from neftune_cli.analysis.results import EarlyStopping
from neftune_cli.formatting import listed
from neftune_cli.metrics import HELD_OUT_RESPONSES, METRICS, PROBE_RESPONSES, Metric

SWEEP = "neftune sweep --model NAME --dataset NAME --alphas 0,5,10,15 --seeds 5"
"""Command that measures the data of most claims."""


class NotMeasuredError(Exception):
    """The trials do not have the data that a claim needs. The message names a command that measures it."""


@dataclass(frozen=True)
class ClaimData:
    """Trials and options with which claims about noise are tested."""

    arms: TrialsByArm
    reference: str
    """Arm without noise with which the noisy arms are compared."""
    noisy: tuple[str, ...]
    """Arms that differ from the reference only in noise."""
    unknown: tuple[str, ...]
    """Noisy arms with an unknown recipe, which are excluded from all claims."""
    baseline: str
    """Arm with which `stopping` compares."""
    metrics: Mapping[str, Metric]
    """Measured metrics."""
    stopping: EarlyStopping | None
    options: ComparisonOptions
    """With the margin of each metric in its unit."""

    def alpha(self, arm: str) -> float:
        """Return the alpha of the reference or of a noisy arm."""
        alpha = first_trial(self.arms, arm).alpha
        assert alpha is not None
        return alpha

    def same_noise(self, arm: str) -> tuple[str, ...]:
        """Return the noisy arms that differ from this one only in alpha, and the arm itself."""
        details = first_trial(self.arms, arm).noise_details
        return tuple(other for other in self.noisy if first_trial(self.arms, other).noise_details == details)

    def metric(self, key: str) -> Metric:
        """Return a measured metric.

        Raises:
            NotMeasuredError: the metric was not measured.
        """
        if key not in self.metrics:
            raise NotMeasuredError(self.advice(key))
        return self.metrics[key]

    def advice(self, key: str) -> str:
        """Return a sentence on what measures a metric: a command, longer responses, or the tool of the results."""
        if key not in METRICS:
            return "Evaluate every arm with the tool that wrote these results."
        if key in _CHUNK_METRICS and any(metric.section == HELD_OUT_RESPONSES for metric in self.metrics.values()):
            return f"This claim needs longer responses. {_CHUNK_ADVICE}"
        metric = METRICS[key]
        advice = _ADVICE.get(metric.section, f"This claim needs the {metric.name_within}, which `{SWEEP}` measures.")
        return f"{advice} {_CHUNK_ADVICE}" if key in _CHUNK_METRICS else advice

    def margin(self, metric: Metric) -> float:
        """Return the equivalence margin of the comparison with the baseline, in the metric's unit."""
        return self.options.margins[metric.key].size

    def seeds(self, arm: str, key: str) -> frozenset[int]:
        """Return the seeds of an arm that have a score of the metric."""
        return frozenset(measured_seeds(self.arms[arm], key))

    def aligned(self, key: str, *arms: str) -> AlignedMetric | None:
        """Return a metric of these arms, in this order, over their shared seeds and items. Return None without any.

        Values can be other than finite.
        """
        return align({arm: self.arms[arm] for arm in arms}, key)


def reference_arm(arms: TrialsByArm, baseline: str) -> str:
    """Return the reference arm, which has alpha 0.

    It is the baseline if that has no noise, otherwise the first arm without other changes, otherwise the first arm
    without noise. Arms with an unknown recipe are excluded, because effects of noise and recipe could not be separated.

    Raises:
        NotMeasuredError: no arm has alpha 0, or all such arms have an unknown recipe.
    """
    without_noise = [arm for arm in dict.fromkeys((baseline, *arms)) if first_trial(arms, arm).alpha == 0]
    if not without_noise:
        raise NotMeasuredError(f"This claim needs an arm with alpha 0: `{SWEEP}`.")
    known = [arm for arm in without_noise if first_trial(arms, arm).recipe_details is not None]
    if not known:
        raise NotMeasuredError(
            f"This claim needs an arm with alpha 0 and a known recipe. The recipe of {listed(without_noise)} is "
            "unknown. If it differs from the others only in the noise, name its runs alpha=0."
        )
    if known[0] == baseline:
        return baseline
    return next((arm for arm in known if not first_trial(arms, arm).recipe_details), known[0])


def noisy_arms(arms: TrialsByArm, reference: str) -> tuple[str, ...]:
    """Return the arms that differ from the reference only in noise.

    Raises:
        NotMeasuredError: there is no such arm.
    """
    recipe = first_trial(arms, reference).recipe_details
    noisy = tuple(arm for arm in _with_noise(arms) if first_trial(arms, arm).recipe_details == recipe)
    if not noisy:
        need = f"This claim needs an arm with noise that otherwise has the recipe of {reference}: `{SWEEP}`."
        raise NotMeasuredError(need + unknown_recipe_sentence(unknown_arms(arms)))
    return noisy


def unknown_arms(arms: TrialsByArm) -> tuple[str, ...]:
    """Return the noisy arms with an unknown recipe."""
    return tuple(arm for arm in _with_noise(arms) if first_trial(arms, arm).recipe_details is None)


def excluded_seeds_sentence(names: Sequence[str]) -> str:
    """Return a sentence, after a space, on arms or pairs with too few shared seeds. Empty without such arms."""
    return f" Excluded, because too few of their common seeds have this metric: {listed(names)}." if names else ""


def unknown_recipe_sentence(arms: Sequence[str]) -> str:
    """Return a sentence, after a space, on arms with an unknown recipe. Empty without such arms."""
    return f" Excluded, because their recipe is unknown: {listed(arms)}." if arms else ""


_ADVICE = {
    HELD_OUT_RESPONSES: "This claim needs responses to held-out prompts. Run `neftune sweep` on data with completions.",
    PROBE_RESPONSES: "This claim needs responses to training prompts. Run the sweep again on data with prompts.",
}

_CHUNK_METRICS = ("repetition_2gram", "log_diversity")
_CHUNK_ADVICE = "The responses must have at least ten words. Increase --max-new-tokens if responses were truncated."


def _with_noise(arms: TrialsByArm) -> tuple[str, ...]:
    return tuple(arm for arm in arms if (first_trial(arms, arm).alpha or 0) > 0)
