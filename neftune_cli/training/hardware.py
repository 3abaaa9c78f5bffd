"""What a trial runs on: the device, its precision, and the versions that can change its numbers."""

import ctypes
import gc
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
MEMORY_KEPT = 1 << 30
"""Bytes the allocator may keep instead of giving them back to the system after each step."""


def gpu_count() -> int:
    """Return how many GPUs there are, of the kind that training will choose."""
    import torch

    device = device_name()
    return torch.cuda.device_count() if device == "cuda" else int(device == "mps")


def device_name() -> str:
    """Return the kind of device that training will choose by itself: `cuda`, `mps` or `cpu`."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def has_bfloat16(device: str) -> bool:
    """Return whether the hardware multiplies bfloat16 by itself; emulation is slower than float32."""
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities() if device == "cpu" else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


def environment(*, lora: bool) -> dict[str, str]:
    """Return what else than spec, data and weights can change the numbers of a trial."""
    device = device_name()
    packages = ["torch", "transformers", "trl", *(["peft"] if lora else [])]
    precision = "bfloat16" if has_bfloat16(device) else "float32"
    return {"device": device, "precision": precision, **{name: version(name) for name in packages}}


def keep_memory_between_steps() -> None:
    """Tell glibc's allocator to keep freed memory: fetching it anew each step halves the speed of large products."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, MEMORY_KEPT)
        mallopt(_M_TRIM_THRESHOLD, MEMORY_KEPT)
        mallopt(_M_TOP_PAD, MEMORY_KEPT // 16)


def peak_memory_bytes(device: str = "cpu") -> int:
    """Return the most memory held since the start, or since `reset_peak_memory`.

    Args:
        device: the GPU's own memory where it is `cuda`, the process's main memory otherwise.
    """
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    resident = re.search(r"VmHWM:\s*(\d+) kB", _read(Path("/proc/self/status")))
    if resident:
        return int(resident[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def reset_peak_memory(device: str = "cpu") -> None:
    """Let the peak begin anew at what is held now, where the system can do that."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


@contextmanager
def restore_torch_settings() -> Iterator[None]:
    """Put back afterwards what a training may set for its whole process: TF32, and determinism.

    Transformers sets them where `tf32` or `full_determinism` is given, and never back: other arms would have them too.
    """
    import torch
    from transformers.utils.import_utils import enable_tf32

    backends: Any = torch.backends  # whose types know nothing of it
    precision = backends.fp32_precision
    deterministic = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    of_cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        backends.fp32_precision = precision
        enable_tf32.cache_clear()  # it takes being called again for a repetition
        torch.use_deterministic_algorithms(deterministic, warn_only=warns)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = of_cudnn


def release_memory(device: str = "cpu") -> None:
    """Give back what is no longer used: a trainer holds itself in a cycle, and its model with it."""
    gc.collect()
    if device == "cuda":
        import torch

        torch.cuda.empty_cache()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
