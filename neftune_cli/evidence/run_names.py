"""Arm and seed of the runs of other tools, from folder names or run files.

A run file, `run.yaml` or `run.json`, has any of the fields `arm`, `alpha` and `seed`, and overrides folder names. It is
in the run's folder or in a parent folder, up to the folder that was given to `compare`.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neftune_cli.config.arm_names import arm_name, trial_label
from neftune_cli.config.spec import BASE_ARM
from neftune_cli.errors import Problem, Problems, UsageError
from neftune_cli.evidence.folders import full_path
from neftune_cli.formatting import listed, listed_at_most

RunType = TypeVar("RunType")

_FILES = ("run.yaml", "run.json")
_MOST_PATHS = 5

_NAME_FIX = "Rename the folders, for example alpha=5,seed=0, or add a file run.yaml to each: {alpha: 5, seed: 0}."
_FILE_FIX = "Write {arm: weight decay, alpha: 0, seed: 1}; all three fields are optional."
_ALPHAS_FIX = "Name an arm for each alpha in the run files, for example {arm: other name, alpha: 5, seed: 0}."

_NUMBER_END = r"(?![A-Za-z0-9]|\.\d)"
_ALPHA = re.compile(r"(?<![A-Za-z0-9])(?:neftune|(?<!lora[_-])alpha)[=_-]?(\d+(?:\.\d+)?)" + _NUMBER_END, re.I)
_SEED = re.compile(r"(?<![A-Za-z0-9])(?:seed|s)[=_-]?(\d+)" + _NUMBER_END, re.I)
_SEPARATORS = " ,;_+.-"


def origin_note(files: str) -> str:
    """Return the note on runs of another tool. `files` names its files as a clause: `trainer states, which`."""
    return (
        f"These runs come from {files} do not show whether the runs differ only in noise and seed. "
        "Arm and seed come from folder names or run files."
    )


@dataclass(frozen=True)
class RunName:
    """Arm, alpha and seed of one run."""

    arm: str
    alpha: float | None
    """None for the base model, and if the alpha is unknown."""
    seed: int | None
    """None for the base model, and if the seed is unknown."""

    @property
    def is_base(self) -> bool:
        """Return whether this is the base model."""
        return self.arm == BASE_ARM

    @property
    def label(self) -> str:
        """Return the arm and the seed, for example "alpha=5, seed 0"."""
        return trial_label(self.arm, self.seed)

    @property
    def order(self) -> tuple[Any, ...]:
        """Return a sort key: base model first, then by alpha, arms without other settings first, then by seed."""
        name_of_alpha = arm_name({"alpha": self.alpha})
        alpha = float("inf") if self.alpha is None else self.alpha
        return not self.is_base, alpha, self.arm != name_of_alpha, self.arm, self.seed or 0


def by_common_folder(found: Mapping[Path, Sequence[RunType]]) -> list[tuple[Path, list[RunType]]]:
    """Return the given folders, each with its runs.

    Folders whose name has an alpha or a seed, and folders with a single run, are combined under their common parent.
    `compare` gets such folders if a shell expands `runs/*`.
    """
    parts = [root for root, runs in found.items() if len(runs) == 1 or (runs and has_run_name(root))]
    if len(parts) < 2:
        return [(root, list(runs)) for root, runs in found.items() if runs]
    parent = Path(os.path.commonpath([full_path(root) for root in parts]))
    whole = [(root, list(runs)) for root, runs in found.items() if runs and root not in parts]
    return [*whole, (parent, [run for root in parts for run in found[root]])]


def name_runs(groups: Sequence[Sequence[Path]], root: Path) -> dict[Path, RunName]:
    """Return the folder of each run to its arm, alpha and seed.

    If no run of a group has a seed, the only run of an arm gets seed 0. If other runs of the group have seeds, a
    missing seed is an error, because the run would be paired with an unrelated run.

    Args:
        groups: folders of runs. The runs of a group are compared with each other.
        root: common parent folder. Names of folders above it are not read.

    Raises:
        UsageError: the arm or seed of a run is unknown, two runs of a group have the same arm and seed, an arm has
            several alphas, or a run file is invalid.
    """
    problems = Problems()
    read = {run: problems.attempt(partial(_read_name, run, root)) for group in groups for run in group}
    problems.raise_any()
    named = {run: name for run, name in read.items() if name is not None}
    seeded = {run: name for group in groups for run, name in _with_default_seeds(group, named).items()}
    found = [
        *_unknown("arm and seed", [run for group in groups for run in group if run not in named]),
        *_unknown("seed", [run for run, name in seeded.items() if name.seed is None and not name.is_base]),
        *(problem for group in groups for problem in _duplicates(group, seeded)),
        *(problem for group in groups for problem in _several_alphas(group, seeded)),
    ]
    if found:
        raise UsageError(*found)
    return seeded


def _with_default_seeds(group: Sequence[Path], named: Mapping[Path, RunName]) -> dict[Path, RunName]:
    """Return the names of a group. If no run of the group has a seed, the only run of an arm gets seed 0."""
    names = {run: named[run] for run in group if run in named}
    if any(name.seed is not None for name in names.values()):
        return names
    arms = [name.arm for name in names.values()]

    def is_only_run(name: RunName) -> bool:
        return name.seed is None and not name.is_base and arms.count(name.arm) == 1

    return {run: replace(name, seed=0) if is_only_run(name) else name for run, name in names.items()}


def _unknown(what: str, runs: Sequence[Path]) -> Iterator[Problem]:
    if runs:
        these, are = "these runs" if len(runs) > 1 else "this run", "are" if " and " in what else "is"
        yield Problem(f"The {what} of {these} {are} unknown: {listed_paths(runs)}.", _NAME_FIX)


def _duplicates(group: Sequence[Path], names: Mapping[Path, RunName]) -> list[Problem]:
    same: dict[RunName, list[Path]] = {}
    for run in group:
        if run in names and (names[run].seed is not None or names[run].is_base):
            same.setdefault(replace(names[run], alpha=None), []).append(run)
    duplicates = {name: runs for name, runs in same.items() if len(runs) > 1}
    fix = "Leave out all but one, or add a file run.yaml to each with another arm or seed: {arm: other name, seed: 0}."
    return [
        Problem(f"{name.label} occurs {len(runs)} times: {listed_paths(runs)}.", fix)
        for name, runs in duplicates.items()
    ]


def _several_alphas(group: Sequence[Path], names: Mapping[Path, RunName]) -> Iterator[Problem]:
    by_arm: dict[str, dict[float, list[Path]]] = {}
    for run in group:
        if run in names and (alpha := names[run].alpha) is not None:
            by_arm.setdefault(names[run].arm, {}).setdefault(alpha, []).append(run)
    for arm, by_alpha in by_arm.items():
        if len(by_alpha) > 1:
            alphas = listed([f"{alpha:g} ({listed_paths(runs)})" for alpha, runs in by_alpha.items()])
            yield Problem(f"The arm {arm} has several alphas: {alphas}.", _ALPHAS_FIX)


class _RunFile(BaseModel):
    """Fields of a run file. Further fields are ignored, because other tools write files with the same name."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    arm: str | None = Field(default=None, min_length=1)
    alpha: float | None = Field(default=None, ge=0)
    seed: int | None = Field(default=None, ge=0)


