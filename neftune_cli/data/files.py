"""Read the rows of a local file: JSON, JSON lines, CSV or Parquet."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from neftune_cli.data.rows import Located, LocatedRow, RowError, Table, read_each
from neftune_cli.errors import Problem, UsageError
from neftune_cli.formatting import counted

if TYPE_CHECKING:
    import pyarrow

SHOWN_CHARACTERS = 60
CSV_DELIMITERS = ",;\t"
ADD_EXAMPLES = "Add examples to it."
JSON_LINES_FIX = "Write one JSON object per line. A list of objects belongs in a .json file."


def read_file(path: Path) -> Table:
    """Read all rows of a file in the format of its suffix.

    Raises:
        UsageError: the suffix is not supported, the file cannot be read or parsed, or it has no rows.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        what = f"{path}: files with the suffix '{path.suffix}' are not supported."
        raise UsageError(Problem(what, f"Pass a {FILE_SUFFIXES_IN_WORDS} file."))
    rows = reader(str(path), _content(path))
    if not rows:
        raise UsageError(Problem(f"{path} has no rows.", ADD_EXAMPLES))
    return Table(str(path), rows)


def rows_of_arrow(table: "pyarrow.Table") -> tuple[LocatedRow, ...]:
    """Return the rows of an Arrow table as plain Python values, located by row number."""
    return tuple(Located(f"row {number}", values) for number, values in enumerate(table.to_pylist(), start=1))


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(Problem(f"{path} cannot be read: {error.strerror}.", "Check its permissions.")) from error
    if not content:
        raise UsageError(Problem(f"{path} is empty.", ADD_EXAMPLES))
    return content


def _text(source: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")  # drops the byte order mark that Windows programs write
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = f"{source}, line {line}: byte 0x{content[error.start]:02x} is not valid UTF-8."
        fix = f"Convert the file to UTF-8, for example: iconv -f LATIN1 -t UTF-8 {source} > utf8{Path(source).suffix}"
        raise UsageError(Problem(what, fix)) from error


def _read_json_lines(source: str, content: bytes) -> tuple[LocatedRow, ...]:
    return _rows_of_json_lines(source, _text(source, content))


def _rows_of_json_lines(source: str, text: str) -> tuple[LocatedRow, ...]:
    # Not splitlines: JSON strings may contain the other line separators of Unicode unescaped.
    lines = (Located(f"line {number}", line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())
    return read_each(source, lines, _object_of_line)


def _object_of_line(line: str) -> dict[str, object]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        what = f"invalid JSON at column {error.colno} ({error.msg}). The line starts with: {_start(line)}"
        raise RowError(what, JSON_LINES_FIX) from error
    return _object(value, JSON_LINES_FIX)


def _object(value: object, fix: str = "Write each example as an object with one key per column.") -> dict[str, object]:
    if not isinstance(value, dict):
        raise RowError(f"{_start(json.dumps(value, ensure_ascii=False))} is not a JSON object.", fix)
    return value


def _read_json(source: str, content: bytes) -> tuple[LocatedRow, ...]:
    text = _text(source, content)
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and text.lstrip().startswith("{"):
            return _rows_of_json_lines(source, text)  # many tools write JSON lines to .json files
        raise UsageError(_invalid_json(source, text, error)) from error
    items = document.get("data") if isinstance(document, dict) else document
    if not isinstance(items, list):
        what = f"{source} contains neither a list of objects nor an object with such a list under the key 'data'."
        raise UsageError(Problem(what, 'Write [{"instruction": "...", "output": "..."}, ...].'))
    return read_each(source, _numbered(items), _object)


def _invalid_json(source: str, text: str, error: json.JSONDecodeError) -> Problem:
    line = text.split("\n")[error.lineno - 1]
    what = f"{source}, line {error.lineno}: invalid JSON at column {error.colno} ({error.msg})."
    fix = "Correct it, or write one object per line in a .jsonl file."
    return Problem(f"{what} The line starts with: {_start(line)}", fix)


def _numbered(items: Iterable[object]) -> Iterator[Located[object]]:
    return (Located(f"row {number}", item) for number, item in enumerate(items, start=1))


def _read_csv(source: str, content: bytes) -> tuple[LocatedRow, ...]:
    text = _text(source, content)
    records = _csv_records(source, text)
    header = [name.strip() for name in next(records, Located("", [])).value]
    return read_each(source, records, lambda values: _named(header, values))


def _csv_records(source: str, text: str) -> Iterator[Located[list[str]]]:
    header = text.lstrip().partition("\n")[0]
    delimiter = max(CSV_DELIMITERS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    first_line = 1
    try:
        for values in reader:
            if values:
                yield Located(f"line {first_line}", values)
            first_line = reader.line_num + 1
    except csv.Error as error:
        what = f"{source}, line {first_line}: invalid CSV ({error})."
        fix = 'Put text in double quotes and write "" for a quote inside it, or pass the data as .jsonl.'
        raise UsageError(Problem(what, fix)) from error


def _named(header: Sequence[str], values: Sequence[str]) -> dict[str, object]:
    if len(values) != len(header):
        what = f"{counted(len(values), 'value')} for {counted(len(header), 'column')} ({', '.join(header)})."
        raise RowError(what, "Put text with commas or line breaks in double quotes.")
    return dict(zip(header, values, strict=True))


def _read_parquet(source: str, content: bytes) -> tuple[LocatedRow, ...]:
    import pyarrow
    from pyarrow import parquet

    try:
        return rows_of_arrow(parquet.read_table(io.BytesIO(content)))
    except pyarrow.ArrowException as error:
        what = f"{source} is not a valid Parquet file."
        raise UsageError(Problem(what, "Write it again, or pass the data as .jsonl or .csv.")) from error


def _start(line: str) -> str:
    line = line.strip()
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]}…"


_READERS: dict[str, Callable[[str, bytes], tuple[LocatedRow, ...]]] = {
    ".json": _read_json,
    ".jsonl": _read_json_lines,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}

FILE_SUFFIXES = tuple(_READERS)
FILE_SUFFIXES_IN_WORDS = f"{', '.join(FILE_SUFFIXES[:-1])} or {FILE_SUFFIXES[-1]}"
