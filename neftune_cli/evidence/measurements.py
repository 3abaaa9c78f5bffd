"""Evidence in the same form for the results of all tools: measurements of comparable trials, and their setting."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neftune_cli.config.arm_names import arm_name
from neftune_cli.config.spec import BASE_ARM, NOISE_DETAILS
from neftune_cli.metrics import Margin, Metric
from neftune_cli.records import Attestation, CurvePoint

Floats = NDArray[np.float64]
MOST_NAMES = 3
"""Number of sweeps, trials, tasks or documents that a sentence names."""
REFERENCE_LENGTH = "reference_chars"
"""Key of the length of each reference, in characters, which is no metric."""


@dataclass(frozen=True)
class ItemValues:
    """Values of one metric of one trial per item. The trial's value is their weighted mean."""

    items: tuple[str, ...]
    """Ids of the items. An item has the same id in every trial."""
    clusters: tuple[str, ...]
    """Cluster of each item, (items,)."""
    values: Floats
    """In the metric's unit, (items,)."""
    weights: Floats
    """Weights, for example numbers of tokens, (items,)."""

    def of(self, items: Sequence[str]) -> "ItemValues":
        """Return the values of these items, in this order."""
        if tuple(items) == self.items:
            return self
        row_of = {item: row for row, item in enumerate(self.items)}
        rows = [row_of[item] for item in items]
        return ItemValues(
            tuple(items), tuple(self.clusters[row] for row in rows), self.values[rows], self.weights[rows]
        )


@dataclass(frozen=True)
class RespondedItems:
    """Held-out prompts that a trial responded to."""

    items: tuple[str, ...]
    """Ids of the prompts, in the order of the responses."""
    clusters: tuple[str, ...]
    """Cluster of each prompt, (items,)."""


@dataclass(frozen=True)
class Measurements:
    """Measurements of one trial."""

    trial_id: str
    """Id of the trial, or folder of a run of another tool."""
    arm: str
    alpha: float | None
    """None for the base model, and for an arm of another tool with unknown alpha."""
    seed: int | None
    """None for the base model only."""
    scores: Mapping[str, float | None]
    """Metric key to the trial's value; None if the metric is undefined for the data."""
    items: Mapping[str, ItemValues]
    """Metric key to values per item, for per-item metrics and REFERENCE_LENGTH."""
    held_out_by_epoch: Mapping[int, ItemValues]
    """Epoch to held-out losses, in nats per completion token."""
    curve: tuple[CurvePoint, ...] = ()
    noise_ratio: float | None = None
    """Noise norm divided by embedding norm at the median length; None if not measured."""
    attestation: Attestation | None = None
    notes: tuple[str, ...] = ()
    details: tuple[str, ...] | None = None
    """Overrides of the arm other than alpha, for example `noise=gaussian`; None if only the arm's name is known."""
    seconds: float | None = None
    """Time in seconds that the trial added to its sweep: its own time divided by the number of trials in parallel; None
    if it is not known."""
    responses: RespondedItems | None = None
    """None without responses."""

    @property
    def is_base(self) -> bool:
        """Return whether this is the base model."""
        return self.arm == BASE_ARM

    def has_equal_scores(self, other: "Measurements") -> bool:
        """Return whether the metrics that both have are equal. NaN equals NaN; older records lack some metrics."""
        pairs = [(score, other.scores.get(key)) for key, score in self.scores.items()]
        known = [(one, another) for one, another in pairs if one is not None and another is not None]
        return all(one == another or (math.isnan(one) and math.isnan(another)) for one, another in known)

    @property
    def noise_details(self) -> frozenset[str]:
        """Return the overrides of the arm that concern the noise, without alpha, for example `noise=gaussian`."""
        return frozenset(detail for detail in self._all_details or () if _is_of_noise(detail))

    @property
    def recipe_details(self) -> frozenset[str] | None:
        """Return the overrides of the arm that concern the recipe, such as `weight_decay=0.1`; None if unknown."""
        return None if self._all_details is None else self._all_details - self.noise_details

    @property
    def stated_recipe(self) -> tuple[bool, frozenset[str]]:
        """Return whether the recipe is known, and its overrides; of an unknown one, those in the name of the arm."""
        known, (_, *named) = self.recipe_details, self.arm.split(",")
        overrides = frozenset(detail for detail in named if not _is_of_noise(detail)) if known is None else known
        return known is not None, overrides

    @property
    def _all_details(self) -> frozenset[str] | None:
        """Return `details`, or else those in the name of the arm.

        None if they are unknown: a name that a sweep would not give to an arm can stand for any recipe.
        """
        if self.details is not None:
            return frozenset(self.details)
        alpha, *details = self.arm.split(",")
        named_by_noise = alpha == arm_name({"alpha": self.alpha}) and all(map(_is_of_noise, details))
        return frozenset(details) if named_by_noise else None


