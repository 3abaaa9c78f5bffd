"""Text of a data file: decoded by its byte order mark or as UTF-8, with advice on other encodings."""

import codecs
import re
from dataclasses import dataclass
from pathlib import Path

from neftune_cli.data.bad_rows import RowError
from neftune_cli.errors import Problem, UsageError

MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16, whose mark it starts with
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
"""Encodings by the byte order mark at the start of the file."""

NOT_UTF8 = "not valid UTF-8"
WRITE_ROW = "Write it as UTF-8, as the other rows are, or remove the row."
_BAD_BYTE = re.compile("[\udc80-\udcff]")
_SHIFTED_LINE_BREAK = "\u0a00"
"""Not a character. A line break in UTF-16 that is read from the wrong byte."""
_SAMPLE = 20_000
_FEWEST_NULLS = 0.2


@dataclass(frozen=True)
class Text:
    """Decoded text. A byte that is not valid UTF-8 is a lone surrogate in it, as Python's `surrogateescape` has it."""

    value: str
    fix: str = ""
    """Fix for bytes that are not valid UTF-8; empty if all are."""

    def check(self, part: str) -> None:
        """Check a part of the text.

        Raises:
            RowError: it has bytes that are not valid UTF-8.
        """
        if self.fix and (bad := _BAD_BYTE.search(part)):
            raise RowError(f"byte 0x{ord(bad.group()) - 0xDC00:02x} is {NOT_UTF8}.", self.fix, NOT_UTF8)


def file_text(source: str, content: bytes) -> Text:
    """Return the text of a file.

    Raises:
        UsageError: the whole file has another encoding, or it is a binary file.
    """
    for mark, encoding in MARKS.items():
        if content.startswith(mark):
            return _decoded(source, content[len(mark) :], encoding)
    _refuse_null_bytes(source, content)
    return _decoded(source, content, "utf-8")


def document_text(source: str, content: bytes) -> str:
    """Return the text of a file that is one document.

    Raises:
        UsageError: the text has bytes that are not valid UTF-8, or it is a binary file.
    """
    text = file_text(source, content)
    if text.fix:
        raise UsageError(_first_bad_byte(source, text.value, text.fix))
    return text.value


def _decoded(source: str, content: bytes, encoding: str) -> Text:
    try:
        text = content.decode(encoding)
        _refuse_shifted(source, text, encoding)
        return Text(text)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            name, byte = encoding[:6].upper(), error.start + 3
            what = f"{source} starts with the byte order mark of {name}, but byte {byte:,} is not valid."
            raise UsageError(Problem(what, "Write the file again, as UTF-8.")) from error
    escaped = content.decode(errors="surrogateescape")
    if _has_enough_utf8(escaped):
        return Text(escaped, WRITE_ROW)  # some rows are wrong, and not the whole file
    raise UsageError(_first_bad_byte(source, escaped, _advice(source, content)))


def _refuse_shifted(source: str, text: str, encoding: str) -> None:
    """Refuse UTF-16 after a missing byte. Everything after it is another text, in one line."""
    if encoding.startswith("utf-16") and _SHIFTED_LINE_BREAK in text:
        line = text.count("\n", 0, text.index(_SHIFTED_LINE_BREAK)) + 1
        what = f"{source}, line {line}: the UTF-16 text is damaged. A byte is missing, or there is one too many."
        raise UsageError(Problem(what, "Write the file again, as UTF-8."))


def _has_enough_utf8(escaped: str) -> bool:
    """Return whether at least a third of the lines beyond ASCII are valid. A few in another encoding are by chance."""
    others = [line for line in escaped.split("\n") if not line.isascii()]
    bad = sum(_BAD_BYTE.search(line) is not None for line in others)
    return len(others) - bad >= bad / 2


def _first_bad_byte(source: str, escaped: str, fix: str) -> Problem:
    bad = _BAD_BYTE.search(escaped)
    assert bad is not None
    line = escaped.count("\n", 0, bad.start()) + 1
    return Problem(f"{source}, line {line}: byte 0x{ord(bad.group()) - 0xDC00:02x} is {NOT_UTF8}.", fix)


