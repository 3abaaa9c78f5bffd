"""Rows of Parquet and Arrow files, and of Arrow tables. A column is converted when it is read."""

import io
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from neftune_cli.data.bad_rows import RowError
from neftune_cli.data.json_text import DuplicateKeyError, duplicate_key_in_column, parse
from neftune_cli.data.rows import EMPTY_JSON, ColumnarRow, Located, Rows, check_names, has_content
from neftune_cli.data.split_names import UNNAMED
from neftune_cli.errors import Problem, UsageError, one_line

if TYPE_CHECKING:
    import pyarrow

WRITE_AGAIN = "Write it again, or use the data as .jsonl or .csv."
PARQUET_MAGIC = b"PAR1"
ARROW_MAGIC = b"ARROW1"
CONTINUATION = b"\xff\xff\xff\xff"
"""First bytes of each message of a stream."""
END_OF_STREAM = CONTINUATION + b"\0\0\0\0"
"""Last bytes of a stream: a message of length 0. Source: Arrow's format, *IPC Streaming Format*."""
MOST_CHARACTERS = 120
"""Largest number of characters of an error of pyarrow in a message."""
LoadColumn = Callable[[str], "pyarrow.ChunkedArray"]
"""Return a column by its name."""


def read_parquet(source: str, content: bytes) -> dict[str, Rows]:
    """Return the rows of a Parquet file.

    Raises:
        UsageError: the file is damaged, or several files joined, or a column name occurs twice.
    """
    from pyarrow import parquet

    if not content.startswith(PARQUET_MAGIC) or not content.endswith(PARQUET_MAGIC):
        part = "is truncated" if content.startswith(PARQUET_MAGIC) else "is not a valid Parquet file"
        raise UsageError(Problem(f"{source} {part}.", WRITE_AGAIN))
    _check_single(source, "Parquet", content, PARQUET_MAGIC, lambda part: parquet.ParquetFile(io.BytesIO(part)))
    try:
        file = parquet.ParquetFile(io.BytesIO(content))
        names, number = file.schema_arrow.names, file.metadata.num_rows
    except _errors() as error:
        raise UsageError(_damaged(source, "Parquet", error)) from error
    return {UNNAMED: _rows(source, names, number, partial(_parquet_column, file))}


def _parquet_column(file: Any, name: str) -> "pyarrow.ChunkedArray":
    import pyarrow

    try:
        return file.read(columns=[name]).column(name)
    except pyarrow.ArrowNotImplementedError:  # dictionaries inside lists, in several row groups
        groups = (file.read_row_group(number, columns=[name]) for number in range(file.num_row_groups))
        return pyarrow.concat_tables(groups).column(name)


def read_arrow(source: str, content: bytes) -> dict[str, Rows]:
    """Return the rows of an Arrow file, or of one or several streams.

    Raises:
        UsageError: the file is damaged, cut off, or several files joined, or a column name occurs twice.
    """
    from pyarrow import ipc

    is_file = content.startswith(ARROW_MAGIC)
    if is_file:
        _check_single(source, "Arrow", content, ARROW_MAGIC, ipc.open_file)
    try:
        table = ipc.open_file(content).read_all() if is_file else _all_streams(source, content)
    except _errors() as error:
        raise UsageError(_damaged(source, "Arrow", error)) from error
    return {UNNAMED: rows_of_arrow(source, table)}


def _all_streams(source: str, content: bytes) -> "pyarrow.Table":
    """Return the rows of all streams in a file, which can follow one another.

    Raises:
        UsageError: a stream has no end-of-stream marker.
        pyarrow.ArrowException: a stream is damaged, or has other columns than the first.
    """
    import pyarrow
    from pyarrow import ipc

    reader, tables = pyarrow.BufferReader(content), []
    while (start := reader.tell()) < len(content):
        tables.append(ipc.open_stream(reader).read_all())
        mark = END_OF_STREAM if content.startswith(CONTINUATION, start) else END_OF_STREAM[4:]  # Arrow before 0.15
        if not content.endswith(mark, start, reader.tell()):
            what = f"{source} does not end with Arrow's end-of-stream marker, so its last rows may be missing."
            raise UsageError(Problem(what, WRITE_AGAIN))
    return pyarrow.concat_tables(tables)


