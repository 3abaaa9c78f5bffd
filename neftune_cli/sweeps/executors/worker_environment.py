"""The environment a worker process is started with: what libraries read once, before any code can set it."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from neftune_cli.training.hardware import MEMORY_KEPT

_DEFAULTS = {
    "MALLOC_MMAP_THRESHOLD_": str(MEMORY_KEPT),
    "MALLOC_TRIM_THRESHOLD_": str(MEMORY_KEPT),
    "MALLOC_TOP_PAD_": str(MEMORY_KEPT // 16),
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "PYTHONUNBUFFERED": "1",
}
_ALLOCATOR, _OLD_ALLOCATOR = "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_DEVICES = "CUDA_VISIBLE_DEVICES"


def worker_environment(threads: int, gpu: int | None, base: Mapping[str, str]) -> dict[str, str]:
    """Return a worker's environment; what the user has set stays, and a number of threads is the most there may be.

    Args:
        threads: how many threads it computes with.
        gpu: which of the GPUs it sees, counted among those that the user lets it see; None for all of them.
        base: the environment of the process that starts it.
    """
    environment = {**_DEFAULTS, **base}
    if _OLD_ALLOCATOR not in base:  # else a batch of another length than before finds its memory in pieces
        environment.setdefault(_ALLOCATOR, "expandable_segments:True")
    for name in _THREADS:
        environment[name] = str(threads_within(threads, base, name))
    if gpu is not None:
        environment[_DEVICES] = _device(gpu, base.get(_DEVICES))
    return environment


def threads_within(threads: int, base: Mapping[str, str], name: str = _THREADS[0]) -> int:
    """Return so many threads, or fewer where the user has set how many there may be."""
    given = base.get(name, "")
    return min(int(given), threads) if given.isdecimal() and int(given) else threads


def with_this_package(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which Python finds the package that is running, where it isn't installed."""
    root = str(Path(__file__).parents[3])
    if root in (path for path in sys.path if path.endswith("-packages")):
        return dict(environment)
    others = environment.get("PYTHONPATH")
    return {**environment, "PYTHONPATH": os.pathsep.join([root, others] if others else [root])}


def _device(gpu: int, given: str | None) -> str:
    visible = [name.strip() for name in given.split(",") if name.strip()] if given else []
    return visible[gpu % len(visible)] if visible else str(gpu)
