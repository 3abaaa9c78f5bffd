"""Protocol between the main process and its workers: messages as JSON lines, and the conversion of values."""

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
"""Message. A request has the key `do`, an event the key `event`. Events of a request have its `id`."""


def as_line(message: Message) -> bytes:
    """Return a message as a line."""
    return json.dumps(message, ensure_ascii=False).encode() + b"\n"


def packed(value: Any) -> Any:
    """Return a dataclass or pydantic model as JSON values."""
    return _adapter(type(value)).dump_python(value, mode="json", by_alias=False)


def unpacked(kind: type[Value], value: Any) -> Value:
    """Return the dataclass or pydantic model of packed values.

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
    """Reassembler of messages that arrive in parts."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> Iterator[Message]:
        """Yield each complete message."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            yield json.loads(line)


def event_of(trial: Trial, message: Message) -> Event:
    """Return the event of a message about a trial."""
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
    """Return the error that prevented an answer, None if there is an answer or the request was invalid."""
    found: Failure | None = _optional(Failure, answer.get("failure"))
    return found


def raise_problem(answer: Message) -> None:
    """Raise the error that prevented an answer.

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
