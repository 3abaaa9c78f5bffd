"""Types of the fields of specs, which convert what YAML reads, and refuse what pydantic would convert in silence.

The fields of SFTConfig, which are not declared here, are checked by the types that SFTConfig declares.
"""

import math
from dataclasses import Field as DataclassField
from datetime import datetime
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

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

_LEAST = {"gradient_accumulation_steps": 1, "label_smoothing_factor": 0, "weight_decay": 0}
"""Smallest values of SFTConfig fields that SFTConfig does not check."""


def expected_instead(field: DataclassField[Any], value: Any) -> str | None:
    """Return what a field of SFTConfig expects if a value does not fit, for example "a whole number"; else None.

    It follows from the choices, the default and the types of the field, and from `_LEAST`.
    """
    choices = field.metadata.get("choices")
    if choices and value not in choices:
        return f"one of {', '.join(map(str, choices))}"
    if _is_mapping(field):  # SFTConfig would read a text as the path of a file, which is not part of a trial's identity
        return None if isinstance(value, dict | None) else "a mapping of fields"
    if _types(field) == {bool}:
        return None if isinstance(value, bool) or value is field.default else "true or false"
    if isinstance(field.default, int | float) or (_types(field) and _types(field) <= {int, float}):
        return None if value is None is field.default else _expected_number(field, with_exact_type(field, value))
    return None if isinstance(value, str | bool | int | float | list | dict | None) else "a number or a string"


def _is_mapping(field: DataclassField[Any]) -> bool:
    return any(dict in (one, get_origin(one)) for one in _types(field))


def _types(field: DataclassField[Any]) -> set[Any]:
    """Return the types of a field, without None."""
    return set(get_args(field.type) or (field.type,)) - {NoneType}


def _expected_number(field: DataclassField[Any], value: Any) -> str | None:
    kind, name = ((int, float), "a number") if float in _number_types(field) else (int, "a whole number")
    if not isinstance(value, kind) or isinstance(value, bool) or not math.isfinite(value):
        return name
    least = _LEAST.get(field.name, -math.inf)
    return f"{least} or larger" if value < least else None


def _number_types(field: DataclassField[Any]) -> set[Any]:
    return {int, float} & _types(field)


def with_exact_type(field: DataclassField[Any], value: Any) -> Any:
    """Return 1 as 1.0 for a field of type float, and 1.0 as 1 for a field of type int; other values unchanged."""
    types = _number_types(field)
    if types == {float} and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return int(value) if types == {int} and isinstance(value, float) and value.is_integer() else value
