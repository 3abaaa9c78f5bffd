"""Measurements of trials as arrays: the common form of all results, whichever tool produced them."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from neftune_cli.config.spec import BASE_ARM
from neftune_cli.metrics import Metric
from neftune_cli.records import Attestation, CurvePoint

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ItemValues:
    """Values of one metric of one trial per item. The trial's value is their weighted mean."""

    items: tuple[str, ...]
    """Identifiers of the items, the same in every trial that was measured on them."""
    clusters: tuple[str, ...]
    """Cluster of each item, (items,)."""
    values: Floats
    """In the metric's unit, (items,)."""
    weights: Floats
    """Weights, for example numbers of tokens, (items,)."""

    def of(self, items: Sequence[str]) -> "ItemValues":
        """Return the values of the given items, in the given order."""
        if tuple(items) == self.items:
            return self
        place = {item: number for number, item in enumerate(self.items)}
        rows = [place[item] for item in items]
        return ItemValues(
            tuple(items), tuple(self.clusters[row] for row in rows), self.values[rows], self.weights[rows]
        )


@dataclass(frozen=True)
class Measurements:
    """Measurements of one trial."""

    trial: str
    """Id of the trial, or folder of a run of another tool."""
    arm: str
    alpha: float | None
    """None for the base model, and for an arm of another tool with unknown alpha."""
    seed: int | None
    """None for the base model only."""
    scores: Mapping[str, float | None]
    """Metric key to the trial's value; None if the metric is undefined for the data."""
    items: Mapping[str, ItemValues]
    """Metric key to values per item, for per-item metrics; also `reference_chars`, the length of references."""
    held_out_by_epoch: Mapping[int, ItemValues]
    """Epoch to held-out losses, in nats per completion token."""
    curve: tuple[CurvePoint, ...] = ()
    noise_ratio: float | None = None
    """Noise norm divided by embedding norm at the median length; None if not measured."""
    attestation: Attestation | None = None
    notes: tuple[str, ...] = ()
    details: tuple[str, ...] | None = None
    """Overrides of the arm other than alpha, for example `noise=gaussian`; None if only the arm's name is known."""

    @property
    def is_base(self) -> bool:
        """Return whether this is the base model."""
        return self.arm == BASE_ARM


@dataclass(frozen=True)
class Setting:
    """Common setting of comparable trials: everything but noise and seed."""

    model: str
    data: str
    recipe: Mapping[str, Any]
    """Known fields of the recipe."""
    shared: Mapping[str, Any]
    """Everything that can change a trial's numbers, by part, without noise and seed."""

    @property
    def description(self) -> str:
        """Return a short description, for the sentence about the scope of a result."""
        recipe = self.recipe
        parts = []
        if steps := recipe.get("max_steps"):
            parts.append(f"{steps} steps")
        elif epochs := recipe.get("epochs"):
            parts.append(f"{epochs:g} epoch{'' if epochs == 1 else 's'}")
        if rate := recipe.get("learning_rate"):
            parts.append(f"learning rate {rate:g}")
        if size := recipe.get("batch_size"):
            parts.append(f"batch size {size}")
        if rank := recipe.get("lora_rank"):
            parts.append(f"LoRA rank {rank}")
        return f"{self.model} on {self.data}" + (f" ({', '.join(parts)})" if parts else "")


@dataclass(frozen=True)
class Evidence:
    """Comparable trials: they differ in noise, seed and the declared overrides of their arms."""

    name: str
    setting: Setting
    trials: tuple[Measurements, ...]
    """Base model first, if it was evaluated; then by arm in the order of the sweep, and by seed."""
    metrics: Mapping[str, Metric]
    """Measured metrics, in the order of the tables."""
    folders: tuple[str, ...]
    """Folders of the trials."""
    specs: tuple[str, ...] = ()
    """Text of the `sweep.yaml` in each folder; empty for runs of other tools."""
    apart: str = ""
    """One sentence on the difference to the evidence shown before it; empty if there is none."""
    notes: tuple[str, ...] = ()
    """Notes on the selection of the trials."""
    unfinished: tuple[str, ...] = ()
    """One sentence for each missing trial."""
    manifest: str = ""
    """Text of `manifest.json`, or of several in sequence; empty if there is none."""

    @property
    def manifest_digest(self) -> str | None:
        """Return the SHA-256 of the manifest in hex, None if there is none."""
        return sha256(self.manifest.encode()).hexdigest() if self.manifest else None


RunType = TypeVar("RunType")

_MOST_PARTS = 4
_HASH = re.compile(r"[0-9a-f]{32,}")


def grouped(runs: Sequence[RunType], comparable: Callable[[RunType, RunType], bool]) -> list[list[RunType]]:
    """Return groups of pairwise comparable runs, the largest group first."""
    groups: list[list[RunType]] = []
    for run in runs:
        own = next((group for group in groups if all(comparable(member, run) for member in group)), None)
        if own is None:
            groups.append([run])
        else:
            own.append(run)
    return sorted(groups, key=len, reverse=True)


def agree(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two settings agree in all parts that are known for both."""
    here, there = dict(_flat(one)), dict(_flat(other))
    return all(here[part] == there[part] for part in here.keys() & there.keys())


def with_differences(evidence: Sequence[Evidence]) -> list[Evidence]:
    """Add numbers to settings of the same name, and describe how each one differs from the first."""
    names = [one.name for one in evidence]
    numbered = [
        replace(one, name=f"{one.name}, part {names[: place + 1].count(one.name)}")
        if names.count(one.name) > 1
        else one
        for place, one in enumerate(evidence)
    ]
    return [*numbered[:1], *(replace(one, apart=_difference(numbered[0], one)) for one in numbered[1:])]


def _difference(first: Evidence, other: Evidence) -> str:
    if first.setting == other.setting:
        return f"Not compared with {first.name}: single trainings and sweeps are shown separately."
    parts = _parts(first.setting, other.setting) or ["the recipe"]
    more = f" and {len(parts) - _MOST_PARTS} more" if len(parts) > _MOST_PARTS else ""
    listed = "; ".join(parts[:_MOST_PARTS]) + more
    return f"Not compared with {first.name}, because more than the noise differs: {listed}."


def _parts(first: Setting, other: Setting) -> list[str]:
    """Return the differences in parts that both settings have, each once."""
    here, there = dict(_flat(other.shared)), dict(_flat(first.shared))
    sections: dict[str, list[str]] = {}
    for (section, part), value in there.items():
        if here.get((section, part), value) != value:
            sections.setdefault(_words(part, here[section, part], value), []).append(section)
    return [f"{of[0]}: {words}" if len(of) == 1 and of[0] else words for words, of in sections.items()]


def _words(part: str, here: Any, there: Any) -> str:
    if any(_HASH.fullmatch(str(value)) for value in (here, there)):
        return f"different {part}"
    if here == there:
        return f"{part} {here} with different content"
    return f"{part} {'none' if here is None else here} instead of {'none' if there is None else there}"


def _flat(values: Mapping[str, Any], section: str = "") -> Iterator[tuple[tuple[str, str], Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, key)
        else:
            yield (section, key), value