def _is_of_noise(detail: str) -> bool:
    return detail.partition("=")[0] in NOISE_DETAILS


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
    def name(self) -> str:
        """Return the model and the data."""
        return f"{self.model} on {self.data}"

    @property
    def description(self) -> str:
        """Return a short description, for sentences about the scope of a result."""
        return self.name + (f" ({', '.join(self.recipe_parts)})" if self.recipe_parts else "")

    @property
    def recipe_parts(self) -> tuple[str, ...]:
        """Return the main fields of the recipe, for example `3 epochs`."""
        recipe = self.recipe
        parts = []
        if steps := recipe.get("max_steps"):
            parts.append(f"{steps} step{'' if steps == 1 else 's'}")
        elif epochs := recipe.get("epochs"):
            parts.append(f"{epochs:g} epoch{'' if epochs == 1 else 's'}")
        if rate := recipe.get("learning_rate"):
            parts.append(f"learning rate {rate:g}")
        if size := recipe.get("batch_size"):
            parts.append(f"batch size {size}")
        if rank := recipe.get("lora_rank"):
            parts.append(f"LoRA rank {rank}")
        return tuple(parts)


@dataclass(frozen=True)
class TrialOrigin:
    """Folders, missing trials and measured cost of trials, for the commands that continue with them."""

    folders: tuple[str, ...] = ()
    is_sweep: bool = False
    """Whether the folders are sweeps, which `neftune sweep` can continue."""
    failed_trials: tuple[str, ...] = ()
    """Labels of failed trials, such as `alpha=5,seed=0`, which only `--retry failed` runs again."""
    unusable_trials: tuple[str, ...] = ()
    """Labels of finished trials of which a file is missing or damaged, and which `neftune sweep` trains again."""
    lacks_declared_trials: bool = False
    """Whether a single sweep with a fixed number of seeds has declared trials that have neither finished nor failed."""
    lacks_base: bool = False
    """Whether a single sweep has neither a result nor a failure of the base model."""
    has_base_elsewhere: bool = False
    """Whether the base model of a single sweep was measured in another setting than these trials."""
    of_other_version: bool = False
    """Whether a version of neftune with another method trained these trials, so that this one cannot continue them."""
    decides_looks: bool = True
    """Whether planned looks are taken of these trials; not of those that differ from the sweep's first setting."""
    seconds: float | None = None
    """Mean time of a trained trial in seconds; None if unknown, and for several folders."""
    workers: int = 1
    """Number of trials that ran side by side."""
    run_options: tuple[str, ...] = ()
    """Options of the sweep's last command that say where and in how many processes its trials run."""
    reading_options: tuple[str, ...] = ()
    """Options of `neftune compare` with which the trials were read: a file of ratings, or a field of clusters."""

    @property
    def is_one_sweep(self) -> bool:
        """Return whether the trials are those of one sweep, which a command can continue."""
        return self.is_sweep and len(self.folders) == 1


