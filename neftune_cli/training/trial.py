"""A trial of a plan, the batches of its steps, its progress while it runs, and the destinations of its results."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from neftune_cli.config.arm_names import trial_label
from neftune_cli.config.spec import BASE_ARM, TrainSpec, TrialSpec
from neftune_cli.errors import TrialError
from neftune_cli.records import CurvePoint, ExampleLoss, Generation, Phase, TrialRecord
from neftune_cli.store import Checkpoint, LeasedTrial, TrialFolder

if TYPE_CHECKING:
    from neftune_cli.trackers.live import LiveRuns


HALVINGS = "halvings"
"""Key of the number of halvings among the properties of a checkpoint."""


@dataclass(frozen=True)
class Trial:
    """A trial spec with its identity. The base trial measures the model before fine-tuning: no alpha, no seed."""

    id: str
    arm: str
    spec: TrialSpec
    identity: dict[str, Any]

    @property
    def is_base(self) -> bool:
        """Return whether the trial measures the model before fine-tuning."""
        return self.arm == BASE_ARM

    @property
    def label(self) -> str:
        """Return the trial's name for progress displays and messages."""
        return trial_label(self.arm, self.seed)

    def can_halve_batch(self, halvings: int, processes: int) -> bool:
        """Return whether the batch size of each process can be halved once more after this number of halvings."""
        try:
            halved_batch(self.spec.train, halvings + 1, processes)
        except TrialError:
            return False
        return not self.is_base

    @property
    def alpha(self) -> float | None:
        """Return alpha, or None for the base trial."""
        return None if self.is_base else self.spec.noise.alpha

    @property
    def seed(self) -> int | None:
        """Return the seed, or None for the base trial."""
        return None if self.is_base else self.spec.seed


def divided_batch(at_once: int, accumulated: int, processes: int) -> tuple[int, int]:
    """Return batch size and accumulation steps of each process, so that a step has the same examples as with one.

    >>> divided_batch(16, 1, 2), divided_batch(4, 32, 8), divided_batch(6, 2, 4)
    ((8, 1), (4, 4), (3, 1))

    Raises:
        ValueError: the examples of a step cannot be divided.
    """
    steps = math.gcd(accumulated, processes)
    size, rest = divmod(at_once, processes // steps)
    if rest:
        raise ValueError(f"{at_once} examples x {accumulated} accumulation steps cannot be divided by {processes}")
    return size, accumulated // steps


def halved_batch(train: TrainSpec, halvings: int, processes: int) -> tuple[int, int]:
    """Return the batch size and the number of gradient accumulation steps of each process after halvings.

    Raises:
        TrialError: the batch size cannot be halved this often.
    """
    at_once, accumulated = divided_batch(train.batch_size, train.gradient_accumulation, processes)
    halved, rest = divmod(at_once, 2**halvings)
    if rest:
        of_each = f"A batch size of {at_once}{' in each process' if processes > 1 else ''}"
        raise TrialError(f"{of_each} cannot be halved {halvings} times. Choose another --batch-size.")
    return halved, accumulated * 2**halvings


def halvings_of(checkpoint: Checkpoint | None) -> int:
    """Return how often the batch size had been halved when a checkpoint was written; 0 without a checkpoint."""
    return int(checkpoint.about.get(HALVINGS, 0)) if checkpoint else 0


def halvings_to_resume(folder: TrialFolder, least: int) -> int:
    """Return the number of times to halve the batch size: that of the newest checkpoint, but not less than `least`."""
    return max(least, halvings_of(folder.newest_checkpoint()))


@dataclass(frozen=True)
class TrialProgress:
    """The phase of a running trial and, during training, its latest step."""

    phase: Phase
    step: int = 0
    steps: int = 0
    """Total number of optimizer steps; 0 if it is not known yet."""
    loss: float | None = None
    """Training loss of the step, in nats per completion token."""
    tokens_per_second: float | None = None
    parameters: int | None = None
    """Number of parameters of the model, adapters included; None if it is not known yet."""
    trained_parameters: int | None = None
    """Number of parameters that were trained; None for the base model, and if it is not known yet."""


ReportProgress = Callable[[TrialProgress], None]
"""Called in the trial's process after every step and at the start of every phase."""


@dataclass(frozen=True)
class TrialOutput:
    """Destinations of what a trial produces."""

    leased: LeasedTrial
    """The trial's folder, whose lease this process holds; `start` was called."""
    report: ReportProgress = lambda _: None
    """Receives every step and every phase."""
    live: "LiveRuns | None" = None
    """Runs of trackers."""

    def append(self, point: CurvePoint) -> None:
        """Append a point to the learning curve."""
        self.leased.append_metrics(point)
        if self.live:
            self.live.add(point)

    def finish(
        self,
        record: TrialRecord,
        losses: Sequence[ExampleLoss],
        generations: Sequence[Generation],
        task_files: Mapping[str, str],
    ) -> None:
        """Write the results, the record last.

        Args:
            record: the record.
            losses: the loss of each example.
            generations: the responses.
            task_files: the contents of the files of lm-evaluation-harness, by name.
        """
        self.leased.finish(record, losses, generations, task_files)
        if self.live:
            self.live.finish(record, task_files)
