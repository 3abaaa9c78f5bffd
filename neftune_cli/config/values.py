"""Limits and checks of values, and parsers of option values.

The parsers read paths, lists of alphas, ratios, noises and seeds, and `key=value` pairs in YAML.
"""

import math
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import yaml

from neftune_cli.config.choices import LARGEST_SEED
from neftune_cli.config.experiment_file import NumberLoader, parser_reason
from neftune_cli.config.noises import DISTRIBUTIONS
from neftune_cli.errors import Problem, UsageError, alternatives, did_you_mean

S = TypeVar("S", int, int | None)
MOST_SEEDS = 10_000
"""Largest number of seeds of a sweep or a look. A larger number, such as a date, was probably meant as one seed."""
LARGEST_ALPHA = 1e6
"""Largest noise size. The noise, its squares and their sums are finite in float32 and bfloat16 for any length."""


def repeated(values: Iterable[Any]) -> list[Any]:
    """Return the values that occur several times, sorted."""
    return sorted(value for value, count in Counter(values).items() if count > 1)


def are_increasing(values: Sequence[float]) -> bool:
    """Return whether each value is larger than the one before."""
    return all(before < after for before, after in pairwise(values))


def is_alpha(value: Any) -> bool:
    """Return whether a value is a number from 0 to `LARGEST_ALPHA`."""
    return is_size(value) and value <= LARGEST_ALPHA


def is_size(value: Any) -> bool:
    """Return whether a value is a finite number, 0 or larger."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)  # numbers of NumPy included
    return is_number and math.isfinite(value) and value >= 0


def alpha_requirement(value: Any) -> str:
    """Return the condition that a value does not meet, for which `is_alpha` is False."""
    return f"must be {LARGEST_ALPHA:.0f} or less" if is_size(value) else "must be a finite number, 0 or larger"


def check_alpha(alpha: float) -> float:
    """Return alpha as a float.

    Raises:
        UsageError: it is negative, larger than `LARGEST_ALPHA`, infinite or not a number.
    """
    if not is_alpha(alpha):
        what = f"alpha {alpha_requirement(alpha)}; {alpha!r} was given."
        raise UsageError(Problem(what, "Use for example 5. The paper uses 5, 10 and 15."))
    return float(alpha)


def check_seed(seed: S) -> S:
    """Return the seed that a caller of the Python API passes as an int, also if it is one of NumPy's; None stays None.

    Raises:
        UsageError: it is not a whole number from 0 to LARGEST_SEED.
    """
    if seed is None:
        return seed
    is_whole = isinstance(seed, Integral) and not isinstance(seed, bool)
    if not (is_whole and 0 <= seed <= LARGEST_SEED):
        what = f"seed must be a whole number from 0 to {LARGEST_SEED}; {seed!r} was given."
        raise UsageError(Problem(what, "Use seed=0."))
    return int(seed)


def parse_path(text: str | PathLike[str]) -> Path:
    """Return the path of a file or folder, with the home directory in place of `~` if there is such a user."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # there is no such user
        return Path(text)


def parse_size(alpha: str | None, snr: str | None) -> tuple[str, float]:
    """Return the noise size of a training run: the name `alpha` or `snr`, and the number. The default is alpha 5.

    Raises:
        UsageError: both are given, the value is not valid, or there are several values.
    """
    if alpha is not None and snr is not None:
        raise UsageError(Problem("--alpha and --snr cannot be combined.", "Use one of them."))
    sizes = parse_alphas("5" if alpha is None else alpha, "--alpha") if snr is None else parse_snr(snr)
    if len(sizes) > 1:
        what = f"{'--alpha' if snr is None else '--snr'}: a training run has one noise size; {len(sizes)} were given."
        raise UsageError(Problem(what, "Use one number, or `neftune sweep` to compare several."))
    return "alpha" if snr is None else "snr", sizes[0]


