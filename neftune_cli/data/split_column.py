"""The column `split` of rows: it divides a data set without splits, and must not contradict the splits of others."""

from collections.abc import Iterator, Mapping, Sequence

from neftune_cli.data.rows import BadRow, Located, LocatedRow, Rows, RowValues, is_blank, sift
from neftune_cli.data.splits import HELD_OUT, TRAIN, held_out_split, split_kind, training_split
from neftune_cli.errors import Problem, UsageError
from neftune_cli.formatting import counted

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
    named, bad_rows = sift(name, rows.rows, lambda row: (_split_of(row, column), row))
    names = list(dict.fromkeys(row.value[0] for row in named if row.value[0]))
    if not names or (len(names) == 1 and wanted is None and split_kind(names[0]) is None):
        return None
    if trains and wanted is None:
        _check_training(name, column, names)
    what = f"column '{column}' is empty."
    blank = [row.place_in(name) for row in named if not row.value[0]]
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
        yield f"{name}: values of the column '{column}' are read in any case: {', '.join(read)}."


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
        places = f"{counted(len(others), 'row')}, first {others[0].place_in(part)}"
        use = "training" if is_training else "held-out data"
        what = f"{part}: column '{column}' has the value {shown} ({places}), but this split is {use}."
        raise UsageError(Problem(what, LEAVE_OUT))
    return all(split_kind(row.value) for row in values)


def _values(rows: Rows, column: str) -> tuple[Located[str], ...]:
    return sift("", rows.rows, lambda row: _split_of(row, column))[0]


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
    """Return the split to which the rows belong that have none, so that they are reported."""
    found = training_split(names) if trains else held_out_split(names, "")
    return next((name for name in names if wanted and name.lower() == wanted.lower()), found or names[0])
