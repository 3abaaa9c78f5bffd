"""Names of splits in files, folders and columns: which ones are for training, and which ones are held out."""

import re
from collections.abc import Iterable

UNNAMED = ""
"""Name of the only split of a source without splits."""
TRAIN = "train"
HELD_OUT = ("test", "validation", "eval")
"""Splits that are held out, in order of preference."""
_NAMES = {
    TRAIN: (TRAIN, "training"),
    "test": ("test", "testing", "holdout", "held_out", "heldout"),
    "validation": ("validation", "valid", "val", "dev"),
    "eval": ("eval", "evaluation"),
}
_KINDS = {name: kind for kind, names in _NAMES.items() for name in names}
_WORDS = re.compile(r"[a-z]+")


def is_split_name(name: str) -> bool:
    """Return whether a name is a common name of a split, in any case."""
    return split_kind(name) is not None


def split_kind(name: str) -> str | None:
    """Return `train`, `test`, `validation` or `eval` for the names of a split, in any case; None for other names."""
    name = _plain(name)
    return _KINDS.get(name) or next((_KINDS[word] for word in name.split("_")[:1] if word in _KINDS), None)


def _plain(name: str) -> str:
    return re.sub(r"[ -]", "_", name.strip().lower())


def kind_in_path(path: str) -> str | None:
    """Return the kind of the split that the file name or else a folder of a path names: `train-00000-of-00001`."""
    for part in reversed(path.lower().split("/")):
        kinds = [_KINDS[word] for word in _WORDS.findall(part) if word in _KINDS]
        if kinds:
            return kinds[-1]
    return None


def training_split(names: Iterable[str]) -> str | None:
    """Return the split to train on: the only one, or the one for training; None if there is none, or several."""
    names = list(names)
    found = training_splits(names)
    return names[0] if len(names) == 1 else (found[0] if len(found) == 1 else None)


def training_splits(names: Iterable[str]) -> list[str]:
    """Return the splits named `train`, in any case; if there are none, the other training splits: `train_sft`."""
    names = list(names)
    return [name for name in names if name.strip().lower() == TRAIN] or [n for n in names if split_kind(n) == TRAIN]


def held_out_split(names: Iterable[str], training: str) -> str | None:
    """Return the split to hold out, other than the one for training; None if there is none.

    `test_sft` fits `train_sft` better than `test_gen`.
    """
    others = [name for name in names if name != training]
    for kind in HELD_OUT:
        found = [name for name in others if split_kind(name) == kind]
        if found:
            return max(found, key=lambda name: (_variant(name) == _variant(training), name.strip().lower() == kind))
    return None


def _variant(name: str) -> str:
    return _plain(name).partition("_")[2]
