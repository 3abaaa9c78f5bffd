"""Looking through folders for runs that others made; what lies in a sweep of this tool is left to its own reader."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from neftune_cli.store import is_sweep


class Found(NamedTuple):
    """One folder and what is in it; folders taken out of `folders` are not looked into."""

    path: Path
    folders: list[str]
    """Names in order, hidden ones left out."""
    files: list[str]


def folders_below(root: Path) -> Iterator[Found]:
    """Yield the folders at and below `root`, each once however many links lead to it, sweeps left out."""
    if any(is_sweep(folder) for folder in root.resolve().parents):
        return
    seen = set()
    for place, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(place)
        if real in seen or is_sweep(Path(place)):
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Found(Path(place), folders, files)


def full_path(path: Path) -> Path:
    """Return a path from the root of the file system; links in it stay, since their names may say something."""
    return Path(os.path.normpath(path.absolute()))


def several(paths: Sequence[Path], most: int = 5) -> str:
    """Return paths for a sentence: the first few, and how many more there are."""
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return ", ".join(map(str, paths[:most])) + more
