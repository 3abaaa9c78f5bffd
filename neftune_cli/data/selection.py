"""Selection of rows: the split to train on, and the split or data set that is held out."""

from dataclasses import dataclass

from neftune_cli.config.spec import BUNDLED_DATASET, InputSpec
from neftune_cli.data.rows import Rows
from neftune_cli.data.sources import Source, open_source
from neftune_cli.data.split_names import (
    TRAIN,
    UNNAMED,
    check_agreement,
    divided,
    has_split_names,
    held_out_split,
    split_column,
    split_kind,
    training_split,
    training_splits,
)
from neftune_cli.errors import Problem, Problems, UsageError
from neftune_cli.formatting import listed_at_most


@dataclass(frozen=True)
class Part:
    """Rows of one split."""

    name: str
    """Data set, with the split if there are several, for messages."""
    rows: Rows
    split_column: str | None = None
    """Column of the rows that was read to choose them, or that agrees with the name of the split."""


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
    # Without another data set, --eval-split names a split of this one.
    wanted = inputs.split or (None if inputs.eval_dataset else inputs.eval_split)
    source = problems.attempt(lambda: _open(inputs.dataset, wanted, trains=True))
    other = problems.attempt(lambda: _held_out_source(inputs)) if inputs.eval_dataset else None
    problems.raise_any()
    assert source is not None
    training = _training_name(source, inputs.split)
    if other is not None:
        return _selection(inputs, source, training, other, _held_out_name(other, inputs.eval_split))
    if inputs.eval_split is None:
        found = held_out_split(source.splits, training)
        _check_one_spelling(source, found)
        return _selection(inputs, source, training, source, found)
    held_out = _existing(source, "--eval-split", inputs.eval_split)
    if held_out == training:
        what = f"--eval-split {held_out} is the split that is trained on."
        raise UsageError(Problem(what, "Use another split, or use --eval-dataset."))
    return _selection(inputs, source, training, source, held_out)


def select_training(inputs: InputSpec) -> Part:
    """Read only the rows for training.

    Raises:
        UsageError: the data set cannot be found or read, or there is no such split.
    """
    source = _open(inputs.dataset, inputs.split, trains=True)
    return _part(inputs, source, _training_name(source, inputs.split), trains=True)


def _selection(inputs: InputSpec, source: Source, training: str, other: Source, held_out: str | None) -> Selection:
    problems = Problems()
    train = problems.attempt(lambda: _part(inputs, source, training, trains=True))
    kept = None if held_out is None else problems.attempt(lambda: _part(inputs, other, held_out, trains=False))
    problems.raise_any()
    assert train is not None
    used = {(source.name, training), (other.name, held_out)}
    of_files = [note for part in (train, kept) if part is not None for note in part.rows.notes]
    of_sources = [note for each in (source, other) for note in (*each.notes, *_unused(each, used))]
    return Selection(train, kept, tuple(dict.fromkeys([*of_files, *of_sources, *_only_split(inputs, source)])))


def _part(inputs: InputSpec, source: Source, split: str, *, trains: bool) -> Part:
    rows, label = source.splits[split](), _label(source, split)
    if not rows.count:
        others = [other for other in source.splits if other != split and (trains or split_kind(other) != TRAIN)]
        use = f"Use {'--split' if trains else '--eval-split'} {others[0]}." if others else ""
        fix = use or ("Add examples to it." if trains else "Add examples to it, remove it, or use --eval-dataset.")
        raise UsageError(Problem(f"{label} has no rows.", fix))
    return Part(label, rows, _read_column(inputs, source, split, label, rows, trains=trains))


def _read_column(inputs: InputSpec, source: Source, split: str, label: str, rows: Rows, *, trains: bool) -> str | None:
    """Return the column `split` if its values chose the rows, or tell no more than the name of the split."""
    column = source.split_column or split_column(rows)
    if source.split_column or column is None or inputs.columns or not split:
        return source.split_column
    return column if check_agreement(label, rows, column, split, trains=trains) else None


