"""What the claims are examined on: the arm without noise, the noisy arms of the same recipe, and what was measured."""

from collections.abc import Mapping
from dataclasses import dataclass

from neftune_cli.analysis.alignment import AlignedMetric, TrialsByArm, align, measured_seeds
from neftune_cli.analysis.options import ComparisonOptions
from neftune_cli.analysis.paper_claims.wording import unknown_words
from neftune_cli.analysis.results import EarlyStopping
from neftune_cli.config.arms import arm_name
from neftune_cli.config.spec import NOISE_DETAILS
from neftune_cli.evidence.measurements import Measurements
from neftune_cli.formatting import listed
from neftune_cli.metrics import HELD_OUT_ANSWERS, METRICS, PROBE_ANSWERS, Metric


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
    choices: ComparisonOptions

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

    def aligned(self, key: str, *arms: str) -> AlignedMetric | None:
        """Return a metric of these arms over the seeds and items that all share, in this order; None if there are none.

        A value may be not finite.
        """
        return align({arm: self.arms[arm] for arm in arms}, key)


def reference_arm(arms: TrialsByArm, baseline: str) -> str:
    """Return the baseline if it has no noise, else an arm that changes nothing but alpha, else the first without noise.

    Arms whose recipe isn't known are passed over: what noise changes can't be told from what their recipe changes.

    Raises:
        NotMeasuredError: every arm has noise, or nobody knows its alpha or its recipe.
    """
    without = [arm for arm in dict.fromkeys((baseline, *arms)) if first_trial(arms, arm).alpha == 0]
    if not without:
        raise NotMeasuredError(f"Needs an arm with alpha 0: {SWEEP}.")
    known = [arm for arm in without if _changes(first_trial(arms, arm)) is not None]
    if not known:
        what = f"Needs an arm with alpha 0 of a known recipe; the names of the runs of {listed(without)} don't say it"
        raise NotMeasuredError(f"{what}. Call runs that change nothing alpha=0.")
    if known[0] == baseline:
        return baseline
    return next((arm for arm in known if not recipe_details(first_trial(arms, arm))), known[0])


def noisy_arms(arms: TrialsByArm, reference: str) -> tuple[str, ...]:
    """Return the arms that differ from the reference in noise alone.

    Raises:
        NotMeasuredError: there is none.
    """
    recipe = recipe_details(first_trial(arms, reference))
    noisy = tuple(arm for arm in _with_noise(arms) if recipe_details(first_trial(arms, arm)) == recipe)
    if not noisy:
        what = f"Needs an arm with noise and otherwise the recipe of {reference}: {SWEEP}."
        raise NotMeasuredError(what + unknown_words(unknown_arms(arms)))
    return noisy


def unknown_arms(arms: TrialsByArm) -> tuple[str, ...]:
    """Return the arms with noise of which nobody knows what else they change."""
    return tuple(arm for arm in _with_noise(arms) if _changes(first_trial(arms, arm)) is None)


def noise_details(trial: Measurements) -> frozenset[str]:
    """Return what a trial's arm changes in its noise beside alpha, like `noise=gaussian`."""
    return frozenset(detail for detail in _changes(trial) or () if _is_of_noise(detail))


def recipe_details(trial: Measurements) -> frozenset[str] | None:
    """Return what a trial's arm changes in the recipe, like `weight_decay=0.1`; None where nobody knows."""
    changes = _changes(trial)
    return None if changes is None else changes - noise_details(trial)


def first_trial(arms: TrialsByArm, arm: str) -> Measurements:
    """Return a trial that stands for its arm."""
    return next(iter(arms[arm].values()))


def _with_noise(arms: TrialsByArm) -> tuple[str, ...]:
    return tuple(arm for arm in arms if (first_trial(arms, arm).alpha or 0) > 0)


def _changes(trial: Measurements) -> frozenset[str] | None:
    """Return all that a trial's arm changes beside alpha; a name that a sweep wouldn't give may stand for anything."""
    if trial.details is not None:
        return frozenset(trial.details)
    size, *details = trial.arm.split(",")
    named_by_noise = size == arm_name({"alpha": trial.alpha}) and all(map(_is_of_noise, details))
    return frozenset(details) if named_by_noise else None


def _is_of_noise(detail: str) -> bool:
    return detail.partition("=")[0] in NOISE_DETAILS


SWEEP = "`neftune sweep --alphas 0,5,10,15 --seeds 5`"

_HOW_TO_MEASURE = {
    HELD_OUT_ANSWERS: "Needs answers to held-out prompts: run `neftune sweep` on data with prompts and completions.",
    PROBE_ANSWERS: "Needs answers to training prompts: run the sweep again with this version, on data with prompts.",
}

_OF_CHUNKS = ("repetition_2gram", "log_diversity")
_LONG_ANSWERS = "Chunks need answers of ten words or more: raise --max-new-tokens where answers were cut."


class NotMeasuredError(Exception):
    """A claim can't be examined on what there is; the message says what to run instead."""


def how_to_measure(key: str) -> str:
    """Return what a sweep needs to measure a metric."""
    metric = METRICS[key]
    how = _HOW_TO_MEASURE.get(metric.section, f"Needs {metric.name}, which {SWEEP} measures.")
    return f"{how} {_LONG_ANSWERS}" if key in _OF_CHUNKS else how
