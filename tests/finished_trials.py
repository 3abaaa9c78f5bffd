"""Writers of finished, failed and interrupted trials in a results folder, for tests."""

from collections.abc import Sequence

from pydantic import BaseModel

from neftune_cli.config.spec import TrialSpec
from neftune_cli.records import CurvePoint, ExampleLoss, Generation, TrialRecord, TrialState, TrialStatus
from neftune_cli.store import LeasedTrial, TrialFolder


class NoSpec(BaseModel):
    """Placeholder for the spec of a trial."""


def begin(folder: TrialFolder, trial: str, spec: TrialSpec | None = None) -> LeasedTrial:
    """Acquire the lease of a trial and start it."""
    leased = folder.acquire_lease()
    assert leased is not None
    leased.start(spec or NoSpec(), TrialStatus(trial=trial, state=TrialState.RUNNING))
    return leased


def leave(
    folder: TrialFolder,
    record: TrialRecord,
    examples: Sequence[ExampleLoss] = (),
    generations: Sequence[Generation] = (),
    curve: Sequence[CurvePoint] = (),
) -> None:
    """Write a finished trial."""
    with begin(folder, record.trial) as leased:
        leased.rewrite_metrics(curve)
        leased.finish(record, examples, generations)


def leave_failed(folder: TrialFolder, trial: str, reason: str) -> None:
    """Write a failed trial."""
    with begin(folder, trial) as leased:
        leased.end(TrialState.FAILED, reason)
