"""Follows a trial that another process writes: looked at again and again, it reads only what has changed."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neftune_cli.errors import UsageError
from neftune_cli.records import TrialRecord, TrialState, TrialStatus
from neftune_cli.store.checkpoints import Checkpoint
from neftune_cli.store.leases import Claim
from neftune_cli.store.trials import METRICS_FILE, TrialFolder


@dataclass(frozen=True)
class Look:
    """What was on the disk of one trial at one moment."""

    record: TrialRecord | None = None
    status: TrialStatus | None = None
    holder: Claim | None = None
    """The claim of the living process that works on it; not looked for where there is a record."""
    kept: Checkpoint | None = None
    """What it would go on from; not looked for where there is a record or a living process."""
    losses: Sequence[float] = ()
    """Training loss of each logged step in order; not looked for where there is a record."""
    lost: str = ""
    """Why a trial that was finished has no record any more."""
    damage: str = ""
    """Why what is there can't be used."""


class FollowedTrial:
    """A trial that is looked at often; once it is finished, a look costs as much as asking when its folder changed."""

    def __init__(self, folder: TrialFolder) -> None:
        self._folder = folder
        self._losses = _LossLines(folder.path / METRICS_FILE)
        self._finished: tuple[int, Look] | None = None

    def look(self) -> Look:
        """Return what is there now."""
        changed = _changed(self._folder.path)
        if changed is None:
            return Look()
        if self._finished is not None and self._finished[0] == changed:
            return self._finished[1]
        look = self._read()
        self._finished = (changed, look) if look.record else None
        return look

    def _read(self) -> Look:
        try:
            if record := self._folder.record():
                return Look(record, self._folder.status())
            holder = self._folder.holder()
            kept = None if holder else self._folder.kept()
            status = self._folder.status()
            is_lost = holder is None and status is not None and status.state is TrialState.DONE
            lost = self._folder.why_without_record() if is_lost else ""
            return Look(None, status, holder, kept, self._losses.read(), lost)
        except UsageError as error:
            return Look(damage=str(error))


class _LossLines:
    """The training losses in a growing `metrics.jsonl`, of which each look parses only the new lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = self._read_to = 0
        self._losses: list[float] = []

    def read(self) -> list[float]:
        try:
            with self._path.open("rb") as file:
                self._start_over_if_rewritten(os.fstat(file.fileno()))
                file.seek(self._read_to)
                new = file.read()
        except OSError:
            return []
        whole = new[: new.rfind(b"\n") + 1]
        self._read_to += len(whole)
        self._losses += [loss for line in whole.splitlines() if (loss := _training_loss(line)) is not None]
        return self._losses

    def _start_over_if_rewritten(self, file: os.stat_result) -> None:
        if file.st_ino != self._file or file.st_size < self._read_to:
            self._file, self._read_to, self._losses = file.st_ino, 0, []


def _training_loss(line: bytes) -> float | None:
    try:
        loss = json.loads(line).get("train_loss")
    except (ValueError, AttributeError):
        return None
    return loss if isinstance(loss, float) else None


def _changed(folder: Path) -> int | None:
    """Return when a file was last created, replaced or removed in a folder; None if there is no such folder."""
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return None
