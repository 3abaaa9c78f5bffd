"""Rows of JSON and JSON lines files."""

import json
import re
from collections.abc import Callable, Iterable

from neftune_cli.data.encoding import Text, text_of, whole_text_of
from neftune_cli.data.json_documents import rows_of_document
from neftune_cli.data.json_text import (
    DuplicateKeyError,
    duplicate_key,
    lines_of,
    object_of_line,
    parse,
    parse_at,
    reason,
    start_of,
)
from neftune_cli.data.rows import TOO_DEEP, Located, Rows, RowValues, sift
from neftune_cli.data.splits import UNNAMED
from neftune_cli.errors import Problem, UsageError

JSON_LINES_FIX = "Write one JSON object per line. A list of objects belongs in a .json file."
CORRECT = "Correct it, or write one object per line in a .jsonl file."
_ITEM = re.compile(r"[^ \t\r\n,]")


def read_json_lines(source: str, content: bytes) -> dict[str, Rows]:
    """Return the rows of a file with one JSON object per line. Empty lines do not count.

    Raises:
        UsageError: the file is not text.
    """
    return {UNNAMED: _rows_of_lines(source, text_of(source, content))}


def read_json(source: str, content: bytes) -> dict[str, Rows]:
    """Return the rows of a JSON document by split, or of JSON lines, which many tools write to .json files.

    A document is a list of objects, an object with such a list under the key `data`, an object of splits, or an object
    with a list or an object of values for each column.

    Raises:
        UsageError: the file is not text, not valid JSON, has another structure, or has keys beside the rows that can be
            rows, too.
    """
    text = whole_text_of(source, content)
    try:
        document = parse(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and text.lstrip().startswith(("{", "[")):
            return {UNNAMED: _rows_of_lines(source, Text(text))}
        raise UsageError(_invalid(source, text, error)) from error
    except DuplicateKeyError as error:
        found = duplicate_key(error.key, lines_of(error.key, text), "lines")
        raise UsageError(Problem(f"{source}: {found.what}", found.fix)) from error
    except RecursionError as error:
        raise UsageError(_too_deep(source, text)) from error
    rows = rows_of_document(source, document)
    notes = (f"Keys of {source} that are not read: {', '.join(rows.unread)}.",) if rows.unread else ()
    return {name: _rows_of_items(source, name, items, rows.read, notes) for name, items in rows.splits.items()}


def _refuse_several_lines(source: str, text: str) -> None:
    """Refuse JSON whose first value takes several lines: a list, or objects that a program has indented.

    Raises:
        UsageError: it does.
    """
    start = len(text) - len(text.lstrip())
    first_line = text[start:].partition("\n")[0]
    try:
        _, end = parse_at(text, start)
    except (ValueError, RecursionError):  # reported with its line
        return
    if end <= start + len(first_line):
        return
    if first_line.startswith("["):
        raise UsageError(Problem(f"{source} is a JSON list, not JSON lines.", "Rename it to .json."))
    line = text.count("\n", 0, start) + 1
    what = f"{source}, line {line}: the JSON object takes several lines."
    raise UsageError(Problem(what, f"Write one object per line, for example: jq -c . '{source}' > lines.jsonl"))


def _rows_of_lines(source: str, text: Text) -> Rows:
    _refuse_several_lines(source, text.value)
    # Not splitlines: JSON strings may contain the other line separators of Unicode unescaped.
    numbered = enumerate(text.value.split("\n"), start=1)
    lines = (Located(f"line {number}", line, source) for number, line in numbered if line.strip())
    return Rows(*sift(source, lines, _line_reader(text)))


def _line_reader(text: Text) -> Callable[[str], RowValues]:
    def read(line: str) -> RowValues:
        text.check(line)
        return object_of_line(line.removeprefix("\ufeff"), JSON_LINES_FIX)  # joined files have marks inside

    return read


def _rows_of_items(
    source: str, split: str, items: Iterable[object], read: Callable[[object], RowValues], notes: tuple[str, ...]
) -> Rows:
    of_split = f"{split} row" if split else "row"
    located = (Located(f"{of_split} {number}", item, source) for number, item in enumerate(items, start=1))
    return Rows(*sift(source, located, read), notes)


def _invalid(source: str, text: str, error: json.JSONDecodeError) -> Problem:
    line = text.split("\n")[error.lineno - 1]
    what = f"{source}, line {error.lineno}: invalid JSON at column {error.colno} ({reason(error)})."
    return Problem(f"{what} The line starts with: {start_of(line)}", CORRECT)


def _too_deep(source: str, text: str) -> Problem:
    """Find the item of a list that is nested too deeply."""
    position = text.find("[") + 1
    while position:
        item = _ITEM.search(text, position)
        position = item.start() if item else len(text)
        try:
            _, position = parse_at(text, position)
        except (RecursionError, ValueError):
            break
    line = text.count("\n", 0, position) + 1
    return Problem(f"{source}, line {line}: {TOO_DEEP}", "Remove the row.")
