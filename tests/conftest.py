"""Shared fixtures: hand-made records of the base model and of two arms with three seeds each."""

import gc
import os
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from neftune_cli.config.identity import recipe_identity
from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.records import EvalMetrics, LossMetrics, NoiseMeasurement, TrialRecord

_USER_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
_CACHE = TemporaryDirectory(prefix="neftune-tests-")
"""Cache of the tests, so that they neither use nor leave remembered calibrations."""
for _variable, _folder in (("HF_HOME", "huggingface"), ("MPLCONFIGDIR", "matplotlib")):
    os.environ.setdefault(_variable, str(_USER_CACHE / _folder))
os.environ["XDG_CACHE_HOME"] = _CACHE.name

pytest_plugins = ["tests.command_line", "tests.small_model", "tests.crash.fixtures"]

ROWS = (
    # arm, alpha, seed, train, clean, held-out, perplexity, exact, rouge, chars, 2-grams, diversity, truncated
    ("base", None, None, None, 4.1, 4.2, 66.686, 0.0, 0.1, 400.0, 60.0, 5.0, 0.9),
    ("alpha=0", 0.0, 0, 0.800, 0.700, 1.500, 4.482, 0.40, 0.60, 100.0, 10.0, 8.0, 0.0),
    ("alpha=0", 0.0, 1, 0.810, 0.705, 1.510, 4.527, 0.42, 0.61, 104.0, 11.0, 8.1, 0.0),
    ("alpha=0", 0.0, 2, 0.820, 0.710, 1.520, 4.572, 0.44, 0.62, 108.0, 12.0, 8.2, 0.0),
    ("alpha=5", 5.0, 0, 0.900, 0.750, 1.498, 4.473, 0.41, 0.62, 110.0, 9.0, 8.1, 0.0),
    ("alpha=5", 5.0, 1, 0.910, 0.755, 1.505, 4.504, 0.42, 0.61, 112.0, 12.0, 8.1, 0.02),
    ("alpha=5", 5.0, 2, 0.920, 0.766, 1.518, 4.563, 0.46, 0.63, 120.0, 11.0, 8.3, 0.01),
)
"""BLEU is missing, as an example of a metric that is undefined for the data."""

settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


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


@pytest.fixture
def hand_made_records() -> list[TrialRecord]:
    return [_record(*row) for row in ROWS]


def _record(
    arm: str, alpha: float | None, seed: int | None, train: float | None, clean: float, held_out: float, *rest: float
) -> TrialRecord:
    perplexity, exact, rouge, chars, repetition, diversity, truncated = rest
    return TrialRecord(
        trial=f"id of {arm} {seed}",
        arm=arm,
        alpha=alpha,
        seed=seed,
        loss=LossMetrics(train_loss=train, train_loss_clean=clean, eval_loss=held_out, eval_perplexity=perplexity),
        eval=EvalMetrics(
            exact_match=exact,
            rouge_l=rouge,
            bleu=None,
            response_chars=chars,
            repetition_2gram=repetition,
            log_diversity=diversity,
            truncated=truncated,
        ),
        noise=None if alpha is None else NoiseMeasurement(median_length=97, noise_norm=0.058 * alpha, embedding_norm=3),
        identity=_identity(alpha, seed),
    )


def _identity(alpha: float | None, seed: int | None) -> dict[str, Any]:
    shared = {"model": "m", "data": "d", "environment": {"device": "cpu"}}
    if alpha is None:
        return {**shared, "base": True}
    recipe = recipe_identity(resolve_sweep(None, {}).train)
    return {**shared, "noise": {"alpha": alpha} if alpha else None, "train": recipe, "seed": seed}
