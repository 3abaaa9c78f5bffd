"""One trial on disk: its folder, which anyone may read, and the claim on it, with which one process may write."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel

from neftune_cli.errors import LeaseLost
from neftune_cli.records import (
    SCHEMA_VERSION,
    CurvePoint,
    ExampleLoss,
    Generation,
    TrialRecord,
    TrialState,
    TrialStatus,
)
from neftune_cli.store.checkpoints import Checkpoint, Checkpoints
from neftune_cli.store.files import (
    append_line,
    as_lines,
    create,
    damaged,
    filling,
    pretty,
    read_json,
    read_lines,
    read_record,
    sync_file,
    write_atomically,
)
from neftune_cli.store.leases import Claim, HeldClaim, Silence, holder, take_claim
from neftune_cli.store.locks import remove_abandoned, remove_unfinished_folders

if TYPE_CHECKING:
    from pyarrow import Table

RECORD_FILE, STATE_FILE, METRICS_FILE = "record.json", "state.json", "metrics.jsonl"
EXAMPLES_FILE, GENERATIONS_FILE = "examples.parquet", "generations.jsonl"


class TrialFolder:
    """The files of one trial, `trials/<arm>,seed=<seed>-<id>/`."""

    def __init__(self, path: Path, silence: Silence | None = None) -> None:
        self.path = path
        self._silence = silence or Silence()

    @property
    def label(self) -> str:
        """Return its arm and seed, as the folder's name has them."""
        return self.path.name.rpartition("-")[0]

    @property
    def id(self) -> str:
        """Return the trial's id, as the folder's name has it."""
        return self.path.name.rpartition("-")[2]

    @property
    def log_path(self) -> Path:
        """Return where the trial's log goes."""
        return self.path / "log.txt"

    @property
    def model_path(self) -> Path:
        """Return where the trained model is, if it was kept."""
        return self.path / "model"

    def status(self) -> TrialStatus | None:
        """Return what `state.json` says, None if there is none or it can't be read."""
        return read_record(self.path / STATE_FILE, TrialStatus)

    def curve(self) -> list[CurvePoint]:
        """Return the logged points in order; a torn last line is left out."""
        return read_lines(self.path / METRICS_FILE, CurvePoint)

    def generations(self) -> list[Generation]:
        """Return the generated answers, to held-out and then to probe prompts, each in the order of their examples."""
        return read_lines(self.path / GENERATIONS_FILE, Generation)

    def example_losses(self) -> "Table | None":
        """Return `examples.parquet` with the columns of `ExampleLoss`, None where there is none.

        Raises:
            UsageError: the file is damaged.
        """
        from pyarrow.lib import ArrowInvalid
        from pyarrow.parquet import ParquetFile

        path = self.path / EXAMPLES_FILE
        if not path.exists():
            return None
        try:
            with ParquetFile(path) as file:
                return file.read(list(ExampleLoss.model_fields), use_threads=False)
        except (ArrowInvalid, OSError, KeyError):
            raise damaged(path) from None

    def record(self) -> TrialRecord | None:
        """Return the record; None while the trial has not finished, or if a file that it speaks for was cut or lost.

        Raises:
            UsageError: a newer version of this program wrote it, or something else did.
        """
        path = self.path / RECORD_FILE
        if (values := read_json(path)) is None:
            return None
        try:
            record = TrialRecord.model_validate(values)
        except ValueError:
            raise damaged(path) from None
        return None if self._changed(record) else record

    def why_without_record(self) -> str:
        """Return why there is no record to be used, as the end of a sentence about the trial."""
        if (self.path / RECORD_FILE).exists():
            values = read_json(self.path / RECORD_FILE)
            name = self._changed(TrialRecord.model_validate(values)) if values else RECORD_FILE
            return f"can't be used: its {name} is damaged, and the sweep's command trains it again"
        status = self.status()
        if status is not None and status.state is TrialState.FAILED:
            return f"failed: {status.reason}"
        return "has not finished"

    def has_begun(self) -> bool:
        """Return whether there is anything of the trial but a claim."""
        return any((self.path / name).exists() for name in (STATE_FILE, RECORD_FILE))

    def has_leftovers(self) -> bool:
        """Return whether there is what a finished trial doesn't leave, since its process died or still works."""
        return (self.path / "checkpoints").exists() or any(
            path for pattern in ("claim-*.json", ".*.tmp") for path in self.path.glob(pattern)
        )

    def kept(self) -> Checkpoint | None:
        """Return the checkpoint that the trial most likely goes on from, None if it would begin anew."""
        return self.checkpoints.newest()

    @property
    def checkpoints(self) -> Checkpoints:
        """Return its checkpoints."""
        return Checkpoints(self.path / "checkpoints")

    def holder(self) -> Claim | None:
        """Return the claim of the living process that works on the trial, None if none does."""
        return holder(self.path, self._silence)

    def is_claimed(self) -> bool:
        """Return whether a living process works on the trial."""
        return self.holder() is not None

    def claim(self, *, lease_seconds: float = 120.0) -> "ClaimedTrial | None":
        """Return the right to write to the trial, None while another process has it.

        Args:
            lease_seconds: after so long without a sign of life from this process another may take the trial over.
        """
        self.path.mkdir(exist_ok=True)  # and not the sweep's folder, which may have vanished
        held = take_claim(self.path, lease_seconds=lease_seconds, silence=self._silence)
        return ClaimedTrial(self, held) if held else None

    def _changed(self, record: TrialRecord) -> str | None:
        """Return the first file that isn't as long as the record says."""
        return next((name for name, size in record.files.items() if _size(self.path / name) != size), None)


