"""Keeping settings apart that were found together: who may be compared with whom, and a sentence on what differs."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from neftune_cli.evidence.measurements import Evidence, Setting

Run = TypeVar("Run")

_MOST_PARTS = 4
_HASH = re.compile(r"[0-9a-f]{32,}")


def grouped(runs: Sequence[Run], comparable: Callable[[Run, Run], bool]) -> list[list[Run]]:
    """Return the runs in groups of which any two are comparable, the largest group first."""
    groups: list[list[Run]] = []
    for run in runs:
        home = next((group for group in groups if all(comparable(member, run) for member in group)), None)
        if home is None:
            groups.append([run])
        else:
            home.append(run)
    return sorted(groups, key=len, reverse=True)


def agree(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two settings are the same as far as both are known."""
    here, there = dict(_flat(one)), dict(_flat(other))
    return all(here[part] == there[part] for part in here.keys() & there.keys())


def told_apart(evidence: Sequence[Evidence]) -> list[Evidence]:
    """Give settings of one name numbers, and say of each but the first by what it differs from the first."""
    names = [one.name for one in evidence]
    numbered = [
        replace(one, name=f"{one.name}, part {names[: place + 1].count(one.name)}")
        if names.count(one.name) > 1
        else one
        for place, one in enumerate(evidence)
    ]
    return [*numbered[:1], *(replace(one, apart=_difference(numbered[0], one)) for one in numbered[1:])]


def _difference(first: Evidence, other: Evidence) -> str:
    parts = _parts(first.setting, other.setting) or ["the recipe"]
    more = f" and {len(parts) - _MOST_PARTS} more" if len(parts) > _MOST_PARTS else ""
    listed = "; ".join(parts[:_MOST_PARTS]) + more
    return f"Not compared with {first.name}, because more than the noise differs: {listed}."


def _parts(first: Setting, other: Setting) -> list[str]:
    """Return what differs among the parts that both have; what several sections have alike is said once."""
    here, there = dict(_flat(other.shared)), dict(_flat(first.shared))
    sections: dict[str, list[str]] = {}
    for (section, part), value in there.items():
        if here.get((section, part), value) != value:
            sections.setdefault(_words(part, here[section, part], value), []).append(section)
    return [f"{of[0]}: {words}" if len(of) == 1 and of[0] else words for words, of in sections.items()]


def _words(part: str, here: Any, there: Any) -> str:
    if any(_HASH.fullmatch(str(value)) for value in (here, there)):
        return f"other {part}"
    if here == there:
        return f"{part} {here} with other content"
    return f"{part} {'none' if here is None else here} instead of {'none' if there is None else there}"


def _flat(values: Mapping[str, Any], section: str = "") -> Iterator[tuple[tuple[str, str], Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, key)
        else:
            yield (section, key), value
