"""Rows of CSV and TSV files."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from neftune_cli.data.bad_rows import BadRow, RowError, problems_of
from neftune_cli.data.encoding import Text, file_text
from neftune_cli.data.rows import Located, MissingCell, Rows, RowValues, check_names, sift, sizes_in_words, under_names
from neftune_cli.data.split_names import UNNAMED
from neftune_cli.errors import Problem, UsageError
from neftune_cli.file_formats import csv_cells_of_any_size

CSV_DELIMITERS = {".csv": ",;\t|", ".tsv": "\t,;|"}
"""Suffixes of files whose first line has the column names, each with its delimiters in order of preference."""
MISSING_CELLS = {
    *("#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
    *("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
}
"""Texts that `pandas.read_csv` reads as missing values by default, and thereby datasets and TRL."""
QUOTE_FIX = 'Put text in double quotes and write "" for a quote inside it, or use the data as .jsonl.'
CELLS_FIX = "Put text with commas or line breaks in double quotes."
SEVERAL_LINES = "the number of values differs from the number of columns, in rows over several lines"
OTHER_ORDER = "the row has the column names in another order"
_JOINED = ", as in a second file that was joined to the first"
_QUOTED = re.compile(r'"[^"]*"')
_DELIMITER_LINE = re.compile(r'"?sep=(.)"?\r?\n', re.IGNORECASE)


def read_csv(source: str, content: bytes, *, delimiters: str) -> dict[str, Rows]:
    """Return the rows of a file whose first line has the column names.

    The delimiter is the one that occurs most often in that line; of several, the first of `delimiters`.

    Raises:
        UsageError: the file is not text, a quoted cell never ends, a column name occurs twice, or a row has the column
            names in another order.
    """
    text = file_text(source, content)
    rest, delimiter = _delimiter(text.value, delimiters)
    lines_before = text.value.count("\n", 0, len(text.value) - len(rest))
    spaces = _has_spaces_before_quotes(rest, delimiter)
    records, bad_rows = _records(source, rest, delimiter, lines_before, skip_spaces=spaces)
    if not records:
        return {UNNAMED: Rows((), bad_rows)}
    header = _header(records[0], text)
    names = [name.casefold() for name in header]
    found, more = sift(records[1:], lambda record: _named(header, names, record, text))
    bad_rows += more
    # Other rows can be inside a row over several lines, and rows after names in another order have that order, too.
    if any(row.cause in (SEVERAL_LINES, OTHER_ORDER) for row in bad_rows):
        raise UsageError(*problems_of(bad_rows))
    note = f"Spaces after the delimiters of {source} are removed, because quoted cells follow such spaces."
    return {UNNAMED: Rows(found, bad_rows, (note,) if spaces else ())}


@dataclass(frozen=True)
class _CsvRecord:
    """The values of a row."""

    values: list[str]
    lines: int
    """Number of lines that it takes."""


def _delimiter(text: str, delimiters: str) -> tuple[str, str]:
    """Return the text without the line in which Excel names the delimiter, and the delimiter."""
    if found := _DELIMITER_LINE.match(text):
        return text[found.end() :], found[1]
    first_line = next(io.StringIO(text.lstrip("\r\n "), newline=""), "")  # old Macs end lines with a carriage return
    return text, max(delimiters, key=_QUOTED.sub("", first_line).count)


def _has_spaces_before_quotes(text: str, delimiter: str) -> bool:
    """Return whether quoted cells follow a space, as in `a, "b, c"`, and no other text in quotes does."""
    end = rf"\r\n{re.escape(delimiter)}"
    # Inside a quoted cell, a quote is followed by another one or by the end of the cell.
    opening = rf'(?:(?m:^)|{re.escape(delimiter)}) +"(?=[^"{end}])'
    cells = re.findall(rf'{opening}(?:[^"\r\n]|"")*"(?=[{end}]|\Z)', text)
    return 0 < len(cells) == len(re.findall(opening, text))


def _records(
    source: str, text: str, delimiter: str, lines_before: int, *, skip_spaces: bool
) -> tuple[list[Located[_CsvRecord]], tuple[BadRow, ...]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=skip_spaces)
    records: list[Located[_CsvRecord]] = []
    bad_rows: list[BadRow] = []
    with csv_cells_of_any_size():
        while True:
            first = reader.line_num + 1
            place = f"line {lines_before + first}"
            try:
                if values := next(reader):
                    records.append(Located(place, _CsvRecord(values, reader.line_num - first + 1), source))
            except StopIteration:
                return records, tuple(bad_rows)
            except csv.Error as error:
                what = f"invalid CSV ({error})."
                if not records or reader.line_num > first or "end of data" in str(error):  # the quote hides later rows
                    raise UsageError(Problem(f"{source}, {place}: {what}", QUOTE_FIX)) from error
                bad_rows.append(BadRow(f"{source}, {place}", what, QUOTE_FIX, what))


def _header(record: Located[_CsvRecord], text: Text) -> list[str]:
    """Return the column names. A column without a name is named by its number.

    Raises:
        UsageError: two columns have the same name.
    """
    try:
        text.check("".join(record.value.values))
    except RowError as error:
        raise UsageError(Problem(f"{record.position}: {error.what}", error.fix)) from error
    names = _names(record.value.values)
    check_names(record.position, names)
    return names


def _names(values: Sequence[str]) -> list[str]:
    return [name.strip().strip("\ufeff") or f"column {number}" for number, name in enumerate(values, start=1)]


def _plain(values: Sequence[str]) -> list[str]:
    """Return values as column names without case. Quotes after a byte order mark remain in the cell."""
    return [name.strip('"').casefold() for name in _names(values)]


def _refuse_names(names: Sequence[str], values: Sequence[str]) -> None:
    """Refuse a row with the column names. The value of a single column can be its name.

    Args:
        names: the column names without case.
        values: the values of the row, at least one.

    Raises:
        RowError: the row has the column names, as in files that were joined.
    """
    if _plain(values[:1])[0] not in names:  # nearly all rows, which are not searched further
        return
    found = _plain(values)
    if sorted(found) != sorted(names) or (len(names) == 1 and not values[0].startswith("\ufeff")):
        return
    if found == names:
        raise RowError(f"the row has the column names{_JOINED}.", "Remove the line.")
    raise RowError(f"{OTHER_ORDER}{_JOINED}.", "Pass the original files instead, separated by commas.", OTHER_ORDER)


def _named(header: Sequence[str], names: Sequence[str], record: _CsvRecord, text: Text) -> RowValues:
    values = record.values
    text.check("".join(values))
    _refuse_names(names, values)
    if record.lines > 1 and len(values) != len(header):
        what = f"{sizes_in_words(header, values)}: the row takes {record.lines:,} lines, because of a double quote."
        raise RowError(what, QUOTE_FIX, SEVERAL_LINES)
    cells = [MissingCell(value) if value in MISSING_CELLS else value for value in values]
    return under_names(header, cells, CELLS_FIX)
