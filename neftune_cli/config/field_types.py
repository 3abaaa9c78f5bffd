"""Types of the fields of specs, which convert what YAML reads, and refuse what pydantic would convert in silence."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticKnownError

from neftune_cli.config.canonical_json import canonical_json
from neftune_cli.config.choices import LARGEST_SEED
from neftune_cli.config.noises import DISTRIBUTIONS, SCHEDULES


def _no_boolean(value: Any) -> Any:
    """Return a value that is not a boolean, which pydantic reads as the number 0 or 1."""
    if isinstance(value, bool):
        raise PydanticKnownError("float_type")
    return value


def _iso_time(text: str) -> str:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("must be a time in ISO 8601") from None
    return text


def _json_value(value: Any) -> Any:
    """Return a value that JSON has, so that identities of trials and messages to workers can contain it."""
    try:
        canonical_json(value)
    except (TypeError, ValueError, RecursionError):  # RecursionError: it contains itself
        message = "must be text, a finite number, true, false, null, or a list or mapping of these"
        raise ValueError(message) from None
    return value


def _as_list(value: Any) -> Any:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _as_text(value: Any) -> Any:
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else value


Number = Annotated[float, BeforeValidator(_no_boolean)]
WholeNumber = Annotated[int, BeforeValidator(_no_boolean)]
Seed = Annotated[WholeNumber, Field(ge=0, le=LARGEST_SEED)]
Time = Annotated[str, AfterValidator(_iso_time)]
JsonValue = Annotated[Any, AfterValidator(_json_value)]
TextList = Annotated[tuple[str, ...], BeforeValidator(_as_list)]
"""In YAML, one text needs no brackets."""
TextOrNumber = Annotated[str, BeforeValidator(_as_text)]
"""Text, which YAML reads as a number if it is one, such as `margin: 0.02`."""
DistributionName = Annotated[str, AfterValidator(DISTRIBUTIONS.valid_name)]
ScheduleName = Annotated[str, AfterValidator(SCHEDULES.valid_name)]
