"""Content of `sweep.yaml` and `manifest.json`, read for the checklist: what is missing or damaged is unknown."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml


@dataclass(frozen=True)
class RunFiles:
    """Content of the files of the compared sweeps; empty for runs of other tools, and where a file is damaged."""

    specs: tuple[Mapping[str, Any], ...] = ()
    manifests: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def read(cls, specs: Sequence[str] = (), manifests: Sequence[str] = ()) -> "RunFiles":
        """Return the content of the texts of `sweep.yaml` and of `manifest.json`."""
        return cls(tuple(_mappings(specs, _of_yaml)), tuple(_mappings(manifests, _of_json)))

    def known(self, *path: str) -> list[Any]:
        """Return the different values at a path in the manifests, in their order."""
        found: list[Any] = []
        for manifest in self.manifests:
            value: Any = manifest
            for key in path:
                value = value.get(key) if isinstance(value, Mapping) else None
            if value is not None and value not in found:
                found.append(value)
        return found

    @property
    def arms(self) -> list[Mapping[str, Any]]:
        """Return the arms that the specs declare."""
        declared = (spec.get("arms") for spec in self.specs)
        return [arm for arms in declared if isinstance(arms, list) for arm in arms if isinstance(arm, Mapping)]

    def arms_with(self, field: str) -> list[str]:
        """Return the names of the declared arms that override a field."""
        return [str(arm.get("name")) for arm in self.arms if arm.get(field)]

    def numbers(self, key: str) -> list[float]:
        """Return a finite number of each finished trial in the manifests, such as `seconds`."""
        return [value for (value,) in self.rows(key)]

    def rows(self, *keys: str) -> list[tuple[float, ...]]:
        """Return finite numbers of each finished trial in the manifests that has all of them."""
        trials = [one for found in self.known("trials") if isinstance(found, Mapping) for one in found.values()]
        rows = []
        for trial in (one for one in trials if isinstance(one, Mapping)):
            values = [trial.get(key) for key in keys]
            row = tuple(value for value in values if isinstance(value, int | float) and math.isfinite(value))
            rows += [row] if len(row) == len(keys) else []
        return rows


def _mappings(texts: Iterable[str], parse: Callable[[str], Any]) -> Iterator[Mapping[str, Any]]:
    yield from (one for one in map(parse, texts) if isinstance(one, Mapping))


def _of_yaml(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return None


def _of_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
