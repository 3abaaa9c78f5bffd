"""Copies of a trial's folder on machines that do not share its disk, as pieces that any channel can carry.

The folder with the lease is the original. The copy is on the machine that runs the trial: it starts with the files from
which the trial resumes, and its changes are written into the original, under the lease and in the usual order.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from neftune_cli.store.checkpoints import CHECKPOINTS_FOLDER
from neftune_cli.store.temporary_files import create_temporary_file, is_locked, lock_new_file
from neftune_cli.store.trials import (
    FINAL_FILES,
    METRICS_FILE,
    RECORD_FILE,
    SPEC_FILE,
    STATE_FILE,
    LeasedTrial,
    TrialFolder,
)

PIECE_BYTES = 1 << 23
"""Largest number of bytes of a piece. A batch ends with the piece that brings it to this number."""
_WORK_PREFIX, _WORK_LOCK = "neftune-trial-", "lock"


@dataclass(frozen=True)
class FilePiece:
    """A part of one file. The pieces of a unit follow each other, and it is complete with the last one."""

    unit: str
    """Path in the trial's folder of what appears at once: a file, or a folder with files."""
    data: bytes
    file: str = ""
    """Path of the file in a unit that is a folder."""
    offset: int = 0
    is_last: bool = True


@contextmanager
def shared_disk_probe(folder: Path) -> Iterator[Path]:
    """Yield a new file in a folder, removed after the block. A process that sees it shares the disk."""
    path, file = create_temporary_file(folder / "shared")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        os.close(file)


@contextmanager
def work_folder() -> Iterator[Path]:
    """Yield a folder for temporary files on this machine. Those of killed processes are removed first."""
    for path in Path(tempfile.gettempdir()).glob(f"{_WORK_PREFIX}*/{_WORK_LOCK}"):
        if not is_locked(path):
            shutil.rmtree(path.parent, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_WORK_PREFIX))
    lock = lock_new_file(folder / _WORK_LOCK)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def batches(pieces: Iterable[FilePiece]) -> Iterator[list[FilePiece]]:
    """Yield the pieces in lists of a limited number of bytes."""
    batch, size = list[FilePiece](), 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece.data)
        if size >= PIECE_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def files_to_resume(folder: TrialFolder) -> Iterator[FilePiece]:
    """Yield the files from which a trial resumes: state, log, metrics and the newest intact checkpoint."""
    for name in (STATE_FILE, folder.log_path.name, METRICS_FILE):
        if (folder.path / name).exists():
            yield from _file_pieces(folder.path / name, name)
    for checkpoint in folder.checkpoints.intact()[:1]:
        yield from _folder_pieces(checkpoint.path, _checkpoint_unit(checkpoint.path))


def write_copy(folder: TrialFolder, pieces: Iterable[FilePiece]) -> None:
    """Create a copy of a trial's folder from pieces."""
    folder.path.mkdir(parents=True)
    for piece in pieces:
        _write_piece(folder.path / piece.unit / piece.file, piece)


