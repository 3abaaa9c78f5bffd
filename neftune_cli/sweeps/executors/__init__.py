"""Where trials run: one contract, and an implementation a file."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from neftune_cli.records import TrialRecord
from neftune_cli.training.trial import Trial


@dataclass(frozen=True)
class Result:
    """How one trial ended: with a record, or with the reason why there is none."""

    trial: Trial
    record: TrialRecord | None
    reason: str
    seconds: float


class Executor(Protocol):
    """Runs trials, each on its own: one that fails takes no other with it."""

    def run(self, trials: Sequence[Trial], work: Callable[[Trial], TrialRecord]) -> Iterator[Result]:
        """Yield a result for each trial as it ends."""
        ...
