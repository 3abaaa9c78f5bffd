"""Documents of evaluation logs: scores of several runs over the documents that all of them have."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from neftune_cli.errors import Problem, UsageError
from neftune_cli.evidence.grouping import grouped, with_differences
from neftune_cli.evidence.measurements import MOST_NAMES, Evidence, Floats, ItemValues, Measurements
from neftune_cli.evidence.run_names import RunName, name_runs
from neftune_cli.formatting import counted, listed_at_most
from neftune_cli.metrics import Margin

Weighting = Callable[[Sequence[str]], Floats]
"""Documents -> weight of each in the mean, (documents,)."""

_SAME_MEAN = 1e-6
"""Tolerance, because some scores are averages in single precision."""
_SHARE, _PERCENT = (3, Margin(0.02)), (2, Margin(2.0))
_LARGEST_RATING = 10
"""Largest value of the usual scales of ratings: 1 to 5, and 1 to 10."""
_OTHER = (3, Margin(0.01, relative=True))
_CONTENT_FIX = "Evaluate all runs on the same data set, or compare fewer runs."


@dataclass(frozen=True)
class LoggedScore:
    """One score of one run, with the values of the logged documents."""

    score: float
    """As the tool computed it, over all evaluated documents."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Document to value; empty if documents were not logged, or if a value is not a number."""
    clusters: Mapping[str, str] = field(default_factory=dict)
    """Document to cluster."""
    expected: int | None = None
    """Number of documents that the score is about; None if it is unknown."""
    logged: Collection[str] = ()
    """Logged documents, also those without a value that is a number."""

    @property
    def documents(self) -> set[str]:
        """Return all logged documents."""
        return {*self.logged, *self.values}


class LoggedRun(Protocol):
    """One run of an evaluation tool."""

    @property
    def folder(self) -> Path:
        """Return the folder of its logs."""


@dataclass(frozen=True)
class SharedScore:
    """One score of several runs over the documents that all of them have."""

    scores: tuple[float | None, ...]
    """Score of each run; None if the run has none, or if its score over the shared documents is unknown."""
    items: tuple[ItemValues | None, ...]
    """Values of the shared documents of each run; None without logged documents, or if the score is no mean."""
    left_out: int = 0
    """Number of documents that are not in every run."""
    total: int = 0
    """Number of documents in any run."""
    unlogged: tuple[int, ...] = ()
    """Indices of the runs whose score over the shared documents is unknown, because they logged no values."""

    @property
    def is_mean(self) -> bool:
        """Return whether the score is known to be a mean over documents."""
        return any(values is not None for values in self.items)


def equal_weights(documents: Sequence[str]) -> Floats:
    """Return the weights of a mean over documents."""
    return np.ones(len(documents))


def equal_task_weights(documents: Sequence[str]) -> Floats:
    """Return the weights of a mean over tasks. The ids of documents are `task/document`."""
    tasks = [document.rpartition("/")[0] for document in documents]
    sizes = Counter(tasks)
    return np.array([1 / sizes[task] for task in tasks])


def over_shared_documents(runs: Sequence[LoggedScore | None], weighting: Weighting = equal_weights) -> SharedScore:
    """Return one score of several runs over the documents that all of them have.

    Logs do not name the aggregation of every score. A score is a mean over documents if the mean of the logged values
    is equal to it in at least one run, and in every run with a complete log. A perplexity or a corpus BLEU differs from
    the mean of the logged values. If documents are left out, a mean is computed again from the others, which is not
    possible for a run without logged values.
    """
    known = [run for run in runs if run is not None]
    with_values = [run for run in known if run.values]
    in_any = {document for run in known for document in run.documents}
    total = max([len(in_any), *(run.expected or 0 for run in known)])
    if not with_values or not _is_mean(with_values, len(in_any), weighting):
        return _over_all_documents(runs, in_any, total)
    shared = [document for document in with_values[0].values if all(document in run.values for run in with_values)]
    items = tuple(_items(run, shared, weighting) if run and run.values and shared else None for run in runs)
    if len(shared) == total:
        return SharedScore(_as_logged(runs), items, 0, total)
    unlogged = tuple(index for index, run in enumerate(runs) if run and not run.values)
    return SharedScore(tuple(map(_mean, items)), items, total - len(shared), total, unlogged)


