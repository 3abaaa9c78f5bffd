"""Builders of parts of manifests."""

from typing import Any

from neftune_cli.store.manifest import Cost, PlannedTrial


def cost_estimate(trials: dict[str, float], seconds: float, **values: Any) -> Cost:
    """Return an estimate from a calibration for two workers, with other values where they are given."""
    known = {"peak_memory": None, "workers": 2, "source": "calibration", "tokens": {}, **values}
    return Cost(trials=trials, seconds=seconds, **known)


def planned_trial(trial: str, arm: str, seed: int | None, steps: int) -> PlannedTrial:
    """Return a trial of a plan."""
    return PlannedTrial(trial=trial, arm=arm, seed=seed, steps=steps)