def _check_single(source: str, kind: str, content: bytes, magic: bytes, open_file: Callable[[bytes], object]) -> None:
    """Check that the content is not two files one after the other, of which only one would be read.

    Raises:
        UsageError: the first part of the content is a file itself.
    """
    end = content.find(magic + magic) + len(magic)
    if end < len(magic):
        return
    try:
        open_file(content[:end])
    except _errors():  # a value with the same bytes
        return
    what = f"{source} has several {kind} files one after the other, of which only one can be read."
    raise UsageError(Problem(what, "Pass the original files instead, separated by commas."))


def rows_of_arrow(source: str, table: "pyarrow.Table", file: str | None = None) -> Rows:
    """Return the rows of a table, located by row number.

    Args:
        source: name of the table, for messages.
        table: the table.
        file: name of the file or split in the place of a row; `source` by default.

    Raises:
        UsageError: a column name occurs twice.
    """
    return _rows(source, table.column_names, table.num_rows, table.column, file)


def _rows(source: str, names: Sequence[str], number: int, load: LoadColumn, file: str | None = None) -> Rows:
    check_names(source, names)
    columns = ArrowColumns(source, names, load)
    located = source if file is None else file
    return Rows(tuple(Located(f"row {index + 1}", ColumnarRow(columns, index), located) for index in range(number)))


def _errors() -> tuple[type[Exception], ...]:
    """Return the errors that pyarrow raises for damaged files."""
    import pyarrow

    return (pyarrow.ArrowException, OSError, ValueError, KeyError, OverflowError, MemoryError)


def _damaged(source: str, kind: str, error: Exception) -> Problem:
    return Problem(f"{source} is damaged or not a valid {kind} file ({_shortened(error)}).", WRITE_AGAIN)


def _shortened(error: Exception) -> str:
    return one_line(error, MOST_CHARACTERS).rstrip(".")


class ArrowColumns:
    """The columns of an Arrow table, each loaded and converted to Python values at first use."""

    def __init__(self, source: str, names: Sequence[str], load: LoadColumn) -> None:
        """Keep the names. `load` returns a column by its name."""
        self.names = tuple(names)
        self._source = source
        self._load = load
        self._columns = {name: _Column(name, self._chunks) for name in self.names}

    def value(self, column: str, index: int) -> object:
        """Return a value. Raises `RowError` if it cannot be converted."""
        return self._columns[column].value(index)

    def is_filled(self, column: str, index: int) -> bool:
        """Return whether a value is not blank and not empty JSON, without a conversion.

        All values of a damaged column count as filled.
        """
        filled = self._columns[column].filled
        return filled is None or filled[index]

    def _chunks(self, name: str) -> "pyarrow.ChunkedArray":
        try:
            array = self._load(name)
            _check_offsets(array)
            return array
        except _errors() as error:
            what = f"{self._source}: column '{name}' is damaged ({_shortened(error)})."
            raise UsageError(Problem(what, "Write the file again, or remove the column.")) from error


class _Column:
    """One column of an Arrow table."""

    def __init__(self, name: str, load: LoadColumn) -> None:
        self._name = name
        self._load = load

    @cached_property
    def _array(self) -> Any:
        return self._load(self._name)

    @cached_property
    def _values(self) -> list[object] | None:
        """Values of all rows; None if some cannot be converted."""
        try:
            values: list[object] = self._array.to_pylist(maps_as_pydicts="strict")
        except _errors():
            return None
        return values

    @cached_property
    def _is_converted(self) -> bool:
        return _contains(self._array.type, _has_other_value)

    @cached_property
    def filled(self) -> list[bool] | None:
        """Whether each value is not blank; None if the column is damaged."""
        try:
            return self._json_filled() if _contains(self._array.type, _is_json) else _filled(self._array)
        except UsageError:
            return None

    def _json_filled(self) -> list[bool] | None:
        try:
            return [has_content(self.value(index)) for index in range(len(self._array))]
        except (RowError, RecursionError):
            return None

    def value(self, index: int) -> object:
        try:
            value = self._array[index].as_py(maps_as_pydicts="strict") if self._values is None else self._values[index]
            value = _converted(value, self._array.type) if self._is_converted else value
            return value.decode() if isinstance(value, bytes) else value  # not all programs mark text as such
        except DuplicateKeyError as error:
            raise duplicate_key_in_column(error, f"column '{self._name}'") from error
        except UnicodeDecodeError as error:
            what = f"column '{self._name}' is not valid UTF-8."
            raise RowError(what, "Write the column as text, or remove the row.") from error
        except _errors() as error:
            what = f"column '{self._name}' has a value that cannot be read ({error})."
            raise RowError(what, "Write the column as text, or remove the row.") from error


