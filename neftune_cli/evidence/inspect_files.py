"""Read the logs of inspect_ai, without that package.

A log has one evaluation of one task: its settings (`eval`, `plan`), its scores (`results`), and its samples. A `.json`
log is one object. An `.eval` log is a ZIP archive with `header.json`, `samples/<id>_epoch_<epoch>.json`,
`summaries.json` and `reductions.json`. Newer versions compress its entries with Zstandard, which zipfile does not read
before Python 3.14.
"""

import json
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile, ZipFile, ZipInfo

from pydantic_core import from_json

from neftune_cli.errors import Problem, Problems, UsageError
from neftune_cli.evidence.folders import folders_below
from neftune_cli.evidence.inspect_log import InspectLog, InspectSample
from neftune_cli.evidence.json_parts import check_kinds, digest, mapping, mappings
from neftune_cli.evidence.logged_documents import check_duplicates
from neftune_cli.file_formats import zstandard_content

_HEADER, _START, _SUMMARIES, _REDUCTIONS = "header.json", "_journal/start.json", "summaries.json", "reductions.json"
_SAMPLE = re.compile(r"samples/.+_epoch_\d+\.json", re.S)
_ZSTANDARD = 93
"""Compression method of ZIP entries."""
_NAME = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d.*\.json", re.S)
"""Default name of a log. Other files are read if they contain the keys of a log."""
_LARGE = ("tokenizer.json", "vocab.json", "trainer_state.json")
"""Large files beside checkpoints, which are not read to find out that they are no logs."""
_KEYS = (b'"eval"', b'"status"')
_PARTS = {"eval", "status", "plan"}
"""Parts of each log. Other files with a default name of logs do not have them."""
_ATTACHMENT = "attachment://"
_DAMAGED_FIX = "Copy the log again, evaluate again, or remove the file."
_HEADER_KINDS: Mapping[str, type] = {
    "eval": dict,
    "eval.config": dict,
    "eval.dataset": dict,
    "eval.model_args": dict,
    "eval.model_generate_config": dict,
    "eval.model_roles": dict,
    "eval.scorers": list,
    "eval.scorers.*": dict,
    "eval.task_args": dict,
    "eval.task_args_passed": dict,
    "plan": dict,
    "plan.config": dict,
    "plan.steps": list,
    "plan.steps.*": dict,
    "samples": list,
    "results": dict,
    "results.scores": list,
    "results.scores.*": dict,
    "results.scores.*.metrics": dict,
    "results.scores.*.metrics.*": dict,
}
_REDUCTION_KINDS: Mapping[str, type] = {
    "reductions": list,
    "reductions.*": dict,
    "reductions.*.samples": list,
    "reductions.*.samples.*": dict,
}
_SAMPLE_KINDS: Mapping[str, type] = {"attachments": dict, "metadata": dict, "scores": dict, "scores.*": dict}


def find_logs(root: Path) -> list[InspectLog]:
    """Return the logs at and below a folder: `.eval` files, and `.json` files that are logs.

    Raises:
        UsageError: files are damaged, or samples occur twice in an epoch.
    """
    problems = Problems()
    paths = [folder.path / name for folder in folders_below(root) for name in sorted(folder.files)]
    logs = [
        problems.attempt(partial(_read_log, path))
        for path in paths
        if path.suffix in _READERS and path.name not in _LARGE
    ]
    problems.raise_any()
    return [log for log in logs if log is not None]


def _read_log(path: Path) -> InspectLog | None:
    """Return a log; None if a `.json` file has another kind of content."""
    try:
        parts = _READERS[path.suffix](path)
        log = parts and InspectLog(
            path, parts.header, tuple(map(_sample, parts.samples)), _reductions(parts.reductions)
        )
    except _DAMAGES as error:
        reason = getattr(error, "strerror", None) or str(error).partition(" at line")[0] or type(error).__name__
        raise UsageError(Problem(f"{path} is not a valid inspect log ({reason}).", _DAMAGED_FIX)) from None
    if log:
        _check_samples(log)
    return log


def _check_samples(log: InspectLog) -> None:
    for epoch in dict.fromkeys(one.epoch for one in log.samples):
        check_duplicates(log.path, [one.sample for one in log.samples if one.epoch == epoch], "sample")


class _Parts(NamedTuple):
    header: Mapping[str, Any]
    samples: Iterable[Any]
    reductions: Any


