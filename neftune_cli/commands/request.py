"""Request of a user: the checked plan, results folder and executor for options and an experiment file.

All problems of all options, files and folders are found before any is reported.
"""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from glob import has_magic
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from neftune_cli.commands.output import say_line, say_nothing
from neftune_cli.config.executors import EXECUTORS, make_executor, refused_paths
from neftune_cli.config.field_problems import TRAINING_FIELDS, unused_field_problems
from neftune_cli.config.resolve import Resolved, resolve_valid_fields
from neftune_cli.config.run_settings import SweepSettings, sweep_settings
from neftune_cli.config.spec import DEFAULT_MODEL, InputSpec, SweepSpec
from neftune_cli.config.values import PARSERS
from neftune_cli.data.files import FILE_SUFFIXES, is_data_file, split_suffix
from neftune_cli.errors import Problem, Problems, UsageError
from neftune_cli.metrics import names_function
from neftune_cli.store import RESULTS, SWEEP_FILE, SweepFolder
from neftune_cli.sweeps.executors import Executor
from neftune_cli.sweeps.inspection import Inspection
from neftune_cli.sweeps.interrupts import Interrupts
from neftune_cli.sweeps.plan import Plan, analysis_problems, make_plan
from neftune_cli.training.hardware import available_cores

READING = "Reading model and data ..."
"""First line of a sweep. The imports of a worker and its reading take seconds."""
READING_ON_NODE = "Reading model and data in a job of the cluster, which may wait for a free node ..."
"""The same line for an executor on other machines. If the facts are remembered, there is no such job, and no wait."""
ONE_ARM = "The sweep has one arm, so there will be nothing to compare. Use at least two, for example --alphas 0,5."
"""Note before the trials of a sweep with one arm."""
Inspect = Callable[[SweepSpec], Inspection]
_SUFFIXES = (".gguf", *FILE_SUFFIXES)
_INPUT_NAMES = {field.alias or name for name, field in InputSpec.model_fields.items()}


@dataclass(frozen=True)
class SweepRequest:
    """Options, experiment file and results folder of a sweep, as the user gave them."""

    file: Path | None
    """Experiment in YAML."""
    fields: Mapping[str, Any]
    """Given option values by spec field, for example "train.epochs"."""
    output: Path | None
    """Results folder; None for the default one."""
    settings: SweepSettings
    """How trials are run."""
    pause_at: int | None = None
    """Number of seeds of the planned look after which the command ends; None to end after the last one."""
    single_trial: bool = False
    """Whether the folder may have only one training run."""


@dataclass(frozen=True)
class PreparedSweep:
    """The plan of a request and its results folder, with the executor for its trials."""

    request: SweepRequest
    plan: Plan
    folder: SweepFolder
    executor: Executor
    interrupts: Interrupts
    """The signals that interrupt the command."""


def checked_request(
    fields: Mapping[str, Any],
    run: Mapping[str, Any],
    *,
    file: Path | None = None,
    output: Path | None = None,
    pause_at: int | None = None,
    single_trial: bool = False,
    problems: Problems | None = None,
) -> SweepRequest:
    """Return the request of some option values, whose run settings are checked.

    A problem of the run settings or of another option is raised together with the problems of the experiment that are
    found without a worker and without the results folder. Otherwise `prepared_sweep` raises those of the experiment.

    Args:
        fields: given option values by spec field.
        run: option values that `sweep_settings` reads.
        file: experiment in YAML.
        output: results folder; None for the default one.
        pause_at: number of seeds of the planned look after which the command ends; None to end after the last one.
        single_trial: whether the folder may have only one training run.
        problems: problems of other options.

    Raises:
        UsageError: a run setting has a problem, or there are problems of other options.
    """
    found = problems or Problems()
    settings = found.attempt(partial(sweep_settings, run))
    if settings is None or found.found:
        resolved = _resolve(file, fields, found)
        if resolved is not None:
            found.add(_problems_without_worker(resolved, pause_at, _folder(file, output, resolved.spec)))
            found.add(map(resolved.origin.placed, analysis_problems(resolved.spec)))
            _check_model_and_data(resolved.spec.model_dump(by_alias=True), found)
        raise UsageError(*found.found)
    return SweepRequest(file, fields, output, settings, pause_at, single_trial)


