"""Which arms differ in noise alone: the one without noise, those with it, and those whose recipe nobody knows."""

from neftune_cli.analysis.aligned import TrialsByArm
from neftune_cli.analysis.claims.not_measured import SWEEP, NotMeasuredError
from neftune_cli.analysis.claims.wording import unknown_words
from neftune_cli.analysis.wording import listed
from neftune_cli.config.arms import arm_name
from neftune_cli.config.spec import NOISE_DETAILS
from neftune_cli.evidence.measurements import Measurements


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