def _contains(kind: Any, is_it: Callable[[Any], bool]) -> bool:
    """Return whether a type, or a type inside it, has a property."""
    return is_it(kind) or any(_contains(kind.field(index).type, is_it) for index in range(kind.num_fields))


def _is_json(kind: Any) -> bool:
    """Return whether values are stored as JSON text, as those of `Json` of the datasets library are."""
    return bool(getattr(kind, "extension_name", "") == "arrow.json")


def _is_short_float(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_float32(kind) or types.is_float16(kind))


def _has_other_value(kind: Any) -> bool:
    """Return whether `_converted` changes values of this type."""
    return _is_json(kind) or _is_short_float(kind)


def _converted(value: Any, kind: Any) -> Any:
    """Return a value with the values of the JSON texts in it, and with numbers that have few digits if they are short.

    The 32-bit number 0.1 is 0.1, as in a CSV file that pandas writes, and not 0.10000000149011612.
    """
    from pyarrow import types

    if value is None or not _contains(kind, _has_other_value):
        return value
    if types.is_struct(kind):
        return {field.name: _converted(value[field.name], field.type) for field in kind}
    if types.is_map(kind):
        return {key: _converted(item, kind.item_type) for key, item in value.items()}
    if isinstance(value, list):
        return [_converted(item, kind.value_type) for item in value]
    if _is_json(kind):
        return parse(value)
    return float(str(kind.to_pandas_dtype()(value))) if _is_short_float(kind) else value


def _check_offsets(array: Any) -> None:
    """Check that no value lies outside the buffers of a column, which would end the process.

    Raises:
        pyarrow.ArrowInvalid: a value does.
    """
    import pyarrow
    from pyarrow import types

    try:
        array.validate(full=True)
    except pyarrow.ArrowInvalid as error:
        is_text = types.is_string(array.type) or types.is_large_string(array.type)
        if not (is_text and "UTF8" in str(error)):  # each row with bad text is reported when it is read
            raise


def _filled(array: Any) -> list[bool]:
    import pyarrow
    from pyarrow import compute, types

    kind = array.type
    try:
        if types.is_dictionary(kind):
            return _filled(array.cast(kind.value_type))
        if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
            sized = _texts_filled(array)
        elif types.is_list(kind) or types.is_large_list(kind) or types.is_map(kind):
            sized = compute.greater(compute.list_value_length(array), 0)
        elif types.is_struct(kind):
            sized = _structs_filled(array)
        elif types.is_floating(kind):
            sized = compute.invert(compute.is_nan(array))
        else:
            sized = compute.is_valid(array)
    except (pyarrow.ArrowException, UnicodeDecodeError):
        sized = compute.is_valid(array)
    filled: list[bool] = compute.fill_null(sized, False).to_pylist()
    return filled


def _texts_filled(array: Any) -> Any:
    """Return whether each text is neither white space nor an empty JSON value."""
    import pyarrow
    from pyarrow import compute

    texts = compute.utf8_trim_whitespace(array.cast("large_string"))
    empty = compute.is_in(texts, value_set=pyarrow.array(EMPTY_JSON, pyarrow.large_string()))
    return compute.and_not(compute.greater(compute.binary_length(texts), 0), empty)


def _structs_filled(array: Any) -> Any:
    """Return whether each object has a value other than null, at any depth."""
    import pyarrow
    from pyarrow import compute, types

    if not types.is_struct(array.type):
        return compute.is_valid(array)
    filled = compute.and_(compute.is_valid(array), pyarrow.scalar(False))
    for index in range(array.type.num_fields):
        filled = compute.or_(filled, _structs_filled(compute.struct_field(array, [index])))
    return filled
