"""Files and folders: atomic writes, appended lines, reading that tolerates what a crash leaves, and walks."""

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter

from neftune_cli.errors import DISK_FULL, FREE_SPACE, Problem, UsageError, first_line
from neftune_cli.records import SCHEMA_VERSION, Record
from neftune_cli.store.temporary_files import temporary_file, temporary_path

if TYPE_CHECKING:
    from pyarrow import Table

RecordType = TypeVar("RecordType", bound=Record)

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)
"""Errors of file systems without hard links, such as some network drives."""
MISSING_FILE = (FileNotFoundError, NotADirectoryError)
"""Errors of a file that does not exist. After any other error the file may exist."""


def write_atomically(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Write a file atomically. A durable write also survives a crash of the machine."""
    with temporary_file(path) as (temporary, file):
        _write(file, content, durable=durable)
        sys.audit("neftune.file-written", str(path))
        temporary.replace(path)
    if durable:
        sync_folder(path.parent)


def create_exclusively(path: Path, content: str | bytes) -> None:
    """Write a new file atomically and durably. Exactly one of several processes succeeds.

    Raises:
        FileExistsError: the file exists.
    """
    with temporary_file(path) as (temporary, file):
        _write(file, content, durable=True)
        sys.audit("neftune.file-written", str(path))
        link(temporary, path)
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextmanager
def atomic_folder(folder: Path, check: Callable[[], None]) -> Iterator[Path]:
    """Yield a temporary folder, which takes the name `folder` durably after the block.

    Under that name there is a complete folder or none at any time. A new name appears atomically. An existing folder is
    first moved away: a process that is killed between the two renames leaves no folder under the name. After an
    exception nothing has changed.

    Args:
        folder: the name, which may exist.
        check: called before the replacement; raises to prevent it.
    """
    temporary = temporary_path(folder)
    temporary.mkdir()
    try:
        yield temporary
        for path in temporary.rglob("*"):
            (sync_folder if path.is_dir() else sync_file)(path)
        sync_folder(temporary)
        check()
        _replace_folder(folder, temporary)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _replace_folder(folder: Path, new: Path) -> None:
    """Give a folder the name of another one, which is removed last. If that fails, the other one keeps its name."""
    old = temporary_path(folder)
    try:
        with suppress(FileNotFoundError):
            folder.rename(old)
        new.rename(folder)
    except BaseException:
        with suppress(OSError):
            old.rename(folder)
        raise
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def link(existing: Path, path: Path) -> None:
    """Give a file a second name that does not exist. On a file system without hard links, rename the file.

    Raises:
        FileExistsError: the name exists.
    """
    try:
        path.hardlink_to(existing)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        path.open("xb").close()  # reserves the name, or raises
        existing.replace(path)


def sync_folder(path: Path) -> None:
    """Make created, renamed and removed names in a folder durable."""
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
    """Make the content of a file durable."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def append_line(path: Path, line: str) -> None:
    """Append one line, in a single write.

    Raises:
        OSError: the line, or a part of it, cannot be written, for example because the disk is full.
    """
    content = f"{line}\n".encode()
    with path.open("ab", buffering=0) as file:
        if (written := file.write(content)) < len(content):
            file.write(content[written:])  # raises the reason


def append_at(path: Path, offset: int, content: bytes) -> None:
    """Write the end of a file from an offset, which is its size unless an earlier write was cut.

    Raises:
        OSError: the content cannot be written, for example because the disk is full.
    """
    with path.open("r+b", buffering=0) as file:
        file.truncate(offset)
        file.seek(offset)
        _write(file.fileno(), content, durable=False)


def pretty_json(values: Mapping[str, Any]) -> str:
    """Return indented JSON."""
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file, None if the file does not exist or holds no object.

    Raises:
        UsageError: the file cannot be read, or a newer version of neftune wrote it.
    """
    try:
        content = path.read_bytes()
    except MISSING_FILE:
        return None
    except OSError as error:
        raise unreadable_file(path, error) from None
    return parse_json(content, path)


def parse_json(content: bytes, path: Path) -> dict[str, Any] | None:
    """Return the object in the content of a JSON file, None if it holds no object.

    Raises:
        UsageError: a newer version of neftune wrote the file.
    """
    try:
        values = json.loads(content)
    except ValueError:
        return None
    if not isinstance(values, dict):
        return None
    check_version(path, values.get("schema_version"))
    return values


def check_version(path: Path, version: Any) -> None:
    """Raise a UsageError if a file has a newer schema version than this program supports."""
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise UsageError(Problem(f"{path} was written by a newer version of neftune.", "Upgrade neftune."))


def read_record(path: Path, kind: type[RecordType]) -> RecordType | None:
    """Return the record in a JSON file, None if it does not exist, cannot be read or is not valid.

    Raises:
        UsageError: a newer version of neftune wrote the file.
    """
    try:
        return kind.model_validate(parse_json(path.read_bytes(), path) or {})
    except (ValueError, OSError):
        return None


def read_lines(path: Path, kind: type[RecordType]) -> list[RecordType]:
    """Return the records in the lines of a file, without an incomplete last line. A missing file has no records.

    Raises:
        UsageError: a complete line is not valid.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    try:
        return _list_of(kind).validate_json(b"[" + b",".join(lines) + b"]")  # much faster than line by line
    except ValueError:
        raise damaged_file(path) from None


def read_parquet(path: Path, columns: list[str]) -> "Table | None":
    """Return columns of a Parquet file, None if there is no such file.

    Raises:
        UsageError: the file is damaged, lacks a column or cannot be read.
    """
    from pyarrow.lib import ArrowInvalid
    from pyarrow.parquet import ParquetFile

    if not path.exists():
        return None
    try:
        with ParquetFile(path) as file:
            return file.read(columns, use_threads=False)
    except (ArrowInvalid, OSError, KeyError) as error:
        raise unusable_file(path, error) from None


@cache
def _list_of(kind: type[RecordType]) -> TypeAdapter[list[RecordType]]:
    return TypeAdapter(list[kind])  # type: ignore[valid-type]


def json_lines(records: Sequence[Record], *, exclude_none: bool = False) -> str:
    """Return one line of JSON per record."""
    return "".join(f"{record.model_dump_json(exclude_none=exclude_none)}\n" for record in records)


def file_size(path: Path) -> int | None:
    """Return the size of a file in bytes, None if it does not exist.

    Raises:
        UsageError: the size cannot be read, for example because a network drive was lost.
    """
    try:
        return path.stat().st_size
    except MISSING_FILE:
        return None
    except OSError as error:
        raise unreadable_file(path, error) from None


def unreadable_file(path: Path, error: OSError) -> UsageError:
    """Return the error for a file that exists and cannot be read, which says nothing about its content."""
    fix = "Check the disk and the permissions of the file, and run the command again."
    return UsageError(Problem(f"{path} cannot be read ({first_line(error)}).", fix))


def unusable_file(path: Path, error: Exception) -> UsageError:
    """Return the error for a file that cannot be read, or whose content is not valid.

    The errors of pyarrow for invalid content are an OSError without a number, among others.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return unreadable_file(path, error)
    return damaged_file(path)


def damaged_file(path: Path) -> UsageError:
    """Return the error for a file with invalid content."""
    fix = "Restore it, or remove the trial's folder to train it again."
    return UsageError(Problem(f"{path} is damaged.", fix))


def folders_in(root: Path, follows: Callable[[str], bool] = lambda _: True) -> Iterator[tuple[Path, list[str]]]:
    """Yield the folders at and below `root` with the names of their files, each once: those behind links last.

    Links to the folders around `root` are not followed.

    Args:
        root: a folder.
        follows: returns whether links with this name are followed.
    """
    seen, links, real_root = set[str](), [root], root.resolve()
    while links:
        below: list[Path] = []
        for folder, folders, files in chain.from_iterable(map(os.walk, links)):
            real = os.path.realpath(folder)
            if real in seen or (seen and real_root.is_relative_to(real)):
                folders.clear()
                continue
            seen.add(real)
            below += [Path(folder, name) for name in folders if follows(name)]
            yield Path(folder), files
        links = sorted(path for path in below if path.is_symlink())  # os.walk does not enter them


def check_writable(folder: Path) -> None:
    """Check that files can be written to a folder, which need not exist yet.

    Raises:
        UsageError: the folder is not writable.
    """
    existing = next(path for path in (folder, *folder.parents, Path.cwd()) if path.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        raise unwritable_folder(folder, f"{existing} is not a writable folder")


def write_files(folder: Path, contents: Mapping[str, str | bytes]) -> tuple[Path, ...]:
    """Write files into a folder, and return their paths. Create the folder if it is missing; replace existing files.

    Raises:
        UsageError: the folder is not writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_atomically(folder / name, content)
    except OSError as error:
        raise unwritable_folder(folder, error) from None
    return tuple(folder / name for name in contents)


def unwritable_folder(folder: Path, reason: OSError | str) -> UsageError:
    """Return the error for a folder that is not writable."""
    fix = "Use --output with a writable folder."
    if isinstance(reason, OSError):
        fix = FREE_SPACE if reason.errno in DISK_FULL else fix
        reason = str(reason.strerror)
    return UsageError(Problem(f"{folder} is not writable: {reason}.", fix))