def parse_alphas(text: str, option: str = "--alphas") -> list[float]:
    """Parse a list such as `0,5,10`.

    Args:
        text: value of the option.
        option: name of the option, for messages.

    Raises:
        UsageError: every alpha that is not a number, negative, larger than `LARGEST_ALPHA`, not finite or repeated.
    """
    parts = [part.strip() for part in text.split(",")]
    problems = list(_alpha_problems(parts, option))
    if problems:
        raise UsageError(*problems)
    return [float(part) for part in parts]


def _alpha_problems(parts: list[str], option: str) -> Iterator[Problem]:
    seen: set[float] = set()
    example = "5" if option == "--alpha" else "0,5,10,15"
    for part in parts:
        alpha = _float_or_none(part)
        if alpha is None:
            numbers = "a number" if option == "--alpha" else "numbers"
            yield Problem(f"{option}: {part!r} is not a number.", f"Use {numbers}, for example {option} {example}.")
            continue
        if not is_alpha(alpha):
            what = f"{option}: alpha {alpha_requirement(alpha)}; {part} was given."
            yield Problem(what, f"Use {option} {example}; 0 is no noise.")
        elif alpha in seen:
            fix = "Use each alpha once. --seeds sets the number of trials per alpha."
            yield Problem(f"{option}: {part} appears twice.", fix)
        seen.add(alpha)


def parse_noises(text: str) -> list[str]:
    """Parse a list of noise distributions such as `uniform,gaussian`.

    Raises:
        UsageError: every distribution that is unknown or repeated.
    """
    names = [part.strip() for part in text.split(",")]
    problems = [
        Problem(
            f"--noises: a noise distribution must be {alternatives(DISTRIBUTIONS)}; {name!r} was given.",
            did_you_mean(name, DISTRIBUTIONS) or "Use for example --noises uniform,gaussian.",
        )
        for name in names
        if name not in DISTRIBUTIONS
    ]
    problems += [Problem(f"--noises: {name} appears twice.", "Use each distribution once.") for name in repeated(names)]
    if problems:
        raise UsageError(*problems)
    return names


def parse_tasks(text: str) -> list[str]:
    """Parse a list of tasks of lm-evaluation-harness such as `hellaswag,tasks/trivia.yaml`.

    Raises:
        UsageError: a task is empty or repeated.
    """
    tasks = [part.strip() for part in text.split(",")]
    if not all(tasks):
        what = f"--lm-eval {text!r}: a task is empty."
        raise UsageError(Problem(what, "Use for example --lm-eval hellaswag,tasks/trivia.yaml."))
    if twice := repeated(tasks):
        raise UsageError(*(Problem(f"--lm-eval: {task} appears twice.", "Use each task once.") for task in twice))
    return tasks


def parse_snr(text: str) -> list[float]:
    """Parse a list of signal-to-noise ratios such as `20,10`.

    Raises:
        UsageError: every ratio that is not a number, below 1, not finite or repeated.
    """
    ratios: list[float] = []
    problems = []
    for part in (part.strip() for part in text.split(",")):
        ratio = _float_or_none(part)
        if ratio is None or not math.isfinite(ratio) or ratio <= 0:
            problems.append(Problem(f"--snr: {part!r} is not a positive, finite ratio.", _SNR_FIX))
        elif ratio < 1:
            what = f"--snr must be 1 or larger; {part} was given (noise {1 / ratio:.3g} times the embedding norm)."
            other = f"--snr {1 / ratio:.3g} for noise of {ratio:.3g} times the embedding norm"
            fix = f"Use --alphas for noise that large, or {other}."
            problems.append(Problem(what, fix))
        elif ratio in ratios:
            problems.append(Problem(f"--snr: {part} appears twice.", "Use each ratio once."))
        else:
            ratios.append(ratio)
    if problems:
        raise UsageError(*problems)
    return ratios


_SNR_FIX = "Use embedding norm divided by noise norm: with --snr 10 the noise norm is a tenth of the embedding norm."


