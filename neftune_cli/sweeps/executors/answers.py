"""What the messages of workers mean: events of their trials, and answers that are errors."""

from typing import Any

from neftune_cli.errors import NeftuneError, Problem, UsageError
from neftune_cli.records import TrialRecord
from neftune_cli.sweeps.executors import Claimed, Ended, Event, Taken
from neftune_cli.sweeps.executors.messages import Message, unpacked
from neftune_cli.sweeps.failures import Failure
from neftune_cli.training.trial import Trial


def event_of(trial: Trial, message: Message) -> Event:
    """Return what a message about a trial says has happened to it."""
    match message["event"]:
        case "claimed":
            return Claimed(trial)
        case "taken":
            return Taken(trial)
        case _:
            return Ended(
                trial,
                record=_optional(TrialRecord, message.get("record")),
                failure=_optional(Failure, message.get("failure")),
                seconds=message.get("seconds", 0.0),
            )


def _optional(kind: Any, value: Any) -> Any:
    return None if value is None else unpacked(kind, value)


def failure_in(answer: Message) -> Failure | None:
    """Return what kept a worker from answering, None if it answered or the question was wrong."""
    found: Failure | None = _optional(Failure, answer.get("failure"))
    return found


def raise_problem(answer: Message) -> None:
    """Raise what kept a worker from answering.

    Raises:
        UsageError: the user asked for something impossible.
        NeftuneError: it failed, or died.
    """
    match answer["event"]:
        case "refused":
            raise UsageError(*(unpacked(Problem, problem) for problem in answer["problems"]))
        case "failed":
            raise NeftuneError(unpacked(Failure, answer["failure"]).reason)
        case "died":
            raise NeftuneError(answer["what"])