@dataclass(frozen=True)
class AnalysisPlan:
    """Analysis that a sweep declares before its first trial, and the looks that it has taken."""

    metric: str | None = None
    """Key of the primary metric; None is the default one."""
    margin: Margin | None = None
    """Equivalence margin of the primary metric; None is the metric's own."""
    primary_arm: str | None = None
    """Arm whose test is the confirmatory one; None if all arms are."""
    controls: tuple[str, ...] = ()
    """Arms that check the sweep."""
    looks: tuple[int, ...] = ()
    """Number of seeds at each planned look; empty if the number of seeds is fixed."""
    seeds: tuple[int, ...] = ()
    """Planned seeds, in their order."""
    looks_taken: int = 0
    """Number of looks that the sweep has taken."""
    excluded: frozenset[str] | None = None
    """Labels of failed trials that are not retried, because a look was tested without them; None if the manifest does
    not have them for all looks."""

    @property
    def has_planned_looks(self) -> bool:
        """Return whether the number of seeds depends on the results of planned looks."""
        return bool(self.looks)

    def seeds_until(self, looks_taken: int) -> tuple[int, ...]:
        """Return the planned seeds that the first `looks_taken` looks test; none before the first look."""
        return self.seeds[: self.looks[looks_taken - 1]] if looks_taken else ()

    @property
    def seeds_taken(self) -> int:
        """Return the number of seeds of the last look that was taken; 0 before the first one."""
        return len(self.seeds_until(self.looks_taken))

    @property
    def is_finished(self) -> bool:
        """Return whether all planned looks were taken."""
        return self.looks_taken == len(self.looks)


@dataclass(frozen=True)
class Evidence:
    """Comparable trials: they differ in noise, seed and the declared overrides of their arms."""

    name: str
    setting: Setting
    trials: tuple[Measurements, ...]
    """Base model first, if it was evaluated; then by arm in the order of the sweep, and by seed."""
    metrics: Mapping[str, Metric]
    """Metrics to compare, in the order of the tables; those that no trial measured included."""
    origin: TrialOrigin = TrialOrigin()
    spec_texts: tuple[str, ...] = ()
    """Text of the `sweep.yaml` in each folder; empty for runs of other tools."""
    difference_from_first: str = ""
    """One sentence on the difference from the evidence that is shown first; empty for that evidence."""
    notes: tuple[str, ...] = ()
    """Notes on the selection of the trials."""
    note_on_repeated_trials: str = ""
    """Sentence on the trained trials that several sweeps have; empty if there are none."""
    unfinished: tuple[str, ...] = ()
    """One sentence for each missing trial."""
    added_seeds: tuple[str, ...] = ()
    """One sentence for each sweep with a fixed number of seeds that was compared with fewer seeds before."""
    plan: AnalysisPlan | None = None
    """Declared analysis; None if there is none, and for trials of several sweeps."""
    dropped_plans: tuple[str, ...] = ()
    """Names of the sweeps whose declared analysis is left out, because trials of several sweeps have none."""
    shared_controls: tuple[str, ...] = ()
    """Controls of several sweeps, which have no common plan. Those of one sweep are in its plan."""
    declared_arms: tuple[str, ...] = ()
    """Arms that the sweeps declare, without controls; empty for runs of other tools. The first one is the baseline
    unless another one is chosen. An arm may have no finished trial."""
    declared_seeds: tuple[int, ...] = ()
    """Seeds that the sweeps declare; empty for runs of other tools."""
    manifest_texts: tuple[str, ...] = ()
    """Text of the `manifest.json` in each folder that has one; empty for runs of other tools."""

    @property
    def measured_metrics(self) -> dict[str, Metric]:
        """Return the metrics that a trial has a score of."""
        measured = {key for trial in self.trials for key, score in trial.scores.items() if score is not None}
        return {key: metric for key, metric in self.metrics.items() if key in measured}

    @property
    def manifest_digest(self) -> str | None:
        """Return the SHA-256 of the manifests, one after another, in hex; None if there is none."""
        return sha256(joined_manifests(self.manifest_texts).encode()).hexdigest() if self.manifest_texts else None


def joined_manifests(texts: Sequence[str]) -> str:
    """Return the texts of manifests one after another, as a report has them in one file, whose hash is the digest."""
    return "".join(texts)
