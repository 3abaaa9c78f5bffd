"""Sources of data: a file, several files, a folder or a hub id, with the rows of each split."""

import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path

from neftune_cli.config.spec import BUNDLED_DATASET, HUB_ID
from neftune_cli.config.values import parse_path
from neftune_cli.data.files import COMPRESSIONS, FILE_SUFFIXES_IN_WORDS, is_data_file, read_file, split_suffix
from neftune_cli.data.rows import Rows, joined
from neftune_cli.data.split_names import UNNAMED, kind_in_path
from neftune_cli.errors import Problem, Problems, UsageError, suggestion
from neftune_cli.formatting import listed_at_most
from neftune_cli.store import is_sweep
from neftune_cli.store.files import folders_in

OTHER_FILE_SUFFIXES = (
    *(".txt", ".xls", ".xlsx", ".ods", ".yaml", ".yml", ".xml", ".tab", ".psv", ".jsonlines", ".json5"),
    *(".zip", ".xz", ".bz2", ".lz4", ".tar", ".tgz", ".7z", ".rar"),
    *(".pkl", ".pickle", ".pq", ".feather", ".orc", ".avro", ".db", ".sqlite"),
)
"""Unsupported suffixes. A name with one of them is a file name, not a hub id."""
DESCRIPTIONS = ("dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json", "package.json")
"""Names of files in the folders of data sets that have no rows."""
CARD = "README.md"
_SHARD = re.compile(r"(.*-)(\d+)-of-(\d+)(-[0-9a-f]+(?=\.))?(.*)", re.DOTALL)
"""Name of one of several files that belong together: `train-00000-of-00003.parquet`. Before version 2.14, the datasets
library added a hash to the number, another one for each file: `train-00000-of-00003-a3ecf92756993583.parquet`."""
USE = f"Use {BUNDLED_DATASET}, a {FILE_SUFFIXES_IN_WORDS} file, a folder with such files, or a hub id."


@dataclass(frozen=True)
class Source:
    """A data set. Its splits are read when they are needed."""

    name: str
    """The files, folder or hub id, as the user wrote it."""
    splits: Mapping[str, Callable[[], Rows]]
    """Reads the rows of a split, by its name; the name is empty if there are no splits."""
    notes: tuple[str, ...] = ()
    """Notes on files that are not read."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Number of rows of each split, if it is known without reading."""
    split_column: str | None = None
    """Column whose values are the names of the splits, if there is one."""
    unnamed: tuple[str, ...] = ()
    """Files that are not read, because their names are not those of a split."""

    def with_splits(self, splits: Mapping[str, Rows], column: str | None = None) -> "Source":
        """Return the data set with splits that are read already, and the column that they come from."""
        readers = {split: _constant(rows) for split, rows in splits.items()}
        sizes = {split: rows.count for split, rows in splits.items()}
        return replace(self, splits=readers, sizes=sizes, split_column=column)


def open_source(name: str) -> Source:
    """Return the splits of a data set.

    Args:
        name: a local file, several files separated by commas, a pattern of file names, a folder, or a hub id.

    Raises:
        UsageError: there is no such file, folder or data set, or it cannot be read.
    """
    if not name.strip():
        raise UsageError(Problem("The name of a data set is empty.", USE))
    try:
        if source := _open_local(name):
            return source
    except OSError as error:
        raise UsageError(Problem(f"{name} cannot be read: {error.strerror}.", "Check its permissions.")) from error
    from neftune_cli.data.hub import open_hub

    found = open_hub(name, similar_file(name))
    return Source(name, found.readers, sizes=found.sizes)


def _open_local(name: str) -> Source | None:
    """Open files or a folder. Return None for a hub id."""
    path = parse_path(name)
    if path.is_dir():
        return _open_folder(name, path)
    if path.exists():
        return _single_file(name, path)
    if "," in name or glob.has_magic(name):
        return _open_files(name)
    if _looks_like_path(name):
        raise UsageError(_missing(name))
    return None


def _single_file(name: str, path: Path) -> Source:
    return Source(name, {}).with_splits(read_file(path))


def _constant(rows: Rows) -> Callable[[], Rows]:
    return lambda: rows


