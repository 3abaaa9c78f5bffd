"""A plan with its price: what of it is done, what is to run, how long that takes and what it costs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from neftune_cli.store import SweepFolder
from neftune_cli.sweeps.plan import Plan, steps_of
from neftune_cli.sweeps.pricing.estimate import Estimate, price
from neftune_cli.sweeps.remaining import missing_trials, place_of
from neftune_cli.training.trial import Trial

DONE, FAILED, ELSEWHERE, TO_GO_ON, TO_RUN = "done", "failed", "running elsewhere", "to go on", "to run"


@dataclass(frozen=True)
class PlannedLine:
    """One trial of a plan."""

    trial: str
    arm: str
    seed: int | None
    steps: int
    state: str
    tokens: int | None
    """Training tokens; None where nothing tells, as for `seconds`."""
    seconds: float | None
    """What the whole trial takes, where it is still to run."""

    @property
    def is_to_run(self) -> bool:
        """Return whether this command would run it."""
        return self.state in (TO_RUN, TO_GO_ON)


@dataclass(frozen=True)
class PricedPlan:
    """All trials of a plan, and what those that are to run take together."""

    folder: str
    lines: tuple[PlannedLine, ...]
    estimate: Estimate | None
    """None where nothing is to run, or nothing is known of what is."""
    available_memory: int | None
    """Bytes of main memory that workers can have; None where they need the GPU's."""
    hourly_rate: float | None
    notes: tuple[str, ...]

    @property
    def to_run(self) -> tuple[PlannedLine, ...]:
        """Return the trials that this command would run."""
        return tuple(line for line in self.lines if line.is_to_run)

    @property
    def workers(self) -> int:
        """Return how many trials run side by side."""
        return min(self.estimate.workers, len(self.to_run)) if self.estimate else 0

    @property
    def price(self) -> float | None:
        """Return what the machine costs for what is known, None where no rate was given or nothing is known."""
        if self.hourly_rate is None or self.estimate is None:
            return None
        return price(self.estimate.seconds, self.hourly_rate)

    @property
    def tokens(self) -> int | None:
        """Return the training tokens of what is known, None where nothing is."""
        return sum(line.tokens or 0 for line in self.to_run) if self.estimate else None

    @property
    def unpriced(self) -> int:
        """Return how many of the trials to run nothing is known of."""
        return sum(line.seconds is None for line in self.to_run)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values; with any `unpriced` trials, the figures are what it takes at least."""
        return {
            "folder": self.folder,
            "trials": [asdict(line) for line in self.lines],
            "to_run": len(self.to_run),
            "unpriced": self.unpriced,
            "steps": sum(line.steps for line in self.to_run),
            "tokens": self.tokens,
            "estimate": self.estimate.as_json() if self.estimate else None,
            "available_memory": self.available_memory,
            "hourly_rate": self.hourly_rate,
            "price": self.price,
            "notes": list(self.notes),
        }


def states_of(plan: Plan, folder: SweepFolder, *, retry_failed: bool) -> dict[str, str]:
    """Return where each trial stands, by id."""
    missing = {trial.id for trial in missing_trials(plan, folder, retry_failed=retry_failed)}
    return {trial.id: _state(trial, folder, is_missing=trial.id in missing) for trial in plan.trials}


def priced_plan(
    plan: Plan,
    folder: SweepFolder,
    states: dict[str, str],
    estimate: Estimate | None,
    *,
    hourly_rate: float | None = None,
    available_memory: int | None = None,
    notes: Sequence[str] = (),
) -> PricedPlan:
    """Join a plan with where its trials stand and what they are estimated to take."""
    seconds, tokens = (estimate.trials, estimate.tokens) if estimate else ({}, {})
    return PricedPlan(
        folder=str(folder.path),
        lines=tuple(
            PlannedLine(
                trial=trial.id,
                arm=trial.arm,
                seed=trial.seed,
                steps=steps_of(trial, plan.data.train),
                state=states[trial.id],
                tokens=tokens.get(trial.id),
                seconds=seconds.get(trial.id),
            )
            for trial in plan.trials
        ),
        estimate=estimate if seconds else None,
        available_memory=available_memory,
        hourly_rate=hourly_rate,
        notes=tuple(notes),
    )


def _state(trial: Trial, folder: SweepFolder, *, is_missing: bool) -> str:
    place = place_of(folder, trial)
    if not is_missing:
        return FAILED if place.record() is None else DONE
    if place.is_claimed():
        return ELSEWHERE
    return TO_GO_ON if place.kept() else TO_RUN
