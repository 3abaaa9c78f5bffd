"""Single files: written whole or not at all, appended to in whole lines, and read with care for what a crash left."""

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from neftune_cli.errors import Problem, UsageError
from neftune_cli.records import SCHEMA_VERSION, Record
from neftune_cli.store.locks import temporary_beside, writing

RecordType = TypeVar("RecordType", bound=Record)

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)
"""What file systems without hard links say, such as those of network drives."""


def write_atomically(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Write a file so that it is there whole or not at all; if it is durable, even if the machine dies meanwhile."""
    with writing(path) as (temporary, file):
        _write(file, content, durable=durable)
        sys.audit("neftune.file-written", str(path))
        temporary.replace(path)
    if durable:
        sync_folder(path.parent)


def create(path: Path, content: str) -> None:
    """Write a file whole and durably where there is none yet: of several processes exactly one succeeds.

    Raises:
        FileExistsError: there is one.
    """
    with writing(path) as (temporary, file):
        _write(file, content, durable=True)
        sys.audit("neftune.file-written", str(path))
        link(temporary, path)
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextmanager
def filling(folder: Path, check: Callable[[], None]) -> Iterator[Path]:
    """Yield a folder to fill, which gets its name when the block ends, whole and durably; `check` may still object.

    What had the name before is gone then. If anything goes wrong nothing has changed.
    """
    temporary = temporary_beside(folder)
    temporary.mkdir()
    try:
        yield temporary
        for path in temporary.rglob("*"):
            (sync_folder if path.is_dir() else sync_file)(path)
        sync_folder(temporary)
        check()
        shutil.rmtree(folder, ignore_errors=True)
        temporary.replace(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(folder.parent)


def link(existing: Path, path: Path) -> None:
    """Give a file a second name, which must be free; where the file system has no links, its only one.

    Raises:
        FileExistsError: the name is taken.
    """
    try:
        path.hardlink_to(existing)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        path.open("xb").close()  # takes the name, or fails
        existing.replace(path)


def sync_folder(path: Path) -> None:
    """See to it that what was created, renamed or removed in a folder is so even if the machine dies."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _write(file: int, content: str | bytes, *, durable: bool) -> None:
    left = memoryview(content.encode() if isinstance(content, str) else content)
    while left:
        left = left[os.write(file, left) :]
    if durable:
        os.fsync(file)


def sync_file(path: Path) -> None:
    """See to it that what was written to a file is there even if the machine dies."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def append_line(path: Path, line: str) -> None:
    """Append one line, in a single write.

    Raises:
        OSError: it can't be written, or, as on a disk that fills up, only a part of it.
    """
    content = f"{line}\n".encode()
    with path.open("ab", buffering=0) as file:
        if (written := file.write(content)) < len(content):
            file.write(content[written:])  # says what is wrong


def pretty(values: Mapping[str, Any]) -> str:
    """Return JSON as people read it."""
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file, None if there is no such file or no object in it.

    Raises:
        UsageError: a newer version of this program wrote it.
    """
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(values, dict):
        return None
    check_version(path, values.get("schema_version"))
    return values


def check_version(path: Path, version: Any) -> None:
    """Raise a UsageError if a file is of a newer version than this program knows."""
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise UsageError(Problem(f"{path} was written by a newer version of neftune.", "Upgrade neftune."))


def read_record(path: Path, kind: type[RecordType]) -> RecordType | None:
    """Return what a JSON file holds, None if it can't be read as that.

    Raises:
        UsageError: a newer version of this program wrote it.
    """
    try:
        return kind.model_validate(read_json(path) or {})
    except ValueError:
        return None


def read_lines(path: Path, kind: type[RecordType]) -> list[RecordType]:
    """Return the records in the lines of a file; a torn last line is left out, and a missing file has none.

    Raises:
        UsageError: another line is damaged.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    try:
        return [kind.model_validate_json(line) for line in lines]
    except ValueError:
        raise damaged(path) from None


def as_lines(records: Sequence[Record], *, exclude_none: bool = False) -> str:
    """Return records as the lines of a file."""
    return "".join(f"{record.model_dump_json(exclude_none=exclude_none)}\n" for record in records)


def damaged(path: Path) -> UsageError:
    """Return the error of a file that can't be understood."""
    fix = "Restore it, or remove the trial's folder to train it again."
    return UsageError(Problem(f"{path} can't be understood.", fix))


def check_writable(folder: Path) -> None:
    """See whether files can go to a folder that may not be there yet, before the work for them is done.

    Raises:
        UsageError: they can't.
    """
    there = next(path for path in (folder, *folder.parents, Path.cwd()) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise not_writable(folder, f"{there} is no folder you can write to")


def write_files(folder: Path, contents: Mapping[str, str | bytes]) -> tuple[Path, ...]:
    """Write files into a folder that is made if it is missing, replacing those of another time; return their paths.

    Raises:
        UsageError: the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_atomically(folder / name, content)
    except OSError as error:
        raise not_writable(folder, error.strerror) from None
    return tuple(folder / name for name in contents)


def not_writable(folder: Path, why: str | None) -> UsageError:
    """Return the error of a folder that can't be written."""
    return UsageError(Problem(f"{folder} can't be written: {why}.", "Give a folder you can write to with --output."))
