"""Views: the observable state of trials and sweeps as plain data, which `neftune status` prints and displays draw."""

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from neftune_cli.config.arm_names import trial_label
from neftune_cli.errors import Problem
from neftune_cli.formatting import condensed
from neftune_cli.records import Phase, TrialState, TrialStatus
from neftune_cli.store.following import TrialSnapshot

CURVE_PARTS = 24
"""Maximum number of points of a displayed loss curve."""


class ObservedState(StrEnum):
    """State of a trial as another process can observe it."""

    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"
    STOPPED = "stopped"
    """Interrupted. The next run of the sweep resumes it from its checkpoint."""
    STALLED = "stalled"
    """Recorded as running, but no living process holds its lease. The next run of the sweep takes it over."""
    WAITING = "waiting"


@dataclass(frozen=True)
class TrialView:
    """Observable facts about a trial. Times are in seconds, losses in nats per completion token."""

    trial: str
    arm: str
    seed: int | None
    state: ObservedState = ObservedState.WAITING
    phase: str = ""
    """`Phase` of a running trial, otherwise empty. A text, because a newer version may have others."""
    step: int = 0
    steps: int = 0
    loss: float | None = None
    """Training loss of the last reported step."""
    losses: tuple[float, ...] = ()
    """Training loss so far, as the means of at most `CURVE_PARTS` successive parts; empty for a finished trial."""
    tokens_per_second: float | None = None
    seconds: float | None = None
    """Time of all attempts, without lost work."""
    seconds_in_all: float | None = None
    """Time of all attempts, with lost work."""
    side_by_side: int | None = None
    """Number of trials that could run in parallel."""
    seconds_left: float | None = None
    eval_loss: float | None = None
    """Held-out loss of a finished trial."""
    reason: str = ""
    """Reason of a failure or, for a waiting trial, why its existing files cannot be used."""
    attempts: int = 0
    peak_memory: int | None = None
    """Bytes."""
    parameters: int | None = None
    trained_parameters: int | None = None
    host: str = ""
    process: int | None = None
    started: str = ""
    updated: str = ""

    @property
    def label(self) -> str:
        """Return the arm and the seed, for example "alpha=5, seed 0"."""
        return trial_label(self.arm, self.seed)

    @property
    def is_open(self) -> bool:
        """Return whether the trial is neither done nor failed."""
        return self.state not in (ObservedState.DONE, ObservedState.FAILED)


@dataclass(frozen=True)
class SweepStatus:
    """Observable facts about a sweep, with its trials in the order of the plan."""

    name: str
    path: Path
    trials: tuple[TrialView, ...]
    workers: int = 0
    """Number of trials that run in parallel."""
    seconds_left: float | None = None
    """Time until all trials are done with this number of workers; None if it is unknown or no trial runs."""
    work_left: float | None = None
    """Total time of the remaining work for one worker, in seconds."""
    started: str = ""
    command: tuple[str, ...] = ()
    """Last command of the sweep."""
    directory: str = ""
    """Working directory of that command."""
    problems: tuple[Problem, ...] = ()
    """Reasons why `manifest.json` or `sweep.yaml` cannot be used, each with its fix. Without a manifest, the trials are
    those that have a folder."""

    def of(self, *states: ObservedState) -> list[TrialView]:
        """Return the trials in any of these states."""
        return [trial for trial in self.trials if trial.state in states]

    @property
    def counts(self) -> dict[ObservedState, int]:
        """Return the number of trials in each state."""
        found = Counter(trial.state for trial in self.trials)
        return {state: found[state] for state in ObservedState}

    @property
    def summary(self) -> str:
        """Return the counts as text, for example "3 of 13 done, 2 running, 8 waiting"."""
        done, *others = self.counts.items()
        texts = [f"{number} {state}" for state, number in others if number]
        return ", ".join([f"{done[1]} of {len(self.trials)} done", *texts])

    @property
    def failures(self) -> list[TrialView]:
        """Return the failed trials in the order in which they failed."""
        return sorted(self.of(ObservedState.FAILED), key=lambda trial: trial.updated)

    @property
    def is_over(self) -> bool:
        """Return whether every trial is done or has failed."""
        return not any(trial.is_open for trial in self.trials)


def updated_view(view: TrialView, snapshot: TrialSnapshot) -> TrialView:
    """Return the view of a planned trial with the content of its files."""
    status = snapshot.status
    if status is not None:
        view = _with_status(view, status)
    if snapshot.record is not None:
        return replace(view, state=ObservedState.DONE, phase="", eval_loss=snapshot.record.loss.eval_loss)
    state = _state(snapshot)
    losses = condensed(snapshot.losses, CURVE_PARTS) if state is not ObservedState.WAITING else ()
    reason = snapshot.lost or (status.reason if status and state is ObservedState.FAILED else "")
    if state in (ObservedState.STOPPED, ObservedState.STALLED):  # steps after the checkpoint will run again
        checkpoint = snapshot.checkpoint
        step, seconds = (checkpoint.step, checkpoint.seconds) if checkpoint else (0, 0.0)
        view = replace(view, step=step, seconds=seconds)
    is_started = status is not None and status.state is TrialState.RUNNING
    if snapshot.holder is not None and not is_started:
        view = replace(view, host=snapshot.holder.host, process=snapshot.holder.process)
    phase = (view.phase if is_started and view.phase else Phase.STARTING) if state is ObservedState.RUNNING else ""
    return replace(view, state=state, phase=phase, losses=losses, reason=reason)


def seconds_since(moment: str) -> float | None:
    """Return the seconds since an ISO time, or None if it is not valid."""
    try:
        then = datetime.fromisoformat(moment)
    except ValueError:
        return None
    return (datetime.now(UTC) - (then if then.tzinfo else then.replace(tzinfo=UTC))).total_seconds()


def _with_status(view: TrialView, status: TrialStatus) -> TrialView:
    """Return a view with every field of `state.json`, except for the state and its reason, which depend on others."""
    recorded = status.model_dump(exclude={"schema_version", "trial", "state", "reason"})
    return replace(view, **{**recorded, "steps": status.steps or view.steps})


def _state(snapshot: TrialSnapshot) -> ObservedState:
    """Return the state of a trial without a record."""
    if snapshot.holder is not None:
        return ObservedState.RUNNING
    if snapshot.status is None:
        return ObservedState.WAITING
    without_process = {
        TrialState.RUNNING: ObservedState.STALLED,
        TrialState.STOPPED: ObservedState.STOPPED,
        TrialState.FAILED: ObservedState.FAILED,
        TrialState.DONE: ObservedState.WAITING,  # its record is lost
    }
    return without_process[snapshot.status.state]
