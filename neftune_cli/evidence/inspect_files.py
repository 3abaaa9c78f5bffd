"""Read the logs of inspect_ai, without that package.

A log has one evaluation of one task: its settings (`eval`, `plan`), its scores (`results`), and its samples. A `.json`
log is one object. An `.eval` log is a ZIP archive with `header.json`, `samples/<id>_epoch_<epoch>.json`,
`summaries.json` and `reductions.json`. Newer versions compress its entries with Zstandard, which zipfile does not read
before Python 3.14.
"""

import json
import math
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path, PurePath
from typing import Any, NamedTuple
from zipfile import BadZipFile, ZipFile, ZipInfo

from pydantic_core import from_json

from neftune_cli.errors import Problem, Problems, UsageError
from neftune_cli.evidence.documents import check_duplicates
from neftune_cli.evidence.run_names import folders_below

SUCCESS = "success"
"""Status of a complete evaluation."""

_LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
"""Correct, partially correct, incorrect, no answer."""
_WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
_SPREADS = re.compile(r"(.*_)?(stderr|std|var)(_.*|\d+)?")
"""Metrics of the spread of values, which are no scores."""

_HEADER, _START, _SUMMARIES, _REDUCTIONS = "header.json", "_journal/start.json", "summaries.json", "reductions.json"
_SAMPLE = re.compile(r"samples/.+_epoch_\d+\.json", re.S)
_ZSTANDARD = 93
"""Compression method of ZIP entries."""
_NAME = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d.*\.json", re.S)
"""Default name of a log. Other files are read if they contain the keys of a log."""
_LARGE = ("tokenizer.json", "vocab.json", "trainer_state.json")
"""Large files beside checkpoints, which are not read to find out that they are no logs."""
_KEYS = (b'"eval"', b'"status"', b'"task"')
_ATTACHMENT = "attachment://"
_DAMAGED_FIX = "Copy the log again, evaluate again, or remove the file."


class InspectScore(NamedTuple):
    """One score of a task: a metric of the values of a scorer."""

    name: str
    """Name of the scorer, or of a value in a scorer's dictionary."""
    scorer: str
    reducer: str
    """Name of the function that combines the epochs of a sample."""
    metric: str


class InspectSample(NamedTuple):
    """One sample in one epoch."""

    sample: str
    epoch: int
    content: str
    """Hash of the input; empty if the input is unknown."""
    values: Mapping[str, Any]
    """Scorer to value; empty if the sample failed."""
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class InspectLog:
    """One log: the evaluation of one task."""

    path: Path
    header: Mapping[str, Any]
    """All parts without samples and reductions."""
    samples: tuple[InspectSample, ...]
    reductions: Mapping[tuple[str, str], Mapping[str, Any]]
    """(scorer, reducer) to sample to the value over all epochs."""

    @property
    def status(self) -> str:
        """Return the status: `success`, or that of an incomplete evaluation."""
        return str(self.header.get("status", "started"))

    @property
    def spec(self) -> Mapping[str, Any]:
        """Return the settings of the evaluation."""
        return _mapping(self.header["eval"])

    @property
    def task(self) -> str:
        """Return the name of the task."""
        return str(self.spec["task"])

    @property
    def order(self) -> tuple[str, str]:
        """Return a sort key: by time, then by name, so that a log that was scored again is later."""
        return str(self.spec.get("created", "")), self.path.stem

    @property
    def arguments(self) -> Mapping[str, Any]:
        """Return the arguments of the task that the user gave."""
        return _mapping(self.spec.get("task_args_passed", self.spec.get("task_args")))

    @property
    def config(self) -> Mapping[str, Any]:
        """Return the limits, the number of epochs, and other settings of the evaluation."""
        return _mapping(self.spec.get("config"))

    @property
    def dataset(self) -> str | None:
        """Return the name of the data set."""
        return _mapping(self.spec.get("dataset")).get("name")

    @property
    def model_arguments(self) -> Mapping[str, Any]:
        """Return the arguments of the model."""
        return _mapping(self.spec.get("model_args"))

    @property
    def generation(self) -> Mapping[str, Any]:
        """Return the settings of generation."""
        plan = _mapping(self.header.get("plan"))
        return {**_mapping(plan.get("config")), **_mapping(self.spec.get("model_generate_config"))}

    @property
    def solvers(self) -> list[Any]:
        """Return the solvers with the parameters that the user gave."""
        steps = _mappings(_mapping(self.header.get("plan")).get("steps"))
        return [[step.get("solver"), step.get("params_passed", step.get("params"))] for step in steps]

    @property
    def model_folder(self) -> str:
        """Return the path of a local model or the name of another one as the name of a folder: `__` separates parts."""
        model = PurePath(str(self.model_arguments.get("model_path") or self.spec.get("model", "")))
        return "__".join(part for part in model.parts if part not in ("/", ".."))

    @property
    def evaluated(self) -> int | None:
        """Return the number of evaluated samples, without repetitions in epochs; None if it is unknown."""
        total, epochs = self.results.get("total_samples"), self.config.get("epochs") or 1
        return total // epochs if isinstance(total, int) and isinstance(epochs, int) and total else None

    @property
    def results(self) -> Mapping[str, Any]:
        """Return the scores and counts."""
        return _mapping(self.header.get("results"))

    @cached_property
    def scores(self) -> dict[InspectScore, float]:
        """Return all scores in the order of the log, without standard errors and other spreads."""
        found = {}
        for part in _mappings(self.results.get("scores")):
            name, reducer = str(part.get("name")), str(part.get("reducer") or "mean")
            for metric, values in _mapping(part.get("metrics")).items():
                value = _mapping(values).get("value")
                if isinstance(value, int | float) and not _SPREADS.fullmatch(metric):
                    found[InspectScore(name, str(part.get("scorer", name)), reducer, metric)] = float(value)
        return found

    def values(self, score: InspectScore) -> dict[str, float]:
        """Return the values of a score by sample. Several epochs of a sample are averaged."""
        if score.reducer == "mean" and self.samples:
            by_sample: dict[str, list[float]] = {}
            for one in self.samples:
                if (number := _number(one.values.get(score.scorer), score.name)) is not None:
                    by_sample.setdefault(one.sample, []).append(number)
            return {sample: sum(numbers) / len(numbers) for sample, numbers in by_sample.items()}
        reduced = self.reductions.get((score.scorer, score.reducer), {})
        numbers_ = {sample: _number(value, score.name) for sample, value in reduced.items()}
        return {sample: number for sample, number in numbers_.items() if number is not None}

    def has_grades(self, score: InspectScore) -> bool:
        """Return whether all values of a score are letters for correct and incorrect, so higher is better."""
        values = [_part(one.values.get(score.scorer), score.name) for one in self.samples]
        known = [value for value in values if _number(value, score.name) is not None]
        return bool(known) and all(isinstance(value, str) and value in _LETTERS for value in known)