class ChangedFiles:
    """The changes of a copy, in the order of writing, as the process that runs the trial makes them.

    Args:
        folder: the copy, whose current content is that of the original.
        staging: a path on the same disk, for names of files that may be removed while they are read.
    """

    def __init__(self, folder: TrialFolder, staging: Path) -> None:
        self._folder, self._staging = folder, staging
        names = (folder.log_path.name, METRICS_FILE)
        self._growing = {name: found for name in names if (found := _inode_and_size(folder.path / name))}
        self._times: dict[str, int] = {}
        self._checkpoint = self._newest_checkpoint()

    def so_far(self) -> Iterator[FilePiece]:
        """Yield the changes while the trial runs."""
        yield from self._replaced(SPEC_FILE)
        yield from self._grown(METRICS_FILE)
        yield from self._grown(self._folder.log_path.name)
        yield from self._new_checkpoint()
        yield from self._replaced(STATE_FILE)

    def at_the_end(self) -> Iterator[FilePiece]:
        """Yield the changes after the end of the trial: if it has a record, all results and the record last."""
        if not (self._folder.path / RECORD_FILE).exists():
            yield from self.so_far()
            return
        if self._folder.model_path.is_dir():
            yield from _folder_pieces(self._folder.model_path, self._folder.model_path.name)
        yield from self._replaced(SPEC_FILE)
        yield from self._grown(self._folder.log_path.name)
        results = (name for name in FINAL_FILES if (self._folder.path / name).exists())
        for name in (METRICS_FILE, *results, RECORD_FILE, STATE_FILE):
            yield from _file_pieces(self._folder.path / name, name)

    def _replaced(self, name: str) -> Iterator[FilePiece]:
        """Yield a file that is always replaced as a whole, if it has changed."""
        with suppress(FileNotFoundError):
            changed = (self._folder.path / name).stat().st_mtime_ns
            if self._times.get(name) != changed:
                self._times[name] = changed
                yield from _file_pieces(self._folder.path / name, name)

    def _grown(self, name: str) -> Iterator[FilePiece]:
        """Yield what was appended to a file, or the whole file if it was replaced."""
        path = self._folder.path / name
        if (now := _inode_and_size(path)) is None:
            return
        before = self._growing.get(name)
        if before != now:
            self._growing[name] = now
            is_same = before is not None and before[0] == now[0] and before[1] <= now[1]
            yield from _file_pieces(path, name, before[1] if before and is_same else 0, now[1])

    def _new_checkpoint(self) -> Iterator[FilePiece]:
        """Yield the newest checkpoint if it is new, or a unit without a file if all have been removed."""
        newest = self._newest_checkpoint()
        if newest == self._checkpoint:
            return
        if newest is None:
            if not (self._folder.path / RECORD_FILE).exists():  # the record precedes the removal of the checkpoints
                self._checkpoint = None
                yield FilePiece(CHECKPOINTS_FOLDER, b"")
        elif self._linked(newest[0]):
            self._checkpoint = newest
            yield from _folder_pieces(self._staging, _checkpoint_unit(newest[0]))

    def _newest_checkpoint(self) -> tuple[Path, int] | None:
        newest = self._folder.newest_checkpoint()
        with suppress(FileNotFoundError):
            return (newest.path, newest.path.stat().st_ino) if newest else None
        return None

    def _linked(self, checkpoint: Path) -> bool:
        """Give the files of a checkpoint second names. Return False if the checkpoint was removed meanwhile."""
        shutil.rmtree(self._staging, ignore_errors=True)
        self._staging.mkdir()
        try:
            for path in checkpoint.iterdir():
                (self._staging / path.name).hardlink_to(path)
        except FileNotFoundError:
            return False
        return True


def receive(leased: LeasedTrial, pieces: Iterable[FilePiece]) -> None:
    """Write changes of a copy into the original. A unit whose last piece does not arrive has no effect.

    Raises:
        LeaseLost: this process has lost the lease.
    """
    stream = iter(pieces)
    for piece in stream:
        _receive_unit(leased, piece, chain([piece], () if piece.is_last else _rest(stream)))


def _receive_unit(leased: LeasedTrial, first: FilePiece, pieces: Iterable[FilePiece]) -> None:
    name = first.unit
    if name == CHECKPOINTS_FOLDER:
        leased.drop_checkpoints()
    elif name.startswith(f"{CHECKPOINTS_FOLDER}/"):
        with leased.copied_checkpoint(name.removeprefix(f"{CHECKPOINTS_FOLDER}/")) as folder:
            _write_pieces(folder, pieces)
    elif name == leased.folder.model_path.name:
        with leased.new_model() as folder:
            _write_pieces(folder, pieces)
    elif first.offset:
        leased.append_copied(name, first.offset, b"".join(piece.data for piece in pieces))
    else:
        leased.write_copied(name, b"".join(piece.data for piece in pieces))


def _rest(stream: Iterator[FilePiece]) -> Iterator[FilePiece]:
    """Yield the pieces up to the last one of the unit.

    Raises:
        EOFError: it does not arrive.
    """
    for piece in stream:
        yield piece
        if piece.is_last:
            return
    raise EOFError("The last piece of a file did not arrive.")


def _write_pieces(folder: Path, pieces: Iterable[FilePiece]) -> None:
    for piece in pieces:
        _write_piece(folder / piece.file, piece)


def _write_piece(path: Path, piece: FilePiece) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("r+b" if piece.offset else "wb") as file:
        file.seek(piece.offset)
        file.write(piece.data)


def _folder_pieces(folder: Path, unit: str) -> Iterator[FilePiece]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        yield from _file_pieces(path, unit, file=str(path.relative_to(folder)), is_last=path == files[-1])


def _file_pieces(
    path: Path, unit: str, start: int = 0, end: int | None = None, *, file: str = "", is_last: bool = True
) -> Iterator[FilePiece]:
    """Yield the content of a file between two offsets. An empty one has one piece."""
    with path.open("rb") as content:
        end = os.fstat(content.fileno()).st_size if end is None else end
        content.seek(start)
        while True:
            data = content.read(min(PIECE_BYTES, end - start))
            ends = not data or start + len(data) >= end
            yield FilePiece(unit, data, file, start, is_last=is_last and ends)
            start += len(data)
            if ends:
                return


def _checkpoint_unit(path: Path) -> str:
    return f"{CHECKPOINTS_FOLDER}/{path.name}"


def _inode_and_size(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size