def _refuse_null_bytes(source: str, content: bytes) -> None:
    """Refuse UTF-16 and UTF-32 without a byte order mark, and binary files."""
    sample = content[:_SAMPLE]
    if sample.count(0) < _FEWEST_NULLS * len(sample):
        return
    for encoding, first, step in (("UTF-32LE", 0, 4), ("UTF-32BE", 3, 4), ("UTF-16LE", 0, 2), ("UTF-16BE", 1, 2)):
        others = bytes(byte for index, byte in enumerate(sample) if index % step != first)
        if others.count(0) > 0.8 * len(others):
            fix = f"Convert the file to UTF-8, for example: {_iconv(source, encoding)}"
            raise UsageError(Problem(f"{source} is {encoding[:6]} text without a byte order mark.", fix))
    raise UsageError(Problem(f"{source} is a binary file, not text.", "Use the data as .jsonl, .csv or .parquet."))


def _advice(source: str, content: bytes) -> str:
    encoding = guess_encoding(content)
    if encoding is None:
        return "Save the file as UTF-8 in the program that wrote it."
    return f"Convert the file to UTF-8, for example: {_iconv(source, encoding)}"


def _iconv(source: str, encoding: str) -> str:
    return f"iconv -f {encoding} -t UTF-8 {source} > utf8{Path(source).suffix}"


@dataclass(frozen=True)
class _Candidate:
    """An encoding, and the text beyond ASCII that a language that uses it mostly consists of."""

    name: str
    """Name for iconv."""
    codec: str
    common: str
    """Regular expression."""
    share: float
    """Smallest share of the characters beyond ASCII that it matches."""
    typical: str = ""
    """Regular expression that matches at least a tenth of them."""


_KANA = "\u3041-\u30ff"
_JAPANESE = f"[{_KANA}\u3001-\u301c\u4e00-\u9fff\uff01-\uff5e]"
_CYRILLIC = "[\u0410-\u044f][\u0430-\u044f]{2,}"
_WESTERN = "ÄÅÆÉÑÖØÜßàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿ¡£§«°»¿"
_CANDIDATES = (
    _Candidate("EUC-KR", "cp949", "[\uac00-\ud7a3]", 0.95),
    _Candidate("SHIFT_JIS", "cp932", _JAPANESE, 0.95, f"[{_KANA}]"),
    _Candidate("EUC-JP", "euc_jp", _JAPANESE, 0.95, f"[{_KANA}]"),
    _Candidate("CP1251", "cp1251", _CYRILLIC, 0.7),
    _Candidate("KOI8-R", "koi8_r", _CYRILLIC, 0.7),
    _Candidate("LATIN1", "latin_1", f"[{_WESTERN}]", 0.9),
    _Candidate("CP1252", "cp1252", f"[{_WESTERN}\u20ac\u2013-\u2026\u2122ŒœŠšŽž]", 0.9),
)
_CHINESE = (("GB18030", "gb18030", "gb2312", 0xB0, 0xD7), ("BIG5", "big5", "big5", 0xA4, 0xC6))
"""Chinese encodings: name, codec, codec with the order of characters, and the first bytes of common characters."""


def guess_encoding(content: bytes) -> str | None:
    """Return the name for iconv of the most likely encoding of bytes that are not valid UTF-8; None if none fits."""
    lines = [line for line in content[: 50 * _SAMPLE].split(b"\n") if not line.isascii()]
    sample = b"\n".join(lines)
    fitting = (candidate.name for candidate in _CANDIDATES if _fits(candidate, sample))
    chinese = (name for name, codec, order, first, last in _CHINESE if _is_chinese(sample, codec, order, first, last))
    multibyte = {"EUC-KR", "SHIFT_JIS", "EUC-JP"}
    guesses = list(fitting)
    return (
        next((name for name in guesses if name in multibyte), None) or next(chinese, None) or next(iter(guesses), None)
    )


def _fits(candidate: _Candidate, sample: bytes) -> bool:
    try:
        text = sample.decode(candidate.codec)
    except UnicodeDecodeError:
        return False
    others = sum(character > "\x7f" for character in text)
    is_common = _matched(candidate.common, text) >= candidate.share * others
    return is_common and (not candidate.typical or _matched(candidate.typical, text) >= 0.1 * others)


def _matched(pattern: str, text: str) -> int:
    return sum(len(found) for found in re.findall(pattern, text))


def _is_chinese(sample: bytes, codec: str, order: str, first: int, last: int) -> bool:
    try:
        text = sample.decode(codec)
    except UnicodeDecodeError:
        return False
    characters = re.findall("[\u4e00-\u9fff]", text)
    common = sum(first <= (character.encode(order, "replace")[0]) <= last for character in characters)
    others = sum(character > "\x7f" for character in text)
    return len(characters) > 0.6 * others and common >= 0.85 * len(characters)