def _read_name(run: Path, root: Path) -> RunName | None:
    """Return arm and seed of a run from run files and folder names; None if the arm is unknown."""
    from_files, from_names = _run_files(run, root), read_names(run, root)
    alpha = from_names.alpha if from_files.alpha is None else from_files.alpha
    named_arm = from_names.arm if from_names.alpha in (None, alpha) else None
    arm = from_files.arm or named_arm or (arm_name({"alpha": alpha}) if alpha is not None else None)
    if arm is None:
        return None
    if arm == BASE_ARM:
        return RunName(BASE_ARM, None, None)
    return RunName(arm, alpha, from_names.seed if from_files.seed is None else from_files.seed)


def _run_files(run: Path, root: Path) -> _RunFile:
    """Return the fields of the run files in a folder and its parents; the nearest file takes precedence."""
    inside = folders_inside(run, root)
    folders = [root.joinpath(*inside[:depth]) for depth in range(len(inside), -1, -1)]
    values: dict[str, Any] = {}
    for path in (folder / name for folder in folders for name in _FILES):
        if path.is_file():
            values = _read_file(path).model_dump(exclude_none=True) | values
    return _RunFile(**values)


def _read_file(path: Path) -> _RunFile:
    try:
        text = path.read_text(encoding="utf-8")
        return _RunFile.model_validate(json.loads(text) if path.suffix == ".json" else yaml.safe_load(text) or {})
    except ValidationError as error:
        details = error.errors()[0]
        where = ".".join(map(str, details["loc"]))
        what = f"{path}: {where} cannot be {details['input']!r}." if where else f"{path} has no fields with values."
        raise UsageError(Problem(what, _FILE_FIX)) from None
    except (OSError, ValueError, yaml.YAMLError):
        raise UsageError(Problem(f"{path} is not a valid run file.", _FILE_FIX)) from None


