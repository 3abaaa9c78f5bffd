"""Which arm and seed a run of somebody else's is: from the names of its folders, or from a file that says so.

A file `run.yaml` or `run.json` with any of `arm`, `alpha` and `seed` outdoes the names. It lies in the run's folder, or
in one around it up to the one that was given to compare. How names are read stands in `folder_names`.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neftune_cli.config.arms import arm_name
from neftune_cli.config.spec import BASE_ARM
from neftune_cli.errors import Problem, Problems, UsageError
from neftune_cli.store import is_sweep

Run = TypeVar("Run")

_FILES = ("run.yaml", "run.json")
_MOST_TWINS = 5

_FILE_FIX = "Write {arm: weight decay, alpha: 0, seed: 1}; each of the three may be left out."


@dataclass(frozen=True)
class RunName:
    """What one run is."""

    arm: str
    alpha: float | None
    """None for the base, and for an arm whose alpha nothing says."""
    seed: int | None
    """None for the base, and where nothing says it."""

    @property
    def is_base(self) -> bool:
        """Return whether this is the model before fine-tuning."""
        return self.arm == BASE_ARM

    @property
    def order(self) -> tuple[Any, ...]:
        """Return a key that sorts the base first, then by alpha, arms that are nothing but an alpha first, and seed."""
        plain = arm_name({"alpha": self.alpha})
        alpha = float("inf") if self.alpha is None else self.alpha
        return not self.is_base, alpha, self.arm != plain, self.arm, self.seed or 0


def by_place(found: Mapping[Path, Sequence[Run]]) -> list[tuple[Path, list[Run]]]:
    """Return the folders given, each with its runs.

    Those that are parts of something larger, as a shell makes them of `runs/*`, are taken together, under the folder
    around them: those whose name gives alpha or seed, and those with a single run.
    """
    parts = [root for root, runs in found.items() if len(runs) == 1 or (runs and names_a_run(root))]
    if len(parts) < 2:
        return [(root, list(runs)) for root, runs in found.items() if runs]
    around = Path(os.path.commonpath([full_path(root) for root in parts]))
    whole = [(root, list(runs)) for root, runs in found.items() if runs and root not in parts]
    return [*whole, (around, [run for root in parts for run in found[root]])]


def name_runs(groups: Sequence[Sequence[Path]], root: Path) -> dict[Path, RunName]:
    """Return arm and seed of every run.

    Where no run of a group says its seed, an arm's only one has seed 0; beside runs that say theirs it has to say it
    too, since it would be paired with what has nothing to do with it.

    Args:
        groups: folders of runs; those in one group may be compared with each other.
        root: the folder around all of them, the last whose name counts.

    Raises:
        UsageError: nothing says what a run is, two of a group are the same, or a file with a name can't be understood.
    """
    problems = Problems()
    read = {run: problems.attempt(partial(_read_name, run, root)) for group in groups for run in group}
    problems.raise_any()
    named = {run: name for run, name in read.items() if name is not None}
    seeded = {run: name for group in groups for run, name in _with_only_seeds(group, named).items()}
    found = [
        *_nameless(run for group in groups for run in group if run not in named),
        *_seedless(run for run, name in seeded.items() if name.seed is None and not name.is_base),
        *(problem for group in groups for problem in _twins(group, seeded)),
    ]
    if found:
        raise UsageError(*found)
    return seeded


def _with_only_seeds(group: Sequence[Path], named: Mapping[Path, RunName]) -> dict[Path, RunName]:
    """Return the names of a group, with seed 0 for an arm's only run if none of the group says a seed."""
    names = {run: named[run] for run in group if run in named}
    if any(name.seed is not None for name in names.values()):
        return names
    arms = [name.arm for name in names.values()]

    def alone(name: RunName) -> bool:
        return name.seed is None and not name.is_base and arms.count(name.arm) == 1

    return {run: replace(name, seed=0) if alone(name) else name for run, name in names.items()}


def _nameless(runs: Iterable[Path]) -> Iterator[Problem]:
    if nameless := list(runs):
        these = "these runs are" if len(nameless) > 1 else "this run is"
        yield Problem(f"Nothing says which arm and seed {these}: {several(nameless)}.", NAME_FIX)


def _seedless(runs: Iterable[Path]) -> Iterator[Problem]:
    if seedless := list(runs):
        these = "these runs have" if len(seedless) > 1 else "this run has"
        yield Problem(f"Nothing says which seed {these}: {several(seedless)}.", NAME_FIX)


def _twins(group: Sequence[Path], names: Mapping[Path, RunName]) -> list[Problem]:
    same: dict[RunName, list[Path]] = {}
    for run in group:
        if run in names and (names[run].seed is not None or names[run].is_base):
            same.setdefault(replace(names[run], alpha=None), []).append(run)
    twins = {name: runs for name, runs in same.items() if len(runs) > 1}
    fix = "Leave all but one out, or tell them apart by a file run.yaml in each: {arm: another name, seed: 0}."
    return [
        Problem(f"{_words(name)} is there {len(runs)} times: {several(runs)}.", fix)
        for name, runs in list(twins.items())[:_MOST_TWINS]
    ]


