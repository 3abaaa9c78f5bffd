"""Local files: content recognized and decompressed, and rows read as JSON, JSON lines, CSV, TSV, Parquet or Arrow."""

import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from neftune_cli.data.arrow import PARQUET_MAGIC, read_arrow, read_parquet
from neftune_cli.data.csv_files import CSV_DELIMITERS, read_csv
from neftune_cli.data.json_files import read_json, read_json_lines
from neftune_cli.data.rows import Rows
from neftune_cli.errors import Problem, UsageError
from neftune_cli.file_formats import zstandard_content

ADD_EXAMPLES = "Add examples to it."
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
OTHER_CONTENT = {
    b"PK\x03\x04": ("a ZIP archive or an Excel workbook", "Unpack it, or save the sheet as CSV."),
    b"\xd0\xcf\x11\xe0": ("an Excel or Word file", "Save the sheet as CSV."),
    b"\xfd7zXZ": ("compressed with xz", "Unpack it with xz -d."),
    b"BZh": ("compressed with bzip2", "Unpack it with bzip2 -d."),
    b"7z\xbc\xaf": ("a 7z archive", "Unpack it."),
    b"SQLite format 3": ("an SQLite database", "Export the table as CSV."),
    b"%PDF": ("a PDF file", "Use the data as .jsonl or .csv."),
    b"\x80\x04\x95": ("a Python pickle", "Write the rows as .jsonl."),
}
"""First bytes of files that are no rows, each with a description and a fix."""


@dataclass(frozen=True)
class Compression:
    """One format of compressed files."""

    name: str
    magic: tuple[bytes, ...]
    """First bytes of a compressed file: one of these."""
    decompress: Callable[[bytes], bytes]


_SKIPPABLE_FRAMES = tuple(bytes([number]) + b"\x2a\x4d\x18" for number in range(0x50, 0x60))
"""Starts of frames of Zstandard without content, which parallel compressors write first. Source: RFC 8878, 3.1.2."""
COMPRESSIONS = {
    ".gz": Compression("gzip", (b"\x1f\x8b",), gzip.decompress),
    ".zst": Compression("zstandard", (b"\x28\xb5\x2f\xfd", *_SKIPPABLE_FRAMES), zstandard_content),
}
"""Compressions by the suffix of a file."""

Reader = Callable[[str, bytes], dict[str, Rows]]
"""Reads the content of a file with a name; returns its rows by split."""

_READERS: dict[str, Reader] = {
    ".json": read_json,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    **{suffix: partial(read_csv, delimiters=found) for suffix, found in CSV_DELIMITERS.items()},
    ".parquet": read_parquet,
    ".arrow": read_arrow,
}

FILE_SUFFIXES = tuple(_READERS)
FILE_SUFFIXES_IN_WORDS = f"{', '.join(FILE_SUFFIXES[:-1])} or {FILE_SUFFIXES[-1]}"
COMPRESSED_IN_WORDS = " or ".join(COMPRESSIONS)


def split_suffix(name: str) -> tuple[str, str]:
    """Return the suffix of the data format and the suffix of the compression, in lower case; empty if there is none."""
    path = Path(name.lower())
    return (Path(path.stem).suffix, path.suffix) if path.suffix in COMPRESSIONS else (path.suffix, "")


def is_data_file(path: Path) -> bool:
    """Return whether the suffix of a file is supported."""
    return split_suffix(path.name)[0] in _READERS


def is_lfs_pointer(path: Path) -> bool:
    """Return whether a file is what Git LFS leaves in place of one that was not downloaded."""
    with path.open("rb") as file:
        return file.read(len(LFS_POINTER)) == LFS_POINTER


def lfs_problem(path: Path, folder: Path) -> Problem:
    """Return the problem of a pointer file of Git LFS in a folder."""
    what = f"{path} is a Git LFS pointer file, not the data."
    return Problem(what, f"Run git lfs pull in {folder} to download the data.")


def read_file(path: Path) -> dict[str, Rows]:
    """Read all rows of a file in the format of its suffix, by split; most files have one split without a name.

    Raises:
        UsageError: the suffix is not supported, the file cannot be read or parsed, or it has no rows.
    """
    suffix, _ = split_suffix(path.name)
    reader = _READERS.get(suffix)
    if reader is None:
        raise UsageError(_unsupported(path, suffix))
    content = _content_of(path)
    if content.startswith(PARQUET_MAGIC) and suffix != ".parquet":
        raise UsageError(Problem(f"{path} is a Parquet file.", "Rename it to .parquet."))
    splits = reader(str(path), content)
    if not any(rows.count for rows in splits.values()):
        raise UsageError(Problem(f"{path} has no rows.", ADD_EXAMPLES))
    return splits


def _unsupported(path: Path, suffix: str) -> Problem:
    named = f"files with the suffix '{suffix}' are" if suffix else "files without a suffix are"
    fix = f"Use a {FILE_SUFFIXES_IN_WORDS} file, also with {COMPRESSED_IN_WORDS} after the suffix."
    return Problem(f"{path}: {named} not supported.", fix)


def _content_of(path: Path) -> bytes:
    """Return the bytes of a file, without compression.

    Raises:
        UsageError: the file cannot be read, is empty, is a Git LFS pointer, another kind of file, or damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(Problem(f"{path} cannot be read: {error.strerror}.", "Check its permissions.")) from error
    _check(path, content)
    content = _decompressed(path, content)
    _check(path, content)
    return content


def _check(path: Path, content: bytes) -> None:
    if not content:
        raise UsageError(Problem(f"{path} is empty.", ADD_EXAMPLES))
    if content.startswith(LFS_POINTER):
        raise UsageError(lfs_problem(path, path.parent))
    for magic, (kind, fix) in OTHER_CONTENT.items():
        if content.startswith(magic):
            raise UsageError(Problem(f"{path} is {kind}.", fix))


def _decompressed(path: Path, content: bytes) -> bytes:
    suffix = split_suffix(path.name)[1]
    by_mark = (compression for compression in COMPRESSIONS.values() if content.startswith(compression.magic))
    compression = next(by_mark, None)
    if compression is None:
        if suffix:
            what = f"{path} is not compressed with {COMPRESSIONS[suffix].name}."
            raise UsageError(Problem(what, f"Remove the suffix {suffix}, or download the file again."))
        return content
    try:
        return compression.decompress(content)
    except (OSError, EOFError, zlib.error, ValueError, MemoryError) as error:
        what = f"{path} is truncated or damaged ({compression.name}: {error})."
        raise UsageError(Problem(what, "Download or compress it again.")) from error
