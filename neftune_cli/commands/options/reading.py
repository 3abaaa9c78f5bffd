"""From options as they were typed, and an experiment file, to a spec or to everything that is wrong with them."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from neftune_cli.config import values
from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.config.spec import SweepSpec
from neftune_cli.data.loading import load_data
from neftune_cli.errors import Problems
from neftune_cli.models.sources import find_model

_RECIPE = ("epochs", "max_steps", "learning_rate", "batch_size", "max_length", "lora_rank")
_EVALUATION = ("max_new_tokens", "repetition_penalty")
_READERS: dict[str, Callable[[Any], Any]] = {
    "alphas": values.parse_alphas,
    "snr": values.parse_snr,
    "noises": values.parse_noises,
    "seeds": values.parse_seeds,
    "settings": values.parse_settings,
}


def read_spec(file: Path | None, options: Mapping[str, Any], problems: Problems) -> SweepSpec | None:
    """Return the spec that options and a file mean, without the options that can't be read.

    Args:
        file: a YAML experiment, or None.
        options: what is trained; those the user left alone are None.
        problems: gets what is wrong; where that leaves no spec, what is wrong with the model and the data, too.
    """
    fields = _fields(options, problems)
    spec = problems.attempt(lambda: resolve_sweep(file, fields))
    if spec is None:  # what the options name can be looked at all the same
        _look_up(fields, problems)
    return spec


def raise_with_others(problems: Problems, file: Path | None, options: Mapping[str, Any]) -> None:
    """Raise problems of how trials are run, if there are any, with those of what is trained.

    No worker is started for it: what only one can tell, and what is in the folder, is told when all this is right.

    Raises:
        UsageError: both kinds at once.
    """
    if problems.found:
        spec = read_spec(file, options, problems)
        if spec is not None:
            _look_up(spec.model_dump(by_alias=True), problems)
        problems.raise_any()


def _fields(options: Mapping[str, Any], problems: Problems) -> dict[str, Any]:
    """Return the fields of `SweepSpec` that options give, with `alphas`, `snr` and `noises` for its arms."""
    given = {name: value for name, value in options.items() if value is not None}
    read = {name: problems.attempt(partial(_READERS[name], given[name])) for name in _READERS if name in given}
    recipe = {name: given[name] for name in _RECIPE if name in given}
    fields = {name: value for name, value in given.items() if name not in (*_READERS, *_RECIPE, *_EVALUATION)}
    fields |= {name: value for name, value in read.items() if name != "settings" and value is not None}
    fields["train"] = {**(read.get("settings") or {}), **recipe}
    fields["evaluation"] = {name: given[name] for name in _EVALUATION if name in given}
    return fields


def _look_up(fields: Mapping[str, Any], problems: Problems) -> None:
    """Look for the model and the data that the fields of a spec name."""
    problems.attempt(lambda: find_model(str(fields.get("model", "tiny"))))
    problems.attempt(lambda: load_data(str(fields.get("dataset", "bios")), layout=fields.get("format")))
