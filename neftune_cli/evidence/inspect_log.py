"""Content of a log of inspect_ai: its settings, its scores, and the values of its samples."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from neftune_cli.evidence.json_parts import mapping, mappings, number

SUCCESS = "success"
"""Status of a complete evaluation."""

_LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
"""Correct, partially correct, incorrect, no answer."""
_WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
_SPREADS = re.compile(r"(.*_)?(stderr|std|var)(_.*|\d+)?")
"""Metrics of the spread of values, which are no scores."""


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
    """Hash of the input, the choices and the target; empty if the input is unknown."""
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
        return mapping(self.header["eval"])

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
        passed = self.spec.get("task_args_passed")
        return mapping(self.spec.get("task_args") if passed is None else passed)

    @property
    def config(self) -> Mapping[str, Any]:
        """Return the limits, the number of epochs, and other settings of the evaluation."""
        return mapping(self.spec.get("config"))

    @property
    def model_arguments(self) -> Mapping[str, Any]:
        """Return the arguments of the model."""
        return mapping(self.spec.get("model_args"))

    @property
    def model_folder(self) -> str:
        """Return the path of a local model or the name of another one as the name of a folder: `__` separates parts."""
        model = PurePath(str(self.model_arguments.get("model_path") or self.spec.get("model", "")))
        return "__".join(part for part in model.parts if part not in ("/", ".."))

    @property
    def evaluated(self) -> int | None:
        """Return the number of evaluated samples, without repetitions in epochs; None if it is unknown."""
        total = self.results.get("total_samples")
        return total // self.epochs if isinstance(total, int) and total > 0 else None

    @property
    def epochs(self) -> int:
        """Return how often each sample was evaluated."""
        epochs = self.config.get("epochs")
        return epochs if isinstance(epochs, int) and epochs > 0 else 1

    @property
    def results(self) -> Mapping[str, Any]:
        """Return the scores and counts."""
        return mapping(self.header.get("results"))

    @cached_property
    def scores(self) -> dict[InspectScore, float]:
        """Return all scores in the order of the log, without standard errors and other spreads."""
        return {score: value for score, value, _ in self._found()}

    @cached_property
    def _counts(self) -> dict[InspectScore, Any]:
        return {score: count for score, _, count in self._found()}

    def _found(self) -> Iterator[tuple[InspectScore, float, Any]]:
        """Yield each score with its value and the number of samples with a value, which older versions do not log."""
        for part in mappings(self.results.get("scores")):
            name, reducer = str(part.get("name")), str(part.get("reducer") or "mean")
            for metric, values in mapping(part.get("metrics")).items():
                value = number(mapping(values).get("value"))
                if value is not None and not _SPREADS.fullmatch(metric):
                    score = InspectScore(name, str(part.get("scorer", name)), reducer, metric)
                    yield score, value, part.get("scored_samples")

    def values(self, score: InspectScore) -> dict[str, float]:
        """Return the values of a score by sample. Several epochs of a sample are averaged."""
        if score.reducer == "mean" and self.samples:
            by_sample: dict[str, list[float]] = {}
            for one in self.samples:
                if (value := _number(one.values.get(score.scorer), score.name)) is not None:
                    by_sample.setdefault(one.sample, []).append(value)
            return {sample: sum(numbers) / len(numbers) for sample, numbers in by_sample.items()}
        reduced = self.reductions.get((score.scorer, score.reducer), {})
        numbers = {sample: _number(value, score.name) for sample, value in reduced.items()}
        return {sample: value for sample, value in numbers.items() if value is not None}

    def names(self, score: InspectScore) -> set[str]:
        """Return the logged samples with a value, which is a number or not."""
        if score.reducer == "mean" and self.samples:
            return {one.sample for one in self.samples if one.values.get(score.scorer) is not None}
        return set(self.reductions.get((score.scorer, score.reducer), ()))

    def scored(self, score: InspectScore) -> int | None:
        """Return the number of samples that a score is about, without samples that failed; None if it is unknown."""
        count = self._counts.get(score)
        if isinstance(count, int):
            return count
        if self.evaluated is None:
            return None
        failed = {one.sample for one in self.samples} - {one.sample for one in self.samples if one.values}
        return self.evaluated - len(failed)

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
    as_number = number(value)
    return None if as_number is None or math.isnan(as_number) else as_number


def _written_number(text: str) -> float:
    try:
        written = float(text)
    except ValueError:
        return 0.0
    return written if math.isfinite(written) else 0.0
