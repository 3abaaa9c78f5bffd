"""Content of `sweep.yaml` and `manifest.json`, read for the checklist: what is missing or damaged is unknown."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml


@dataclass(frozen=True)
class RunFiles:
    """Content of the files of the compared sweeps; empty for runs of other tools, and where a file is damaged."""

    specs: tuple[Mapping[str, Any], ...] = ()
    manifests: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def read(cls, specs: str = "", manifests: str = "") -> "RunFiles":
        """Return the content of YAML documents and of concatenated JSON documents."""
        return cls(tuple(_specs(specs)), tuple(_manifests(manifests)))

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


def joined_specs(specs: Sequence[str]) -> str:
    """Return the texts of several `sweep.yaml` as one text of YAML documents."""
    return "---\n".join(specs)


def _specs(text: str) -> Iterator[Mapping[str, Any]]:
    try:
        documents = list(yaml.safe_load_all(text))
    except (yaml.YAMLError, ValueError):
        return
    yield from (one for one in documents if isinstance(one, Mapping))


def _manifests(text: str) -> Iterator[Mapping[str, Any]]:
    rest = text.lstrip()
    while rest:
        try:
            document, end = json.JSONDecoder().raw_decode(rest)
        except (ValueError, RecursionError):
            return
        if isinstance(document, Mapping):
            yield document
        rest = rest[end:].lstrip()
