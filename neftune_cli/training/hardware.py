"""Hardware and processes: cores, GPUs, precision, memory and package versions, and settings of training processes."""

import ctypes
import gc
import os
import platform
import re
import resource
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
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
THREADS = "OMP_NUM_THREADS"
_CGROUPS, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


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


def gpus_of_driver(driver: Path = Path("/proc/driver/nvidia")) -> list[str]:
    """Return the driver's version and the model of each NVIDIA GPU."""
    files = [driver / "version", *sorted(driver.glob("gpus/*/information"))]
    lines = (line for file in files for line in _read(file).splitlines())
    return [line.strip() for line in lines if line.startswith(("NVRM", "Model"))]


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the name of the processor as Linux states it, otherwise what Python knows, often the architecture."""
    name = re.search(r"^model name\s*:\s*(.+)$", _read(cpuinfo), re.MULTILINE)
    return name[1].strip() if name else platform.processor() or platform.machine()


def available_cores() -> int:
    """Return the number of cores that this process may use, by affinity and container quota; at least one."""
    import joblib

    return int(joblib.cpu_count())


def limited_threads(threads: int, base: Mapping[str, str], name: str = THREADS) -> int:
    """Return the number of threads, or the user's limit in the environment if that is smaller."""
    limit = base.get(name, "")
    return min(int(limit), threads) if limit.isdecimal() and int(limit) else threads


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


def available_memory(*, cgroups: Path = _CGROUPS, own: Path = _OWN) -> int:
    """Return the main memory in bytes that is available without swapping and within the limit of a container."""
    import psutil

    return max(0, min([int(psutil.virtual_memory().available), *_free_memory(cgroups, own)]))


def _free_memory(cgroups: Path, own: Path) -> Iterator[int]:
    """Yield the free memory in bytes of each control group of this process. File caches count as free."""
    for folder in _control_groups(cgroups, own, ""):
        yield from _group_memory(folder / "memory.max", folder / "memory.current", folder / "memory.stat")
    for folder in _control_groups(cgroups / "memory", own, "memory"):
        yield from _group_memory(
            folder / "memory.limit_in_bytes", folder / "memory.usage_in_bytes", folder / "memory.stat"
        )


def _group_memory(limit: Path, usage: Path, stat: Path) -> Iterator[int]:
    maximum, used = _read(limit).strip(), _read(usage).strip()
    if maximum.isdecimal() and used.isdecimal():
        statistics = dict(line.split() for line in _read(stat).splitlines() if len(line.split()) == 2)
        cached = int(statistics.get("total_inactive_file", statistics.get("inactive_file", 0)))
        yield int(maximum) - int(used) + cached


def _control_groups(root: Path, own: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of the control groups of this process, inner ones first; version 2 has no controller.

    In a container the path may be that of the host and not exist. The root is then the group of the container.
    """
    lines = (line.split(":", 2) for line in _read(own).splitlines())
    paths = [parts[2] for parts in lines if len(parts) == 3 and controller in parts[1].split(",")]
    for path in paths:
        folder = root / path.strip("/")
        yield from (group for group in (folder, *folder.parents) if group == root or root in group.parents)


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
