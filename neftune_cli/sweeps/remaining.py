"""What of a plan is done, what has failed, and what remains to be run."""

from neftune_cli.records import TrialState
from neftune_cli.store import SweepFolder, TrialFolder
from neftune_cli.sweeps.plan import Plan
from neftune_cli.training.trial import Trial


def place_of(folder: SweepFolder, trial: Trial) -> TrialFolder:
    """Return where a trial's files are, or will be."""
    return folder.trial(trial.id, trial.arm, trial.seed)


def missing_trials(plan: Plan, folder: SweepFolder, *, retry_failed: bool = False) -> list[Trial]:
    """Return the trials to run: without a record, and not failed before unless failed ones shall be retried."""
    without = [trial for trial in plan.trials if place_of(folder, trial).record() is None]
    return [trial for trial in without if retry_failed or why_failed(place_of(folder, trial)) is None]


def done_trials(plan: Plan, folder: SweepFolder) -> set[str]:
    """Return the ids of the trials that have a record."""
    return {trial.id for trial in plan.trials if place_of(folder, trial).record() is not None}


def failed_trials(plan: Plan, folder: SweepFolder) -> dict[str, str]:
    """Return why trials have failed that have no record, by `arm, seed`."""
    return {trial.label: why for trial in plan.trials if (why := why_failed(place_of(folder, trial))) is not None}


def why_failed(place: TrialFolder) -> str | None:
    """Return why a trial has failed, None if it hasn't."""
    status = place.status()
    if status is None or status.state is not TrialState.FAILED or place.record() is not None:
        return None
    return status.reason
