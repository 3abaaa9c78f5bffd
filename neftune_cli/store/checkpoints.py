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
from neftune_cli.store.files import filling, pretty, read_record, write_atomically

KEPT_CHECKPOINTS = 2
INDEX_FILE = "index.json"
_CHUNK = 1 << 24


class CheckpointIndex(Record):
    """The content of a checkpoint's `index.json`."""

    schema_version: int = SCHEMA_VERSION
    step: int
    files: dict[str, tuple[int, int]]
    """Size in bytes and CRC-32 of each file."""
    seconds: float = 0.0
    about: dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint: a folder of files, and what was said about them."""

    path: Path
    step: int
    seconds: float = 0.0
    """Work that went into it."""
    about: dict[str, Any] = field(default_factory=dict)


class Checkpoints:
    """The folder of a trial's checkpoints."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def whole(self) -> list[Checkpoint]:
        """Return the checkpoints of which nothing is missing or changed, newest first."""
        return [one for path in self._newest_first() if (one := _read(path, _is_as_indexed))]

    def newest(self) -> Checkpoint | None:
        """Return the newest one whose files are as long as they should be, without reading them."""
        return next((one for path in self._newest_first() if (one := _read(path, _is_as_long))), None)

    @contextmanager
    def new(self, step: int, seconds: float, about: Mapping[str, Any], check: Callable[[], None]) -> Iterator[Path]:
        """Yield a folder to fill; when the block ends without an error it is there whole and durable.

        `check` raises before anything becomes visible, or older ones are removed, if that must not be.
        """
        final = self._path / f"step-{step:08}"
        self._path.mkdir(exist_ok=True)
        with filling(final, check) as folder:  # an attempt that was cut off, or damaged, may have left that step
            yield folder
            _write_index(folder, CheckpointIndex(step=step, files={}, seconds=seconds, about=dict(about)))
            sys.audit("neftune.checkpoint-indexed", str(final))
        sys.audit("neftune.checkpoint-kept", str(final))
        check()
        self._prune(final)

    def drop(self) -> None:
        """Remove all of them."""
        shutil.rmtree(self._path, ignore_errors=True)

    def _newest_first(self) -> list[Path]:
        return sorted(self._path.glob("step-*/"), reverse=True)

    def _prune(self, newest: Path) -> None:
        older = sorted(path for path in self._path.glob("step-*/") if path.name < newest.name)
        others = [path for path in self._path.iterdir() if path.name != newest.name and path not in older]
        for path in (*older[: -(KEPT_CHECKPOINTS - 1)], *others):
            shutil.rmtree(path, ignore_errors=True)
        sys.audit("neftune.checkpoints-pruned", str(self._path))


def _write_index(folder: Path, index: CheckpointIndex) -> None:
    files = {path.name: (path.stat().st_size, _checksum(path)) for path in sorted(folder.iterdir())}
    whole = index.model_copy(update={"files": files})
    write_atomically(folder / INDEX_FILE, pretty(whole.model_dump(mode="json")))


def _read(folder: Path, is_whole: Callable[[Path, int, int], bool]) -> Checkpoint | None:
    index = read_record(folder / INDEX_FILE, CheckpointIndex)
    if index is None or not all(is_whole(folder / name, *told) for name, told in index.files.items()):
        return None
    return Checkpoint(folder, index.step, index.seconds, index.about)


def _is_as_long(path: Path, size: int, _: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _is_as_indexed(path: Path, size: int, checksum: int) -> bool:
    try:
        return _is_as_long(path, size, checksum) and _checksum(path) == checksum
    except OSError:
        return False


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
