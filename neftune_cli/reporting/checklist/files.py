"""Content of `sweep.yaml` and `manifest.json`, read for the checklist: what is missing or damaged is unknown."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import yaml

from neftune_cli.config.noises import DEFAULT_NOISE
from neftune_cli.store.manifest import Manifest, TrialResources, manifest_of

T = TypeVar("T")


@dataclass(frozen=True)
class RunFiles:
    """Content of the files of the compared sweeps; empty for runs of other tools, and where a file is damaged."""

    specs: tuple[Mapping[str, Any], ...] = ()
    manifests: tuple[Manifest, ...] = ()

    @classmethod
    def read(cls, specs: Sequence[str] = (), manifests: Sequence[str] = ()) -> "RunFiles":
        """Return the content of the texts of `sweep.yaml` and of `manifest.json`."""
        declared = tuple(one for one in map(_of_yaml, specs) if isinstance(one, Mapping))
        return cls(declared, tuple(one for text in manifests if (one := manifest_of(text))))

    def known(self, value: Callable[[Manifest], T | None]) -> list[T]:
        """Return the different values of the manifests, in their order, without empty ones."""
        found: list[T] = []
        for one in map(value, self.manifests):
            if one and one not in found:
                found.append(one)
        return found

    @property
    def arms(self) -> list[Mapping[str, Any]]:
        """Return the arms that the specs declare."""
        return [arm for spec in self.specs for arm in _arms_of(spec)]

    @property
    def arms_by_distribution(self) -> dict[str, list[str]]:
        """Return the names of the declared arms with noise, by its distribution."""
        found: dict[str, list[str]] = {}
        for spec in self.specs:
            for arm in _arms_of(spec):
                if arm.get("alpha") != 0:
                    distribution = arm.get("noise") or spec.get("noise") or DEFAULT_NOISE
                    found.setdefault(str(distribution), []).append(str(arm.get("name")))
        return {distribution: list(dict.fromkeys(arms)) for distribution, arms in found.items()}

    def arms_with(self, field: str) -> list[str]:
        """Return the names of the declared arms that override a field."""
        return [str(arm.get("name")) for arm in self.arms if arm.get(field)]

    @property
    def trials(self) -> list[TrialResources]:
        """Return the resources of the finished trials in the manifests."""
        return [one for trials in self.known(lambda manifest: manifest.trials) for one in trials.values()]

    def numbers(self, value: Callable[[TrialResources], float | None]) -> list[float]:
        """Return the finite numbers of the finished trials, such as their seconds."""
        return [one for one in map(value, self.trials) if one is not None and math.isfinite(one)]


def _arms_of(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    arms = spec.get("arms")
    return [arm for arm in arms if isinstance(arm, Mapping)] if isinstance(arms, list) else []


def _of_yaml(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return None