def _only_split(inputs: InputSpec, source: Source) -> tuple[str, ...]:
    """Return a note on a data set that has only a split of another name than `train`, which the user does not name."""
    only, *others = source.splits
    if others or inputs.split or split_kind(only) in (None, TRAIN):
        return ()
    return (f"{source.name} has only the split '{only}', which is used for training.",)


def _label(source: Source, split: str) -> str:
    return f"{source.name} (split {split})" if len(source.splits) > 1 else source.name


def _unused(source: Source, used: set[tuple[str, str | None]]) -> tuple[str, ...]:
    others = [split for split in source.splits if (source.name, split) not in used]
    sizes = [f"{split} ({source.sizes[split]:,} rows)" if split in source.sizes else split for split in others]
    return (f"Splits of {source.name} that are not used: {', '.join(sizes)}.",) if others else ()


def _held_out_source(inputs: InputSpec) -> Source:
    assert inputs.eval_dataset is not None
    if inputs.eval_dataset == BUNDLED_DATASET:
        what = f"--eval-dataset {BUNDLED_DATASET}: the bundled data set cannot be the held-out part of another one."
        raise UsageError(Problem(what, "Use a file."))
    return _open(inputs.eval_dataset, inputs.eval_split, trains=False)


def _open(name: str, wanted: str | None, *, trains: bool) -> Source:
    """Open a data set. A column `split` gives the splits of one that has no others, or only one for training.

    Args:
        name: the data set.
        wanted: a split that the user names.
        trains: whether the data set is for training.
    """
    source = open_source(name)
    only, *others = source.splits
    if others or split_kind(only) not in (None, TRAIN):
        return source
    rows = source.splits[only]()
    column = split_column(rows)
    is_named = bool(only) and wanted is not None and wanted.lower() == only.lower()
    if column is None or (is_named and not has_split_names(rows, column)):
        return source.with_splits({only: rows})
    splits = divided(name, rows, column, wanted, trains=trains)
    return source.with_splits({only: rows}) if splits is None else source.with_splits(splits, column)


def _training_name(source: Source, wanted: str | None) -> str:
    if wanted is not None:
        return _existing(source, "--split", wanted)
    if source.unnamed and not training_splits(source.splits):
        files = f"files whose names are not those of a split: {listed_at_most(source.unnamed, 5)}"
        what = f"{source.name} has no training split (splits: {_names(source)}), but {files}."
        fix = "Use --dataset for the files to train on, and --eval-dataset for the others."
        raise UsageError(Problem(what, f"{fix} Or name the split to train on with --split."))
    found = training_split(source.splits)
    if found is None and (several := training_splits(source.splits)):
        what = f"{source.name} has several training splits: {', '.join(several)}."
        raise UsageError(Problem(what, f"Name the one to train on, for example --split {several[0]}."))
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
    _check_one_spelling(source, found)
    return found


def _check_one_spelling(source: Source, held_out: str | None) -> None:
    """Check the name of the split to hold out, which the user did not name.

    Raises:
        UsageError: another split has the same name in upper or lower case.
    """
    same = [split for split in source.splits if held_out is not None and split.lower() == held_out.lower()]
    if len(same) > 1:
        what = f"{source.name} has splits whose names differ in upper and lower case only: {', '.join(same)}."
        fix = f"Name the one to hold out, for example --eval-split {same[0]}, or write both names in one spelling."
        raise UsageError(Problem(what, fix))


def _existing(source: Source, option: str, wanted: str) -> str:
    """Return the name of a split in the source, which may differ in upper and lower case.

    Raises:
        UsageError: there is no such split.
    """
    found = [wanted] if wanted in source.splits else [s for s in source.splits if s.lower() == wanted.lower()]
    if len(found) > 1:
        what = f"{option} {wanted}: several splits of {source.name} have this name: {', '.join(found)}."
        raise UsageError(Problem(what, "Use one of these spellings."))
    if found:
        return found[0]
    if list(source.splits) == [UNNAMED]:
        raise UsageError(Problem(f"{option} {wanted}: {source.name} has no splits.", f"Remove {option}."))
    what = f"{option} {wanted}: {source.name} has no split of that name. Its splits are: {_names(source)}."
    raise UsageError(Problem(what, "Use one of them."))


def _names(source: Source) -> str:
    return ", ".join(source.splits) or "none"
