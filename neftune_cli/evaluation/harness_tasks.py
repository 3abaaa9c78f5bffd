"""Tasks of lm-evaluation-harness: found by name, file or folder, loaded with their documents, and hashed.

The package is imported when tasks are given.
"""

import json
import logging
import os
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from neftune_cli.config.spec import HarnessTasks
from neftune_cli.errors import Location, Problem, Problems, UsageError, did_you_mean, install_extra, one_line
from neftune_cli.formatting import counted, listed
from neftune_cli.metrics import task_metric_key

PACKAGE = "lm_eval"
FIELD: Location = ("evaluation", "lm_eval")
_SUFFIXES = (".yaml", ".yml")
_EXTRA = "lm-eval"
_SEEDS = {"random": 0, "others": 1234}
"""Seeds that `lm_eval.simple_evaluate` sets. Some tasks shuffle choices while they are loaded."""
_WHERE_DOCUMENTS_ARE = ("dataset_path", "dataset_name", "dataset_kwargs")
"""Fields of a configuration that are not hashed, because the documents are."""
_DIGITS = 16
_MOST_CHARACTERS = 200
_UNREACHABLE = ("ConnectionError", "OfflineModeIsEnabled", "LocalEntryNotFoundError", "ConnectTimeout", "ConnectError")


@dataclass(frozen=True)
class LoadedTasks:
    """Tasks with their documents. They can be run once."""

    spec: HarnessTasks
    tasks: tuple[Any, ...]
    """Tasks and groups of lm-evaluation-harness."""
    documents: Mapping[str, int]
    """Number of documents in each task or group."""

    @property
    def description(self) -> str:
        """Return the tasks with their numbers of documents."""
        return listed([f"{name} ({counted(number, 'document')})" for name, number in self.documents.items()])


class TaskLoader:
    """Load tasks, and keep the index of the task files, which takes seconds to build."""

    def __init__(self) -> None:
        self._managers: dict[tuple[tuple[Path, ...], bool], Any] = {}

    def load(self, entries: Sequence[str], limit: int | None) -> LoadedTasks:
        """Return newly loaded tasks.

        Args:
            entries: names of tasks and groups, YAML files, and folders of YAML files.
            limit: maximum number of documents of each task, or None.

        Raises:
            UsageError: the package is not installed, a task is unknown, or one cannot be loaded or run.
        """
        with harness_randomness(), warnings_hidden():  # imports, and even reading a task's name, draw random numbers
            _check_installed()
            found = self._found(entries)
            content = {name: _content(task, limit) for name, task in _leaves(found).items()}
            documents = {_name(one): _documents(one, limit) for one in found}
            metrics = tuple(key for one in found for key in _metric_keys(one))
        code = [_python_files(Path(entry)) for entry in entries if _is_path(entry)]
        spec = HarnessTasks(
            entries=tuple(entries),
            names=tuple(sorted(documents)),
            limit=limit,
            version=version(PACKAGE),
            content=_digest([content, code]),
            metrics=metrics,
        )
        return LoadedTasks(spec, tuple(found), documents)

    def _found(self, entries: Sequence[str]) -> list[Any]:
        problems = Problems()
        wanted = {entry: names for entry in entries if (names := problems.attempt(partial(_wanted, entry)))}
        manager = self._manager(wanted)
        known = manager.task_index
        found = []
        for entry, names in wanted.items():
            if _is_path(entry) or entry in known:
                found += problems.attempt(partial(_loaded, manager, entry, names)) or []
            else:
                problems.add([_unknown(entry, known)])
        problems.raise_any()
        problems.attempt(partial(_check_distinct, manager, found))
        problems.add(problem for name, task in _leaves(found).items() for problem in _task_problems(name, task))
        problems.raise_any()
        return found

    def _manager(self, wanted: Mapping[str, Sequence[str]]) -> Any:
        """Return the index of the local tasks and, if one is named that is not local, of all tasks."""
        from lm_eval.tasks import TaskManager

        folders = tuple(dict.fromkeys(folder for entry in wanted if (folder := _indexed_folder(entry))))
        local = _index(folders)
        named = {entry for entry in wanted if not _is_path(entry)}
        is_enough = not (named | _members(local)) - local.keys()
        if (folders, is_enough) not in self._managers:
            self._managers[folders, is_enough] = TaskManager(include_path=list(folders), include_defaults=not is_enough)
        return self._managers[folders, is_enough]


