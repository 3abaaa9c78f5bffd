"""Data sets of the Hugging Face Hub: loaded by their id, written by `save_to_disk`, or cloned with their card."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from neftune_cli.data.arrow import rows_of_arrow
from neftune_cli.data.files import is_lfs_pointer, lfs_problem
from neftune_cli.data.rows import Rows
from neftune_cli.data.split_names import UNNAMED
from neftune_cli.errors import Problem, UsageError, one_line
from neftune_cli.formatting import listed

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

SAVE_AGAIN = "Save it again with save_to_disk of the datasets library."
ROW_SETTINGS = ("column_names", "names", "header", "usecols", "skiprows", "skipfooter", "nrows", "field")
"""Settings of a card for the reader of the datasets library that change the rows or the names of the columns."""


class HubSplits(NamedTuple):
    """The splits of a data set that the datasets library has opened."""

    readers: Mapping[str, Callable[[], Rows]]
    """Name of a split to a function that reads its rows."""
    sizes: Mapping[str, int]
    """Name of a split to its number of rows."""


def open_saved(name: str, folder: Path) -> HubSplits:
    """Return the splits of a folder written by `save_to_disk` of the datasets library.

    Raises:
        UsageError: the folder is damaged.
    """
    import pyarrow
    from datasets import load_from_disk

    try:
        return _splits(name, load_from_disk(str(folder)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pyarrow.ArrowException) as error:
        if pointer := next(filter(is_lfs_pointer, folder.rglob("*.arrow")), None):
            raise UsageError(lfs_problem(pointer, folder)) from error
        what = f"The data set in {folder} cannot be read: {one_line(error)}"
        raise UsageError(Problem(what, SAVE_AGAIN)) from error
    except IndexError as error:  # of an empty list of tables
        what = f"The data set in {folder} cannot be read: the datasets library cannot open a split without rows."
        raise UsageError(Problem(what, "Save it again without the empty split.")) from error


def open_hub(name: str, hint: str) -> HubSplits:
    """Return the splits of a data set from the hub or its cache.

    Args:
        name: hub id.
        hint: question that names a similar local file, for messages.

    Raises:
        UsageError: there is no such data set, or it cannot be loaded.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    try:
        return _splits(name, load_dataset(name))
    except ConnectionError as error:
        raise UsageError(_unreachable(name, hint)) from error
    except DatasetNotFoundError as error:
        raise UsageError(_unknown(name, hint)) from error
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        what = f"The data set '{name}' cannot be loaded from the Hugging Face Hub: {one_line(error)}"
        raise UsageError(Problem(what, f"Load it in Python, then pass a folder: {_recipe(name)}")) from error


def card_patterns(folder: Path, card: Path) -> Mapping[str, list[str]]:
    """Return the patterns of data files by split that the card of a data set names; nothing if it names none.

    Raises:
        UsageError: the card is not valid, has several configurations and no default, or has settings that are not read.
    """
    from datasets.data_files import sanitize_patterns
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCard

    try:
        configs = MetadataConfigs.from_dataset_card_data(DatasetCard.load(card).data)
        chosen = next(iter(configs)) if len(configs) == 1 else configs.get_default_config_name()
        config = configs[chosen] if chosen else {}
        files = config.get("data_files")
        patterns = sanitize_patterns(files) if files else {}
    except Exception as error:  # the libraries for cards raise errors of many types, also YAML's
        what = f"The list of data files in {card} cannot be read: {one_line(error)}"
        raise UsageError(Problem(what, "Correct it, or pass the names of data files.")) from error
    if configs and not chosen:
        what = f"The data set in {folder} has several configurations: {', '.join(configs)}."
        raise UsageError(Problem(what, f"Use the files of one of them, for example '{folder}/FOLDER/*.parquet'."))
    if settings := [setting for setting in ROW_SETTINGS if config.get(setting)]:
        what = f"{card} sets {listed(settings)}, which would change the rows. neftune does not apply such settings."
        raise UsageError(Problem(what, "Pass the names of the data files to read them without these settings."))
    within = str(config.get("data_dir") or "").strip("/")
    prefix = f"{within}/" if within not in ("", ".") else ""
    return {split: [f"{prefix}{pattern}".removeprefix("./") for pattern in found] for split, found in patterns.items()}


def _unreachable(name: str, hint: str) -> Problem:
    what = f"There is no file '{name}', no cached data set of that name, and the Hugging Face Hub cannot be reached."
    connect = "Set HF_HUB_OFFLINE=0 and check the connection, or pass a local file"
    return Problem(what, f"{hint}{connect}. Or save the data set on another machine: {_recipe(name)}")


def _unknown(name: str, hint: str) -> Problem:
    what = f"There is no file '{name}', and no data set of that name on the Hugging Face Hub that you can access."
    return Problem(what, f"{hint}Check the spelling. If it is private or gated, run: hf auth login")


def _recipe(name: str) -> str:
    return f"datasets.load_dataset('{name}').save_to_disk('FOLDER'), then --dataset FOLDER."


def _splits(name: str, loaded: "Dataset | DatasetDict") -> HubSplits:
    splits: Mapping[str, Any] = loaded if isinstance(loaded, dict) else {UNNAMED: loaded}
    sizes = {split: len(dataset) for split, dataset in splits.items()}
    if not sum(sizes.values()):
        raise UsageError(Problem(f"{name} has no rows.", "Use a data set with examples."))
    readers = {split: _reader(name, split if len(splits) > 1 else "", dataset) for split, dataset in splits.items()}
    return HubSplits(readers, sizes)


def _reader(name: str, split: str, dataset: "Dataset") -> Callable[[], Rows]:
    # In Arrow format, so that images and audio in other columns are not decoded.
    place = f"{name}, split {split}" if split else name
    return lambda: rows_of_arrow(name, dataset.with_format("arrow")[:], place)
