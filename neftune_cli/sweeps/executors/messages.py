"""Messages between the main process and its workers as JSON lines, and values as JSON."""

import json
import os
from collections.abc import Iterator
from typing import Any, TypeVar, assert_never

from pydantic import TypeAdapter

from neftune_cli.errors import NeftuneError, Problem, UsageError
from neftune_cli.records import TrialRecord
from neftune_cli.sweeps.executors import Event, Finished, LeasedElsewhere, Started, WorkerDied
from neftune_cli.sweeps.failures import Failure
from neftune_cli.training.trial import Trial

T = TypeVar("T")
WorkerMessage = dict[str, Any]
"""A request has a `request`, an answer or event has an `event`. Both have the `id` of the request."""


def encode_line(message: WorkerMessage) -> bytes:
    """Return a message as one line of JSON."""
    return json.dumps(message, ensure_ascii=False).encode() + b"\n"


def write_line(descriptor: int, message: WorkerMessage) -> None:
    """Write a message as one line.

    Raises:
        BrokenPipeError: the other process has ended.
    """
    line = encode_line(message)
    while line:
        line = line[os.write(descriptor, line) :]


class LineDecoder:
    """Decode messages from a stream that arrives in pieces of any size."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> Iterator[WorkerMessage]:
        """Yield each message that this piece completes."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            yield json.loads(line)


def to_json(value: Any) -> Any:
    """Return a dataclass or pydantic model as plain JSON values."""
    return _adapter(type(value)).dump_python(value, mode="json", by_alias=False)


def from_json(kind: type[T], value: Any) -> T:
    """Return the dataclass or pydantic model of this type.

    Raises:
        ValueError: the value has another type.
    """
    found: T = _adapter(kind).validate_python(value)
    return found


def trial_event(trial: Trial, message: WorkerMessage) -> Event:
    """Return the event that a worker's message reports about its trial.

    Raises:
        ValueError: the event is unknown.
    """
    match message["event"]:
        case "started":
            return Started(trial)
        case "leased-elsewhere":
            return LeasedElsewhere(trial)
        case "finished":
            record = _optional(TrialRecord, message.get("record"))
            return Finished(trial, record, failure_in(message), message["seconds"])
        case "failed":  # outside the trial
            return Finished(trial, None, failure_in(message), 0.0)
        case "died":
            details = {name: message[name] for name in _DEATH if name in message}
            return WorkerDied(trial, message["reason"], **details)
        case unknown:
            raise ValueError(f"Unknown event {unknown!r} of a worker.")


_DEATH = ("log_end", "out_of_memory", "machine_lost")


def message_of(event: Event) -> WorkerMessage:
    """Return the message from which `trial_event` makes this event."""
    match event:
        case Started():
            return {"event": "started"}
        case LeasedElsewhere():
            return {"event": "leased-elsewhere"}
        case Finished(_, record, failure, seconds):
            values = {name: to_json(one) for name, one in (("record", record), ("failure", failure)) if one is not None}
            return {"event": "finished", "seconds": seconds, **values}
        case WorkerDied():
            return {"event": "died", "reason": event.reason, **{name: getattr(event, name) for name in _DEATH}}
        case _:
            assert_never(event)


def failure_in(message: WorkerMessage) -> Failure | None:
    """Return the failure in a message, or None."""
    return _optional(Failure, message.get("failure"))


def answered_value(kind: type[T], answer: WorkerMessage) -> T:
    """Return the value of a worker's answer.

    Raises:
        UsageError: the request is impossible, for example because the data do not fit the model.
        NeftuneError: the worker failed or died.
        ValueError: the event is unknown.
    """
    match answer["event"]:
        case "answer":
            return from_json(kind, answer["value"])
        case "refused":
            raise UsageError(*(from_json(Problem, problem) for problem in answer["problems"]))
        case "failed":
            raise NeftuneError(from_json(Failure, answer["failure"]).reason)
        case "died":
            raise NeftuneError(" ".join(_sentences_on_death(answer)))
        case unknown:
            raise ValueError(f"Unknown event {unknown!r} of a worker.")


def _sentences_on_death(answer: WorkerMessage) -> Iterator[str]:
    death = WorkerDied(None, answer["reason"], answer.get("log_end", ""))
    yield f"The worker {death.reason}."
    if death.last_log_line:
        yield f"Last log line: {death.last_log_line}"
    if "log" in answer:
        yield f"The log is {answer['log']}."
    if not answer.get("out_of_memory"):
        yield "Run the same command again."


def _optional(kind: type[T], value: Any) -> T | None:
    return None if value is None else from_json(kind, value)


def _adapter(kind: Any) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}