def _over_all_documents(runs: Sequence[LoggedScore | None], in_any: Collection[str], total: int) -> SharedScore:
    """Return a score that is no mean over documents, if the runs were evaluated on the same documents."""
    known = [run for run in runs if run is not None]
    logs = [run.documents for run in known if run.documents]
    left_out = total - len(set.intersection(*logs)) if logs else 0
    is_same = not left_out or _were_evaluated_alike(known, len(in_any))
    return SharedScore(_as_logged(runs) if is_same else (None,) * len(runs), (None,) * len(runs), left_out, total)


def _as_logged(runs: Sequence[LoggedScore | None]) -> tuple[float | None, ...]:
    return tuple(run.score if run else None for run in runs)


def _is_mean(logged: Sequence[LoggedScore], in_any: int, weighting: Weighting) -> bool:
    means = [_mean(_items(run, list(run.values), weighting)) for run in logged]
    equal = [_are_close(mean, run.score) for mean, run in zip(means, logged, strict=True)]
    lacking = [len(run.values) < (in_any if run.expected is None else run.expected) for run in logged]
    return any(equal) and all(one or other for one, other in zip(equal, lacking, strict=True))


def _are_close(mean: float | None, score: float) -> bool:
    return mean is not None and math.isclose(mean, score, rel_tol=_SAME_MEAN, abs_tol=_SAME_MEAN)


def _were_evaluated_alike(runs: Sequence[LoggedScore], in_any: int) -> bool:
    """Return whether documents differ only because they are missing in logs, not because of other evaluations."""
    expected = {run.expected for run in runs}
    return len(expected) == 1 and any(
        run.expected and len(run.documents) < run.expected >= in_any for run in runs if run.documents
    )


def _items(run: LoggedScore, documents: Sequence[str], weighting: Weighting) -> ItemValues:
    return ItemValues(
        items=tuple(documents),
        clusters=tuple(run.clusters.get(document, document) for document in documents),
        values=np.array([run.values[document] for document in documents], dtype=np.float64),
        weights=weighting(documents),
    )


def _mean(values: ItemValues | None) -> float | None:
    return None if values is None else float(np.average(values.values, weights=values.weights))


Run = TypeVar("Run", bound=LoggedRun)
Contents = Sequence[tuple[Path, Mapping[str, str]]]
"""Logs of one task, and a hash of each document with a known content by its id."""


def evidence_by_setting(
    root: Path,
    runs: Sequence[Run],
    comparable: Callable[[Run, Run], bool],
    contents: Callable[[Sequence[Run]], Mapping[str, Contents]],
    build: Callable[[Path, Sequence[Run], Mapping[Path, RunName]], Evidence],
    item: str,
) -> list[Evidence]:
    """Return the evidence of each group of comparable runs, the largest group first.

    Args:
        root: folder of the runs.
        runs: runs of one tool.
        comparable: whether two runs have the same setting.
        contents: contents of the logs of a group by task.
        build: returns the evidence of a group, whose runs are in the order of their names.
        item: noun for a document.

    Raises:
        UsageError: documents of comparable runs differ in content, or the arm or seed of a run is unknown.
    """
    groups = grouped(runs, comparable)
    names = name_runs([[run.folder for run in group] for group in groups], root)
    logged = (of_task for group in groups for of_task in contents(group).items())
    if problems := [problem for task, of_runs in logged for problem in _differing_contents(task, of_runs, item)]:
        raise UsageError(*problems)
    in_order = (sorted(group, key=lambda run: names[run.folder].order) for group in groups)
    return with_differences([build(root, group, names) for group in in_order])


def _differing_contents(task: str, runs: Contents, item: str) -> Iterator[Problem]:
    """Yield a problem for each run that has another content under the id of a document than an earlier run."""
    seen: dict[str, tuple[Path, str]] = {}
    for path, contents in runs:
        other = [
            document
            for document, content in contents.items()
            if seen.setdefault(document, (path, content))[1] != content
        ]
        if other:
            ids, first = listed_at_most(other, MOST_NAMES), seen[other[0]][0]
            these = f"{item} {ids} has" if len(other) == 1 else f"{counted(len(other), item)} ({ids}) have"
            yield Problem(f"{path}: {these} different content from {first}, in task {task}.", _CONTENT_FIX)