@contextmanager
def harness_randomness() -> Iterator[None]:
    """Set the global random generators as the harness does, and restore them at the end."""
    python, numbers = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        random.seed(_SEEDS["random"])
        np.random.seed(_SEEDS["others"])
        torch.manual_seed(_SEEDS["others"])
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numbers)


@contextmanager
def warnings_hidden() -> Iterator[None]:
    """Hide the harness's warnings, which are advice on its own options."""
    logger = logging.getLogger(PACKAGE)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _check_installed() -> None:
    if find_spec(PACKAGE) is None:
        what = "lm-evaluation-harness is not installed."
        raise UsageError(Problem(what, install_extra(_EXTRA), FIELD))
    from lm_eval.tasks import TaskManager

    if not hasattr(TaskManager, "load"):
        what = f"lm-evaluation-harness {version(PACKAGE)} is too old."
        raise UsageError(Problem(what, install_extra(_EXTRA, upgrade=True), FIELD))


def _is_path(entry: str) -> bool:
    return entry.endswith(_SUFFIXES) or os.sep in entry or Path(entry).is_dir()


def _wanted(entry: str) -> list[str]:
    """Return what an entry means to the harness: the name, the path of a file, or the tasks and groups in a folder."""
    path = Path(entry)
    if not _is_path(entry):
        return [entry]
    if path.is_file():
        return [str(_read_yaml(path).get("group", path))]  # the harness loads a group by its name only
    if not path.is_dir():
        what = f"there is no file or folder {entry}."
        raise UsageError(Problem(what, "Use an existing YAML file, a folder of YAML files, or a name.", FIELD))
    problems = Problems()
    for file in _yaml_files(path):
        problems.attempt(partial(_read_yaml, file))
    problems.raise_any()
    index = _index([path])
    named = [name for name, one in index.items() if one.kind.name != "TAG" and name not in _members(index)]
    if not named:
        raise UsageError(Problem(f"the folder {entry} has no task.", "Use a folder with YAML files of tasks.", FIELD))
    return named


def _read_yaml(file: Path) -> dict[str, Any]:
    from lm_eval.tasks._yaml_loader import load_yaml

    try:
        fields: dict[str, Any] = load_yaml(file, resolve_func=False)
    except (yaml.YAMLError, ValueError, OSError) as error:
        what = f"the task file {file} cannot be read: {_reason(error)}"
        raise UsageError(Problem(what, "Correct the file.", FIELD)) from None
    return fields


def _yaml_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.yaml"))  # the harness reads no other names in a folder


def _indexed_folder(entry: str) -> Path | None:
    """Return the folder whose tasks the entry may name: the folder itself, or that of a group's file."""
    path = Path(entry)
    if not _is_path(entry):
        return None
    return path if path.is_dir() else path.parent if "group" in _read_yaml(path) else None


def _index(folders: Sequence[Path]) -> dict[str, Any]:
    from lm_eval.tasks._index import TaskIndex

    found: dict[str, Any] = TaskIndex.build(folders)
    return found


def _members(index: Mapping[str, Any]) -> set[str]:
    """Return the names of the tasks and groups in the groups of an index."""
    lists = [one.cfg.get("task") for one in index.values() if one.kind.name == "GROUP" and one.cfg]
    parts = [part for found in lists if isinstance(found, list) for part in found]
    return {part if isinstance(part, str) else str(part.get("group", part.get("task"))) for part in parts}


def _unknown(entry: str, known: Mapping[str, Any]) -> Problem:
    fix = did_you_mean(entry, known) or "Use a name of `lm-eval ls tasks`, or the path of a YAML file."
    return Problem(f"lm-evaluation-harness has no task {entry!r}.", fix, FIELD)


def _loaded(manager: Any, entry: str, wanted: Sequence[str]) -> list[Any]:
    try:
        loaded = manager.load(list(wanted))
    except Exception as error:  # of a data set, of the user's file or of the user's functions
        raise UsageError(_not_loaded(entry, error)) from error
    groups, tasks = loaded.get("groups", {}), loaded["tasks"]
    inner = {name for names in loaded.get("group_map", {}).values() for name in names}
    inside = {task.task_name for group in groups.values() for task in group.get_all_tasks()}
    outer = [group for name, group in groups.items() if name not in inner]
    return [*outer, *(task for name, task in tasks.items() if name not in inside)]