@dataclass(frozen=True)
class FolderNames:
    """Arm, alpha and seed that folder names contain; None for unknown values."""

    arm: str | None
    alpha: float | None
    seed: int | None


def read_names(run: Path, root: Path) -> FolderNames:
    """Return arm, alpha and seed from the names of a run's folder and its parents. Inner folders take precedence.

    Raises:
        UsageError: a folder name has two different alphas or two different seeds.
    """
    inside = [part for name in folders_inside(run, root) for part in name.split("__")]
    parts = [*full_path(root).name.split("__"), *inside][::-1]
    alphas = [(part, number) for part in parts if (number := _number_in(_ALPHA, part, run)) is not None]
    seeds = [(part, number) for part in parts if (number := _number_in(_SEED, part, run)) is not None]
    seed = int(seeds[0][1]) if seeds else None
    if alphas:
        part, alpha = alphas[0]
        return FolderNames(",".join([arm_name({"alpha": alpha}), *_details(part)]), alpha, seed)
    if seeds:
        return FolderNames(_arm_in(seeds[0][0], inside[::-1]), None, seed)
    return FolderNames(BASE_ARM if BASE_ARM in inside else None, None, None)


def has_run_name(folder: Path) -> bool:
    """Return whether the name of a folder has an alpha or a seed."""
    name = full_path(folder).name
    return bool(_ALPHA.search(name) or _SEED.search(name))


def folders_inside(run: Path, root: Path) -> tuple[str, ...]:
    """Return the names of the folders from below `root` to the run."""
    return Path(os.path.relpath(run, root)).parts


def _number_in(pattern: re.Pattern[str], part: str, run: Path) -> float | None:
    """Return the number in a name; None if it has none."""
    numbers = {float(number) for number in pattern.findall(part)}
    if len(numbers) > 1:
        raise UsageError(Problem(f"{part} in {run} has several numbers for the same quantity.", _NAME_FIX))
    return numbers.pop() if numbers else None


def _details(part: str) -> list[str]:
    pieces = [piece.strip() for piece in part.split(",")]
    return [piece for piece in pieces if "=" in piece and not _ALPHA.search(piece) and not _SEED.search(piece)]


def _arm_in(part: str, inside: Sequence[str]) -> str | None:
    """Return a name without its seed. If nothing remains, return the name of the parent folder."""
    if rest := _SEED.sub("", part).strip(_SEPARATORS):
        return rest
    outer = inside[inside.index(part) + 1 :] if part in inside else []
    return outer[0] if outer else None


def listed_paths(paths: Sequence[Path]) -> str:
    """Return the first few paths, and the number of the others."""
    return listed_at_most([str(path) for path in paths], _MOST_PATHS)
