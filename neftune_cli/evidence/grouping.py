"""Grouping of runs by their settings, and the differences between the groups in sentences."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from neftune_cli.evidence.measurements import Evidence, Measurements, Setting
from neftune_cli.formatting import counted, listed, listed_at_most

RunType = TypeVar("RunType")

_MOST_PARTS = 4
_HASH = re.compile(r"[0-9a-f]{32,}")


def grouped(runs: Sequence[RunType], comparable: Callable[[RunType, RunType], bool]) -> list[list[RunType]]:
    """Return groups of pairwise comparable runs, the largest group first."""
    groups: list[list[RunType]] = []
    for run in runs:
        matching = next((group for group in groups if all(comparable(member, run) for member in group)), None)
        if matching is None:
            groups.append([run])
        else:
            matching.append(run)
    return sorted(groups, key=len, reverse=True)


def agree(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two settings agree in all parts that are known for both."""
    parts, other_parts = dict(_flat(one)), dict(_flat(other))
    return all(parts[part] == other_parts[part] for part in parts.keys() & other_parts.keys())


def without_parts(shared: Mapping[str, Any], tasks: Iterable[str], parts: Collection[str]) -> dict[str, Any]:
    """Return the settings of tasks without these parts, for the tasks whose logged samples show them themselves.

    Args:
        shared: the settings, those of a task as a mapping under its name.
        tasks: names of the tasks to shorten.
        parts: names of settings of a task.
    """
    kept = {task: {part: value for part, value in shared[task].items() if part not in parts} for task in tasks}
    return {**shared, **kept}


def note_on_repeated_trials(trials: Iterable[tuple[str, Measurements]]) -> str:
    """Return a sentence on the trained trials that several sweeps have, "" if there are none.

    Args:
        trials: name of its sweep, and measurements of each trial.
    """
    sweeps: dict[str, dict[str, Measurements]] = {}
    for sweep, one in trials:
        if not one.is_base:
            sweeps.setdefault(one.trial_id, {})[sweep] = one
    repeated = [found for found in sweeps.values() if len(found) > 1]
    if not repeated:
        return ""
    one, *_ = repeated[0].values()
    return (
        f"{counted(len(repeated), 'trial')} with equal results in several sweeps, for example {one.arm}, seed "
        f"{one.seed} in {listed(list(repeated[0]))}: each counts once."
    )


def with_differences(evidence: Sequence[Evidence]) -> list[Evidence]:
    """Return the evidence with a number in each name that occurs twice, and with the differences from the first."""
    names = [one.name for one in evidence]
    numbered = [
        replace(one, name=f"{one.name}, part {names[: index + 1].count(one.name)}")
        if names.count(one.name) > 1
        else one
        for index, one in enumerate(evidence)
    ]
    return [*numbered[:1], *(replace(one, difference_from_first=_difference(numbered[0], one)) for one in numbered[1:])]


def with_deciding_one(evidence: Sequence[Evidence]) -> list[Evidence]:
    """Mark the evidence of further settings of a sweep: planned looks are taken of the first one with a trained arm."""
    marked, decided = [], set()
    for one in evidence:
        marked.append(replace(one, origin=replace(one.origin, decides_looks=one.origin.folders not in decided)))
        if any(not trial.is_base for trial in one.trials):
            decided.add(one.origin.folders)
    return marked


def _difference(first: Evidence, other: Evidence) -> str:
    if first.setting == other.setting:
        return f"Not compared with {first.name}: single training runs and sweeps are compared separately."
    parts = _parts(first.setting, other.setting) or ["the recipe"]
    differences = listed_at_most(parts, _MOST_PARTS, separator="; ")
    return f"Not compared with {first.name}, because more than the noise differs: {differences}."


def _parts(first: Setting, other: Setting) -> list[str]:
    """Return the differences in parts that both settings have. A difference that several sections share occurs once."""
    values, first_values = dict(_flat(other.shared)), dict(_flat(first.shared))
    sections: dict[str, list[str]] = {}
    for (section, part), first_value in first_values.items():
        if values.get((section, part), first_value) != first_value:
            sections.setdefault(_part(part, values[section, part], first_value), []).append(section)
    return [f"{of[0]}: {text}" if len(of) == 1 and of[0] else text for text, of in sections.items()]


def _part(part: str, value: Any, first_value: Any) -> str:
    if any(_HASH.fullmatch(str(one)) for one in (value, first_value)):
        return f"different {part}"
    return f"{part} {'none' if value is None else value} instead of {'none' if first_value is None else first_value}"


def _flat(values: Mapping[str, Any], section: str = "") -> Iterator[tuple[tuple[str, str], Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, key)
        else:
            yield (section, key), value