@contextmanager
def prepared_sweep(
    request: SweepRequest, *, quiet: bool, remembered: Callable[[SweepSpec], Inspection | None] = lambda _: None
) -> Iterator[PreparedSweep]:
    """Yield the plan of a request with its executor, whose workers end with the block.

    Args:
        request: options, experiment file and folder.
        quiet: whether to print no line before model and data are read.
        remembered: returns the facts about model, data and machine if they are known; a worker finds them otherwise.

    Raises:
        UsageError: the problems of `plan_sweep`; or only one trial is allowed, and the folder has another.
    """
    with Interrupts() as interrupts, _executor(request.settings) as executor:
        settings = request.settings

        def inspect(spec: SweepSpec) -> Inspection:
            known = remembered(spec) if settings.on_this_machine else None
            found = known or executor.inspect(spec)
            if settings.estimate and not found.problems:  # --no-estimate leaves the cache of measurements alone
                from neftune_cli.sweeps.measurement_cache import remember_machine

                remember_machine(found)  # before the number of processes changes what is known of the machine
            return found.for_processes(settings.trial_settings, available_cores())

        plan, folder = plan_sweep(request, inspect, say_nothing if quiet else say_line)
        if request.single_trial and len(plan.trials) > 2:  # the base model and the one training run
            what = (
                f"`neftune train` needs a folder with one training run; {folder.path} already has trials of other arms "
                "or seeds."
            )
            raise UsageError(Problem(what, "Use another folder with --output, or `neftune sweep`."))
        if not request.single_trial and len(plan.spec.arms) == 1:
            plan = replace(plan, notes=(*plan.notes, ONE_ARM))
        yield PreparedSweep(request, plan, folder, executor, interrupts)


def _executor(settings: SweepSettings) -> Executor:
    own = dict(settings.executor_settings)
    if EXECUTORS[settings.executor].starts_ahead:
        own["workers"] = settings.workers
    return make_executor(settings.executor, own)


def plan_sweep(
    request: SweepRequest, inspect: Inspect, say: Callable[[str], None] = say_nothing
) -> tuple[Plan, SweepFolder]:
    """Return the plan of a request and its results folder.

    Args:
        request: options, experiment file and folder.
        inspect: returns the facts about model, data and machine that only a process with torch can find.
        say: receives `READING` or `READING_ON_NODE` before model and data are read, unless an option or a field has a
            problem.

    Raises:
        UsageError: all problems at once. An option or field that has a problem is left out to check the others.
    """
    problems = Problems()
    resolved = _resolve(request.file, request.fields, problems)
    if resolved is None:
        raise UsageError(*problems.found)
    spec = resolved.spec
    folder = _folder(request.file, request.output, spec)
    problems.add(_problems_without_worker(resolved, request.pause_at, folder))

    def inspect_placed(spec: SweepSpec) -> Inspection:
        found = inspect(spec)
        return replace(found, problems=tuple(map(resolved.origin.placed, found.problems)))

    if refused := tuple(refused_paths(request.settings.executor, folder.path)):
        raise UsageError(*problems.found, *refused)  # an inspection would use the paths
    if problems.found:  # without the invalid options and fields, the folder would seem to have a different sweep
        found = inspect_placed(spec)
        problems.add(map(resolved.origin.placed, analysis_problems(spec, found.lm_eval, found.data)))
        problems.add(found.problems)
        problems.raise_any()
    say(READING if request.settings.on_this_machine else READING_ON_NODE)
    try:
        return make_plan(spec, folder, inspect_placed), folder
    except UsageError as error:
        raise UsageError(*map(resolved.origin.placed, error.problems)) from None


def _problems_without_worker(resolved: Resolved, pause_at: int | None, folder: SweepFolder) -> Iterator[Problem]:
    """Yield the problems of the metric's function, the pause and unused fields, which no later check finds."""
    yield from map(resolved.origin.placed, _function_problems(resolved.spec))
    yield from _pause_problems(resolved, pause_at)
    earlier = Problems().attempt(folder.spec)  # a damaged one is reported when the plan is made
    yield from map(resolved.origin.placed, unused_field_problems(resolved.spec, earlier))


def _function_problems(spec: SweepSpec) -> Iterator[Problem]:
    """Yield the problem of the primary metric `module:function` if it cannot be imported or called."""
    if names_function(spec.analysis.metric):
        from neftune_cli.evidence.user_metrics import user_metric_problems

        yield from user_metric_problems(str(spec.analysis.metric))


def _pause_problems(resolved: Resolved, pause_at: int | None) -> Iterator[Problem]:
    """Yield the problem of a pause that is not at a planned look. Looks with a problem of their own are not known."""
    looks = resolved.spec.analysis.looks
    if pause_at is None or pause_at in looks or not resolved.looks_are_known:
        return
    if not looks:
        yield Problem("--pause-at has no effect without --until-decided.", "Add --until-decided, or remove --pause-at.")
        return
    what = f"--pause-at {pause_at}: no look is planned at {pause_at} seeds."
    yield Problem(what, f"Use one of {', '.join(map(str, looks))}.")


