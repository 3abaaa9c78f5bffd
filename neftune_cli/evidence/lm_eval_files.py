"""Read the files that lm-evaluation-harness (0.4.3 and later) writes with `--output_path` and `--log_samples`.

`<output>/<model>/results_<time>.json` has the scores of all tasks of one call. With `--log_samples`,
`samples_<task>_<time>.jsonl` in the same folder has a line per document and filter. If the output path is
`<folder>/<name>.json`, the results file is `<folder>/<name>_<time>.json`, and the samples are in the same folder.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import from_json

from neftune_cli.errors import Problem, UsageError
from neftune_cli.evidence.run_names import folders_below

_RESULTS = re.compile(r"(?P<name>.+)_(?P<time>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?)\.json")
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
    found = []
    for folder in folders_below(root):
        for file in sorted(folder.files):
            if match := _RESULTS.fullmatch(file):
                path = folder.path / file
                values = _read_results(path, is_required=match["name"] == "results")
                found += [Results(path, match["time"], values)] if values is not None else []
    return found


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

    document: str
    """Hash of the document, or its number if the file has no hashes."""
    number: int
    """Number of the document in its task."""
    filter: str | None
    """None in files from versions before 0.4.7."""
    values: Mapping[str, Any]
    """Metric to the document's value, which is not a number for corpus-level metrics."""
    hashes: tuple[str | None, str | None, str | None]
    """Hash of document, prompt and target."""


def read_samples(results: Results, task: str) -> list[Sample] | None:
    """Return the logged documents of a task in the order of their numbers; None if they were not logged.

    Raises:
        UsageError: a line is not valid, or documents are missing.

    """
    path = results.path.with_name(f"samples_{task}_{results.time}.jsonl")
    if not path.is_file():
        return None
    metrics = {metric for metric, _ in results.scores(task)}
    samples = sorted(_lines(path, metrics), key=lambda sample: sample.number)
    documents, expected = len({sample.number for sample in samples}), results.tasks[task].get("sample_len")
    if isinstance(expected, int) and documents < expected:
        raise UsageError(Problem(f"{path} has {documents} of {expected} documents.", _DAMAGED_FIX))
    return samples


def prompts_digest(samples: Sequence[Sample]) -> str:
    """Return a hash of all documents, prompts and targets, independent of their order."""
    return sha256(_canonical(sorted({str(sample.hashes) for sample in samples})).encode()).hexdigest()


def _lines(path: Path, metrics: Iterable[str]) -> Iterator[Sample]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    sample = _sample(from_json(line, cache_strings="keys"), metrics)
                except ValueError as error:
                    reason, _, _ = str(error).partition(" at line")
                    what = f"{path}: line {number} is not valid ({reason})."
                    raise UsageError(Problem(what, _DAMAGED_FIX)) from None
                yield sample
    except OSError as error:
        raise UsageError(Problem(f"{path} cannot be read: {error.strerror}.", _DAMAGED_FIX)) from None


def _sample(line: Any, metrics: Iterable[str]) -> Sample:
    if not isinstance(line, dict) or not isinstance(number := line.get("doc_id"), int):
        raise ValueError("it has no doc_id")
    return Sample(
        document=str(line.get("doc_hash", number)),
        number=number,
        filter=line.get("filter"),
        values={metric: line[metric] for metric in metrics if metric in line},
        hashes=(line.get("doc_hash"), line.get("prompt_hash"), line.get("target_hash")),
    )


def _canonical(value: Any) -> Any:
    return None if value is None else json.dumps(value, sort_keys=True)