def parse_seeds(text: str) -> list[int]:
    """Parse `3` as the seeds 0, 1 and 2, and a list such as `0,1,7` or `7,` as these seeds.

    Raises:
        UsageError: the text is neither, the number is 0 or larger than `MOST_SEEDS`, or a seed is repeated.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts[:1] + [part for part in parts[1:] if part]):
        raise UsageError(Problem(f"--seeds: {text!r} is neither a number nor a list of seeds.", _SEEDS_FIX))
    if len(parts) == 1:
        if int(text) == 0:
            raise UsageError(Problem("--seeds: a sweep needs at least one seed.", _SEEDS_FIX))
        if int(text) > MOST_SEEDS:
            what = f"--seeds: the number of seeds must be 1 to {MOST_SEEDS:,}; {text} was given."
            fix = f"Use a smaller number. For the one seed {text}, end the list with a comma: --seeds {text},"
            raise UsageError(Problem(what, fix))
        return list(range(int(text)))
    seeds = [int(part) for part in parts if part]
    if len(set(seeds)) < len(seeds):
        raise UsageError(Problem(f"--seeds: {text} repeats a seed.", "Use each seed once."))
    return seeds


_SEEDS_FIX = "Use a number of seeds (3), or a list (0,1,7). A list of one seed ends with a comma (7,)."


def parse_looks(text: str) -> list[int]:
    """Parse numbers of seeds such as `5,8,12,20`.

    Raises:
        UsageError: a part is not a number.
    """
    parts = [part.strip() for part in text.split(",")]
    if wrong := [part for part in parts if not (part.isascii() and part.isdecimal())]:
        raise UsageError(
            Problem(f"--looks: {wrong[0]!r} is not a number of seeds.", "Use for example --looks 5,8,12,20.")
        )
    return [int(part) for part in parts]


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """Parse `key=value` pairs with values in YAML, for example `true`, `0.1` or `[a, b]`.

    Raises:
        UsageError: every pair without `=`, with an empty or repeated name, or with a value that is not valid YAML.
    """
    settings: dict[str, Any] = {}
    problems = []
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.strip()
        if not equals or not key:
            problems.append(
                Problem(f"--set {pair}: the {'value' if key else 'name'} is missing.", "Use --set key=value.")
            )
            continue
        if key in settings:
            problems.append(Problem(f"--set {key} appears twice.", "Use it once."))
            continue
        try:
            settings[key] = yaml.load(value, Loader=NumberLoader)
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date that does not exist
            what = f"--set {pair}: the value is not valid YAML: {parser_reason(error)}."
            problems.append(Problem(what, "Add quotes around the value."))
    if problems:
        raise UsageError(*problems)
    return settings


def _float_or_none(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def parse_columns(text: str) -> dict[str, str]:
    """Parse pairs such as `prompt=question,completion=answer`: the meaning of a column, and its name.

    Raises:
        UsageError: every pair without `=`, and every meaning that is repeated.
    """
    columns: dict[str, str] = {}
    problems = []
    for pair in text.split(","):
        meaning, equals, column = (part.strip() for part in pair.partition("="))
        if not (meaning and equals and column):
            problems.append(Problem(f"--columns: {pair.strip()!r} has no column.", _COLUMNS_FIX))
        elif meaning in columns:
            problems.append(Problem(f"--columns: {meaning} appears twice.", "Use one column for each meaning."))
        columns[meaning] = column
    if problems:
        raise UsageError(*problems)
    return columns


def columns_option(columns: Mapping[str, str]) -> str:
    """Return the option `--columns` for columns by their meaning, as it is typed in a shell."""
    return "--columns " + shlex.quote(",".join(f"{meaning}={column}" for meaning, column in columns.items()))


_COLUMNS_FIX = "Use meaning=column, for example --columns prompt=question,completion=answer."

PARSERS: Mapping[str, Callable[[Any], Any]] = {
    "alphas": parse_alphas,
    "snr": parse_snr,
    "noises": parse_noises,
    "seeds": parse_seeds,
    "looks": parse_looks,
    "columns": parse_columns,
    "train.sft": parse_settings,
    "evaluation.lm_eval": parse_tasks,
}
"""Parsers of option values by the field of the option. Other values are used as they are given."""
