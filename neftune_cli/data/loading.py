"""Load a data set from a file, a saved folder or the Hugging Face Hub, and split it for training."""

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from neftune_cli.config.spec import InputSpec
from neftune_cli.data.embedded import bios
from neftune_cli.data.examples import GenerationDefaults, InstructionData, fingerprint
from neftune_cli.data.files import FILE_SUFFIXES, FILE_SUFFIXES_IN_WORDS, read_file, rows_of_arrow
from neftune_cli.data.formats import read_examples
from neftune_cli.data.rows import Table, problems_of
from neftune_cli.data.split import Split, check_example_counts, choose_probe, drop_duplicates, split_by_prompt
from neftune_cli.data.trl_dataset import trl_dataset
from neftune_cli.errors import Problem, UsageError, did_you_mean
from neftune_cli.formatting import counted

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

BUNDLED_DATA = "bios"
GENERATION: Final = GenerationDefaults(max_new_tokens=128, repetition_penalty=1.2)
SHOWN_CHARACTERS = 300
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
"""Id of a model or a data set on the Hugging Face Hub: `name` or `owner/name`."""
OTHER_FILE_SUFFIXES = (".arrow", ".gz", ".ndjson", ".tsv", ".txt", ".xls", ".xlsx", ".yaml", ".yml", ".zip", ".zst")
"""Unsupported suffixes. A name with one of them is a file name, not a hub id."""


def load_data(
    name: str,
    *,
    layout: str | None = None,
    train_examples: int | None = None,
    eval_examples: int | None = None,
) -> InstructionData:
    """Load and split a data set.

    Args:
        name: `bios`, a local file, a folder written by `save_to_disk` of the datasets library, or a hub id.
        layout: `alpaca`, `prompt-completion`, `messages` or `text`; recognized by the columns if None.
        train_examples: maximum number of training examples, chosen by content hash; a default if None.
        eval_examples: maximum number of held-out examples, chosen by content hash; a default if None.

    Raises:
        UsageError: the source cannot be found or read, rows cannot be used, or there are too few of them.
    """
    check_example_counts(train_examples, eval_examples)
    if name == BUNDLED_DATA:
        return _load_bundled(layout, train_examples, eval_examples)
    table = read_rows(name)
    reading = read_examples(table, InputSpec(dataset=name, layout=layout))
    if reading.bad_rows:
        raise UsageError(*problems_of(reading.bad_rows))
    examples = reading.examples
    unique = drop_duplicates(examples)
    split = split_by_prompt(name, unique, train_examples=train_examples, eval_examples=eval_examples)
    notes = [*reading.notes, _sizes(split), *_left_out(len(examples), len(unique), split)]
    return _assembled(name, split, GENERATION, notes)


def load_examples(name: str, *, layout: str | None = None) -> "Dataset":
    """Load all rows of a data set in any supported layout, as a dataset for the trainers of TRL.

    Duplicates are kept, and nothing is held out. SFTTrainer computes the loss on the completion, as `neftune sweep`
    does, or on the whole text for the layout `text`.

    Args:
        name: a local file, a folder written by `save_to_disk` of the datasets library, a hub id, or `bios` (its
            training examples).
        layout: `alpaca`, `prompt-completion`, `messages` or `text`; recognized by the columns if None.

    Returns:
        A dataset with the conversational columns `prompt` and `completion` (lists of messages with `role`, `content`
        and, for example, `tool_calls`) and `tools` if there are tools; or with the column `text` for the layout `text`.

    Raises:
        UsageError: the source cannot be found or read, or rows cannot be used.
    """
    if name == BUNDLED_DATA:
        examples = _bundled_split(layout, None, None).train
    else:
        reading = read_examples(read_rows(name), InputSpec(dataset=name, layout=layout))
        if reading.bad_rows:
            raise UsageError(*problems_of(reading.bad_rows))
        examples = reading.examples
    return trl_dataset(examples)


def _load_bundled(layout: str | None, train_examples: int | None, eval_examples: int | None) -> InstructionData:
    split = _bundled_split(layout, train_examples, eval_examples)
    people = "bios is split by person: held-out questions are about other people and have other phrasings."
    return _assembled(BUNDLED_DATA, split, bios.GENERATION, [_sizes(split), people])


def _bundled_split(layout: str | None, train_examples: int | None, eval_examples: int | None) -> Split:
    if layout is not None:
        what = f"--format {layout} does not apply to the bundled data set {BUNDLED_DATA}."
        raise UsageError(Problem(what, "Remove --format."))
    return bios.split_by_person(train_examples=train_examples, eval_examples=eval_examples)


def _left_out(examples: int, unique: int, split: Split) -> list[str]:
    counts = {
        "dropped as duplicates (same prompt and completion)": examples - unique,
        "not used": unique - len(split.train) - len(split.held_out),
    }
    return [f"{counted(number, 'example')} {reason}." for reason, number in counts.items() if number]


def _sizes(split: Split) -> str:
    train = counted(len(split.train), "example")
    return f"{train} for training and {len(split.held_out)} held out, chosen by content hash."


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


def read_rows(name: str) -> Table:
    """Read all rows of a data set.

    Args:
        name: a local file, a folder written by `save_to_disk` of the datasets library, or a hub id.

    Raises:
        UsageError: there is no such file, folder or data set, or it cannot be read.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return _read_folder(path)
    if path.exists():
        return read_file(path)
    if _looks_like_path(name):
        raise UsageError(_missing_file(name))
    return _read_hub(name)


def _looks_like_path(name: str) -> bool:
    """Distinguish a mistyped path from a hub id `owner/name`, whose last part may contain a dot (`OpenHermes-2.5`)."""
    has_folder = "/" in name and Path(name).parent.is_dir()
    has_suffix = Path(name).suffix.lower() in (*FILE_SUFFIXES, *OTHER_FILE_SUFFIXES)
    return has_folder or has_suffix or not HUB_ID.fullmatch(name)


def _missing_file(name: str) -> Problem:
    supported = f"{BUNDLED_DATA}, a {FILE_SUFFIXES_IN_WORDS} file, a folder written by save_to_disk, or a hub id"
    return Problem(f"There is no file or folder '{name}'.", f"{_did_you_mean(name)}Use {supported}.")


def _did_you_mean(name: str) -> str:
    folder = Path(name).expanduser().parent
    siblings = sorted(path for path in folder.iterdir() if _is_data(path)) if folder.is_dir() else []
    question = did_you_mean(
        name, [BUNDLED_DATA, *map(str, siblings)], compared=lambda one: Path(one).stem, quoted=False
    )
    return f"{question} " if question else ""


def _is_data(path: Path) -> bool:
    return path.suffix.lower() in FILE_SUFFIXES or path.is_dir()


def _read_folder(folder: Path) -> Table:
    from datasets import load_from_disk

    if not any((folder / marker).is_file() for marker in ("dataset_info.json", "dataset_dict.json")):
        raise UsageError(_unsaved_folder(folder))
    try:
        saved = load_from_disk(str(folder))
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"The data set in {folder} cannot be read: {_in_one_line(error)}"
        raise UsageError(Problem(what, "Save it again with save_to_disk of the datasets library.")) from error
    return _table(str(folder), saved)


def _unsaved_folder(folder: Path) -> Problem:
    files = sorted(str(path) for path in folder.iterdir() if path.suffix.lower() in FILE_SUFFIXES)
    instead = f"one of its files: {', '.join(files)}" if files else "a file, or a folder written by save_to_disk"
    return Problem(f"The folder {folder} was not written by save_to_disk of the datasets library.", f"Pass {instead}.")


def _read_hub(name: str) -> Table:
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    try:
        return _table(name, load_dataset(name))
    except ConnectionError as error:
        raise UsageError(_unreachable_hub(name)) from error
    except DatasetNotFoundError as error:
        raise UsageError(_unknown_data_set(name)) from error
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        what = f"The data set '{name}' cannot be loaded from the Hugging Face Hub: {_in_one_line(error)}"
        raise UsageError(Problem(what, f"Load it in Python, then pass a folder: {_recipe(name)}")) from error


def _unreachable_hub(name: str) -> Problem:
    what = f"There is no file '{name}', no cached data set of that name, and the Hugging Face Hub cannot be reached."
    connect = "Set HF_HUB_OFFLINE=0 and check the connection, or pass a local file"
    return Problem(what, f"{_did_you_mean(name)}{connect}. Or save the data set on another machine: {_recipe(name)}")


def _unknown_data_set(name: str) -> Problem:
    what = f"There is no file '{name}', and no data set of that name on the Hugging Face Hub that you can access."
    return Problem(what, f"{_did_you_mean(name)}Check the spelling. If it is private or gated, run: hf auth login")


def _recipe(name: str) -> str:
    return f"datasets.load_dataset('{name}').save_to_disk('FOLDER'), then --dataset FOLDER."


def _in_one_line(error: Exception) -> str:
    return textwrap.shorten(str(error) or type(error).__name__, SHOWN_CHARACTERS, placeholder=" …")


def _table(source: str, loaded: "Dataset | DatasetDict") -> Table:
    # In Arrow format, so that images and audio in other columns are not decoded.
    table = _training_split(source, loaded).with_format("arrow")[:]
    if not table.num_rows:
        raise UsageError(Problem(f"{source} has no rows.", "Pass a data set with examples."))
    return Table(source, rows_of_arrow(table))


def _training_split(source: str, loaded: "Dataset | DatasetDict") -> "Dataset":
    if not isinstance(loaded, dict):
        return loaded
    if len(loaded) == 1:
        return next(iter(loaded.values()))
    if "train" in loaded:
        return loaded["train"]
    what = f"{source} has no split 'train'. Its splits are: {', '.join(loaded) or 'none'}."
    raise UsageError(Problem(what, "Save the split to use on its own: dataset[SPLIT].save_to_disk('FOLDER')."))