class ClaimedTrial:
    """What the process that holds a trial's claim may write; every method raises `LeaseLost` when it was taken over.

    Leaving it as a context gives the claim back.
    """

    def __init__(self, folder: TrialFolder, held: HeldClaim) -> None:
        self.folder = folder
        self._path, self._held = folder.path, held
        self._checkpoints = folder.checkpoints
        self._status: TrialStatus | None = None
        self._taken_up = time.monotonic()
        self._seconds_kept = self._seconds_before = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def begin(self, spec: BaseModel, status: TrialStatus) -> None:
        """Say what is trained and that it runs; clear what no record vouches for, but not the checkpoints."""
        self._held.check()
        if self.folder.record() is not None:
            raise self._finished_by_another()
        before = self.folder.status()
        self._seconds_before = (before.seconds_in_all or before.seconds or 0.0) if before else 0.0
        for left in (RECORD_FILE, EXAMPLES_FILE, GENERATIONS_FILE):
            (self._path / left).unlink(missing_ok=True)
        self._clear_temporaries()
        sys.audit("neftune.leftovers-cleared", str(self._path))
        self._write("spec.json", pretty({"schema_version": SCHEMA_VERSION, **spec.model_dump(mode="json")}))
        self._set(status, durable=True)
        sys.audit("neftune.trial-running", str(self._path))

    @property
    def seconds(self) -> float:
        """Return the time that went into what there is of the trial, lost work left out."""
        return self._seconds_kept + time.monotonic() - self._taken_up

    @property
    def seconds_in_all(self) -> float:
        """Return the time that was spent on it, in all attempts."""
        return self._seconds_before + time.monotonic() - self._taken_up

    def go_on(self, checkpoint: Checkpoint) -> None:
        """Take note that the trial goes on from a checkpoint, with the work that went into it."""
        self._seconds_kept = checkpoint.seconds

    def report(self, status: TrialStatus) -> None:
        """Say how far the trial is."""
        self._set(status, durable=False)

    def append_metrics(self, point: CurvePoint) -> None:
        """Append one line to `metrics.jsonl`."""
        self._held.check()
        append_line(self._path / METRICS_FILE, point.model_dump_json(exclude_none=True))

    def rewrite_metrics(self, points: Sequence[CurvePoint]) -> None:
        """Make `metrics.jsonl` hold these points alone: none, or those that a checkpoint vouches for."""
        self._write(METRICS_FILE, as_lines(points, exclude_none=True))

    def new_checkpoint(self, step: int, about: Mapping[str, Any] | None = None) -> AbstractContextManager[Path]:
        """Yield a folder to fill; when the block ends it is whole and durable, and the last two are kept."""
        self._held.check()
        return self._checkpoints.new(step, self.seconds, about or {}, self._held.check)

    @contextmanager
    def new_model(self) -> Iterator[Path]:
        """Yield a folder to fill with the trained model; when the block ends it is whole and durable."""
        self._held.check()
        with filling(self.folder.model_path, self._held.check) as folder:
            yield folder

    def checkpoints(self) -> list[Checkpoint]:
        """Return the whole checkpoints, newest first."""
        return self._checkpoints.whole()

    def drop_checkpoints(self) -> None:
        """Remove the checkpoints."""
        self._held.check()
        self._checkpoints.drop()

    def finish(self, record: TrialRecord, examples: Sequence[ExampleLoss], generations: Sequence[Generation]) -> None:
        """Write everything a finished trial leaves; the record last, durably, and only if no other process has."""
        import pandas as pd

        frame = pd.DataFrame([example.model_dump() for example in examples], columns=list(ExampleLoss.model_fields))
        self._write(GENERATIONS_FILE, as_lines(generations))
        self._write(EXAMPLES_FILE, frame.to_parquet(index=False))
        sync_file(self._path / METRICS_FILE)
        sys.audit("neftune.results-written", str(self._path))
        speaks_for = (METRICS_FILE, GENERATIONS_FILE, EXAMPLES_FILE)
        whole = record.model_copy(update={"files": {name: _size(self._path / name) for name in speaks_for}})
        self._held.check()
        try:
            create(self._path / RECORD_FILE, pretty(whole.model_dump(mode="json")))
        except FileExistsError:
            raise self._finished_by_another() from None
        sys.audit("neftune.record-written", str(self._path))
        self._checkpoints.drop()
        sys.audit("neftune.checkpoints-dropped", str(self._path))
        self.end(TrialState.DONE)

    def tidy(self) -> None:
        """Remove what a process that died left of the trial, which is finished."""
        self.drop_checkpoints()
        self._clear_temporaries()
        if (status := self.folder.status()) is None or status.state is not TrialState.DONE:
            self.end(TrialState.DONE)

    def end(self, state: TrialState, reason: str = "") -> None:
        """Say how the trial ended."""
        status = self._status or self.folder.status() or TrialStatus(trial=self.folder.id, state=state)
        self._set(status.model_copy(update={"state": state, "reason": reason, "phase": ""}), durable=True)
        sys.audit("neftune.trial-ended", str(self._path))

    def release(self) -> None:
        """Give the claim back."""
        self._held.release()

    def _clear_temporaries(self) -> None:
        remove_abandoned(self._path)
        remove_unfinished_folders(self._path)

    def _finished_by_another(self) -> LeaseLost:
        return LeaseLost(f"Another process has finished {self._path} already.")

    def _set(self, status: TrialStatus, *, durable: bool) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        started = status.started or (self._status.started if self._status else now)
        self._status = status.model_copy(update={"updated": now, "started": started})
        self._write(STATE_FILE, pretty(self._status.model_dump(mode="json")), durable=durable)

    def _write(self, name: str, content: str | bytes, *, durable: bool = True) -> None:
        self._held.check()
        write_atomically(self._path / name, content, durable=durable)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
