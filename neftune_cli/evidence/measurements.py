"""What one trial measured, in arrays: the form in which all results are judged, whoever made them."""

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
    """One metric of one trial, item by item; the trial's own value is their weighted mean."""

    items: tuple[str, ...]
    """What tells an item from others: the same in every trial that was measured on it."""
    clusters: tuple[str, ...]
    """Label of the group each item belongs to, (items,)."""
    values: Floats
    """In the metric's unit, (items,)."""
    weights: Floats
    """Such as tokens, (items,)."""

    def of(self, items: Sequence[str]) -> "ItemValues":
        """Return the values of these items, in this order."""
        if tuple(items) == self.items:
            return self
        place = {item: number for number, item in enumerate(self.items)}
        rows = [place[item] for item in items]
        return ItemValues(
            tuple(items), tuple(self.clusters[row] for row in rows), self.values[rows], self.weights[rows]
        )


@dataclass(frozen=True)
class Measurements:
    """One trial as it is judged."""

    trial: str
    """Its id, or the folder it was brought in from."""
    arm: str
    alpha: float | None
    """None for the base, and for an arm of somebody else's whose alpha isn't known."""
    seed: int | None
    """None for the base and for nothing else."""
    scores: Mapping[str, float | None]
    """Metric key to the trial's value; None where the metric isn't defined for the data."""
    items: Mapping[str, ItemValues]
    """Metric key to the values that the score is the mean of, for metrics that have items; lengths of the references,
    `reference_chars`, are no metric's."""
    held_out_by_epoch: Mapping[int, ItemValues]
    """Epoch to held-out losses, in nats per completion token."""
    curve: tuple[CurvePoint, ...] = ()
    noise_ratio: float | None = None
    """Noise norm as a share of the embedding norm at the median length; None where it wasn't measured."""
    attestation: Attestation | None = None
    notes: tuple[str, ...] = ()
    details: tuple[str, ...] | None = None
    """What its arm changes in noise and recipe beside alpha, like `noise=gaussian`; None where its name alone says."""

    @property
    def is_base(self) -> bool:
        """Return whether this is the model before fine-tuning."""
        return self.arm == BASE_ARM


@dataclass(frozen=True)
class Setting:
    """What comparable trials have in common: everything but the noise and the seed."""

    model: str
    data: str
    recipe: Mapping[str, Any]
    """Fields of the recipe, as far as they are known."""
    shared: Mapping[str, Any]
    """Everything that can change a trial's numbers, noise and seed left out, by part."""

    @property
    def words(self) -> str:
        """Return the setting in a few words, for the sentence that says for whom a result holds."""
        recipe = self.recipe
        parts = []
        if steps := recipe.get("max_steps"):
            parts.append(f"{steps} steps")
        elif epochs := recipe.get("epochs"):
            parts.append(f"{epochs:g} epoch{'' if epochs == 1 else 's'}")
        if rate := recipe.get("learning_rate"):
            parts.append(f"learning rate {rate:g}")
        if size := recipe.get("batch_size"):
            parts.append(f"batches of {size}")
        if rank := recipe.get("lora_rank"):
            parts.append(f"LoRA of rank {rank}")
        return f"{self.model} on {self.data}" + (f" ({', '.join(parts)})" if parts else "")


@dataclass(frozen=True)
class Evidence:
    """Trials that may be compared with each other: they differ in the noise, the seed and what their arms declare."""

    name: str
    setting: Setting
    trials: tuple[Measurements, ...]
    """The base first, if it was evaluated, then arm by arm in the order of the sweep, seeds in order."""
    metrics: Mapping[str, Metric]
    """What was measured, in the order of the tables."""
    folders: tuple[str, ...]
    """Where the trials were found."""
    specs: tuple[str, ...] = ()
    """Text of the `sweep.yaml` in each of the folders; empty for what others made."""
    apart: str = ""
    """How this differs from what it is shown beside and could be taken for, in one sentence; empty where it doesn't."""
    notes: tuple[str, ...] = ()
    """What the reader should know of how the trials were put together."""
    unfinished: tuple[str, ...] = ()
    """One sentence for each trial that is missing."""
    manifest: str = ""
    """Text of `manifest.json`, or of several one after another; empty where there is none."""

    @property
    def manifest_digest(self) -> str | None:
        """Return the SHA-256 of the manifest in hex, None where there is none."""
        return sha256(self.manifest.encode()).hexdigest() if self.manifest else None


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
    if first.setting == other.setting:
        return f"Not compared with {first.name}: single trainings and sweeps are shown separately."
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
