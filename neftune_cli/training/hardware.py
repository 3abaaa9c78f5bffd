"""Hardware and process settings of a trial: device, precision, memory, and package versions."""

import ctypes
import gc
import os
import platform
import re
import resource
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
MEMORY_KEPT = 1 << 30
"""Freed memory, in bytes, that the allocator keeps between steps."""
MEMORY_PADDING = MEMORY_KEPT // 16
"""Additional memory, in bytes, that the allocator requests whenever it needs more."""
SPIN_COUNT = "GOMP_SPINCOUNT"
SPINS = 1000
"""Number of times that an idle thread of OpenMP checks for work before it sleeps. With libgomp's default of 300,000,
idle threads keep the cores from other programs: training runs side by side then take many times longer."""


def gpu_count() -> int:
    """Return the number of GPUs of the kind that training uses."""
    import torch

    device = device_kind()
    return torch.cuda.device_count() if device == "cuda" else int(device == "mps")


def gpu_models() -> str:
    """Return number, name and memory of the GPUs, such as `2 x NVIDIA H200 (140 GiB)`; empty if torch names none."""
    import torch

    if device_kind() != "cuda":
        return ""
    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    models = Counter(f"{gpu.name} ({gpu.total_memory / 2**30:.0f} GiB)" for gpu in gpus)
    return ", ".join(f"{number} x {model}" for model, number in models.items())


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the name of the processor as Linux states it, otherwise what Python knows, often the architecture."""
    name = re.search(r"^model name\s*:\s*(.+)$", _read(cpuinfo), re.MULTILINE)
    return name[1].strip() if name else platform.processor() or platform.machine()


def installed_version(package: str) -> str | None:
    """Return the version of a package, None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def device_kind() -> str:
    """Return the kind of device that training uses: `cuda`, `mps` or `cpu`."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def has_bfloat16(device: str) -> bool:
    """Return whether the hardware multiplies in bfloat16 natively; emulation is slower than float32."""
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities() if device == "cpu" else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


def environment(*, lora: bool, load_in_4bit: bool = False) -> dict[str, str]:
    """Return the environment in the identity of a trial: device, precision and package versions."""
    device = device_kind()
    packages = ["torch", "transformers", "trl", *(["peft"] if lora else [])]
    precision = "bfloat16" if has_bfloat16(device) else "float32"
    versions = {name: version(name) for name in packages}
    if load_in_4bit and (quantizer := installed_version("bitsandbytes")):  # quantization_problems reports its absence
        versions["bitsandbytes"] = quantizer
    return {"device": device, "precision": precision, **versions}


def configure_process() -> None:
    """Make the allocator of glibc keep freed memory, and idle threads sleep. Call it before torch is imported.

    Requesting memory again at each step halves the speed of large products.
    """
    os.environ.setdefault(SPIN_COUNT, str(SPINS))
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, MEMORY_KEPT)
        mallopt(_M_TRIM_THRESHOLD, MEMORY_KEPT)
        mallopt(_M_TOP_PAD, MEMORY_PADDING)


def peak_memory_bytes(device: str) -> int:
    """Return the peak memory, in bytes, since the process started or since `reset_peak_memory`.

    Args:
        device: `cuda` for the memory of the GPU, otherwise the main memory of the process is measured.
    """
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    resident = re.search(r"VmHWM:\s*(\d+) kB", _read(Path("/proc/self/status")))
    if resident:
        return int(resident[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def reset_peak_memory(device: str) -> None:
    """Reset the peak to the memory in use now, if the system supports it."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


@contextmanager
def restore_torch_settings() -> Iterator[None]:
    """Restore on exit the process-wide settings of torch that a training run may change: TF32 and determinism.

    Transformers sets them for `tf32` and `full_determinism` and never resets them, so they would leak to other arms.
    """
    import torch
    from transformers.utils.import_utils import enable_tf32

    backends: Any = torch.backends  # fp32_precision is missing in its type stubs
    precision = backends.fp32_precision
    deterministic = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        backends.fp32_precision = precision
        enable_tf32.cache_clear()  # its cache would turn the next call into a no-op
        torch.use_deterministic_algorithms(deterministic, warn_only=warns)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn


def release_memory(device: str) -> None:
    """Release unused memory. A trainer is part of a reference cycle, which keeps its model alive until collected."""
    gc.collect()
    if device == "cuda":
        import torch

        torch.cuda.empty_cache()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