def _open_files(name: str) -> Source:
    """Open files separated by commas and patterns of file names."""
    problems = Problems()
    found = [problems.attempt(partial(_matches, part)) for part in name.split(",") if part.strip()]
    problems.raise_any()
    if not found:
        raise UsageError(Problem(f"'{name}' names no file.", USE))
    matches = [path for matches in found for path in matches or ()]
    paths = list({_absolute(path): path for path in reversed(matches)}.values())[::-1]
    notes = _repeated(matches)
    if len(paths) == 1:
        return _with_notes(_single_file(name, paths[0]), (*notes, *_missing_shards(paths)))
    base = Path(os.path.commonpath([path.parent for path in paths])) if paths else Path()
    return _with_notes(_by_name(name, paths, base), (*notes, *_partitions(paths, base), *_missing_shards(paths)))


def _repeated(paths: Sequence[Path]) -> tuple[str, ...]:
    counts = Counter(map(_absolute, paths))
    names = [str(path) for path in paths if counts.pop(_absolute(path), 1) > 1]
    return (f"Files that are named more than once and read once: {listed_at_most(names, 5)}.",) if names else ()


def _absolute(path: Path) -> str:
    return os.path.normpath(path.absolute())


def _with_notes(source: Source, notes: Sequence[str]) -> Source:
    return replace(source, notes=(*source.notes, *notes))


def _matches(part: str) -> list[Path]:
    """Return the files of one part: a file, or the data files that match a pattern.

    Raises:
        UsageError: there are none.
    """
    path = parse_path(part.strip())
    if path.is_file():
        return [path]
    if part.strip() == BUNDLED_DATASET and not path.exists():
        what = f"'{BUNDLED_DATASET}' is the bundled data set, and only files can be joined with commas."
        raise UsageError(Problem(what, f"Use {BUNDLED_DATASET} alone, or files only."))
    if path.is_dir():
        what = f"'{part.strip()}' is a folder, and only files can be joined with commas."
        raise UsageError(Problem(what, f"Name its files, for example '{path / '*.jsonl'}'."))
    anchor = Path(path.anchor)
    found = _files_in(anchor, str(path.relative_to(anchor)))
    if data_files := [match for match in found if is_data_file(match)]:
        return data_files
    if found:
        raise UsageError(Problem(f"'{part}' matches no {FILE_SUFFIXES_IN_WORDS} file.", "Use the names of data files."))
    raise UsageError(_missing(part.strip()))


def _files_in(folder: Path, pattern: str) -> list[Path]:
    """Return the files that match a pattern.

    Raises:
        UsageError: the pattern is not valid.
    """
    names = Path(pattern).parts
    if any("**" in name and name != "**" for name in names):  # an error until Python 3.13
        root = folder if folder.anchor == str(folder) else Path()
        what = f"The pattern '{root / pattern}' has ** inside a name."
        raise UsageError(Problem(what, f"Use '{root.joinpath(*map(_separated, names))}'. ** must be alone in a name."))
    try:
        return sorted({path for path in _paths(folder, names) if path.is_file()})
    except (NotImplementedError, ValueError):  # an absolute or empty pattern matches no file in the folder
        return []


