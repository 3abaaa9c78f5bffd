"""Splits: their names in files, folders and columns, and the column `split` of rows."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from neftune_cli.data.bad_rows import BadRow
from neftune_cli.data.rows import Located, LocatedRow, Rows, RowValues, is_blank, sift
from neftune_cli.errors import Problem, UsageError
from neftune_cli.formatting import counted

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
_IN_PATH = re.compile(rf"(?<![a-z])(?:{'|'.join(_KINDS).replace('_', '[ _-]')})(?![a-z])")
"""Name of a split as a word of a path in lower case."""


def is_split_name(name: str) -> bool:
    """Return whether a name is a common name of a split. Upper and lower case do not matter."""
    return split_kind(name) is not None


def split_kind(name: str) -> str | None:
    """Return `train`, `test`, `validation` or `eval` for a name of a split in upper or lower case; None for others."""
    name = _plain(name)
    return _KINDS.get(name) or next((_KINDS[word] for word in name.split("_")[:1] if word in _KINDS), None)


def _plain(name: str) -> str:
    return re.sub(r"[ -]", "_", name.strip().lower())


def kind_in_path(path: str) -> str | None:
    """Return the kind of the split that the file name or else a folder of a path names: `train-00000-of-00001`."""
    for part in reversed(path.lower().split("/")):
        if names := _IN_PATH.findall(part):
            return _KINDS[_plain(names[-1])]
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


SPLIT_COLUMN = "split"
LEAVE_OUT = "Remove the column or these rows, or leave the column out: name the columns to read with --columns."


def split_column(rows: Rows) -> str | None:
    """Return the name of the column `split`, in any case and with surrounding spaces; None if there is none."""
    columns = dict.fromkeys(column for row in rows.rows for column in row.value)
    found = [column for column in columns if column.strip().lower() == SPLIT_COLUMN]
    return SPLIT_COLUMN if SPLIT_COLUMN in found else next(iter(found), None)


def divided(name: str, rows: Rows, column: str, wanted: str | None, *, trains: bool) -> Mapping[str, Rows] | None:
    """Return the rows by their value in the column `split`.

    None if the column has no values, or one value that is not the name of a split and that the user does not name.

    Args:
        name: the data set, for messages.
        rows: all rows of the data set.
        column: the column.
        wanted: a split that the user names.
        trains: whether the data set is for training, or is held out as a whole.

    Raises:
        UsageError: no value is the name of a training split, and the user names no split.
    """
    named, bad_rows = sift(rows.rows, lambda row: (_split_of(row, column), row))
    names = list(dict.fromkeys(row.value[0] for row in named if row.value[0]))
    if not names or (len(names) == 1 and wanted is None and split_kind(names[0]) is None):
        return None
    if trains and wanted is None:
        _check_training(name, column, names)
    what = f"column '{column}' is empty."
    blank = [row.position for row in named if not row.value[0]]
    bad_rows += tuple(BadRow(place, what, "Fill it in, or remove the row.", what) for place in blank)
    notes = (*rows.notes, *_meaning_notes(name, column, names))
    of_split: dict[str, list[LocatedRow]] = {split: [] for split in names}
    for row in named:
        of_split.get(row.value[0], []).append(Located(row.place, row.value[1], row.file))
    splits = {split: Rows(tuple(found), notes=notes) for split, found in of_split.items()}
    used = _used(names, wanted, trains=trains)
    return splits | {used: Rows(splits[used].rows, (*rows.bad_rows, *bad_rows), notes)}


def _meaning_notes(name: str, column: str, names: Sequence[str]) -> Iterator[str]:
    """Yield a note on the values that are read as a split in another spelling: `VAL` as validation."""
    read = [f"'{one}' as {kind}" for one in names if (kind := split_kind(one)) and one != one.lower()]
    if read:
        rule = "Upper and lower case do not matter"
        yield f"{name}: {rule} in values of the column '{column}': {', '.join(read)}."


def has_split_names(rows: Rows, column: str) -> bool:
    """Return whether any value of the column is the name of a split."""
    return any(split_kind(row.value) for row in _values(rows, column))


def check_agreement(part: str, rows: Rows, column: str, split: str, *, trains: bool) -> bool:
    """Check that no value of the column contradicts the split that the rows are in.

    Args:
        part: name of the data set and the split, for messages.
        rows: rows of the split.
        column: the column `split`.
        split: name of the split.
        trains: whether the split is trained on.

    Returns:
        Whether all values are names of splits, so that the column tells nothing else.

    Raises:
        UsageError: the column says that rows for training are held out, or the other way round.
    """
    kind = split_kind(split)
    is_training = trains if kind is None else kind == TRAIN
    values = [row for row in _values(rows, column) if row.value]
    others = [row for row in values if split_kind(row.value) not in (None, *((TRAIN,) if is_training else HELD_OUT))]
    if others:
        shown = ", ".join(f"'{value}'" for value in dict.fromkeys(row.value for row in others))
        places = f"{counted(len(others), 'row')}, first {others[0].position}"
        use = "training" if is_training else "held-out data"
        what = f"{part}: column '{column}' has the value {shown} ({places}), but this split is {use}."
        raise UsageError(Problem(what, LEAVE_OUT))
    return all(split_kind(row.value) for row in values)


def _values(rows: Rows, column: str) -> tuple[Located[str], ...]:
    return sift(rows.rows, lambda row: _split_of(row, column))[0]


def _split_of(row: RowValues, column: str) -> str:
    value = row.get(column)
    return "" if is_blank(value) else str(value).strip()


def _check_training(name: str, column: str, names: Sequence[str]) -> None:
    if len(names) == 1 and split_kind(names[0]) != TRAIN:
        what = (
            f"{name}: the column '{column}' has only the value '{names[0]}', which is not the name of a training split."
        )
        raise UsageError(Problem(what, f"Use --split {names[0]} to train on these rows, or rename the column."))
    if all(split_kind(value) is None for value in names):
        what = f"{name}: no value of the column '{column}' is the name of a training split: {', '.join(names[:10])}."
        raise UsageError(Problem(what, "Use --split NAME to train on one of them, or rename the column."))


def _used(names: Sequence[str], wanted: str | None, *, trains: bool) -> str:
    """Return the split that is used, which also gets the rows without a split, so that they are reported."""
    found = training_split(names) if trains else held_out_split(names, "")
    return next((name for name in names if wanted and name.lower() == wanted.lower()), found or names[0])