def check_duplicates(path: Path, documents: Sequence[str], document: str) -> None:
    """Check that no document occurs twice in a log.

    Raises:
        UsageError: documents occur several times.
    """
    double = [one for one, times in Counter(documents).items() if times > 1]
    if double:
        ids = listed_at_most(double, MOST_NAMES)
        what = f"{path}: {document} {ids} {'occurs' if len(double) == 1 else 'occur'} several times."
        raise UsageError(Problem(what, "Remove the repeated entries, or evaluate again."))


def notes_on_documents(
    by_task: Mapping[str, Mapping[str, SharedScore]],
    document: str,
    runs: Sequence[RunName],
    without: Collection[str] = (),
) -> Iterator[str]:
    """Yield notes on documents that were left out, and on scores that are not compared because of them.

    Args:
        by_task: task to name of a metric to its scores.
        document: noun for a document.
        runs: names of the runs.
        without: groups of tasks. Their documents are counted with their tasks.
    """
    fewest = {
        task: max(used, key=lambda score: score.left_out)
        for task, scores in by_task.items()
        if task not in without and (used := [score for score in scores.values() if score.is_mean and score.left_out])
    }
    yield from _left_out(fewest, document)
    yield from _not_logged(fewest, document, runs)
    known = [(name, score) for scores in by_task.values() for name, score in scores.items()]
    if separate := [name for name, score in known if score.left_out and all(value is None for value in score.scores)]:
        listing = listed_at_most(separate, MOST_NAMES)
        yield f"Not compared, because the runs were evaluated on different {document}s: {listing}."
    if unused := [name for name, score in known if score.left_out and not score.is_mean and name not in separate]:
        listing = listed_at_most(unused, MOST_NAMES)
        yield f"No log of these scores has every {document}, so their intervals are over seeds only: {listing}."


def _left_out(tasks: Mapping[str, SharedScore], document: str) -> Iterator[str]:
    counts = {
        task: f"{score.left_out:,} of {counted(score.total, document)} of {task}" for task, score in tasks.items()
    }
    if in_all := [counts[task] for task, score in tasks.items() if not score.unlogged]:
        listing = listed_at_most(in_all, MOST_NAMES)
        yield f"Left out in all runs, because they are not in every run: {listing}."
    if in_logged := [counts[task] for task, score in tasks.items() if score.unlogged]:
        where = f"Left out in all runs with logged {document}s, because they are not in each of these runs"
        yield f"{where}: {listed_at_most(in_logged, MOST_NAMES)}."


def _not_logged(tasks: Mapping[str, SharedScore], document: str, runs: Sequence[RunName]) -> Iterator[str]:
    """Yield a note for each set of runs that have no score over the shared documents."""
    by_runs: dict[tuple[int, ...], list[str]] = {}
    for task, score in tasks.items():
        by_runs.setdefault(score.unlogged, []).append(task)
    for indices, of_runs in by_runs.items():
        names = listed_at_most([runs[index].label for index in indices], MOST_NAMES, separator="; ")
        whose = "Its" if len(indices) == 1 else "Their"
        why = f"{whose} {document}s were not logged, so the same {document}s cannot be left out"
        if indices:
            yield f"Not compared in {listed_at_most(of_runs, MOST_NAMES)}: {names}. {why}."


def shared_measurements(
    runs: Sequence[LoggedRun], names: Mapping[Path, RunName], shared: Mapping[str, SharedScore]
) -> tuple[Measurements, ...]:
    """Return the measurements of each run.

    Args:
        runs: the runs.
        names: folder to arm and seed.
        shared: metric key to the scores of the runs, in the same order.
    """
    return tuple(
        Measurements(
            trial_id=str(run.folder),
            arm=names[run.folder].arm,
            alpha=names[run.folder].alpha,
            seed=names[run.folder].seed,
            scores={key: score.scores[index] for key, score in shared.items()},
            items={key: values for key, score in shared.items() if (values := score.items[index]) is not None},
            held_out_by_epoch={},
        )
        for index, run in enumerate(runs)
    )


def decimals_and_margin(values: Sequence[float], *, higher: bool | None) -> tuple[int, Margin]:
    """Return decimals and margin of a metric. Its values show whether it is a share or a percentage.

    A metric whose largest value is above 1 and not above 10 can be a rating, so it is neither of them.
    """
    known = [value for value in values if math.isfinite(value)]
    largest = max(known, default=0.0)
    if not higher or any(not 0 <= value <= 100 for value in known) or 1 < largest <= _LARGEST_RATING:
        return _OTHER
    return _PERCENT if largest > 1 else _SHARE