def _not_loaded(entry: str, error: BaseException) -> Problem:
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) and cause not in causes:
        causes.append(cause)
    if any(type(one).__name__ in _UNREACHABLE for one in causes):
        state = "HF_HUB_OFFLINE is set" if _is_offline() else "the network is not reachable"
        fix = (
            "Run the command once with network access, so that the documents are stored in the local cache, or use a "
            "task file with local data."
        )
        return Problem(f"the documents of {entry} are not on this machine, and {state}.", fix, FIELD)
    what = f"the task {entry} cannot be loaded: {_reason(error)}"
    return Problem(what, "Correct the task file, or remove the task.", FIELD)


def _is_offline() -> bool:
    import datasets

    return bool(datasets.config.HF_HUB_OFFLINE)


def _reason(error: BaseException) -> str:
    """Return the type and the message of an error as a sentence."""
    reason = one_line(f"{type(error).__name__}: {error}", _MOST_CHARACTERS)
    return reason if reason.endswith("…") else f"{reason.rstrip('.')}."


def _check_distinct(manager: Any, found: Sequence[Any]) -> None:
    try:
        manager.load(list(found))
    except ValueError as error:
        raise UsageError(Problem(_reason(error), "Use each task once.", FIELD)) from None


def _task_problems(name: str, task: Any) -> Iterator[Problem]:
    if getattr(task, "UNSAFE_CODE", False):
        yield Problem(f"the task {name} runs code that the model writes.", "Remove it.", FIELD)
    if getattr(task, "MULTIMODAL", False):
        yield Problem(f"the task {name} has images or audio.", "Use tasks of text.", FIELD)


def _leaves(found: Sequence[Any]) -> dict[str, Any]:
    """Return the tasks by name, with those of the groups."""
    return {task.task_name: task for one in found for task in _tasks(one)}


def _tasks(one: Any) -> list[Any]:
    return list(one.get_all_tasks()) if hasattr(one, "get_all_tasks") else [one]


def _name(one: Any) -> str:
    return str(one.name if hasattr(one, "get_all_tasks") else one.task_name)


def _documents(one: Any, limit: int | None) -> int:
    sizes = [len(task.eval_docs) for task in _tasks(one)]
    return sum(size if limit is None else min(size, limit) for size in sizes)


def _metric_keys(one: Any) -> list[str]:
    """Return the keys of the metrics of a task, or of a group and its tasks."""
    of_tasks = [key for task in _tasks(one) for key in _keys(task.task_name, task.aggregation(), _filters(task))]
    if not hasattr(one, "get_all_tasks"):
        return of_tasks
    shared = _filters(_tasks(one)[0])
    own = [_keys(one.name, [part.metric], part.filter_list or shared) for part in one.aggregate_metric_list or ()]
    return [*of_tasks, *(key for keys in own for key in keys)]


def _keys(task: str, metrics: Iterable[str], filters: Sequence[str]) -> list[str]:
    return [task_metric_key(task, metric, one, len(filters)) for metric in metrics for one in filters]


def _filters(task: Any) -> list[str]:
    return [one.name for one in task._filters]


def _content(task: Any, limit: int | None) -> list[Any]:
    """Return the content of a task: its configuration, its documents, and those of its few-shot examples."""
    config = {name: value for name, value in task.dump_config().items() if name not in _WHERE_DOCUMENTS_ARE}
    metadata = {name: value for name, value in (config.get("metadata") or {}).items() if name != "config_source"}
    shots = task.fewshot_docs() if config.get("num_fewshot") else ()
    return [{**config, "metadata": metadata}, list(islice(task.eval_docs, limit)), list(shots or ())]


def _python_files(path: Path) -> dict[str, str]:
    """Return the Python files beside a task file, which its functions can use, by name."""
    folder = path if path.is_dir() else path.parent
    return {file.name: file.read_text("utf-8", errors="replace") for file in sorted(folder.glob("*.py"))}


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, default=_as_json)
    return sha256(re.sub(r" at 0x[0-9a-f]+", "", text).encode()).hexdigest()[:_DIGITS]


def _as_json(value: Any) -> Any:
    return getattr(value, "__qualname__", None) or str(value)
