"""Overrides of a trial's arm other than alpha: those of the noise, and those of the recipe."""

from neftune_cli.config.arms import arm_name
from neftune_cli.config.spec import NOISE_DETAILS
from neftune_cli.evidence.measurements import Measurements


def noise_details(trial: Measurements) -> frozenset[str]:
    """Return the overrides of the trial's arm that concern the noise, without alpha, for example `noise=gaussian`."""
    return frozenset(detail for detail in _changes(trial) or () if _is_of_noise(detail))


def recipe_details(trial: Measurements) -> frozenset[str] | None:
    """Return the overrides of the trial's arm that concern the recipe, for example `weight_decay=0.1`.

    Return None if they are unknown.
    """
    changes = _changes(trial)
    return None if changes is None else changes - noise_details(trial)


def _changes(trial: Measurements) -> frozenset[str] | None:
    """Return all overrides of the trial's arm other than alpha.

    Return None if they are unknown: a name that a sweep would not give to an arm can stand for any recipe.
    """
    if trial.details is not None:
        return frozenset(trial.details)
    alpha, *details = trial.arm.split(",")
    named_by_noise = alpha == arm_name({"alpha": trial.alpha}) and all(map(_is_of_noise, details))
    return frozenset(details) if named_by_noise else None


def _is_of_noise(detail: str) -> bool:
    return detail.partition("=")[0] in NOISE_DETAILS
