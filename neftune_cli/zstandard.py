"""Decompression with Zstandard, which the standard library has from Python 3.14 on."""


def decompressed(content: bytes) -> bytes:
    """Return the content without compression.

    Raises:
        OSError: it is truncated or damaged.
    """
    import pyarrow

    with pyarrow.CompressedInputStream(pyarrow.BufferReader(content), "zstd") as stream:
        return bytes(stream.read())
