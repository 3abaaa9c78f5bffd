"""Checkpoints of one trial: folders whose index is written last and verifies the files. The last two are kept."""

import shutil
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neftune_cli.records import SCHEMA_VERSION, Record
from neftune_cli.store.files import atomic_folder, pretty_json, read_record, write_atomically

KEPT_CHECKPOINTS = 2
INDEX_FILE = "index.json"
CHECKPOINTS_FOLDER = "checkpoints"
"""Name of the folder in that of a trial."""
_CHUNK = 1 << 24


class CheckpointIndex(Record):
    """Content of the `index.json` of a checkpoint."""

    schema_version: int = SCHEMA_VERSION
    step: int
    files: dict[str, tuple[int, int]]
    """Size in bytes and CRC-32 of each file."""
    seconds: float = 0.0
    """Training time in seconds that led to this checkpoint."""
    about: dict[str, Any]
    """Properties that the training adds."""


@dataclass(frozen=True)
class Checkpoint:
    """An intact checkpoint: a folder with files and their properties."""

    path: Path
    step: int
    seconds: float = 0.0
    """Training time in seconds that led to this checkpoint."""
    about: dict[str, Any] = field(default_factory=dict)
    """Properties that the training has added."""


class Checkpoints:
    """The checkpoints of one trial, in one folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def intact(self) -> list[Checkpoint]:
        """Return the checkpoints with complete and unchanged files, newest first."""
        return [one for path in self._newest_first() if (one := _read(path, _has_indexed_content))]

    def newest(self) -> Checkpoint | None:
        """Return the newest checkpoint whose files have the indexed sizes. The content of the files is not read."""
        return next((one for path in self._newest_first() if (one := _read(path, _has_indexed_size))), None)

    @contextmanager
    def new(self, step: int, seconds: float, about: Mapping[str, Any], check: Callable[[], None]) -> Iterator[Path]:
        """Yield a folder for the files of a checkpoint, which appears as a whole and durably after the block.

        `check` is called before the checkpoint appears, and before older ones are removed. It raises to prevent that.
        """
        name = f"step-{step:08}"
        with self.new_with_index(name, check) as folder:
            yield folder
            _write_index(folder, CheckpointIndex(step=step, files={}, seconds=seconds, about=dict(about)))
            sys.audit("neftune.checkpoint-indexed", str(self._path / name))

    @contextmanager
    def new_with_index(self, name: str, check: Callable[[], None]) -> Iterator[Path]:
        """Yield a folder for the files of a checkpoint and its index, for example from a copy on another machine.

        `name` is that of the checkpoint, and `check` is called as by `new`, which writes the index itself.
        """
        final = self._path / name
        self._path.mkdir(exist_ok=True)
        with atomic_folder(final, check) as folder:  # an earlier attempt may have left a checkpoint of this step
            yield folder
        sys.audit("neftune.checkpoint-written", str(final))
        check()
        self._prune(final)

    def drop(self) -> None:
        """Remove all checkpoints."""
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
    complete = index.model_copy(update={"files": files})
    write_atomically(folder / INDEX_FILE, pretty_json(complete.model_dump(mode="json")))


def _read(folder: Path, is_intact: Callable[[Path, int, int], bool]) -> Checkpoint | None:
    index = read_record(folder / INDEX_FILE, CheckpointIndex)
    if index is None or not all(is_intact(folder / name, *indexed) for name, indexed in index.files.items()):
        return None
    return Checkpoint(folder, index.step, index.seconds, index.about)


def _has_indexed_size(path: Path, size: int, _: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _has_indexed_content(path: Path, size: int, checksum: int) -> bool:
    try:
        return _has_indexed_size(path, size, checksum) and _checksum(path) == checksum
    except OSError:
        return False


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
