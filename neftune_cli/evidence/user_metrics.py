"""Metrics of the user, named as `module:function` and computed from the stored responses of a sweep."""

import inspect
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from importlib import invalidate_caches
from pathlib import Path
from typing import Any

from neftune_cli.config.registry import imported
from neftune_cli.errors import Problem, UsageError, alternatives, did_you_mean, with_type
from neftune_cli.evidence.added_metrics import ItemScores, with_item_metric
from neftune_cli.evidence.measurements import Evidence
from neftune_cli.evidence.trials import TrialResponses, finished_responses, only_sweep, stored_responses
from neftune_cli.formatting import capitalized
from neftune_cli.metrics import HELD_OUT_RESPONSES, Margin, Metric
from neftune_cli.records import Generation, MetricScores
from neftune_cli.store import SweepFolder

_MARGIN = Margin(0.02, relative=True)
_GOALS = ("higher", "lower")
_SIGNATURE_FIX = "Write a function of (response, reference) or of (prompt, reference, response)."
_MOST_CHARACTERS = 60


@dataclass(frozen=True)
class _UserMetric:
    """A metric with the function that scores one response."""

    metric: Metric
    score: Callable[[Generation], Any]


def user_metric_problems(reference: str) -> Iterator[Problem]:
    """Yield the problem of a function that cannot be imported or called, which the metric of a sweep names."""
    try:
        _user_metric(reference)
    except UsageError as error:
        yield from (replace(one, field=("analysis", "metric")) for one in error.problems)


def metric_scores(folder: SweepFolder, reference: str) -> MetricScores:
    """Return the scores of the stored responses of a sweep by a function of the user.

    Args:
        folder: the sweep.
        reference: `module:function`. The module is searched in the current folder as well.

    Raises:
        UsageError: the function cannot be imported or called, or does not return a number.
    """
    with _option_named():
        user_metric = _user_metric(reference)
        return MetricScores.of(user_metric.metric, _values(user_metric, finished_responses(folder)))


def with_user_metric(evidence: Sequence[Evidence], reference: str) -> list[Evidence]:
    """Return the evidence with a metric of the user, whose key is `reference`, in the tables of its only sweep.

    Args:
        evidence: of one sweep.
        reference: `module:function`. The module is searched in the current folder as well.

    Raises:
        UsageError: the function cannot be imported or called, or does not return a number.
    """
    sweep = only_sweep(evidence, f"--metric {reference}")
    with _option_named():
        user_metric = _user_metric(reference)
        values = _values(user_metric, stored_responses(sweep))
    scored = with_item_metric(sweep, user_metric.metric, values, f"--metric {reference}")
    return [scored if one is sweep else one for one in evidence]


@contextmanager
def _option_named() -> Iterator[None]:
    """Name the option in the problems of a function, which begin with the reference."""
    try:
        yield
    except UsageError as error:
        raise UsageError(*(replace(one, what=f"--metric {one.what}") for one in error.problems)) from error.__cause__


def _user_metric(reference: str) -> _UserMetric:
    found = _imported(reference)
    if isinstance(found, Metric):
        function = _imported(found.score) if isinstance(found.score, str) else found.score
        metric = replace(found, key=reference, stored=False)
        if not (found.per_item and callable(function)):
            what = f"{reference}: this metric has no scoring function of one response."
            raise UsageError(Problem(what, "Declare it with per_item=True and a function as score."))
    else:
        function, metric = found, _metric(reference, found)
    return _UserMetric(metric, _call(reference, function))


def _metric(reference: str, function: Any) -> Metric:
    """Return the declaration of a function, whose attribute `goal` may be `lower`."""
    if not callable(function):
        what = f"{reference}: this is a {type(function).__name__}, not a function."
        raise UsageError(Problem(what, _SIGNATURE_FIX))
    goal = getattr(function, "goal", "higher")
    if goal not in _GOALS:
        what = f"{reference}: the attribute goal is {goal!r}."
        raise UsageError(Problem(what, f"Use {alternatives(map(repr, _GOALS))}."))
    name = reference.partition(":")[2].replace("_", " ")
    return Metric(
        key=reference,
        name=capitalized(name),
        unit="",
        goal="lower" if goal == "lower" else "higher",
        decimals=3,
        margin=_MARGIN,
        section=HELD_OUT_RESPONSES,
        stored=False,
    )


def _imported(reference: str) -> Any:
    module, _, name = reference.partition(":")
    _forget_changed_modules()
    try:
        with _code_of_user():
            found: Any = imported(reference)
            _check_origin(reference, module)
            return found
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # a script may end the process
        loaded = sys.modules.get(module)
        if isinstance(error, AttributeError) and loaded and not hasattr(loaded, name):
            fix = did_you_mean(name, [one for one in vars(loaded) if not one.startswith("_")])
            what = f"{reference}: the module {module} has no function {name!r}."
            raise UsageError(Problem(what, fix or "Use module:function with a function of this module.")) from None
        raise _import_problem(reference, module, error) from error


