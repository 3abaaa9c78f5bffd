"""Folders of results: checks of those that a user names, and the folders of the trials of a sweep."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from neftune_cli.errors import NothingToCompareError, Problem, UsageError
from neftune_cli.store import SweepFolder, TrialFolder, find_sweeps, is_sweep

if TYPE_CHECKING:  # the command status needs no numpy
    from neftune_cli.evidence.measurements import Evidence

_FIX = (
    "Use a results folder of `neftune sweep`, for example results/tiny-bios, or results/ for all of them. "
    "To start a sweep, run `neftune sweep --alphas 0,5,10,15`."
)


def check_folders(paths: Sequence[Path]) -> None:
    """Check that each path is a folder.

    Raises:
        UsageError: one problem for each path that does not exist or is a file.

    """
    state = {True: "is a file, not a folder", False: "does not exist"}
    if wrong := [path for path in paths if not path.is_dir()]:
        raise UsageError(*(Problem(f"{path} {state[path.exists()]}.", _fix(path)) for path in wrong))


def sweeps_in(paths: Sequence[Path]) -> list[SweepFolder]:
    """Return the sweeps at and below the paths, sorted by path.

    Raises:
        NothingToCompareError: there is none.

    """
    if found := find_sweeps(paths):
        return found
    raise nothing_found(paths)


def trial_folders(evidence: "Evidence") -> dict[str, TrialFolder]:
    """Return the folder of each trial of a sweep by the trial's id, unfinished ones included."""
    return {folder.id: folder for path in evidence.folders for folder in SweepFolder(Path(path)).trials()}


def nothing_found(paths: Sequence[Path], others: str = "") -> NothingToCompareError:
    """Return the error that there is nothing to show at and below the paths.

    Args:
        paths: folders.
        others: other kinds of results that were searched for, after a comma.

    """
    where = ", ".join(map(str, paths))
    return NothingToCompareError(f"There is no sweep in {where}{others}.\n  {_fix(*paths)}")


def _fix(*paths: Path) -> str:
    """Return advice: the sweep that contains a path, if there is one, else the usual folders and the first command."""
    for path in paths:
        for folder in path.absolute().parents:
            if is_sweep(folder):
                return f"Use the folder of the sweep, {shlex.quote(str(_shortest(folder)))}."
    return _FIX


def _shortest(folder: Path) -> Path:
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder
