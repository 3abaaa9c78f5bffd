"""What this machine lets the sweep use: cores and memory, within the limits of containers and batch systems."""

import os
from collections.abc import Iterator
from pathlib import Path

_CGROUPS, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def available_cores(*, cgroups: Path = _CGROUPS, own: Path = _OWN) -> int:
    """Return how many cores this process may use at once, at least one: by affinity, and by a container's quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *(int(quota) for quota in _core_quotas(cgroups, own))]))


def available_memory(*, cgroups: Path = _CGROUPS, own: Path = _OWN) -> int:
    """Return how many bytes of main memory can be had without swapping, and within a container's limit."""
    import psutil

    return max(0, min([int(psutil.virtual_memory().available), *_memory_left(cgroups, own)]))


def _core_quotas(cgroups: Path, own: Path) -> Iterator[float]:
    """Yield the cores that each group around this process allows, a part of one as a whole one."""
    for folder in _groups(cgroups, own, ""):
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        if quota.isdecimal() and period.isdecimal():
            yield max(1.0, int(quota) / int(period))
    for folder in _groups(cgroups / "cpu", own, "cpu"):
        quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal():  # no quota is -1
            yield max(1.0, int(quota) / int(period))


def _memory_left(cgroups: Path, own: Path) -> Iterator[int]:
    """Yield the bytes that each group around this process has left; what files cache is given up when needed."""
    for folder in _groups(cgroups, own, ""):
        yield from _left(folder / "memory.max", folder / "memory.current", folder / "memory.stat")
    for folder in _groups(cgroups / "memory", own, "memory"):
        yield from _left(folder / "memory.limit_in_bytes", folder / "memory.usage_in_bytes", folder / "memory.stat")


def _left(limit: Path, usage: Path, stat: Path) -> Iterator[int]:
    most, used = _text(limit), _text(usage)
    if most.isdecimal() and used.isdecimal():
        figures = dict(line.split() for line in _text(stat).splitlines() if len(line.split()) == 2)
        cached = int(figures.get("total_inactive_file", figures.get("inactive_file", 0)))
        yield int(most) - int(used) + cached


def _groups(root: Path, own: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of the groups this process is in, of version 2 (no controller) or 1: its own, then outer ones.

    In a container the path may be that of the host, which isn't there; the root is the container's own group then.
    """
    lines = (line.split(":", 2) for line in _text(own).splitlines())
    paths = [parts[2] for parts in lines if len(parts) == 3 and controller in parts[1].split(",")]
    for path in paths:
        folder = root / path.strip("/")
        yield from (group for group in (folder, *folder.parents) if group == root or root in group.parents)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
