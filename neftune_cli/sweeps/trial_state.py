"""Writing of `state.json` of a running trial: its progress, measurements and end; and of the head of its log."""

import math
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from neftune_cli.errors import LeaseLost
from neftune_cli.formatting import utc_now
from neftune_cli.records import TrialState, TrialStatus
from neftune_cli.store import LeasedTrial
from neftune_cli.sweeps.executors import Job
from neftune_cli.sweeps.failures import DISK_KINDS, failure_of
from neftune_cli.training.hardware import device_kind, peak_memory_bytes, reset_peak_memory
from neftune_cli.training.trial import TrialProgress
from neftune_cli.training.trial_log import ATTEMPT

REPORT_SECONDS = 1.0
"""Interval between updates of `state.json`, which `neftune status` reads."""


class TrialStateWriter:
    """Context that starts a trial's folder and log, keeps `state.json` current, and records how the trial ended.

    Args:
        leased: the trial's folder, whose lease this process holds.
        job: the trial and its settings.
        sweep: the sweep's folder, to distinguish disk failures from failures of the trial.
    """

    def __init__(self, leased: LeasedTrial, job: Job, sweep: Path) -> None:
        self._leased, self._trial, self._sweep = leased, job.trial, sweep
        before = leased.folder.status()
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
        """Return the path of the trial's log."""
        return self._leased.folder.log_path

    def __enter__(self) -> Self:
        reset_peak_memory(device_kind())
        self._leased.start(self._trial.spec, self._status)
        with self.log_path.open("a" if self._status.attempts > 1 else "w", encoding="utf-8") as log:
            log.write(
                f"{ATTEMPT}{utc_now()} attempt {self._status.attempts}, {self._status.host}, process {os.getpid()}\n"
            )
        return self

    def update(self, progress: TrialProgress) -> None:
        """Write the progress to `state.json` if the phase has changed or the last report is older than a second."""
        now = time.monotonic()
        is_due = now - self._reported >= REPORT_SECONDS or progress.phase != self._status.phase
        self._status = self._status.model_copy(
            update={
                "phase": progress.phase,
                "step": progress.step or self._status.step,
                "steps": progress.steps or self._status.steps,
                "loss": self._status.loss if progress.loss is None else _finite(progress.loss),
                "tokens_per_second": progress.tokens_per_second,
                "parameters": progress.parameters or self._status.parameters,
                "trained_parameters": progress.trained_parameters or self._status.trained_parameters,
            }
        )
        if is_due:
            self._reported = now
            self._leased.report(self._measured())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._leased.report(self._measured(state=TrialState.DONE, phase=""))
            return
        found = failure_of(error, self._sweep)
        if found.kind == "lease-lost":
            return
        state = TrialState.STOPPED if found.kind in ("stopped", *DISK_KINDS) else TrialState.FAILED
        with suppress(OSError, LeaseLost):  # the first error is the informative one
            self._leased.report(self._measured())
            self._leased.end(state, found.reason if state is TrialState.FAILED else "")

    def _measured(self, **changes: object) -> TrialStatus:
        measured = {
            "seconds": round(self._leased.seconds, 2),
            "seconds_in_all": round(self._leased.seconds_in_all, 2),
            "peak_memory": peak_memory_bytes(device_kind()),
        }
        return self._status.model_copy(update={**measured, **changes})


def _finite(loss: float) -> float | None:
    return loss if math.isfinite(loss) else None  # JSON has no other numbers
