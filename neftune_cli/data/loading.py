"""Where rows come from: a local file, a folder saved by the datasets library, or the Hugging Face Hub."""

import difflib
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from neftune_cli.data.embedded import bios as fictional
from neftune_cli.data.examples import GenerationDefaults, InstructionData, fingerprint
from neftune_cli.data.files import FILE_SUFFIXES, FILE_SUFFIXES_IN_WORDS, read_file, rows_of_arrow
from neftune_cli.data.formats import choose_columns, read_examples
from neftune_cli.data.rows import Table
from neftune_cli.data.split import Split, check_example_counts, choose_probe, distinct, split_by_prompt
from neftune_cli.errors import Problem, UsageError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


EMBEDDED = "bios"
SHOWN_CHARACTERS = 300
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
OTHER_FILE_SUFFIXES = (".arrow", ".gz", ".ndjson", ".tsv", ".txt", ".xls", ".xlsx", ".yaml", ".yml", ".zip", ".zst")
"""Suffixes that tell a file from a hub id, though no file of the sort is understood."""


def read_rows(name: str) -> Table:
    """Read all rows of what `--dataset` names.

    Raises:
        UsageError: there is no such file, folder or data set, or it can't be read.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return _read_folder(path)
    if path.exists():
        return read_file(path)
    if _looks_like_path(name):
        raise UsageError(_missing(name))
    return _read_hub(name)


def _looks_like_path(name: str) -> bool:
    """Tell a mistyped path from a hub id: `owner/name`, whose last part may hold a dot (`OpenHermes-2.5`)."""
    has_folder = "/" in name and Path(name).parent.is_dir()
    has_suffix = Path(name).suffix.lower() in (*FILE_SUFFIXES, *OTHER_FILE_SUFFIXES)
    return has_folder or has_suffix or not HUB_ID.fullmatch(name)


def _missing(name: str) -> Problem:
    understood = f"{EMBEDDED}, a hub id, a saved folder, or a file ending in {FILE_SUFFIXES_IN_WORDS}"
    return Problem(f"There is no file or folder '{name}'.", f"{_did_you_mean(name)}Pass {understood}.")


def _did_you_mean(name: str) -> str:
    folder = Path(name).expanduser().parent
    beside = (str(path) for path in sorted(folder.iterdir())) if folder.is_dir() else ()
    close = difflib.get_close_matches(name, [EMBEDDED, *beside], n=1, cutoff=0.7)
    return f"Did you mean {close[0]}? " if close else ""


def _read_folder(folder: Path) -> Table:
    from datasets import load_from_disk

    if not any((folder / marker).is_file() for marker in ("dataset_info.json", "dataset_dict.json")):
        raise UsageError(_not_saved(folder))
    try:
        saved = load_from_disk(str(folder))
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"The data set in {folder} can't be read: {_in_one_line(error)}"
        raise UsageError(Problem(what, "Save it again with datasets' save_to_disk.")) from error
    return _table(str(folder), saved)


def _not_saved(folder: Path) -> Problem:
    files = sorted(str(path) for path in folder.iterdir() if path.suffix.lower() in FILE_SUFFIXES)
    instead = f"one of its files: {', '.join(files)}" if files else "a file, or a folder written by save_to_disk"
    return Problem(f"The folder {folder} was not saved by datasets' save_to_disk.", f"Pass {instead}.")


def _read_hub(name: str) -> Table:
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    try:
        return _table(name, load_dataset(name))
    except ConnectionError as error:
        raise UsageError(_unreachable(name)) from error
    except DatasetNotFoundError as error:
        raise UsageError(_unknown(name)) from error
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        what = f"The data set '{name}' can't be loaded from the Hugging Face Hub: {_in_one_line(error)}"
        raise UsageError(Problem(what, f"Load it in Python and pass a folder: {_recipe(name)}")) from error


def _unreachable(name: str) -> Problem:
    what = f"'{name}' is neither a file here nor in the local cache, and the Hugging Face Hub can't be reached for it."
    connect = "Set HF_HUB_OFFLINE=0 and check the connection, or pass a local file"
    return Problem(what, f"{_did_you_mean(name)}{connect}. Or save it where there is a connection: {_recipe(name)}")


def _unknown(name: str) -> Problem:
    what = f"There is no file '{name}' here and no such data set on the Hugging Face Hub, or it is private or gated."
    return Problem(what, f"{_did_you_mean(name)}Check the spelling, or log in with: hf auth login")


def _recipe(name: str) -> str:
    return f"datasets.load_dataset('{name}').save_to_disk('FOLDER'), then --dataset FOLDER."


def _in_one_line(error: Exception) -> str:
    return textwrap.shorten(str(error) or type(error).__name__, SHOWN_CHARACTERS, placeholder=" …")


def _table(source: str, loaded: "Dataset | DatasetDict") -> Table:
    # As Arrow, so that images and audio beside the text aren't decoded.
    table = _training_split(source, loaded).with_format("arrow")[:]
    if not table.num_rows:
        raise UsageError(Problem(f"{source} has no rows.", "Pass a data set with at least a few examples."))
    return Table(source, rows_of_arrow(table))


def _training_split(source: str, loaded: "Dataset | DatasetDict") -> "Dataset":
    if not isinstance(loaded, dict):
        return loaded
    if len(loaded) == 1:
        return next(iter(loaded.values()))
    if "train" in loaded:
        return loaded["train"]
    what = f"{source} has no split 'train', but {', '.join(loaded) or 'none at all'}."
    raise UsageError(Problem(what, "Save the split you mean by itself: dataset[SPLIT].save_to_disk('FOLDER')."))


GENERATION: Final = GenerationDefaults(max_new_tokens=128, repetition_penalty=1.2)


def load_data(
    name: str,
    *,
    layout: str | None = None,
    train_examples: int | None = None,
    eval_examples: int | None = None,
) -> InstructionData:
    """Load and split a data set.

    Args:
        name: `bios`, a local file, a folder written by datasets' `save_to_disk`, or a hub id.
        layout: `alpaca`, `prompt-completion`, `messages` or `text`; recognised by the columns if None.
        train_examples: at most so many to train on, chosen by content hash; a default if None.
        eval_examples: at most so many held out, chosen by content hash; a default if None.

    Raises:
        UsageError: the source can't be found or read, its rows make no examples, or there are too few of them.
    """
    check_example_counts(train_examples, eval_examples)
    if name == EMBEDDED:
        return _load_embedded(layout, train_examples, eval_examples)
    table = read_rows(name)
    columns = choose_columns(table, layout)
    examples = read_examples(table, columns)
    unique = distinct(examples)
    split = split_by_prompt(name, unique, train_examples=train_examples, eval_examples=eval_examples)
    recognised = f"{name} is read in the layout {columns.layout}: {columns.found_in(table)}."
    notes = [recognised, _sizes(split), *_left_out(len(examples), len(unique), split)]
    return _assembled(name, split, GENERATION, notes)


def _load_embedded(layout: str | None, train_examples: int | None, eval_examples: int | None) -> InstructionData:
    if layout is not None:
        what = f"--format {layout} is for data of your own; {EMBEDDED} has its layout already."
        raise UsageError(Problem(what, "Leave --format out."))
    split = fictional.split_by_person(train_examples=train_examples, eval_examples=eval_examples)
    people = "bios is split by person: held-out questions ask about other people, in other phrasings."
    return _assembled(EMBEDDED, split, fictional.GENERATION, [_sizes(split), people])


def _left_out(examples: int, unique: int, split: Split) -> list[str]:
    costs = {
        "dropped that repeat another's prompt and completion": examples - unique,
        "left unused": unique - len(split.train) - len(split.held_out),
    }
    return [f"{_examples(number)} {cost}." for cost, number in costs.items() if number]


def _sizes(split: Split) -> str:
    return f"{_examples(len(split.train))} to train on and {len(split.held_out)} held out, chosen by content hash."


def _examples(number: int) -> str:
    return "1 example" if number == 1 else f"{number:,} examples"


def _assembled(name: str, split: Split, generation: GenerationDefaults, notes: Sequence[str]) -> InstructionData:
    probe = choose_probe(split.train)
    return InstructionData(
        name=name,
        train=split.train,
        held_out=split.held_out,
        probe=probe,
        fingerprint=fingerprint(split.train, split.held_out, probe),
        generation=generation,
        notes=tuple(notes),
    )
