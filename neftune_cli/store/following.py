"""Repeated reading of a trial that another process writes, limited to what has changed."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neftune_cli.errors import UsageError
from neftune_cli.records import TrialRecord, TrialState, TrialStatus
from neftune_cli.store.checkpoints import Checkpoint
from neftune_cli.store.leases import Lease
from neftune_cli.store.trials import METRICS_FILE, TrialFolder


@dataclass(frozen=True)
class TrialSnapshot:
    """Content of the folder of one trial at one time."""

    record: TrialRecord | None = None
    status: TrialStatus | None = None
    holder: Lease | None = None
    """Lease of the living process that runs the trial. Not read if there is a record."""
    checkpoint: Checkpoint | None = None
    """Checkpoint from which the trial would resume. Not read if there is a record or a living process."""
    losses: Sequence[float] = ()
    """Training loss of each logged step, in order. Not read if there is a record."""
    lost: str = ""
    """Reason why a finished trial has no valid record."""
    damage: str = ""
    """Reason why the files are not valid or cannot be read."""


class FollowedTrial:
    """Reader of one trial. For a finished trial, a further read only checks the modification time of the folder."""

    def __init__(self, folder: TrialFolder) -> None:
        self._folder = folder
        self._losses = _LossLines(folder.path / METRICS_FILE)
        self._finished: tuple[int, TrialSnapshot] | None = None

    def read(self) -> TrialSnapshot:
        """Return the current content."""
        changed = _modification_time(self._folder.path)
        if changed is None:
            return TrialSnapshot()
        if self._finished is not None and self._finished[0] == changed:
            return self._finished[1]
        snapshot = self._read()
        self._finished = (changed, snapshot) if snapshot.record else None
        return snapshot

    def _read(self) -> TrialSnapshot:
        try:
            if record := self._folder.record():
                return TrialSnapshot(record, self._folder.status())
            holder = self._folder.holder()
            checkpoint = None if holder else self._folder.newest_checkpoint()
            status = self._folder.status()
            is_lost = holder is None and status is not None and status.state is TrialState.DONE
            lost = self._folder.why_without_record() if is_lost else ""
            return TrialSnapshot(None, status, holder, checkpoint, self._losses.read(), lost)
        except UsageError as error:
            return TrialSnapshot(damage=str(error))


class _LossLines:
    """Reader of the training losses in a growing `metrics.jsonl`. Each read parses only the new lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = self._read_to = 0
        self._losses: list[float] = []

    def read(self) -> list[float]:
        try:
            with self._path.open("rb") as file:
                self._restart_if_rewritten(os.fstat(file.fileno()))
                file.seek(self._read_to)
                new = file.read()
        except OSError:
            return []
        complete = new[: new.rfind(b"\n") + 1]
        self._read_to += len(complete)
        self._losses += [loss for line in complete.splitlines() if (loss := _training_loss(line)) is not None]
        return self._losses

    def _restart_if_rewritten(self, file: os.stat_result) -> None:
        if file.st_ino != self._file or file.st_size < self._read_to:
            self._file, self._read_to, self._losses = file.st_ino, 0, []


def _training_loss(line: bytes) -> float | None:
    try:
        loss = json.loads(line).get("train_loss")
    except (ValueError, AttributeError):
        return None
    return loss if isinstance(loss, float) else None


def _modification_time(folder: Path) -> int | None:
    """Return the modification time of a folder in nanoseconds, None if it does not exist."""
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return None