def _read_json(path: Path) -> _Parts | None:
    content = path.read_bytes()
    if not all(key in content for key in _KEYS):
        return None
    has_name = _NAME.fullmatch(path.name)
    try:
        values = _parsed(content)
    except ValueError:
        if has_name:
            raise
        return None
    if not _is_header(values) and not (has_name and mapping(values).keys() >= _PARTS):
        return None
    _check_header(values)
    return _Parts(values, values.get("samples") or (), values.get("reductions"))


def _read_archive(path: Path) -> _Parts:
    with ZipFile(path) as archive:
        entries = archive.infolist()
        by_name = {info.filename: info for info in entries}

        def content(name: str) -> Any:
            return _parsed(_entry(path, archive, by_name[name])) if name in by_name else None

        header = content(_HEADER) or content(_START)
        samples = [_parsed(_entry(path, archive, info)) for info in entries if _SAMPLE.fullmatch(info.filename)]
        _check_header(header)
        return _Parts(header, samples or list(_summaries(content(_SUMMARIES))), content(_REDUCTIONS))


def _summaries(values: Any) -> Iterator[dict[str, Any]]:
    """Yield the summaries of samples without their inputs, which are cut."""
    check_kinds({"summaries": values}, {"summaries": list, "summaries.*": dict})
    for one in mappings(values):
        yield {part: value for part, value in one.items() if part != "input"}


_READERS = {".eval": _read_archive, ".json": _read_json}
_DAMAGES = (
    BadZipFile,
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""Errors of damaged files, or of files in an unknown format."""


def _check_header(values: Any) -> None:
    if not _is_header(values):
        raise ValueError("it has no eval.task")
    check_kinds(values, _HEADER_KINDS)


def _is_header(values: Any) -> bool:
    return isinstance(mapping(mapping(values).get("eval")).get("task"), str)


def _entry(path: Path, archive: ZipFile, info: ZipInfo) -> bytes:
    """Return the content of a ZIP entry."""
    if info.compress_type != _ZSTANDARD:
        return archive.read(info)
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)
        name_length, extra_length = struct.unpack("<HH", file.read(4))
        file.seek(name_length + extra_length, 1)
        content = zstandard_content(file.read(info.compress_size))
    if zlib.crc32(content) != info.CRC:
        raise ValueError(f"{info.filename} has a wrong checksum")
    return content


def _parsed(content: bytes) -> Any:
    """Return the content of JSON. Responses of models can have incomplete characters, which only `json` reads."""
    try:
        return from_json(content, cache_strings="keys")
    except ValueError:
        try:
            return json.loads(content)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None


def _sample(values: Any) -> InspectSample:
    found = mapping(values)
    sample, epoch = found.get("id"), found.get("epoch", 1)
    if not isinstance(sample, str | int) or not isinstance(epoch, int):
        raise ValueError("a sample has no id or no epoch")
    try:
        check_kinds(found, _SAMPLE_KINDS)
    except ValueError as error:
        raise ValueError(f"sample {sample}: {error}") from None
    scores = mapping(found.get("scores")) if found.get("invalidation") is None else {}
    return InspectSample(
        sample=str(sample),
        epoch=epoch,
        content=_content(found) if found.get("input") is not None else "",
        values={scorer: score.get("value") for scorer, score in scores.items() if score is not None},
        metadata=mapping(found.get("metadata")),
    )


def _content(found: Mapping[str, Any]) -> str:
    """Return a hash of what a sample asks and of its target. Ids of messages are left out, because they are random."""
    given = found["input"]
    messages = [{key: one[key] for key in one if key != "id"} for one in given] if _is_conversation(given) else given
    parts = [messages, found.get("target"), found.get("choices") or None]
    return digest(_resolved(parts, mapping(found.get("attachments"))))


def _is_conversation(given: Any) -> bool:
    return isinstance(given, list) and all(isinstance(one, dict) for one in given)


def _resolved(value: Any, attachments: Mapping[str, Any]) -> Any:
    """Return a value with the texts that the log stores apart."""
    if isinstance(value, dict):
        return {key: _resolved(part, attachments) for key, part in value.items()}
    if isinstance(value, list):
        return [_resolved(part, attachments) for part in value]
    if isinstance(value, str) and value.startswith(_ATTACHMENT):
        return attachments.get(value.removeprefix(_ATTACHMENT), value)
    return value


def _reductions(values: Any) -> dict[tuple[str, str], dict[str, Any]]:
    check_kinds({"reductions": values}, _REDUCTION_KINDS)
    return {
        (str(part.get("scorer")), str(part.get("reducer") or "mean")): {
            str(one["sample_id"]): one.get("value") for one in mappings(part.get("samples")) if "sample_id" in one
        }
        for part in mappings(values)
    }
