"""What can be said of the trials of a sweep: as data, with no trace of how it came to be known."""

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from neftune_cli.formatting import condensed
from neftune_cli.records import TrialState
from neftune_cli.store.following import TrialSnapshot

CURVE_PARTS = 24


class State(StrEnum):
    """Where a trial stands, as far as can be told from outside."""

    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"
    STOPPED = "stopped"
    """Interrupted; it goes on from its checkpoint."""
    STALLED = "stalled"
    """It says that it runs, but no living process holds it: whoever gives the sweep's command next takes it over."""
    WAITING = "waiting"


@dataclass(frozen=True)
class TrialView:
    """What can be said of one trial now; times are in seconds, losses in nats per completion token."""

    trial: str
    arm: str
    seed: int | None
    state: State = State.WAITING
    phase: str = ""
    """What a running trial does."""
    step: int = 0
    steps: int = 0
    loss: float | None = None
    """Training loss of the last step that was reported."""
    losses: tuple[float, ...] = ()
    """The training loss so far, as the means of at most 24 successive parts; empty once it is done."""
    tokens_per_second: float | None = None
    seconds: float | None = None
    """Work so far, of all attempts."""
    seconds_left: float | None = None
    eval_loss: float | None = None
    """Held-out loss, once it is done."""
    reason: str = ""
    """Why it failed, or, where it waits, why what is there of it can't be used."""
    attempts: int = 0
    peak_memory: int | None = None
    """In bytes."""
    host: str = ""
    process: int | None = None
    started: str = ""
    updated: str = ""

    @property
    def label(self) -> str:
        """Return what the trial is called on the screen."""
        return self.arm if self.seed is None else f"{self.arm}, seed {self.seed}"

    @property
    def is_open(self) -> bool:
        """Return whether there is work left to do on it."""
        return self.state not in (State.DONE, State.FAILED)


@dataclass(frozen=True)
class SweepStatus:
    """What can be said of a sweep now: its trials in the order of the plan."""

    name: str
    path: Path
    trials: tuple[TrialView, ...]
    workers: int = 0
    """Trials that run at a time."""
    seconds_left: float | None = None
    """Until all is done with so many workers; None if nobody works or nothing is known yet."""
    work_left: float | None = None
    """Seconds of one worker's time that are still to be spent."""
    started: str = ""
    command: tuple[str, ...] = ()
    """What was typed last to run it."""
    directory: str = ""
    """Where that was typed."""

    def of(self, *states: State) -> list[TrialView]:
        """Return the trials in any of these states."""
        return [trial for trial in self.trials if trial.state in states]

    @property
    def counts(self) -> dict[State, int]:
        """Return how many trials are in each state."""
        found = Counter(trial.state for trial in self.trials)
        return {state: found[state] for state in State}

    @property
    def summary(self) -> str:
        """Return the counts in words, like `3 of 13 done, 2 running, 8 waiting`."""
        others = [f"{number} {state}" for state, number in self.counts.items() if number and state is not State.DONE]
        return ", ".join([f"{self.counts[State.DONE]} of {len(self.trials)} done", *others])

    @property
    def failures(self) -> list[TrialView]:
        """Return the failed trials in the order in which they failed."""
        return sorted(self.of(State.FAILED), key=lambda trial: trial.updated)

    @property
    def is_over(self) -> bool:
        """Return whether every trial is done or has failed."""
        return not any(trial.is_open for trial in self.trials)


def seen(view: TrialView, look: TrialSnapshot) -> TrialView:
    """Return a trial, of which the plan is known, as its files have it."""
    status = look.status
    if status is not None:
        view = replace(
            view,
            phase=status.phase,
            step=status.step,
            steps=status.steps or view.steps,
            loss=status.loss,
            tokens_per_second=status.tokens_per_second,
            seconds=status.seconds,
            attempts=status.attempts,
            peak_memory=status.peak_memory,
            host=status.host,
            process=status.process,
            started=status.started,
            updated=status.updated,
        )
    if look.record is not None:
        return replace(view, state=State.DONE, phase="", eval_loss=look.record.loss.eval_loss)
    state = _state(look)
    losses = condensed(look.losses, CURVE_PARTS) if state is not State.WAITING else ()
    reason = look.lost or (status.reason if status and state is State.FAILED else "")
    if state in (State.STOPPED, State.STALLED):  # what it goes on from, which the last that it said may be beyond
        kept = look.kept
        view = replace(view, step=kept.step if kept else 0, seconds=kept.seconds if kept else 0.0)
    begun = status is not None and status.state is TrialState.RUNNING
    if look.holder is not None and not begun:
        view = replace(view, host=look.holder.host, process=look.holder.process)
    phase = (view.phase if begun and view.phase else "starting") if state is State.RUNNING else ""
    return replace(view, state=state, phase=phase, losses=losses, reason=reason)


def _state(look: TrialSnapshot) -> State:
    """Return the state of a trial that has no record."""
    if look.holder is not None:
        return State.RUNNING
    if look.status is None:
        return State.WAITING
    without_a_process = {
        TrialState.RUNNING: State.STALLED,
        TrialState.STOPPED: State.STOPPED,
        TrialState.FAILED: State.FAILED,
        TrialState.DONE: State.WAITING,  # its record was lost
    }
    return without_a_process[look.status.state]


def seconds_since(moment: str) -> float | None:
    """Return the age of an ISO time in seconds, None if it can't be read."""
    try:
        then = datetime.fromisoformat(moment)
    except ValueError:
        return None
    return (datetime.now(UTC) - (then if then.tzinfo else then.replace(tzinfo=UTC))).total_seconds()
