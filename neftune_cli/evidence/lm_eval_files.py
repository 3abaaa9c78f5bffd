"""Read the files that lm-evaluation-harness (0.4.0 and later) writes with `--output_path` and `--log_samples`.

`<output>/<model>/results_<time>.json` has the scores of all tasks of one call. With `--log_samples`,
`samples_<task>_<time>.jsonl` in the same folder has a line per document and filter. If the output path is
`<folder>/<name>.json`, the results file is `<folder>/<name>_<time>.json`, and the samples are in the same folder.
Versions before 0.4.3 write `<output>/results.json` and `<output>/<model arguments>_<task>.jsonl`, a JSON list.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import from_json

from neftune_cli.errors import Problem, UsageError
from neftune_cli.evidence.folders import folders_below
from neftune_cli.evidence.json_parts import check_kinds, mapping, number
from neftune_cli.evidence.logged_documents import check_duplicates
from neftune_cli.records import scores_in_entry

_RESULTS = re.compile(r"(?P<name>.+)_(?P<time>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)\.json")
_OLD_RESULTS = "results.json"
_PARTS = ("versions", "configs")
"""Parts of each results file. Files of other tools have the same names."""
_KINDS: Mapping[str, type] = {
    "config": dict,
    "configs": dict,
    "configs.*": dict,
    "group_subtasks": dict,
    "group_subtasks.*": list,
    "group_subtasks.*.*": str,
    "higher_is_better": dict,
    "higher_is_better.*": dict,
    "higher_is_better.*.*": bool,
    "n-samples": dict,
    "n-samples.*": dict,
    "n-shot": dict,
    "results": dict,
    "results.*": dict,
    "versions": dict,
}
_LINE_KINDS: Mapping[str, type] = {"filter": str, "doc_hash": str, "prompt_hash": str, "target_hash": str}

_DAMAGED_FIX = "Evaluate again, or remove the file."


@dataclass(frozen=True)
class Results:
    """One results file: the scores of one evaluation."""

    path: Path
    time: str
    """Empty in files of versions before 0.4.3."""
    values: Mapping[str, Any]

    @cached_property
    def tasks(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the scores and further fields of each task and task group."""
        return {task: mapping(scores) for task, scores in mapping(self.values.get("results")).items()}

    def scores(self, task: str) -> dict[tuple[str, str], float]:
        """Return the scores of a task or group: (metric, filter) to value."""
        return {
            (metric, filter_): score
            for metric, filter_, value in scores_in_entry(self.tasks[task])
            if (score := number(value)) is not None
        }

    def of(self, part: str, task: str) -> Any:
        """Return the entry of a task in a part of the file, such as `n-shot`; None if there is no entry."""
        return mapping(self.values.get(part)).get(task)

    def subtasks(self, group: str) -> list[str]:
        """Return the tasks and groups in a group; empty for a task."""
        found: list[str] | None = self.of("group_subtasks", group)
        return found or []

    def leaves(self, group: str) -> list[str]:
        """Return the tasks in a group and in its groups; a task itself."""
        found, ahead = [], [group]
        while ahead:
            task = ahead.pop(0)
            subtasks = self.subtasks(task)
            ahead = [*subtasks, *ahead]
            found += [] if subtasks else [task]
        return found

    def documents(self, task: str) -> int | None:
        """Return the number of evaluated documents of a task; None if it is unknown."""
        found = mapping(self.of("n-samples", task)).get("effective")
        found = self.tasks[task].get("sample_len") if found is None else found
        return found if isinstance(found, int) else None

    def samples_path(self, task: str) -> Path:
        """Return the path of the logged documents of a task."""
        if self.time:
            return self.path.parent / f"samples_{task}_{self.time}.jsonl"
        arguments = re.sub("[/=]", "__", str(self.config.get("model_args")))
        return self.path.parent / f"{arguments}_{task}.jsonl"

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """Return the configuration of the model call."""
        return mapping(self.values.get("config"))

    @cached_property
    def model_arguments(self) -> Mapping[str, Any]:
        """Return the model arguments: name to value."""
        written = self.config.get("model_args")
        if isinstance(written, str):
            return dict(piece.split("=", 1) for piece in written.split(",") if "=" in piece)
        return mapping(written)

    @property
    def adapted_model(self) -> str | None:
        """Return the base model of adapters; None without adapters, because then every run has a different model."""
        arguments = self.model_arguments
        return str(arguments.get("pretrained")) if "peft" in arguments or "delta" in arguments else None


def find_results(root: Path) -> list[Results]:
    """Return the results at and below a folder, ordered by folder and time.

    Raises:
        UsageError: a results file is not valid.
    """
    return [
        results
        for folder in folders_below(root)
        for file in sorted(folder.files)
        if (results := _results(folder.path / file))
    ]


def _results(path: Path) -> Results | None:
    """Return a results file; None if the name or the content is of another kind."""
    match = _RESULTS.fullmatch(path.name)
    if match:
        values = _read_results(path, is_required=match["name"] == "results")
        return Results(path, match["time"], values) if values is not None else None
    old = _read_results(path, is_required=False) if path.name == _OLD_RESULTS else None
    return Results(path, "", old) if old is not None and all(part in old for part in _PARTS) else None


