"""One trial on disk: its folder, which any process may read, and its lease, whose holder may write."""

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel

from neftune_cli.errors import LeaseLost
from neftune_cli.formatting import utc_now
from neftune_cli.records import (
    SCHEMA_VERSION,
    CurvePoint,
    ExampleLoss,
    Generation,
    TrialRecord,
    TrialState,
    TrialStatus,
)
from neftune_cli.store.checkpoints import CHECKPOINTS_FOLDER, Checkpoint, Checkpoints
from neftune_cli.store.files import (
    append_at,
    append_line,
    atomic_folder,
    create_exclusively,
    file_size,
    json_lines,
    pretty_json,
    read_json,
    read_lines,
    read_parquet,
    read_record,
    sync_file,
    unusable_file,
    write_atomically,
)
from neftune_cli.store.leases import (
    LEASES,
    OLD_LEASES,
    HeartbeatMonitor,
    HeldLease,
    Lease,
    acquire_lease,
    holder,
    remove_old_leases,
)
from neftune_cli.store.temporary_files import remove_abandoned_files, remove_temporary_folders

if TYPE_CHECKING:
    from pyarrow import Table

RECORD_FILE, STATE_FILE, METRICS_FILE, SPEC_FILE = "record.json", "state.json", "metrics.jsonl", "spec.json"
EXAMPLES_FILE, GENERATIONS_FILE = "examples.parquet", "generations.jsonl"
TASK_SCORES_FILE, TASK_DOCUMENTS_FILE = "lm_eval.json", "lm_eval_samples.jsonl"
"""Files of lm-evaluation-harness, which a trial has if its sweep names tasks."""
FINAL_FILES = (GENERATIONS_FILE, EXAMPLES_FILE, TASK_SCORES_FILE, TASK_DOCUMENTS_FILE)
"""Files that are written at the end of a trial, before its record. `metrics.jsonl` grows during the trial."""


class TrialFolder:
    """The files of one trial, `trials/<arm>,seed=<seed>-<id>/`."""

    def __init__(self, path: Path, monitor: HeartbeatMonitor | None = None) -> None:
        self.path = path
        self._monitor = monitor or HeartbeatMonitor()

    @property
    def folder_label(self) -> str:
        """Return the name of the folder without the id, for example `alpha=5,seed=0`."""
        return self.path.name.rpartition("-")[0]

    @property
    def id(self) -> str:
        """Return the trial id from the name of the folder."""
        return self.path.name.rpartition("-")[2]

    @property
    def log_path(self) -> Path:
        """Return the path of the log."""
        return self.path / "log.txt"

    @property
    def model_path(self) -> Path:
        """Return the path of the trained model, which exists if the model was kept."""
        return self.path / "model"

    def spec(self) -> dict[str, Any]:
        """Return the content of `spec.json`, empty if it is missing or holds no JSON object.

        Raises:
            UsageError: the file cannot be read, or a newer version of neftune wrote it.
        """
        return read_json(self.path / SPEC_FILE) or {}

    def status(self) -> TrialStatus | None:
        """Return the content of `state.json`, None if it is missing or not valid."""
        return read_record(self.path / STATE_FILE, TrialStatus)

    def curve(self) -> list[CurvePoint]:
        """Return the logged points in order, without an incomplete last line."""
        return read_lines(self.path / METRICS_FILE, CurvePoint)

    def generations(self) -> list[Generation]:
        """Return the generated responses to held-out prompts, then to probe prompts, in the order of the examples."""
        return read_lines(self.path / GENERATIONS_FILE, Generation)

    def task_files(self) -> dict[str, Path]:
        """Return the paths of the files of lm-evaluation-harness by name; empty if the sweep names no tasks."""
        paths = {name: self.path / name for name in (TASK_SCORES_FILE, TASK_DOCUMENTS_FILE)}
        return paths if all(path.exists() for path in paths.values()) else {}

    def example_losses(self) -> "Table | None":
        """Return `examples.parquet` with the columns of `ExampleLoss`, None if there is no such file.

        Raises:
            UsageError: the file is damaged or cannot be read.
        """
        return read_parquet(self.path / EXAMPLES_FILE, list(ExampleLoss.model_fields))

    def record(self) -> TrialRecord | None:
        """Return the record; None if there is none, if it holds no JSON object, or if a result file is missing or cut.

        Raises:
            UsageError: the record lacks a field or has a wrong one, a newer version of neftune wrote it, or a file
                cannot be read.
        """
        path = self.path / RECORD_FILE
        if (values := read_json(path)) is None:
            return None
        try:
            record = TrialRecord.model_validate(values)
        except ValueError as error:
            raise unusable_file(path, error) from None
        return None if self._first_changed_file(record) else record

    def has_lost_files(self) -> bool:
        """Return whether the trial has finished, but its record or a result file is missing or damaged."""
        return (self.path / RECORD_FILE).exists() and self.record() is None

    def why_without_record(self) -> str:
        """Return the reason why there is no valid record, as the end of a sentence about the trial."""
        if (self.path / RECORD_FILE).exists():
            values, name = read_json(self.path / RECORD_FILE), RECORD_FILE
            if values:
                name = self._first_changed_file(TrialRecord.model_validate(values)) or RECORD_FILE
            state = "damaged" if (self.path / name).exists() else "missing"
            return f"cannot be used: its {name} is {state}; the sweep command trains it again"
        return "has not finished" if (reason := self.failure_reason()) is None else f"failed: {reason}"

    def failure_reason(self) -> str | None:
        """Return the reason why the trial failed, None if it has not failed or has a record."""
        status = self.status()
        if status is None or status.state is not TrialState.FAILED or self.record() is not None:
            return None
        return status.reason

    def has_started(self) -> bool:
        """Return whether the trial has content other than a lease."""
        return any((self.path / name).exists() for name in (STATE_FILE, RECORD_FILE))

    def has_leftovers(self) -> bool:
        """Return whether there are files of a running or dead process, which a finished trial does not leave."""
        return (self.path / CHECKPOINTS_FOLDER).exists() or any(
            path for pattern in (LEASES, OLD_LEASES, ".*.tmp") for path in self.path.glob(pattern)
        )

    def newest_checkpoint(self) -> Checkpoint | None:
        """Return the checkpoint from which the trial would resume, None without one. Checks only the sizes of files."""
        return self.checkpoints.newest()

    @property
    def checkpoints(self) -> Checkpoints:
        """Return the checkpoints."""
        return Checkpoints(self.path / CHECKPOINTS_FOLDER)

    def holder(self) -> Lease | None:
        """Return the lease of the living process that runs the trial, None if there is none."""
        return holder(self.path, self._monitor)

    def is_leased(self) -> bool:
        """Return whether a living process holds the lease of the trial."""
        return self.holder() is not None

    def acquire_lease(self, *, lease_seconds: float) -> "LeasedTrial | None":
        """Acquire the lease of the trial, and return the trial for writing; None while another process holds the lease.

        Args:
            lease_seconds: time in seconds without a heartbeat after which another process may take over the lease.
        """
        self.path.mkdir(exist_ok=True)  # without parents: the folder of the sweep may have been removed
        held = acquire_lease(self.path, lease_seconds=lease_seconds, monitor=self._monitor)
        return LeasedTrial(self, held) if held else None

    def remove_model(self) -> None:
        """Remove the kept model if there is one. Another process may remove it at the same time."""
        shutil.rmtree(self.model_path, ignore_errors=True)

    def _first_changed_file(self, record: TrialRecord) -> str | None:
        """Return the name of the first result file with another size than in the record, None if there is none."""
        return next((name for name, size in record.files.items() if file_size(self.path / name) != size), None)


