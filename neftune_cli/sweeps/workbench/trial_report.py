"""What a running trial's folder says of it: state.json while it runs and when it ends, and the heads of its log."""

import math
import os
import socket
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from neftune_cli.errors import ClaimLost
from neftune_cli.records import TrialState, TrialStatus
from neftune_cli.store import ClaimedTrial
from neftune_cli.sweeps.executors import Job
from neftune_cli.sweeps.failures import DISK_KINDS, failure
from neftune_cli.training.hardware import device_name, forget_peak_memory, peak_memory_bytes
from neftune_cli.training.logs import ATTEMPT
from neftune_cli.training.trial import TrialProgress

SECONDS_BETWEEN = 1.0
"""Between two reports on the disk, which `neftune status` reads."""


class TrialReport:
    """Begins a trial's folder, keeps its state current, and says in the end how it ended.

    Args:
        place: the trial's claim.
        job: the trial, and how it is run.
        sweep: the sweep's folder, to tell a disk's failures from the trial's.
    """

    def __init__(self, place: ClaimedTrial, job: Job, sweep: Path) -> None:
        self._place, self._trial, self._sweep = place, job.trial, sweep
        before = place.folder.status()
        self._status = TrialStatus(
            trial=job.trial.id,
            state=TrialState.RUNNING,
            attempts=before.attempts + 1 if before else 1,
            started=before.started if before else "",
            host=socket.gethostname(),
            process=os.getpid(),
            side_by_side=job.settings.side_by_side,
        )
        self._reported = time.monotonic()

    @property
    def log_path(self) -> Path:
        """Return where output goes."""
        return self._place.folder.log_path

    def __enter__(self) -> Self:
        forget_peak_memory(device_name())
        self._place.begin(self._trial.spec, self._status)
        with self.log_path.open("a" if self._status.attempts > 1 else "w", encoding="utf-8") as log:
            when = datetime.now(UTC).isoformat(timespec="seconds")
            log.write(f"{ATTEMPT}{when} attempt {self._status.attempts}, {self._status.host}, process {os.getpid()}\n")
        return self

    def watch(self, progress: TrialProgress) -> None:
        """Put a progress into `state.json` if the phase is new or the last report is old."""
        now = time.monotonic()
        is_due = now - self._reported >= SECONDS_BETWEEN or progress.phase != self._status.phase
        self._status = self._status.model_copy(
            update={
                "phase": progress.phase,
                "step": progress.step or self._status.step,
                "steps": progress.steps or self._status.steps,
                "loss": self._status.loss if progress.loss is None else _finite(progress.loss),
                "tokens_per_second": progress.tokens_per_second,
            }
        )
        if is_due:
            self._reported = now
            self._place.report(self._measured())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._place.report(self._measured(state=TrialState.DONE, phase=""))
            return
        found = failure(error, self._sweep)
        if found.kind == "claim-lost":
            return
        state = TrialState.STOPPED if found.kind in ("stopped", *DISK_KINDS) else TrialState.FAILED
        with suppress(OSError, ClaimLost):  # the first error says more
            self._place.report(self._measured())
            self._place.end(state, found.reason if state is TrialState.FAILED else "")

    def _measured(self, **changes: object) -> TrialStatus:
        measured = {
            "seconds": round(self._place.seconds, 2),
            "seconds_in_all": round(self._place.seconds_in_all, 2),
            "peak_memory": peak_memory_bytes(device_name()),
        }
        return self._status.model_copy(update={**measured, **changes})


def _finite(loss: float) -> float | None:
    return loss if math.isfinite(loss) else None  # JSON has no other numbers
