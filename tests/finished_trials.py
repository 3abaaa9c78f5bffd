"""Leaves finished trials, and such as never finished, in a results folder, as a sweep would."""

from collections.abc import Sequence

from pydantic import BaseModel

from neftune_cli.config.spec import TrialSpec
from neftune_cli.records import CurvePoint, ExampleLoss, Generation, TrialRecord, TrialState, TrialStatus
from neftune_cli.store import ClaimedTrial, TrialFolder


class NoSpec(BaseModel):
    """Stands for the spec of a trial where it doesn't matter."""


def begin(folder: TrialFolder, trial: str, spec: TrialSpec | None = None) -> ClaimedTrial:
    """Claim a trial and begin it."""
    claimed = folder.claim()
    assert claimed is not None
    claimed.begin(spec or NoSpec(), TrialStatus(trial=trial, state=TrialState.RUNNING))
    return claimed


def leave(
    folder: TrialFolder,
    record: TrialRecord,
    examples: Sequence[ExampleLoss] = (),
    generations: Sequence[Generation] = (),
    curve: Sequence[CurvePoint] = (),
) -> None:
    """Leave a finished trial."""
    with begin(folder, record.trial) as claimed:
        claimed.rewrite_metrics(curve)
        claimed.finish(record, examples, generations)


def leave_failed(folder: TrialFolder, trial: str, reason: str) -> None:
    """Leave a failed one."""
    with begin(folder, trial) as claimed:
        claimed.end(TrialState.FAILED, reason)