def read_spec(file: Path | None, fields: Mapping[str, Any], problems: Problems) -> SweepSpec | None:
    """Return the spec of the given options and a file, without the options and fields that have a problem.

    Args:
        file: experiment in YAML, or None.
        fields: given option values by spec field, for example "train.epochs".
        problems: receives the problems; if there is no spec, those of model and data as well.
    """
    resolved = _resolve(file, fields, problems)
    return resolved.spec if resolved else None


def _resolve(file: Path | None, fields: Mapping[str, Any], problems: Problems) -> Resolved | None:
    """Return what `read_spec` returns, with the origin of the values."""
    file = _experiment(file, fields, problems)
    options = _nested(fields, problems)
    resolved = resolve_valid_fields(file, options, problems)
    if resolved is None:  # model and data can be checked without a spec
        _check_model_and_data(options, problems)
    return resolved


def _experiment(file: Path | None, fields: Mapping[str, Any], problems: Problems) -> Path | None:
    """Return the experiment; None if there is none, or if the argument is a data file or names no file."""
    if file is not None and _is_data(file):
        what = f"{file} is a data file, not an experiment in YAML."
        files = ",".join(map(str, filter(None, (fields.get("dataset"), file))))
        problems.add([Problem(what, f"Use --dataset {shlex.quote(files)}.")])
        return None
    if file is not None and not file.exists() and file.suffix not in (".yaml", ".yml"):
        from neftune_cli.commands.usage_errors import stray_argument

        problems.add([stray_argument(str(file))])
        return None
    return file


def _is_data(file: Path) -> bool:
    """Return whether a file has rows by its name. JSON with an object can be an experiment, too."""
    if not is_data_file(file) or file.suffix != ".json":
        return is_data_file(file)
    try:
        return file.read_text(encoding="utf-8").lstrip().startswith("[")
    except (OSError, ValueError):  # reported when it is read
        return False


def default_name(model: str, dataset: str) -> str:
    """Return the default name of a results folder, for example `tiny-bios`."""
    return f"{_short(model)}-{_short(dataset)}"


def _short(name: str) -> str:
    """Return the last part of a path or hub id, without the suffixes of a data file; of several files, the first."""
    first = name.partition(",")[0].strip()
    path = Path(first).resolve() if first.startswith(".") else Path(first)
    suffix, compression = split_suffix(path.name)
    known = len(suffix) + len(compression) if suffix in _SUFFIXES else 0
    short = path.name[: len(path.name) - known]
    if not has_magic(name):
        return short
    return re.sub(r"[^\w.-]+", "", short).strip(".") or path.parent.name or "data"


def _folder(file: Path | None, output: Path | None, spec: SweepSpec) -> SweepFolder:
    return SweepFolder(output or RESULTS / _name(file, spec))


def _name(file: Path | None, spec: SweepSpec) -> str:
    if file is None:
        return default_name(spec.model, spec.dataset)
    return file.resolve().parent.name if file.name == SWEEP_FILE else file.stem


def _nested(fields: Mapping[str, Any], problems: Problems) -> dict[str, Any]:
    """Return parsed values as `resolve_valid_fields` expects them: "train.epochs" becomes an entry of "train"."""
    nested: dict[str, Any] = {"train": {}, "evaluation": {}, "analysis": {}}
    for field, value in fields.items():
        parsed = problems.attempt(partial(PARSERS[field], value)) if field in PARSERS else value
        if parsed is None:
            if field == "looks":
                nested["looks"] = None  # given, and reported
            continue
        section, _, name = field.rpartition(".")
        if field == "train.sft":
            problems.add(_own_option_problems(parsed))
            others = {name: value for name, value in parsed.items() if name not in TRAINING_FIELDS}
            nested["train"] = {**others, **nested["train"]}
        else:
            (nested[section] if section else nested)[name] = parsed
    return nested


def _own_option_problems(settings: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield a problem for each field of `--set` that has an option of its own, which could contradict it."""
    for name, value in settings.items():
        if name in TRAINING_FIELDS:
            option, given = f"--{name.replace('_', '-')}", "" if isinstance(value, dict | list | None) else f" {value}"
            yield Problem(f"--set {name}: {name} has an option of its own.", f"Use {option}{given}.")


def _check_model_and_data(fields: Mapping[str, Any], problems: Problems) -> None:
    """Find the model and read the data that the fields of a spec name."""
    from neftune_cli.data.loading import load_data
    from neftune_cli.models.sources import find_model

    problems.attempt(lambda: find_model(str(fields.get("model", DEFAULT_MODEL))))
    try:
        inputs = InputSpec(**{name: value for name, value in fields.items() if name in _INPUT_NAMES})
    except ValidationError:  # the spec has this problem too
        return
    problems.attempt(lambda: load_data(inputs))
