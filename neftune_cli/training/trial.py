"""What a trial is, and what one that runs tells whoever watches it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from neftune_cli.config.spec import BASE_ARM, TrialSpec


@dataclass(frozen=True)
class Trial:
    """One line of a plan: a spec with its identity; the base trial has no alpha and no seed."""

    id: str
    arm: str
    spec: TrialSpec
    identity: dict[str, Any]

    @property
    def is_base(self) -> bool:
        """Return whether this is the model before fine-tuning."""
        return self.arm == BASE_ARM

    @property
    def label(self) -> str:
        """Return what the trial is called on the screen."""
        return self.arm if self.is_base else f"{self.arm}, seed {self.spec.seed}"

    def can_be_halved(self, halvings: int) -> bool:
        """Return whether a batch that has been halved so often can be halved once more."""
        return not self.is_base and self.spec.train.batch_size % 2 ** (halvings + 1) == 0

    @property
    def alpha(self) -> float | None:
        """Return the alpha, None for the base."""
        return None if self.is_base else self.spec.noise.alpha

    @property
    def seed(self) -> int | None:
        """Return the seed, None for the base."""
        return None if self.is_base else self.spec.seed


@dataclass(frozen=True)
class TrialProgress:
    """What a running trial tells whoever watches it."""

    phase: str
    step: int = 0
    steps: int = 0
    loss: float | None = None
    tokens_per_second: float | None = None


ReportProgress = Callable[[TrialProgress], None]