def _import_problem(reference: str, module: str, error: BaseException) -> UsageError:
    is_missing = isinstance(error, ModuleNotFoundError) and error.name in (module, module.partition(".")[0])
    if is_missing:
        what = f"{reference}: there is no module {module!r}."
        return UsageError(Problem(what, f"Put {module.replace('.', '/')}.py into the current folder, or install it."))
    what = f"{reference}: the module {module!r} cannot be imported: {with_type(error)}."
    return UsageError(Problem(what, "Correct the module."))


def _call(reference: str, function: Callable[..., Any]) -> Callable[[Generation], Any]:
    """Return a function of a stored response that calls the user's function with two or three arguments."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some functions in C have none
        return lambda one: function(one.response, one.reference)
    if _accepts(signature, 3):
        return lambda one: function(one.prompt, one.reference, one.response)
    if _accepts(signature, 2):
        return lambda one: function(one.response, one.reference)
    what = f"{reference}: the function has the parameters {signature}."
    raise UsageError(Problem(what, _SIGNATURE_FIX))


def _accepts(signature: inspect.Signature, count: int) -> bool:
    """Return whether a function must be called with this many arguments, or may be if the others have defaults."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [one for one in signature.parameters.values() if one.kind in kinds and one.default is one.empty]
    if len(required) != count:
        return False
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _values(user_metric: _UserMetric, trials: Iterable[TrialResponses]) -> ItemScores:
    """Return the score of each response."""
    with _code_of_user():
        return {
            trial.trial_id: {one.example: _number(user_metric, trial, one) for one in trial.responses}
            for trial in trials
        }


def _number(user_metric: _UserMetric, trial: TrialResponses, response: Generation) -> float:
    where = f"{user_metric.metric.key}, {trial.name}, example {response.example}"
    try:
        value = user_metric.score(response)
    except (Exception, SystemExit) as error:
        what = f"{where}: {with_type(error)}."
        raise UsageError(Problem(what, "Correct the function, so that it takes every response.")) from error
    try:
        number = math.nan if isinstance(value, str | bytes) else float(value)
    except Exception:  # too large for a float, or an object of another package
        number = math.nan
    if not math.isfinite(number):
        what = f"{where}: the function returned {_shown(value)}, which is not a finite number."
        raise UsageError(Problem(what, "Return a number for every response."))
    return number


def _shown(value: Any) -> str:
    try:
        return repr(value)[:_MOST_CHARACTERS]
    except Exception:  # also of a whole number with thousands of digits
        return f"a value of type {type(value).__name__}"


@contextmanager
def _code_of_user() -> Iterator[None]:
    """Search modules in the current folder first, also when a function imports at its first call.

    What the code prints goes to stderr, because stdout has nothing but results.
    """
    folder, before = os.getcwd(), set(sys.modules)  # noqa: PTH109 - the import system takes texts
    sys.path.insert(0, folder)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
        _read_modules.update(_modules_from(folder, before))


_read_modules: dict[str, tuple[str, Path, int]] = {}
"""Modules that were imported from a current folder: folder, file, and its time of change in nanoseconds.

Unchanged ones are not imported again by the several steps of a command: a module may load a model, or register a
metric, which is refused a second time.
"""


def _modules_from(folder: str, before: set[str]) -> Iterator[tuple[str, tuple[str, Path, int]]]:
    """Yield the new modules that lie directly in a folder, and those of new packages there."""
    for name in set(sys.modules) - before:
        top = name.partition(".")[0]
        file = getattr(sys.modules[name], "__file__", None)
        own = (Path(folder, f"{top}.py"), Path(folder, top))
        if top not in before and file and any(Path(file).is_relative_to(one) for one in own):
            yield name, (folder, Path(file), _changed_at(Path(file)))


def _forget_changed_modules() -> None:
    """Forget the modules of current folders if one has changed or the folder is another.

    A notebook or a program then scores with the files as they are now, as a new command does.
    """
    folder = os.getcwd()  # noqa: PTH109
    if any(one != folder or time != _changed_at(file) for one, file, time in _read_modules.values()):
        for name in _read_modules:
            sys.modules.pop(name, None)
        _read_modules.clear()
    invalidate_caches()  # a file may be new


def _changed_at(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


def _check_origin(reference: str, module: str) -> None:
    """Raise a `UsageError` if the current folder has the module, but another one was imported before."""
    top = module.partition(".")[0]
    here = [file for file in (Path(top, "__init__.py"), Path(f"{top}.py")) if file.is_file()]
    loaded = getattr(sys.modules.get(top), "__file__", None)
    if here and not (loaded and any(file.samefile(loaded) for file in here)):
        what = f"{reference}: another module {top!r} was imported before, from {loaded or 'Python itself'}."
        raise UsageError(Problem(what, f"Rename {here[0]}, or start a new Python process in this folder."))
