"""Read the rows of local files: JSON, JSON lines, CSV, TSV, Parquet or Arrow, also compressed."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from neftune_cli.data.arrow import PARQUET_MAGIC, read_arrow, read_parquet
from neftune_cli.data.content import ADD_EXAMPLES, COMPRESSIONS, content_of, split_suffix
from neftune_cli.data.csv_files import CSV_DELIMITERS, read_csv
from neftune_cli.data.json_files import read_json, read_json_lines
from neftune_cli.data.rows import Rows
from neftune_cli.errors import Problem, UsageError

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


def is_data_file(path: Path) -> bool:
    """Return whether the suffix of a file is supported."""
    return split_suffix(path.name)[0] in _READERS


def read_file(path: Path) -> dict[str, Rows]:
    """Read all rows of a file in the format of its suffix, by split; most files have one split without a name.

    Raises:
        UsageError: the suffix is not supported, the file cannot be read or parsed, or it has no rows.
    """
    suffix, _ = split_suffix(path.name)
    reader = _READERS.get(suffix)
    if reader is None:
        raise UsageError(_unsupported(path, suffix))
    content = content_of(path)
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
