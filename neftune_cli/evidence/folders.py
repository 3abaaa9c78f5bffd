"""Folders of results: those that a user names, those below them, and the folders of the trials of a sweep."""

import os
import shlex
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from neftune_cli.config.identity import changed_fields
from neftune_cli.config.spec import BASE_ARM, ArmSpec
from neftune_cli.errors import NothingToCompareError, Problem, Problems, UsageError
from neftune_cli.formatting import listed_at_most
from neftune_cli.records import TrialRecord
from neftune_cli.store import MANIFEST_FILE, SWEEP_FILE, SweepFolder, TrialFolder, is_sweep
from neftune_cli.store.files import folders_in

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
        UsageError: a path is not a folder, or a sweep lacks its `sweep.yaml`.
        NothingToCompareError: there is none.
    """
    check_folders(paths)
    problems = Problems()
    for folder in sweeps_without_spec(paths):
        problems.attempt(partial(check_spec, folder, ()))
    problems.raise_any()
    if found := find_sweeps(paths):
        return found
    raise nothing_found(paths)


def find_sweeps(paths: Sequence[Path]) -> list[SweepFolder]:
    """Return the sweeps at or below the paths: those of the first path first, each path's sorted by name.

    Several paths or links to one sweep count once, at the first place. Below a path, its folder precedes links to it.
    """
    return [folder for folder in map(SweepFolder, _with_file(paths, SWEEP_FILE)) if is_sweep(folder.path)]


def sweeps_without_spec(paths: Sequence[Path]) -> list[SweepFolder]:
    """Return the folders at and below the paths that have trials and a `manifest.json`, but no `sweep.yaml`."""
    return [folder for folder in map(SweepFolder, _with_file(paths, MANIFEST_FILE)) if folder.has_lost_spec()]


def _with_file(paths: Sequence[Path], name: str) -> list[Path]:
    """Return the folders at and below the paths that have a file with this name, each once."""
    found: dict[Path, Path] = {}
    for path in paths:
        for file in sorted(folder / name for folder, files in folders_in(path) if name in files):
            found.setdefault(file.parent.resolve(), file.parent)
    return list(found.values())


def check_files(folder: SweepFolder, records: Sequence[TrialRecord]) -> None:
    """Check that the manifest can be read and lists the planned looks, and that `sweep.yaml` fits the finished trials.

    Args:
        folder: the sweep.
        records: the records of its finished trials.

    Raises:
        UsageError: the manifest is damaged, or is missing although the sweep has planned looks and trained trials; or
            as for `check_spec`.
    """
    problems = Problems()
    problems.attempt(folder.manifest)
    problems.attempt(partial(check_spec, folder, records))
    problems.raise_any()
    spec, path = folder.spec(), folder.path / MANIFEST_FILE
    has_looks = spec is not None and spec.analysis.has_planned_looks
    if has_looks and any(record.seed is not None for record in records) and not path.exists():
        raise UsageError(Problem(f"{path} is missing.", _RESTORE_OR_REPEAT))


_RESTORE_OR_REPEAT = (
    "Restore it from a backup. Without one, run the sweep command again, which takes the looks again and writes the "
    "file."
)


def check_spec(folder: SweepFolder, records: Sequence[TrialRecord]) -> None:
    """Check that `sweep.yaml` is there if trials are, and that it fits the finished ones.

    A trial fits if it, or another one of its arm and seed, has the values of `sweep.yaml`.

    Args:
        folder: the sweep.
        records: the records of its finished trials.

    Raises:
        UsageError: `sweep.yaml` is missing, damaged, or does not fit.
    """
    spec = folder.spec()
    if spec is None and folder.has_lost_spec():
        fix = "Restore the file from a backup, or run the command of the sweep again: finished trials are kept."
        raise UsageError(Problem(f"{folder.path} has trials, but no {SWEEP_FILE}.", fix))
    if spec is None:
        return
    arms: dict[str, ArmSpec | None] = {BASE_ARM: None, **{arm.name: arm for arm in spec.arms}}
    changed: dict[tuple[str, int | None], list[str]] = {}
    for record in records:
        trial = (record.arm, record.seed)
        if record.arm in arms and changed.get(trial) != []:
            fields = changed_fields(spec, arms[record.arm], record.identity)
            changed[trial] = [
                f"{name} is {_shown(now)} in the file and {_shown(one)} in the trials" for name, now, one in fields
            ]
    if found := list(dict.fromkeys(chain.from_iterable(changed.values()))):
        what = f"{folder.path / SWEEP_FILE} does not fit the finished trials: {listed_at_most(found, 4, '; ')}."
        fix = "Restore these values. For a changed sweep, use a copy of the file, and --output with a new folder."
        raise UsageError(Problem(what, fix))


def trial_folders(evidence: "Evidence") -> dict[str, TrialFolder]:
    """Return the folder of each trial by the trial's id, unfinished trials included.

    If several sweeps have a trial, the folder is the first in which it has finished, from which it is compared.
    """
    found: dict[str, TrialFolder] = {}
    for folder in (folder for path in evidence.origin.folders for folder in SweepFolder(Path(path)).trials()):
        first = found.setdefault(folder.id, folder)
        if first is not folder and first.record() is None and folder.record() is not None:
            found[folder.id] = folder
    return found


class Folder(NamedTuple):
    """A folder with its contents. `folders_below` does not enter subfolders that the caller removes from `folders`."""

    path: Path
    folders: list[str]
    """Sorted names, without hidden folders."""
    files: list[str]


def folders_below(root: Path) -> Iterator[Folder]:
    """Yield the folders at and below `root` that are not in a sweep; each once, even if several links lead to it.

    Links to the folders around `root` are not followed. Others are walked in the order of the names, because a link
    can name the arm or the seed of a run.
    """
    real_root = root.resolve()
    if any(map(is_sweep, real_root.parents)):
        return
    seen = set[str]()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen or (seen and real_root.is_relative_to(real)) or is_sweep(Path(folder)):
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Folder(Path(folder), folders, files)


def full_path(path: Path) -> Path:
    """Return the absolute path. Links are not resolved, because their names can have an alpha or a seed."""
    return Path(os.path.normpath(path.absolute()))


def nothing_found(paths: Sequence[Path], others: str = "") -> NothingToCompareError:
    """Return the error that there is nothing to show at and below the paths.

    Args:
        paths: folders.
        others: other kinds of results that were searched for, after a comma.
    """
    where = ", ".join(map(str, paths))
    return NothingToCompareError(f"There is no sweep in {where}{others}.\n  {_fix(*paths)}")


def _fix(*paths: Path) -> str:
    """Return the advice for paths without results.

    It is to run the trials of a spec that is there, to use the folder of the sweep that contains a path, or else to use
    the usual folders or start a sweep.
    """
    for path in paths:
        if (path / SWEEP_FILE).is_file():
            command = shlex.join(["neftune", "sweep", str(path / SWEEP_FILE), "--output", str(path)])
            return f"{path} has a {SWEEP_FILE}, but no trials. To run them, use `{command}`."
        for folder in path.absolute().parents:
            if is_sweep(folder):
                return f"Use the folder of the sweep, {shlex.quote(str(_shortest(folder)))}."
    return _FIX


def _shown(value: Any) -> str:
    return "not set" if value is None else f"{value}"


def _shortest(folder: Path) -> Path:
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder
