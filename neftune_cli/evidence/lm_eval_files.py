"""Read the files that lm-evaluation-harness (0.4.0 and later) writes with `--output_path` and `--log_samples`.

`<output>/<model>/results_<time>.json` has the scores of all tasks of one call. With `--log_samples`,
`samples_<task>_<time>.jsonl` in the same folder has a line per document and filter. If the output path is
`<folder>/<name>.json`, the results file is `<folder>/<name>_<time>.json`, and the samples are in the same folder.
Versions before 0.4.3 write `<output>/results.json` and `<output>/<model arguments>_<task>.jsonl`, a JSON list.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import from_json

from neftune_cli.errors import Problem, UsageError
from neftune_cli.evidence.documents import check_duplicates
from neftune_cli.evidence.run_names import folders_below

_RESULTS = re.compile(r"(?P<name>.+)_(?P<time>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)\.json")
_OLD_RESULTS = "results.json"
_OLD_PARTS = ("versions", "configs")
"""Parts of each results file of versions before 0.4.3. Files of other tools have the same name."""
_MODEL_ARGUMENTS = ("dtype", "max_length", "add_bos_token", "load_in_8bit", "load_in_4bit", "enable_thinking")
"""Model arguments that can change responses. Most other arguments name the model or its device."""

_NO_METRIC = "bypass"
"""Name of the placeholder score of tasks without metrics, which only generate responses."""

_DAMAGED_FIX = "Evaluate again, or remove the file."


@dataclass(frozen=True)
class Results:
    """One results file: the scores of one evaluation."""

    path: Path
    time: str
    """Empty in files of versions before 0.4.3."""
    values: Mapping[str, Any]

    @property
    def tasks(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the scores and further fields of each task and task group."""
        found: Mapping[str, Mapping[str, Any]] = self.values["results"]
        return found

    def scores(self, task: str) -> dict[tuple[str, str], float]:
        """Return the scores of a task or group: (metric, filter) to value."""
        return {
            (metric, filter_): float(score)
            for key, score in self.tasks[task].items()
            if isinstance(score, int | float)
            for metric, comma, filter_ in [key.partition(",")]
            if comma and not metric.endswith("_stderr") and metric != _NO_METRIC
        }

    def of(self, part: str, task: str) -> Any:
        """Return the entry of a task in a part of the file, such as `n-shot`; None if there is no entry."""
        found = self.values.get(part)
        return found.get(task) if isinstance(found, Mapping) else None

    def documents(self, task: str) -> int | None:
        """Return the number of evaluated documents of a task; None if it is unknown."""
        counts = self.of("n-samples", task)
        found = counts.get("effective") if isinstance(counts, Mapping) else None
        found = self.tasks[task].get("sample_len") if found is None else found
        return found if isinstance(found, int) else None

    def samples_path(self, task: str) -> Path:
        """Return the path of the logged documents of a task."""
        if self.time:
            return self.path.with_name(f"samples_{task}_{self.time}.jsonl")
        arguments = re.sub("[/=]", "__", str(self.config.get("model_args")))
        return self.path.with_name(f"{arguments}_{task}.jsonl")

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """Return the configuration of the model call."""
        found = self.values.get("config")
        return found if isinstance(found, Mapping) else {}

    @cached_property
    def model_arguments(self) -> Mapping[str, Any]:
        """Return the model arguments: name to value."""
        written = self.config.get("model_args")
        if isinstance(written, str):
            return dict(piece.split("=", 1) for piece in written.split(",") if "=" in piece)
        return written if isinstance(written, Mapping) else {}

    @property
    def adapted_model(self) -> str | None:
        """Return the base model of adapters; None without adapters, because then every run has a different model."""
        arguments = self.model_arguments
        return str(arguments.get("pretrained")) if "peft" in arguments or "delta" in arguments else None

    @cached_property
    def calling(self) -> Mapping[str, Any]:
        """Return the settings of the call that can change the scores of all tasks."""
        return {
            "backend": self.config.get("model"),
            "dtype": self.config.get("model_dtype"),
            "limit": self.config.get("limit"),
            "generation arguments": _canonical(self.config.get("gen_kwargs") or None),
            "few-shot seed": self.config.get("fewshot_seed"),
            "chat template": self.values.get("chat_template_sha"),
            "system instruction": self.values.get("system_instruction_sha"),
            "few-shot turns": self.values.get("fewshot_as_multiturn"),
            **({"model": self.adapted_model} if self.adapted_model else {}),
            **{name: self.model_arguments[name] for name in _MODEL_ARGUMENTS if name in self.model_arguments},
        }


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
    return Results(path, "", old) if old is not None and all(part in old for part in _OLD_PARTS) else None


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
    tasks = values.get("results") if isinstance(values, dict) else None
    is_valid = isinstance(tasks, dict) and all(isinstance(scores, dict) for scores in tasks.values())
    return values if is_valid else None


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
    if not path.is_file():
        return None
    scores = results.scores(task)
    metrics, filters = {metric for metric, _ in scores}, list(dict.fromkeys(filter_ for _, filter_ in scores))
    samples = sorted(_samples(path, metrics, filters), key=lambda sample: sample.number)
    for filter_ in dict.fromkeys(sample.filter for sample in samples):
        check_duplicates(path, [one.document for one in samples if one.filter == filter_], "doc_id")
    return samples


def prompts_digest(samples: Sequence[Sample]) -> str:
    """Return a hash of all documents, prompts and targets, independent of their order."""
    hashes = {str((sample.content, *sample.prompt)) for sample in samples}
    return sha256(json.dumps(sorted(hashes)).encode()).hexdigest()


def _samples(path: Path, metrics: Iterable[str], filters: Sequence[str]) -> Iterator[Sample]:
    """Yield the samples of a file.

    Versions before 0.4.7 do not name the filter. They log all documents once for each filter, in the order of filters.
    """
    times: Counter[int] = Counter()
    for number, line in _lines(path):
        try:
            sample = _sample(line, metrics, filters[times[_doc_id(line)] % len(filters)] if filters else "")
        except ValueError as error:
            raise UsageError(_invalid(path, number, error)) from None
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
            for number, line in enumerate(file, start=1):
                yield number, _parsed(path, number, line)
    except OSError as error:
        raise UsageError(Problem(f"{path} cannot be read: {error.strerror}.", _DAMAGED_FIX)) from None


def _parsed(path: Path, number: int, text: bytes) -> Any:
    try:
        return from_json(text, cache_strings="keys")
    except ValueError as error:
        raise UsageError(_invalid(path, number, error)) from None


def _invalid(path: Path, number: int, error: ValueError) -> Problem:
    reason, _, _ = str(error).partition(" at line")
    return Problem(f"{path}: line {number} is not valid ({reason}).", _DAMAGED_FIX)


def _doc_id(line: Any) -> int:
    number = line.get("doc_id") if isinstance(line, dict) else None
    if not isinstance(number, int):
        raise ValueError("it has no doc_id")
    return number


def _sample(line: Any, metrics: Iterable[str], filter_: str) -> Sample:
    return Sample(
        number=_doc_id(line),
        filter=line.get("filter") or filter_,
        values={metric: line[metric] for metric in metrics if metric in line},
        content=line.get("doc_hash"),
        prompt=(line.get("prompt_hash"), line.get("target_hash")),
    )


def _canonical(value: Any) -> Any:
    return None if value is None else json.dumps(value, sort_keys=True)