class LeasedTrial:
    """A trial whose lease this process holds, for writing. It is a context manager that releases the lease.

    Every method that writes raises `LeaseLost` if this process has lost the lease (`HeldLease.check`).
    """

    def __init__(self, folder: TrialFolder, held: HeldLease) -> None:
        self.folder = folder
        self._path, self._held = folder.path, held
        self._checkpoints = folder.checkpoints
        self._status: TrialStatus | None = None
        self._acquired = time.monotonic()
        self._seconds_in_checkpoint = self._seconds_before = 0.0
        self._time_of_original: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def start(self, spec: BaseModel, status: TrialStatus) -> None:
        """Write the spec and the state, and remove results of earlier attempts other than checkpoints."""
        self._held.check()
        if self.folder.record() is not None:
            raise self._finished_by_another()
        before = self.folder.status()
        self._seconds_before = (before.seconds_in_all or before.seconds or 0.0) if before else 0.0
        self.remove_earlier_results()
        self._write(SPEC_FILE, pretty_json({"schema_version": SCHEMA_VERSION, **spec.model_dump(mode="json")}))
        self._set(status, durable=True)
        sys.audit("neftune.trial-running", str(self._path))

    def remove_earlier_results(self) -> None:
        """Remove the results of earlier attempts other than checkpoints, and leftovers of dead processes."""
        self._held.check()
        for name in (RECORD_FILE, *FINAL_FILES):
            (self._path / name).unlink(missing_ok=True)
        self._remove_temporaries()
        sys.audit("neftune.leftovers-cleared", str(self._path))

    @property
    def seconds(self) -> float:
        """Return the time in seconds of all attempts, without work that was lost in a crash."""
        return self._seconds_in_checkpoint + time.monotonic() - self._acquired

    @property
    def seconds_in_all(self) -> float:
        """Return the time in seconds of all attempts, with work that was lost in a crash."""
        return self._seconds_before + time.monotonic() - self._acquired

    def add_seconds_of(self, checkpoint: Checkpoint) -> None:
        """Add the training time of a checkpoint from which the trial resumes."""
        self._seconds_in_checkpoint = checkpoint.seconds

    def report_time_of(self, original: TrialFolder) -> None:
        """Write the time of another trial into the state in place of the own time: this one copies its results."""
        fields = {"seconds", "side_by_side"}
        status = original.status()
        self._time_of_original = status.model_dump(include=fields) if status else dict.fromkeys(fields)

    def report(self, status: TrialStatus) -> None:
        """Write the progress of the trial."""
        self._set(status, durable=False)

    def append_metrics(self, point: CurvePoint) -> None:
        """Append one line to `metrics.jsonl`."""
        self._held.check()
        append_line(self._path / METRICS_FILE, point.model_dump_json(exclude_none=True))

    def rewrite_metrics(self, points: Sequence[CurvePoint]) -> None:
        """Replace the content of `metrics.jsonl` by these points: none, or those of a checkpoint."""
        self._write(METRICS_FILE, json_lines(points, exclude_none=True))

    def new_checkpoint(self, step: int, about: Mapping[str, Any] | None = None) -> AbstractContextManager[Path]:
        """Yield a folder for the files of a checkpoint, which appears as a whole and durably after the block.

        Only the last two checkpoints are kept.
        """
        self._held.check()
        return self._checkpoints.new(step, self.seconds, about or {}, self._held.check)

    def new_model(self) -> AbstractContextManager[Path]:
        """Yield a folder for the trained model, which appears as a whole and durably after the block."""
        self._held.check()
        return atomic_folder(self.folder.model_path, self._held.check)

    def intact_checkpoints(self) -> list[Checkpoint]:
        """Return the intact checkpoints, newest first."""
        return self._checkpoints.intact()

    def drop_checkpoints(self) -> None:
        """Remove the checkpoints."""
        self._held.check()
        self._checkpoints.drop()

    def finish(
        self,
        record: TrialRecord,
        losses: Sequence[ExampleLoss],
        generations: Sequence[Generation],
        task_files: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Write the results of the trial. The record is last, and durable. It is written only if there is none yet.

        Args:
            record: the record.
            losses: the loss of each example.
            generations: the responses.
            task_files: the contents of the files of lm-evaluation-harness, by name.
        """
        import pandas as pd

        frame = pd.DataFrame([loss.model_dump() for loss in losses], columns=list(ExampleLoss.model_fields))
        self._write(GENERATIONS_FILE, json_lines(generations))
        self._write(EXAMPLES_FILE, frame.to_parquet(index=False))
        for name, content in task_files.items():
            self._write(name, content)
        sync_file(self._path / METRICS_FILE)
        sys.audit("neftune.results-written", str(self._path))
        names = (METRICS_FILE, GENERATIONS_FILE, EXAMPLES_FILE, *task_files)
        complete = record.model_copy(update={"files": {name: (self._path / name).stat().st_size for name in names}})
        self._create_record(pretty_json(complete.model_dump(mode="json")))
        self.end(TrialState.DONE)

    def write_copied(self, name: str, content: bytes) -> None:
        """Write a file of a copy of this trial on another machine. The record must follow all other results."""
        if name == RECORD_FILE:
            self._create_record(content)
        else:
            self._write(name, content, durable=name != STATE_FILE)

    def append_copied(self, name: str, offset: int, content: bytes) -> None:
        """Append what a file of a copy of this trial has from an offset, which is the size of this file."""
        self._held.check()
        append_at(self._path / name, offset, content)

    def copied_checkpoint(self, name: str) -> AbstractContextManager[Path]:
        """Yield a folder for the files of a checkpoint from a copy of this trial, its index included."""
        self._held.check()
        return self._checkpoints.new_with_index(name, self._held.check)

    def remove_leftovers(self) -> None:
        """Remove the files of a finished trial that a dead process left."""
        self.drop_checkpoints()
        self._remove_temporaries()
        if (status := self.folder.status()) is None or status.state is not TrialState.DONE:
            self.end(TrialState.DONE)

    def end(self, state: TrialState, reason: str = "") -> None:
        """Write the final state of the trial."""
        status = self._status or self.folder.status() or TrialStatus(trial=self.folder.id, state=state)
        self._set(status.model_copy(update={"state": state, "reason": reason, "phase": ""}), durable=True)
        sys.audit("neftune.trial-ended", str(self._path))

    def release(self) -> None:
        """Release the lease."""
        self._held.release()

    def _create_record(self, content: str | bytes) -> None:
        """Create the record if there is none yet, and remove the checkpoints."""
        self._held.check()
        try:
            create_exclusively(self._path / RECORD_FILE, content)
        except FileExistsError:
            raise self._finished_by_another() from None
        sys.audit("neftune.record-written", str(self._path))
        self._checkpoints.drop()
        sys.audit("neftune.checkpoints-dropped", str(self._path))

    def _remove_temporaries(self) -> None:
        remove_abandoned_files(self._path)
        remove_temporary_folders(self._path)
        remove_old_leases(self._path)

    def _finished_by_another(self) -> LeaseLost:
        return LeaseLost(f"Another process has finished {self._path}.")

    def _set(self, status: TrialStatus, *, durable: bool) -> None:
        now = utc_now()
        started = status.started or (self._status.started if self._status else now)
        self._status = status.model_copy(update={"updated": now, "started": started, **self._time_of_original})
        self._write(STATE_FILE, pretty_json(self._status.model_dump(mode="json")), durable=durable)

    def _write(self, name: str, content: str | bytes, *, durable: bool = True) -> None:
        self._held.check()
        write_atomically(self._path / name, content, durable=durable)
