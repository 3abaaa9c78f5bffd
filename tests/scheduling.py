"""Plugin that shortens the run of all tests: order and distribution of their files, and less garbage collection."""

import gc
import sys
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling


class _ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Run the tests of a file in one process, because fixtures are expensive; tests that fork share one process."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, _ = nodeid.partition("::")
        return _FORKS[0] if file.startswith(_FORKS) else file


_FORKS = ("tests/crash/", "tests/unit/test_sweeps_worker_processes.py")
"""Files whose tests need the process with all imports, which takes seconds to start."""
_BY_TIME = (
    *_FORKS,
    "tests/contract/test_executors.py",
    "tests/contract/test_train.py",
    "tests/contract/test_sweep_files.py",
    "tests/contract/test_arms_of_noise.py",
    "tests/contract/",
    "tests/invariant/",
    "tests/cli/",
    "",
)
"""Starts of the paths of test files, the slowest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the slowest files, so that all processes end at about the same time."""
    items.sort(key=lambda item: next(n for n, start in enumerate(_BY_TIME) if item.nodeid.startswith(start)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Return the scheduler for `--dist loadscope`."""
    return _ByFile(config, log) if config.getvalue("dist") == "loadscope" else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Import the test files without garbage collection, which takes a fifth of the time and finds nothing."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@dataclass
class Frozen:
    """The number of imported modules that are excluded from garbage collection."""

    modules: int = 0


MANY_MODULES = 20
"""A library has more modules. Single modules, such as those that tests write, are few objects."""


@pytest.fixture(scope="session")
def frozen() -> Frozen:
    return Frozen()


@pytest.fixture(autouse=True)
def _imported_modules_are_not_collected(frozen: Frozen) -> None:
    """Exclude imported modules from garbage collection, which takes 0.3 s with them and is part of every training."""
    if len(sys.modules) >= frozen.modules + MANY_MODULES:
        gc.collect()
        gc.freeze()
        frozen.modules = len(sys.modules)
