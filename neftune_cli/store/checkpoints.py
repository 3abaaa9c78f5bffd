"""The checkpoints of one trial: folders that an index, written last, proves to be whole; the last two are kept."""

import shutil
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neftune_cli.records import SCHEMA_VERSION, Record
from neftune_cli.store.files import pretty, read_record, sync_file, sync_folder, temporary_beside, write_atomically

KEPT_CHECKPOINTS = 2
INDEX_FILE = "index.json"
_CHUNK = 1 << 24


class CheckpointIndex(Record):
    """The content of a checkpoint's `index.json`."""

    schema_version: int = SCHEMA_VERSION
    step: int
    files: dict[str, tuple[int, int]]
    """Size in bytes and CRC-32 of each file."""
    about: dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint: a folder of files, and what was said about them."""

    path: Path
    step: int
    about: dict[str, Any] = field(default_factory=dict)


class Checkpoints:
    """The folder of a trial's checkpoints; `check` raises before anything becomes visible if it must not."""

    def __init__(self, path: Path, check: Callable[[], None]) -> None:
        self._path, self._check = path, check

    def whole(self) -> list[Checkpoint]:
        """Return the checkpoints of which nothing is missing or changed, newest first."""
        found = (_read(path) for path in self._path.glob("step-*/"))
        return sorted((one for one in found if one), key=lambda one: one.step, reverse=True)

    @contextmanager
    def new(self, step: int, about: Mapping[str, Any]) -> Iterator[Path]:
        """Yield a folder to fill; when the block ends without an error it is there whole and durable."""
        final = self._path / f"step-{step:08}"
        self._path.mkdir(exist_ok=True)
        filling = temporary_beside(final)
        filling.mkdir()
        try:
            yield filling
            _write_index(filling, step, about)
            sys.audit("neftune.checkpoint-indexed", str(final))
            self._check()
            shutil.rmtree(final, ignore_errors=True)  # of an attempt that was cut off, or damaged
            filling.replace(final)
        except BaseException:
            shutil.rmtree(filling, ignore_errors=True)
            raise
        sync_folder(self._path)
        sys.audit("neftune.checkpoint-kept", str(final))
        self._prune(final)

    def drop(self) -> None:
        """Remove all of them."""
        shutil.rmtree(self._path, ignore_errors=True)

    def _prune(self, newest: Path) -> None:
        older = sorted(path for path in self._path.glob("step-*/") if path.name < newest.name)
        others = [path for path in self._path.iterdir() if path.name != newest.name and path not in older]
        for path in (*older[: -(KEPT_CHECKPOINTS - 1)], *others):
            shutil.rmtree(path, ignore_errors=True)
        sys.audit("neftune.checkpoints-pruned", str(self._path))


def _write_index(folder: Path, step: int, about: Mapping[str, Any]) -> None:
    files = {}
    for path in sorted(folder.iterdir()):
        sync_file(path)
        files[path.name] = (path.stat().st_size, _checksum(path))
    index = CheckpointIndex(step=step, files=files, about=dict(about))
    write_atomically(folder / INDEX_FILE, pretty(index.model_dump(mode="json")))


def _read(folder: Path) -> Checkpoint | None:
    index = read_record(folder / INDEX_FILE, CheckpointIndex)
    if index is None or not all(_is_as_indexed(folder / name, *told) for name, told in index.files.items()):
        return None
    return Checkpoint(folder, index.step, index.about)


def _is_as_indexed(path: Path, size: int, checksum: int) -> bool:
    try:
        return path.stat().st_size == size and _checksum(path) == checksum
    except OSError:
        return False


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