def _part(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else value


def _number(value: Any, name: str) -> float | None:
    """Return a value as a number, like `value_to_float` of inspect_ai; None for samples without a value."""
    value = _part(value, name)
    if isinstance(value, str):
        return _LETTERS.get(value, _WORDS.get(value.lower(), _written_number(value)))
    return float(value) if isinstance(value, int | float) and not math.isnan(value) else None


def _written_number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) else 0.0


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
    try:
        values = _parsed(content)
    except ValueError:
        if _NAME.fullmatch(path.name):
            raise
        return None
    return _Parts(values, values.get("samples") or (), values.get("reductions")) if _is_header(values) else None


def _read_archive(path: Path) -> _Parts:
    with ZipFile(path) as archive:
        entries = archive.infolist()
        by_name = {info.filename: info for info in entries}

        def content(name: str) -> Any:
            return _parsed(_entry(path, archive, by_name[name])) if name in by_name else None

        header = content(_HEADER) or content(_START)
        samples = [_parsed(_entry(path, archive, info)) for info in entries if _SAMPLE.fullmatch(info.filename)]
        if not _is_header(header):
            raise ValueError(f"it has no {_HEADER} with a task")
        return _Parts(header, samples or list(_summaries(content(_SUMMARIES))), content(_REDUCTIONS))


def _summaries(values: Any) -> Iterator[dict[str, Any]]:
    """Yield the summaries of samples without their inputs, which are cut."""
    for one in _mappings(values):
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


def _is_header(values: Any) -> bool:
    return isinstance(values, dict) and isinstance(_mapping(values.get("eval")).get("task"), str)


def _entry(path: Path, archive: ZipFile, info: ZipInfo) -> bytes:
    """Return the content of a ZIP entry."""
    if info.compress_type != _ZSTANDARD:
        return archive.read(info)
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)
        name_length, extra_length = struct.unpack("<HH", file.read(4))
        file.seek(name_length + extra_length, 1)
        content = _decompressed(file.read(info.compress_size))
    if zlib.crc32(content) != info.CRC:
        raise ValueError(f"{info.filename} has a wrong checksum")
    return content


def _decompressed(content: bytes) -> bytes:
    import pyarrow

    with pyarrow.CompressedInputStream(pyarrow.BufferReader(content), "zstd") as stream:
        return bytes(stream.read())


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
    found = _mapping(values)
    sample, epoch = found.get("id"), found.get("epoch", 1)
    if not isinstance(sample, str | int) or not isinstance(epoch, int):
        raise ValueError("a sample has no id or no epoch")
    is_valid = found.get("invalidation") is None
    scores = _mapping(found.get("scores")) if is_valid else {}
    return InspectSample(
        sample=str(sample),
        epoch=epoch,
        content=_content(found["input"], _mapping(found.get("attachments"))) if "input" in found else "",
        values={scorer: score.get("value") for scorer, score in scores.items() if isinstance(score, dict)},
        metadata=_mapping(found.get("metadata")),
    )


def _content(given: Any, attachments: Mapping[str, Any]) -> str:
    """Return a hash of the input of a sample. Ids of messages are left out, because they are random."""
    messages = [{key: one[key] for key in one if key != "id"} for one in given] if _is_conversation(given) else given
    text = json.dumps(_resolved(messages, attachments), sort_keys=True)
    return sha256(text.encode()).hexdigest()


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
    return {
        (str(part.get("scorer")), str(part.get("reducer") or "mean")): {
            str(one["sample_id"]): one.get("value") for one in _mappings(part.get("samples")) if "sample_id" in one
        }
        for part in _mappings(values)
    }


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _mappings(values: Any) -> list[Mapping[str, Any]]:
    return [one for one in values if isinstance(one, dict)] if isinstance(values, list) else []