def _paths(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """Yield the paths that match the parts of a pattern. `**` is each folder of `_folders`."""
    if "**" not in names:
        yield from folder.glob(str(Path(*names))) if names else ()
        return
    position = names.index("**")
    starts = folder.glob(str(Path(*names[:position]))) if position else (folder,)
    for below, _ in chain.from_iterable(map(_folders, starts)):
        yield from _paths(below, names[position + 1 :] or ("*",))


def _folders(start: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder and the folders in it, each once, with the names of their files. Hidden links are not followed."""
    return folders_in(start, lambda name: not _is_hidden_name(name))


def _separated(name: str) -> str:
    """Return a part of a pattern with ** alone: **.csv becomes **/*.csv, and train**.csv becomes train*.csv."""
    if name == "**":
        return name
    return ("**/" if name.startswith("**") else "") + name.replace("**", "*")


def _by_name(name: str, paths: Sequence[Path], base: Path) -> Source:
    """Return the splits that the names of files and folders say; one split if they say none."""
    kinds = {path: kind_in_path(path.relative_to(base).as_posix()) for path in paths}
    if not any(kinds.values()):
        return Source(name, {UNNAMED: partial(_read_all, paths)})
    named = dict.fromkeys(kind for kind in kinds.values() if kind)
    splits = {kind: [path for path in paths if kinds[path] == kind] for kind in named}
    unnamed = [path for path in paths if not kinds[path]]
    what = "Files that are not read, because their names are not those of a split"
    notes = (f"{what}: {_listed(unnamed)}.",) if unnamed else ()
    return Source(name, _readers(splits), notes, unnamed=tuple(map(str, unnamed)))


def _readers(splits: Mapping[str, Sequence[Path]]) -> dict[str, Callable[[], Rows]]:
    return {split: partial(_read_all, paths) for split, paths in splits.items()}


def _read_all(paths: Sequence[Path]) -> Rows:
    """Return the rows of all files.

    Raises:
        UsageError: a file cannot be read, or one of several files has splits of its own.
    """
    problems = Problems()
    read = [problems.attempt(partial(_read_one, path, alone=len(paths) == 1)) for path in paths]
    problems.raise_any()
    return joined([rows for rows in read if rows is not None])


def _read_one(path: Path, *, alone: bool) -> Rows:
    splits = read_file(path)
    if len(splits) > 1 or (UNNAMED not in splits and not alone):
        raise UsageError(Problem(f"{path} has the splits {', '.join(splits)}.", "Use this file alone."))
    return next(iter(splits.values()))


def _open_folder(name: str, folder: Path) -> Source:
    """Open a folder by `save_to_disk`, a clone from the hub, or a folder with data files."""
    if _is_saved(folder):
        from neftune_cli.data.hub import open_saved

        found = open_saved(name, folder)
        return Source(name, found.readers, sizes=found.sizes)
    visible = _visible_files(folder)
    files = [path for path in visible if is_data_file(path) and path.name not in DESCRIPTIONS]
    card = folder / CARD
    if card.is_file() and b"configs:" in card.read_bytes():
        from neftune_cli.data.hub import card_patterns

        if patterns := card_patterns(folder, card):
            return _with_notes(_by_patterns(name, folder, files, patterns), _folder_notes(files, folder, visible))
    if not files:
        fix = f"Use a folder with {FILE_SUFFIXES_IN_WORDS} files, or one written by save_to_disk."
        raise UsageError(Problem(f"The folder {folder} has no data files.", fix))
    _check_formats(folder, files)
    source = _single_file(name, files[0]) if len(files) == 1 else _by_name(name, files, folder)
    return _with_notes(source, _folder_notes(files, folder, visible))


def _folder_notes(files: Sequence[Path], folder: Path, visible: Sequence[Path]) -> tuple[str, ...]:
    return (*_partitions(files, folder), *_missing_shards(files), *_other_files(folder, visible))


def _partitions(paths: Sequence[Path], base: Path) -> tuple[str, ...]:
    """Return a note on folders such as `lang=en`, which other programs read as a value of the column `lang`."""
    parts = dict.fromkeys(part for path in paths for part in path.relative_to(base).parts[:-1])
    folders = [part for part in parts if "=" in part and kind_in_path(part) is None]
    note = f"Names of folders are not read as columns: {listed_at_most(folders, 5)}."
    return (note,) if folders else ()


def _other_files(folder: Path, visible: Sequence[Path]) -> tuple[str, ...]:
    """Return a note on the files of a folder that can have rows, but are in an unsupported format."""
    names = [str(path) for path in visible if _is_other_file(path)]
    note = f"Files of {folder} that are not read, because of their format: {listed_at_most(names, 5)}."
    return (note,) if names else ()


def _is_other_file(path: Path) -> bool:
    suffix, compression = split_suffix(path.name)
    return suffix in OTHER_FILE_SUFFIXES or bool(compression and not suffix)


def _missing_shards(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return a note on files such as `train-00000-of-00003.parquet` of which others are missing."""
    numbered = (_SHARD.fullmatch(str(path)) for path in paths)
    found = Counter((name, total) for name, total, _ in {_shard(match) for match in numbered if match})
    missing = [f"{name} ({number} of {total:,} found)" for (name, total), number in found.items() if number < total]
    note = f"Some of the files that belong together are missing: {listed_at_most(missing, 5)}."
    return (note,) if missing else ()


def _shard(match: re.Match[str]) -> tuple[str, int, int]:
    """Return the common name of files that belong together, their number, and the index of this one."""
    before, index, total, has_hash, after = match.groups()
    return f"{before}*-of-{total}{'-*' if has_hash else ''}{after}", int(total), int(index)


def _is_saved(folder: Path) -> bool:
    is_one = (folder / "dataset_info.json").is_file() and (folder / "state.json").is_file()
    return is_one or (folder / "dataset_dict.json").is_file()


def _visible_files(folder: Path) -> list[Path]:
    files = (below / name for below, names in _folders(folder) for name in names)
    return sorted(path for path in files if not _is_hidden(path, folder) and path.is_file())


def _is_hidden(path: Path, folder: Path) -> bool:
    is_cache = path.name.startswith("cache-") and path.suffix == ".arrow"  # written by the datasets library
    return is_cache or any(map(_is_hidden_name, path.relative_to(folder).parts))


def _is_hidden_name(name: str) -> bool:
    return name.startswith((".", "__"))


def _check_formats(folder: Path, files: Sequence[Path]) -> None:
    if is_sweep(folder):
        raise UsageError(Problem(f"The folder {folder} has the results of a sweep, not data.", USE))
    suffixes = Counter(split_suffix(path.name)[0] for path in files)
    if len(suffixes) > 1:
        ((most, _),) = suffixes.most_common(1)
        what = f"The folder {folder} has data files of several formats: {_listed(files)}."
        raise UsageError(Problem(what, f"Use the files of one format, for example '{folder}/*{most}'."))


def _listed(files: Sequence[Path]) -> str:
    return listed_at_most([str(path) for path in files], 5)


def _by_patterns(name: str, folder: Path, files: Sequence[Path], patterns: Mapping[str, Sequence[str]]) -> Source:
    """Return the splits whose files the card of a data set names."""
    found = {split: {pattern: _files_in(folder, pattern) for pattern in named} for split, named in patterns.items()}
    if missing := [pattern for of_split in found.values() for pattern, paths in of_split.items() if not paths]:
        what = f"{folder / CARD} names files that the folder does not have: {', '.join(missing)}."
        raise UsageError(Problem(what, "Download the whole data set, or pass the names of data files."))
    splits = {split: _chosen(folder, of_split) for split, of_split in found.items()}
    if others := [pattern for split, paths in splits.items() if not paths for pattern in patterns[split]]:
        what = f"{folder / CARD} names files in formats that are not read: {', '.join(others)}."
        raise UsageError(Problem(what, f"Pass the names of {FILE_SUFFIXES_IN_WORDS} files."))
    used = {path for paths in splits.values() for path in paths}
    unused = [path for path in files if path not in used]
    notes = (f"Files that {folder / CARD} does not name, and that are not read: {_listed(unused)}.",) if unused else ()
    return Source(name, _readers(splits), notes)


def _chosen(folder: Path, matches: Mapping[str, Sequence[Path]]) -> list[Path]:
    """Return the data files, and files of other formats that a pattern names exactly, which are then refused.

    Args:
        folder: folder of the data set.
        matches: the files that match each pattern.
    """
    found = ((path, pattern) for pattern, paths in matches.items() for path in paths)
    return list(dict.fromkeys(path for path, pattern in found if is_data_file(path) or path == folder / pattern))


def _looks_like_path(name: str) -> bool:
    """Distinguish a mistyped path from a hub id `owner/name`, whose last part may contain a dot (`OpenHermes-2.5`)."""
    has_folder = "/" in name and parse_path(name).parent.is_dir()
    has_suffix = is_data_file(Path(name)) or Path(name.lower()).suffix in (*OTHER_FILE_SUFFIXES, *COMPRESSIONS)
    return has_folder or has_suffix or not HUB_ID.fullmatch(name)


def _missing(name: str) -> Problem:
    if glob.has_magic(name):
        return Problem(f"No file matches '{name}'.", "Check the pattern, and put it in quotes.")
    if "://" in name:
        return Problem(f"'{name}' is an address, which is not read.", "Download the file, and use its path.")
    return Problem(f"There is no file or folder '{name}'.", f"{similar_file(name)}{USE}")


def similar_file(name: str) -> str:
    """Return a question that names the file most similar to a name, or nothing."""
    folder = parse_path(name).parent
    siblings = [str(path) for path in sorted(folder.iterdir())] if folder.is_dir() else []
    return suggestion(name, [BUNDLED_DATASET, *siblings])
