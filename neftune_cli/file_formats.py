"""Readers of file formats that the standard library lacks or limits: Zstandard, and CSV with cells of any size."""

import csv
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def zstandard_content(compressed: bytes) -> bytes:
    """Return the content of a file of Zstandard, which the standard library has from Python 3.14 on.

    Raises:
        OSError: it is truncated or damaged.
    """
    import pyarrow

    with pyarrow.CompressedInputStream(pyarrow.BufferReader(compressed), "zstd") as stream:
        return bytes(stream.read())


@contextmanager
def csv_cells_of_any_size() -> Iterator[None]:
    """Let Python's reader of CSV accept cells of any size. Its limit of 131,072 characters is one of the process."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(limit)
