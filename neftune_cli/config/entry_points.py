"""Entry points of installed packages, read with `importlib.metadata` only if some package declares the group.

The import of `importlib.metadata` and its search take as long as the rest of `neftune --help`. Most installations have
no package that extends this one, and a look at the files `entry_points.txt` shows it.
"""

import os
import sys
from collections.abc import Iterator
from functools import cache
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def entry_points_of(group: str) -> "tuple[EntryPoint, ...]":
    """Return the entry points of a group, sorted by name."""
    if not may_be_declared(group):
        return ()
    from importlib.metadata import entry_points

    return tuple(sorted(entry_points(group=group), key=lambda one: one.name))


def may_be_declared(group: str) -> bool:
    """Return False only if no installed package declares an entry point of the group.

    Archives on the import path, and finders of other kinds, are not searched: the answer is then True.
    """
    finders = (one for one in sys.meta_path if hasattr(one, "find_distributions") and one is not PathFinder)
    archives = (folder for folder in sys.path if os.path.isfile(folder))  # noqa: PTH113 - a Path costs more time
    return any(finders) or any(archives) or group in _texts(tuple(sys.path))


@cache
def _texts(path: tuple[str, ...]) -> str:
    """Return the text of all files `entry_points.txt` on an import path."""
    return "\n".join(text for folder in path for text in _texts_in(folder or "."))


def _texts_in(folder: str) -> Iterator[str]:
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except OSError:
        return
    for name in names:
        if name.lower().endswith((".dist-info", ".egg-info")) or name.lower() == "egg-info":
            try:
                with open(f"{folder}/{name}/entry_points.txt", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                    yield file.read()
            except OSError:  # most packages have no entry points, and some egg-info is a file
                continue