def _words(name: RunName) -> str:
    return name.arm if name.is_base else f"{name.arm} with seed {name.seed}"


class _RunFile(BaseModel):
    """What of a run file counts; other tools may keep more in a file of that name."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    arm: str | None = Field(default=None, min_length=1)
    alpha: float | None = Field(default=None, ge=0)
    seed: int | None = Field(default=None, ge=0)


def _read_name(run: Path, root: Path) -> RunName | None:
    """Return what files and names say of a run; None where they don't say the arm."""
    said, named = _said(run, root), read_names(run, root)
    alpha = named.alpha if said.alpha is None else said.alpha
    own = named.arm if named.alpha in (None, alpha) else None
    arm = said.arm or own or (arm_name({"alpha": alpha}) if alpha is not None else None)
    if arm is None:
        return None
    if arm == BASE_ARM:
        return RunName(BASE_ARM, None, None)
    return RunName(arm, alpha, named.seed if said.seed is None else said.seed)


def _said(run: Path, root: Path) -> _RunFile:
    """Return what the run files in and around a folder say, the nearest first."""
    inside = folders_inside(run, root)
    around = [root.joinpath(*inside[:depth]) for depth in range(len(inside), -1, -1)]
    said = [_read_file(folder / name) for folder in around for name in _FILES if (folder / name).is_file()]
    values: dict[str, Any] = {}
    for one in said:
        values = one.model_dump(exclude_none=True) | values
    return _RunFile(**values)


def _read_file(path: Path) -> _RunFile:
    try:
        text = path.read_text(encoding="utf-8")
        return _RunFile.model_validate(json.loads(text) if path.suffix == ".json" else yaml.safe_load(text) or {})
    except ValidationError as error:
        details = error.errors()[0]
        where = ".".join(map(str, details["loc"]))
        what = f"{path}: {where} can't be {details['input']!r}." if where else f"{path} holds no fields with values."
        raise UsageError(Problem(what, _FILE_FIX)) from None
    except (OSError, ValueError, yaml.YAMLError):
        raise UsageError(Problem(f"{path} can't be understood.", _FILE_FIX)) from None


NAME_FIX = "Name the folders like alpha=5,seed=0, or put a file run.yaml into each: {alpha: 5, seed: 0}."

_NUMBER_END = r"(?![A-Za-z0-9]|\.\d)"
_ALPHA = re.compile(r"(?<![A-Za-z0-9])(?:neftune|(?<!lora[_-])alpha)[=_-]?(\d+(?:\.\d+)?)" + _NUMBER_END, re.I)
_SEED = re.compile(r"(?<![A-Za-z0-9])(?:seed|s)[=_-]?(\d+)" + _NUMBER_END, re.I)
_SEPARATORS = " ,;_+.-"


@dataclass(frozen=True)
class FolderNames:
    """What the names of folders say; None for what they don't."""

    arm: str | None
    alpha: float | None
    seed: int | None


def read_names(run: Path, root: Path) -> FolderNames:
    """Return what the names of a run's folders say, the innermost first.

    Raises:
        UsageError: one name gives two alphas or two seeds.
    """
    inside = [part for name in folders_inside(run, root) for part in name.split("__")]
    parts = [*full_path(root).name.split("__"), *inside][::-1]
    alphas = [(part, number) for part in parts if (number := _only(_ALPHA, part, run)) is not None]
    seeds = [(part, number) for part in parts if (number := _only(_SEED, part, run)) is not None]
    seed = int(seeds[0][1]) if seeds else None
    if alphas:
        part, alpha = alphas[0]
        return FolderNames(",".join([arm_name({"alpha": alpha}), *_details(part)]), alpha, seed)
    if seeds:
        return FolderNames(_own_name(seeds[0][0], inside[::-1]), None, seed)
    return FolderNames(BASE_ARM if BASE_ARM in inside else None, None, None)


def names_a_run(folder: Path) -> bool:
    """Return whether a folder's own name gives alpha or seed."""
    name = full_path(folder).name
    return bool(_ALPHA.search(name) or _SEED.search(name))


def folders_inside(run: Path, root: Path) -> tuple[str, ...]:
    """Return the names of the folders from `root`, left out, to the run."""
    return Path(os.path.relpath(run, root)).parts


def _only(pattern: re.Pattern[str], part: str, run: Path) -> float | None:
    """Return the number that a name gives, None if it gives none."""
    numbers = {float(number) for number in pattern.findall(part)}
    if len(numbers) > 1:
        raise UsageError(Problem(f"{part} in {run} gives several numbers for one thing.", NAME_FIX))
    return numbers.pop() if numbers else None


def _details(part: str) -> list[str]:
    pieces = [piece.strip() for piece in part.split(",")]
    return [piece for piece in pieces if "=" in piece and not _ALPHA.search(piece) and not _SEED.search(piece)]


def _own_name(part: str, inside: Sequence[str]) -> str | None:
    """Return what stands beside the seed, or else the name of the folder around it."""
    if beside := _SEED.sub("", part).strip(_SEPARATORS):
        return beside
    outer = inside[inside.index(part) + 1 :] if part in inside else []
    return outer[0] if outer else None


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
