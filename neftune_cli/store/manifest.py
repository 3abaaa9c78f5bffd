"""Declaration of `manifest.json`, the record of a sweep: command, circumstances, plan, costs and taken looks.

Every version of this program has written a part of these fields. Fields that are missing stay missing when the file is
written again, and unknown fields are kept.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Self

from pydantic import ConfigDict, Field, StrictInt

from neftune_cli.records import SCHEMA_VERSION, Record

_AND = " and "
"""Separator of the sources of a cost in the file."""
_NOTHING = "nothing"
"""Source of a cost without a measurement."""


class ManifestPart(Record):
    """Base class of the manifest and its parts. Fields of other versions are kept."""

    model_config = ConfigDict(extra="allow")


class GitState(ManifestPart):
    """State of the git checkout of neftune."""

    commit: str
    """Hash of the commit."""
    dirty: bool = False
    """Whether the checkout had uncommitted changes."""


class Hardware(ManifestPart):
    """Machine of the command."""

    device: str | None = None
    """Device of the trials: `cuda`, `mps` or `cpu`."""
    precision: str | None = None
    """Floating-point precision of the training; several are separated by commas."""
    processor: str | None = None
    """Name of the processor of the machine that ran the command, or its architecture."""
    cores: int | None = None
    """Number of CPU cores of this machine."""
    gpus: str | None = None
    """Number, name and memory of the GPUs, such as `2 x NVIDIA H200 (140 GiB)`."""
    system: str | None = None
    """Operating system."""


class Workers(ManifestPart):
    """Workers of the command."""

    number: int = 0
    """Number of trials that run in parallel."""
    threads: int | None = None
    """Compute threads of each worker."""


class Fingerprints(ManifestPart):
    """Hashes of the content of model and data."""

    model: str
    """Fingerprint of the model."""
    data: str
    """Fingerprint of the data."""


class PlannedTrial(ManifestPart):
    """One trial of the plan."""

    trial: str
    """Id of the trial."""
    arm: str
    """Name of the arm."""
    seed: int | None
    """Seed; null for the base model only."""
    steps: int = 0
    """Planned optimizer steps; 0 for the base model, and if the number is not known before the training."""


class Cost(ManifestPart):
    """Estimated or measured cost of trials."""

    trials: dict[str, float]
    """Seconds of each trial by id, without trials that have no estimate."""
    seconds: float
    """Estimate: seconds from the start of the command to the end of the last trial. Measured: run time in seconds of
    all commands."""
    peak_memory: int | None
    """Peak memory of one worker in bytes: main memory, or GPU memory on a GPU."""
    workers: int
    """Number of trials that run in parallel."""
    source: str
    """Source of the numbers: `calibration`, `earlier trials`, both, `nothing`, or `measured`."""
    tokens: dict[str, int]
    """Training tokens of each trial in all epochs, without padding."""
    lowest_seconds: float | None = None
    """Lower end of the range of `seconds`; null if everything was measured to the end."""
    highest_seconds: float | None = None
    """Upper end of this range."""
    calibrated: str = ""
    """Time of the oldest calibration that an earlier command has made, ISO 8601; empty if there is none."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Return the single sources of the numbers."""
        return tuple(self.source.split(_AND))

    def after(self, seconds: float) -> Self:
        """Return the estimate for trials that begin later by this time."""
        low, high = self.lowest_seconds, self.highest_seconds
        later = {
            "seconds": seconds + self.seconds,
            "lowest_seconds": None if low is None else seconds + low,
            "highest_seconds": None if high is None else seconds + high,
        }
        return self.model_copy(update=later)

    def joined(self, later: Self) -> Self:
        """Return the sum with the estimate of further trials, which run after these."""
        whole = {
            "trials": {**self.trials, **later.trials},
            "seconds": self.seconds + later.seconds,
            "peak_memory": max((one for one in (self.peak_memory, later.peak_memory) if one), default=None),
            "source": joined_sources((*self.sources, *later.sources)),
            "tokens": {**self.tokens, **later.tokens},
            "lowest_seconds": _sum(self.lowest_seconds, later.lowest_seconds, self.seconds, later.seconds),
            "highest_seconds": _sum(self.highest_seconds, later.highest_seconds, self.seconds, later.seconds),
            "calibrated": min(filter(None, (self.calibrated, later.calibrated)), default=""),
        }
        return self.model_copy(update=whole)


class TrialResources(ManifestPart):
    """Resources of a finished trial, fields of its `state.json`.

    A value is null if the version of neftune that ran the trial did not record it.
    """

    attempts: int | None = None
    """Attempts, resumes included."""
    seconds: float | None = None
    """Time in seconds of all attempts, without work that was lost in a crash; for a base model whose results are copied
    from another sweep, the time in that sweep."""
    peak_memory: int | None = None
    """Peak memory of the process in bytes; on a GPU, memory of the device."""
    parameters: int | None = None
    """Number of parameters of the model, adapters included."""
    trained_parameters: int | None = None
    """Number of parameters that were trained; null for the base model."""


class Manifest(ManifestPart):
    """Content of `manifest.json`: circumstances of the last command of a sweep, and costs and looks of all commands."""

    started: str = ""
    """Start of the first command, ISO 8601."""
    ended: str | None = None
    """End of the last command, ISO 8601; null until it has ended."""
    command: tuple[str, ...] = ()
    """Arguments of the last command, the program included; empty after a call of `sweep()` in Python."""
    directory: str = ""
    """Working directory of this command."""
    folder: str = ""
    """Absolute path of the results folder at the time of this command."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of Python and of the main packages, by name."""
    git: GitState | None = None
    """Checkout of neftune; null if it was installed without one."""
    hardware: Hardware | None = None
    """Machine of this command."""
    workers: Workers = Workers()
    """Workers of this command."""
    model: str | None = None
    """Model, as given."""
    data: str | None = None
    """Name of the data."""
    fingerprints: Fingerprints | None = None
    """Hashes of the content of model and data."""
    notes: tuple[str, ...] = ()
    """Notes on the plan and the data, as the command printed them."""
    plan: tuple[PlannedTrial, ...] = ()
    """Trials in the order of the plan. The base model is first."""
    estimate: Cost | None = None
    """Estimated cost of the trials of all commands; null without an estimate."""
    truth: Cost | None = None
    """Measured cost of the finished trials, with the run time of all commands as `seconds`; null until the first trial
    has ended."""
    trials: dict[str, TrialResources] = Field(default_factory=dict)
    """Resources of each finished trial by id."""
    looks: tuple[StrictInt, ...] = ()
    """Numbers of seeds with which the sweep was compared at the end of a run."""
    settled: dict[int, tuple[str, ...]] = Field(default_factory=dict)
    """By the number of seeds of a planned look: failed trials that are not retried, because they were left out
    of a test at the look."""
    schema_version: int = SCHEMA_VERSION
    """Version of the file format."""

    def planned_looks_taken(self, planned: Sequence[int]) -> tuple[int, ...]:
        """Return the planned looks that were taken. `planned` has the number of seeds at each look, in order."""
        last = max(self.looks, default=0)
        return tuple(seeds for seeds in planned if seeds <= last)

    @property
    def estimated_seconds(self) -> Mapping[str, float]:
        """Return the estimated seconds of each trial by id, empty without an estimate."""
        return self.estimate.trials if self.estimate else {}


ALWAYS_WRITTEN = frozenset(("started", "command"))
"""Fields that every version of this program has written, and without which `neftune status` cannot describe a sweep."""


def manifest_of(text: str) -> Manifest | None:
    """Return the manifest with this text, None if it is not valid."""
    try:
        return Manifest.model_validate_json(text)
    except ValueError:
        return None


def joined_sources(sources: Iterable[str]) -> str:
    """Return the single sources of a cost as one text, without duplicates; `nothing` without a source."""
    return _AND.join(dict.fromkeys(one for one in sources if one != _NOTHING)) or _NOTHING


def _sum(one: float | None, other: float | None, instead_of_one: float, instead_of_other: float) -> float | None:
    """Return the sum of two ends of ranges, or of the values if one has no range; None if neither has."""
    if one is None and other is None:
        return None
    return (instead_of_one if one is None else one) + (instead_of_other if other is None else other)
