"""What the names of a run's folders say of it.

Names are read from the run's folder upwards, ending with the folder that was given to compare:

- `alpha` or `neftune`, then `=`, `-`, `_` or nothing, then a number: `alpha=5`, `neftune-5`, `neftune_noise_alpha_0.5`.
  `lora_alpha` is something else.
- `seed` or `s` in the same way: `seed=0`, `s0`.
- No letter or digit touches them: `alphabet5` and `gpus4` say nothing.
- What else is written `field=value` between commas beside alpha belongs to the arm: `alpha=5,noise=gaussian,seed=0`.
- Without alpha, what stands beside the seed is the arm's own name: `weight-decay,seed=0`; if nothing does, the name of
  the folder around it is: `weight-decay/seed=0`.
- A folder named `base` holds the model before fine-tuning.

`__` separates folders as well, since lm-evaluation-harness writes a model's path like that.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neftune_cli.config.arms import arm_name
from neftune_cli.config.spec import BASE_ARM
from neftune_cli.errors import Problem, UsageError
from neftune_cli.evidence.folders import full_path

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
