"""What the sweep's process and its workers say to each other: one JSON object a line, and how values travel in it."""

import json
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import TypeAdapter

from neftune_cli.errors import NeftuneError, Problem, UsageError
from neftune_cli.records import TrialRecord
from neftune_cli.sweeps.executors import Event, Finished, LeasedElsewhere, Started
from neftune_cli.sweeps.failures import Failure
from neftune_cli.training.trial import Trial

Value = TypeVar("Value")
Message = dict[str, Any]
"""A request has `do`, an event `event`; what belongs to one request has its `id`."""


def as_line(message: Message) -> bytes:
    """Return a message as it is sent."""
    return json.dumps(message, ensure_ascii=False).encode() + b"\n"


def packed(value: Any) -> Any:
    """Return a dataclass or model as plain JSON values."""
    return _adapter(type(value)).dump_python(value, mode="json", by_alias=False)


def unpacked(kind: type[Value], value: Any) -> Value:
    """Return the dataclass or model that was packed.

    Raises:
        ValueError: it was something else.
    """
    found: Value = _adapter(kind).validate_python(value)
    return found


def _adapter(kind: Any) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}


class Lines:
    """Puts the messages together again that arrive in pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> Iterator[Message]:
        """Yield each message that is whole now."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            yield json.loads(line)


def event_of(trial: Trial, message: Message) -> Event:
    """Return what a message about a trial says has happened to it."""
    match message["event"]:
        case "claimed":
            return Started(trial)
        case "taken":
            return LeasedElsewhere(trial)
        case _:
            return Finished(
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
