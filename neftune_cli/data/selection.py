"""Selection of rows: the split to train on, and the split or data set that is held out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from neftune_cli.config.spec import InputSpec
from neftune_cli.data.rows import BadRow, Located, LocatedRow, Rows, RowValues, is_blank, sift
from neftune_cli.data.sources import BUNDLED_DATA, Source, open_source
from neftune_cli.data.splits import UNNAMED, held_out_split, split_kind, training_split
from neftune_cli.errors import Problem, Problems, UsageError

SPLIT_COLUMN = "split"
_BLANK_SPLIT = f"column '{SPLIT_COLUMN}' is empty."


@dataclass(frozen=True)
class Part:
    """Rows of one split."""

    name: str
    """Data set, with the split if there are several, for messages."""
    rows: Rows


@dataclass(frozen=True)
class Selection:
    """Rows for training, and rows that are held out."""

    training: Part
    held_out: Part | None
    """None if a part of the training rows is held out."""
    notes: tuple[str, ...]
    """Notes on splits and files that are not used."""


def select(inputs: InputSpec) -> Selection:
    """Read the rows for training, and those to hold out if the data set or the user sets them apart.

    Raises:
        UsageError: a data set cannot be found or read, or there is no such split.
    """
    problems = Problems()
    source = problems.attempt(
        lambda: _open(inputs.dataset, inputs.split or (None if inputs.eval_dataset else inputs.eval_split))
    )
    other = problems.attempt(lambda: _held_out_source(inputs)) if inputs.eval_dataset else None
    problems.raise_any()
    assert source is not None
    training = _training_name(source, inputs.split)
    if other is not None:
        return _selection(source, training, other, _held_out_name(other, inputs.eval_split))
    if inputs.eval_split is None:
        return _selection(source, training, source, held_out_split(source.splits, training))
    held_out = _existing(source, "--eval-split", inputs.eval_split)
    if held_out == training:
        what = f"--eval-split {held_out} is the split that is trained on."
        raise UsageError(Problem(what, "Use another split, or use --eval-dataset."))
    return _selection(source, training, source, held_out)


def _selection(source: Source, training: str, other: Source, held_out: str | None) -> Selection:
    problems = Problems()
    train = problems.attempt(lambda: _part(source, training))
    kept = None if held_out is None else problems.attempt(lambda: _part(other, held_out))
    problems.raise_any()
    assert train is not None
    used = {(source.name, training), (other.name, held_out)}
    of_files = [note for part in (train, kept) if part is not None for note in part.rows.notes]
    of_sources = [note for each in (source, other) for note in (*each.notes, *_unused(each, used))]
    return Selection(train, kept, tuple(dict.fromkeys([*of_files, *of_sources])))


def _part(source: Source, split: str) -> Part:
    rows = source.splits[split]()
    if not rows.count:
        raise UsageError(Problem(f"{_label(source, split)} has no rows.", "Use a split with examples."))
    return Part(_label(source, split), rows)


def _label(source: Source, split: str) -> str:
    return f"{source.name} (split {split})" if len(source.splits) > 1 else source.name


def _unused(source: Source, used: set[tuple[str, str | None]]) -> tuple[str, ...]:
    others = [split for split in source.splits if (source.name, split) not in used]
    sizes = [f"{split} ({source.sizes[split]:,} rows)" if split in source.sizes else split for split in others]
    return (f"Splits of {source.name} that are not used: {', '.join(sizes)}.",) if others else ()


def _held_out_source(inputs: InputSpec) -> Source:
    assert inputs.eval_dataset is not None
    if inputs.eval_dataset == BUNDLED_DATA:
        what = f"--eval-dataset {BUNDLED_DATA}: the bundled data set cannot be the held-out part of another one."
        raise UsageError(Problem(what, "Use a file."))
    return _open(inputs.eval_dataset, inputs.eval_split)


def _open(name: str, wanted: str | None) -> Source:
    """Open a data set. A column `split` gives the splits of one that has no others.

    Args:
        name: the data set.
        wanted: a split that the user names.
    """
    source = open_source(name)
    if list(source.splits) != [UNNAMED]:
        return source
    rows = source.splits[UNNAMED]()
    splits = _by_column(name, rows, wanted)
    if splits is None:
        return replace(source, splits={UNNAMED: lambda: rows})
    return replace(
        source,
        splits={split: _constant(found) for split, found in splits.items()},
        sizes={split: found.count for split, found in splits.items()},
    )


def _constant(rows: Rows) -> Callable[[], Rows]:
    return lambda: rows


def _by_column(name: str, rows: Rows, wanted: str | None) -> Mapping[str, Rows] | None:
    """Return the rows by their value in the column `split`.

    None if there is no such column, or if it has one value and the user names no split.

    Raises:
        UsageError: no value is a name of a training split, and the user names no split.
    """
    column = _split_column(rows)
    if column is None:
        return None
    named, bad_rows = sift(name, rows.rows, lambda row: (_split_of(row, column), row))
    names = list(dict.fromkeys(row.value[0] for row in named if row.value[0]))
    if not names or (len(names) == 1 and wanted is None):
        return None
    if wanted is None and all(split_kind(value) is None for value in names):
        what = f"{name}: no value of the column '{column}' is the name of a training split: {', '.join(names[:10])}."
        raise UsageError(Problem(what, "Use --split NAME to train on one of them, or rename the column."))
    blank = [row.place_in(name) for row in named if not row.value[0]]
    bad_rows += tuple(BadRow(place, _BLANK_SPLIT, "Fill it in, or remove the row.", _BLANK_SPLIT) for place in blank)
    of_split: dict[str, list[LocatedRow]] = {split: [] for split in names}
    for row in named:
        of_split.get(row.value[0], []).append(Located(row.place, row.value[1], row.file))
    splits = {split: Rows(tuple(found)) for split, found in of_split.items()}
    first = training_split(names) or (wanted if wanted in splits else names[0])
    return splits | {first: Rows(splits[first].rows, (*rows.bad_rows, *bad_rows))}


def _split_column(rows: Rows) -> str | None:
    columns = dict.fromkeys(column for row in rows.rows for column in row.value)
    return next((column for column in columns if column.strip().lower() == SPLIT_COLUMN), None)


def _split_of(row: RowValues, column: str) -> str:
    value = row.get(column)
    return "" if is_blank(value) else str(value).strip()


def _training_name(source: Source, wanted: str | None) -> str:
    if wanted is not None:
        return _existing(source, "--split", wanted)
    found = training_split(source.splits)
    if found is None:
        what = f"{source.name} has no split 'train'. Its splits are: {_names(source)}."
        raise UsageError(Problem(what, f"Name the split to train on, for example --split {next(iter(source.splits))}."))
    return found


def _held_out_name(source: Source, wanted: str | None) -> str:
    if wanted is not None:
        return _existing(source, "--eval-split", wanted)
    found = next(iter(source.splits)) if len(source.splits) == 1 else held_out_split(source.splits, "")
    if found is None:
        what = f"{source.name} has several splits: {_names(source)}."
        raise UsageError(Problem(what, "Name the split to hold out with --eval-split."))
    return found


def _existing(source: Source, option: str, wanted: str) -> str:
    """Return the name of a split in the source, which may differ in upper and lower case.

    Raises:
        UsageError: there is no such split.
    """
    found = [wanted] if wanted in source.splits else [s for s in source.splits if s.lower() == wanted.lower()]
    if found:
        return found[0]
    if list(source.splits) == [UNNAMED]:
        raise UsageError(Problem(f"{option} {wanted}: {source.name} has no splits.", f"Remove {option}."))
    what = f"{option} {wanted}: {source.name} has no split of that name. Its splits are: {_names(source)}."
    raise UsageError(Problem(what, "Use one of them."))


def _names(source: Source) -> str:
    return ", ".join(source.splits) or "none"