def _read_results(path: Path, *, is_required: bool) -> Mapping[str, Any] | None:
    """Return the content of a results file; None if a file with a similar name has another format."""
    try:
        values = from_json(path.read_bytes())
    except OSError as error:
        raise UsageError(Problem(f"{path} cannot be read: {error.strerror}.", _DAMAGED_FIX)) from None
    except ValueError as error:
        if not is_required:
            return None
        raise UsageError(Problem(f"{path} is not valid ({error}).", _DAMAGED_FIX)) from None
    found = mapping(values)
    keys = [key for scores in mapping(found.get("results")).values() for key in mapping(scores)]
    if not any("," in key for key in keys) and not all(part in found for part in _PARTS):
        return None
    _check(path, found)
    return found


def _check(path: Path, values: Mapping[str, Any]) -> None:
    try:
        check_kinds(values, _KINDS)
        if not values.get("results"):
            raise ValueError("it has no results")
        _check_groups(mapping(values.get("group_subtasks")))
    except ValueError as error:
        raise UsageError(Problem(f"{path} is not valid ({error}).", _DAMAGED_FIX)) from None


def _check_groups(groups: Mapping[str, Any]) -> None:
    """Check that no group contains itself, also not through other groups."""
    for group in groups:
        inside, ahead = set(), [group]
        while ahead:
            new = {task for task in groups.get(ahead.pop()) or () if task not in inside}
            inside |= new
            ahead += new
        if group in inside:
            raise ValueError(f"group_subtasks.{group} contains the group itself")


class Sample(NamedTuple):
    """One document of a task after one filter."""

    number: int
    """Number of the document in its task."""
    filter: str
    values: Mapping[str, Any]
    """Metric to the document's value, which is not a number for corpus-level metrics."""
    content: str | None
    """Hash of the document; None in files of versions before 0.4.3."""
    prompt: tuple[str | None, str | None]
    """Hash of prompt and target."""

    @property
    def document(self) -> str:
        """Return the id of the document in its task."""
        return str(self.number)


def read_samples(results: Results, task: str) -> list[Sample] | None:
    """Return the logged documents of a task in the order of their numbers; None if they were not logged.

    Raises:
        UsageError: a line is not valid, or a document occurs twice with the same filter.
    """
    path = results.samples_path(task)
    if not _is_file(path):
        return None
    scores = results.scores(task)
    metrics, filters = {metric for metric, _ in scores}, list(dict.fromkeys(filter_ for _, filter_ in scores))
    samples = sorted(_samples(path, metrics, filters), key=lambda sample: sample.number)
    for filter_ in dict.fromkeys(sample.filter for sample in samples):
        check_duplicates(path, [one.document for one in samples if one.filter == filter_], "doc_id")
    return samples


def read_in_memory(scores: Path, documents: Path) -> tuple[Results, dict[str, list[Sample]]]:
    """Return the scores and the documents by task of a model that a trial evaluated in memory.

    Args:
        scores: file with the parts of a results file.
        documents: file with the samples of all tasks, each with the field `task`.

    Raises:
        UsageError: a file is not valid.
    """
    values = _read_results(scores, is_required=True)
    results = Results(scores, "", values or {})
    samples: dict[str, list[Sample]] = {}
    for place, line in _lines(documents):
        try:
            check_kinds(line, {"task": str})
            task = line.get("task")
            if task not in results.tasks:
                raise ValueError("it is of no task in " + scores.name)
            samples.setdefault(task, []).append(_sample(line, {metric for metric, _ in results.scores(task)}, ""))
        except ValueError as error:
            raise UsageError(_invalid(documents, place, error)) from None
    return results, samples


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the name of the task or of the model is too long for a file
        return False


def _samples(path: Path, metrics: Iterable[str], filters: Sequence[str]) -> Iterator[Sample]:
    """Yield the samples of a file.

    Versions before 0.4.7 do not name the filter. They log all documents once for each filter, in the order of filters.
    """
    times: Counter[int] = Counter()
    for place, line in _lines(path):
        try:
            sample = _sample(line, metrics, filters[times[_doc_id(line)] % len(filters)] if filters else "")
        except ValueError as error:
            raise UsageError(_invalid(path, place, error)) from None
        times[sample.number] += 1
        yield sample


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the number and the content of each line, or of each entry of a list."""
    try:
        with path.open("rb") as file:
            if file.read(1) == b"[":
                yield from enumerate(_parsed(path, 1, b"[" + file.read()), start=1)
                return
            file.seek(0)
            for place, line in enumerate(file, start=1):
                if not line.isspace():
                    yield place, _parsed(path, place, line)
    except OSError as error:
        raise UsageError(Problem(f"{path} cannot be read: {error.strerror}.", _DAMAGED_FIX)) from None


def _parsed(path: Path, place: int, text: bytes) -> Any:
    try:
        return from_json(text, cache_strings="keys")
    except ValueError as error:
        raise UsageError(_invalid(path, place, error)) from None


def _invalid(path: Path, place: int, error: ValueError) -> Problem:
    reason, _, _ = str(error).partition(" at line")
    return Problem(f"{path}: line {place} is not valid ({reason}).", _DAMAGED_FIX)


def _doc_id(line: Any) -> int:
    number = line.get("doc_id") if isinstance(line, dict) else None
    if not isinstance(number, int):
        raise ValueError("it has no doc_id")
    return number


def _sample(line: Any, metrics: Iterable[str], filter_: str) -> Sample:
    document = _doc_id(line)
    check_kinds(line, _LINE_KINDS)
    return Sample(
        number=document,
        filter=line.get("filter") or filter_,
        values={metric: line[metric] for metric in metrics if line.get(metric) is not None},
        content=line.get("doc_hash"),
        prompt=(line.get("prompt_hash"), line.get("target_hash")),
    )
