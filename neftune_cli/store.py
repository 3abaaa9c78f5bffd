"""results/ on disk: the only file that reads or writes there; everything it writes appears whole or not at all."""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from neftune_cli.config.resolve import dump_spec, load_spec
from neftune_cli.config.spec import BASE_ARM, SweepSpec
from neftune_cli.errors import Problem, UsageError
from neftune_cli.records import (
    EVAL_METRICS,
    LOSS_METRICS,
    SCHEMA_VERSION,
    CurvePoint,
    ExampleLoss,
    Generation,
    Record,
    TrialRecord,
    TrialState,
    TrialStatus,
)

if TYPE_CHECKING:
    from pyarrow import Table

RecordType = TypeVar("RecordType", bound=Record)

SWEEP_FILE, MANIFEST_FILE, RECORD_FILE = "sweep.yaml", "manifest.json", "record.json"


class TrialFolder:
    """The files of one trial, `trials/<arm>,seed=<seed>-<id>/`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def label(self) -> str:
        """Return its arm and seed, as the folder's name has them."""
        return self.path.name.rpartition("-")[0]

    @property
    def log_path(self) -> Path:
        """Return where the trial's log goes."""
        return self.path / "log.txt"

    def start(self, trial: str, spec: BaseModel | dict[str, Any]) -> None:
        """Make the folder, clear what an unfinished attempt left in it, and mark the trial as running."""
        self.path.mkdir(parents=True, exist_ok=True)
        for name in (RECORD_FILE, "metrics.jsonl", "examples.parquet", "generations.jsonl", "log.txt"):
            (self.path / name).unlink(missing_ok=True)
        values = spec.model_dump(mode="json") if isinstance(spec, BaseModel) else spec
        write_atomically(self.path / "spec.json", _pretty(values))
        self.set_status(TrialStatus(trial=trial, state=TrialState.RUNNING))

    def set_status(self, status: TrialStatus) -> None:
        """Write `state.json`."""
        write_atomically(self.path / "state.json", _pretty(status.model_dump(mode="json")))

    def status(self) -> TrialStatus | None:
        """Return what `state.json` says, None if there is none or it can't be read."""
        return _read_record(self.path / "state.json", TrialStatus)

    def append_metrics(self, point: CurvePoint) -> None:
        """Append one line to `metrics.jsonl`."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(point.model_dump_json(exclude_none=True) + "\n")

    def curve(self) -> list[CurvePoint]:
        """Return the logged points in order; a torn last line is left out."""
        return _read_lines(self.path / "metrics.jsonl", CurvePoint)

    def generations(self) -> list[Generation]:
        """Return the generated answers, to held-out and then to probe prompts, each in the order of their examples."""
        return _read_lines(self.path / "generations.jsonl", Generation)

    def example_losses(self) -> "Table | None":
        """Return `examples.parquet` with the columns of `ExampleLoss`, None where there is none.

        Raises:
            UsageError: the file is damaged.
        """
        from pyarrow.lib import ArrowInvalid
        from pyarrow.parquet import ParquetFile

        path = self.path / "examples.parquet"
        if not path.exists():
            return None
        try:
            with ParquetFile(path) as file:
                return file.read(list(ExampleLoss.model_fields), use_threads=False)
        except (ArrowInvalid, OSError, KeyError):
            raise _damaged(path) from None

    def finish(self, record: TrialRecord, examples: Sequence[ExampleLoss], generations: Sequence[Generation]) -> None:
        """Write everything a finished trial leaves, the record last."""
        import pandas as pd

        lines = "".join(generation.model_dump_json() + "\n" for generation in generations)
        write_atomically(self.path / "generations.jsonl", lines)
        frame = pd.DataFrame([example.model_dump() for example in examples], columns=list(ExampleLoss.model_fields))
        write_atomically(self.path / "examples.parquet", frame.to_parquet(index=False))
        write_atomically(self.path / RECORD_FILE, _pretty(record.model_dump(mode="json")))
        self.set_status(TrialStatus(trial=record.trial, state=TrialState.DONE))

    def record(self) -> TrialRecord | None:
        """Return the record, None while the trial has not finished.

        Raises:
            UsageError: a newer version of this program wrote it, or something else did.
        """
        path = self.path / RECORD_FILE
        if (values := _read_json(path)) is None:
            return None
        if values.get("schema_version", 0) > SCHEMA_VERSION:
            raise UsageError(Problem(f"{path} was written by a newer version of neftune.", "Upgrade neftune."))
        try:
            return TrialRecord.model_validate(values)
        except ValueError:
            raise _damaged(path) from None


class SweepFolder:
    """The files of one sweep, `results/<name>/`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """Return the folder's name."""
        return self.path.resolve().name

    def spec(self) -> SweepSpec | None:
        """Return the spec in `sweep.yaml`, None if the folder holds no sweep yet.

        Raises:
            UsageError: the file can't be understood.
        """
        path = self.path / SWEEP_FILE
        if not path.exists():
            return None
        try:
            return load_spec(path.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            first_line = str(error).splitlines()[0]
            fix = "Restore the file, or give another folder with --output."
            raise UsageError(Problem(f"{path} can't be understood ({first_line}).", fix)) from None

    def open(self, spec: SweepSpec) -> None:
        """Make the folder and write `sweep.yaml`.

        Raises:
            UsageError: the folder can't be written.
        """
        try:
            (self.path / "trials").mkdir(parents=True, exist_ok=True)
            write_atomically(self.path / SWEEP_FILE, dump_spec(spec))
        except OSError as error:
            raise _not_writable(self.path, error.strerror) from None

    def manifest(self) -> dict[str, Any]:
        """Return the manifest, empty if there is none yet."""
        return _read_json(self.path / MANIFEST_FILE) or {}

    def written_spec(self) -> str:
        """Return the text of `sweep.yaml`."""
        return (self.path / SWEEP_FILE).read_text(encoding="utf-8")

    def written_manifest(self) -> str | None:
        """Return the text of `manifest.json`, None if there is none."""
        path = self.path / MANIFEST_FILE
        return path.read_text(encoding="utf-8") if path.exists() else None

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Write `manifest.json`."""
        write_atomically(self.path / MANIFEST_FILE, _pretty({"schema_version": SCHEMA_VERSION, **manifest}))

    def trial(self, trial: str, arm: str, seed: int | None) -> TrialFolder:
        """Return the folder of a trial; one that an arm of another name left with the same id is taken over."""
        for existing in sorted((self.path / "trials").glob(f"*-{trial}")):
            return TrialFolder(existing)
        return TrialFolder(self.path / "trials" / f"{trial_label(arm, seed)}-{trial}")

    def records(self) -> list[TrialRecord]:
        """Return the records of the finished trials: base first, then by arm, in the order of the spec, and seed."""
        return [record for _, record in self.finished()]

    def finished(self) -> list[tuple[TrialFolder, TrialRecord]]:
        """Return the finished trials with their folders, in the same order."""
        return self.contents()[0]

    def unfinished(self) -> list[str]:
        """Return a sentence for each trial that failed or never ended."""
        return self.contents()[1]

    def contents(self) -> tuple[list[tuple[TrialFolder, TrialRecord]], list[str]]:
        """Return what is finished and what is unfinished, each record read once."""
        order = self._table_order()
        finished, unfinished = [], []
        for folder in self.trials():
            if record := folder.record():
                finished.append((folder, record))
            elif status := folder.status():
                unfinished.append(f"{folder.label} {_why_unfinished(folder, status)}")
        return sorted(finished, key=lambda trial: order(trial[1])), unfinished

    def write_tables(self) -> None:
        """Write loss.csv, eval.csv and curves.csv from the finished trials."""
        finished = self.finished()
        key = ("arm", "alpha", "seed")
        self._write_csv("loss.csv", (*key, *LOSS_METRICS), (_row(record, "loss") for _, record in finished))
        self._write_csv("eval.csv", (*key, *EVAL_METRICS), (_row(record, "eval") for _, record in finished))
        curves = ({**_key(record), **point.model_dump()} for folder, record in finished for point in folder.curve())
        self._write_csv("curves.csv", (*key, *_CURVE_COLUMNS), curves)

    def write_text(self, name: str, text: str) -> None:
        """Write a text file into the folder."""
        write_atomically(self.path / name, text)

    def write_plots(self, pictures: Mapping[str, str]) -> None:
        """Write the pictures into `plots/`, which keeps no others."""
        folder = self.path / "plots"
        folder.mkdir(exist_ok=True)
        for name, picture in pictures.items():
            write_atomically(folder / name, picture)
        for other in {*folder.glob("*.svg"), *folder.glob("*.png")} - {folder / name for name in pictures}:
            other.unlink()

    def trials(self) -> list[TrialFolder]:
        """Return the folders of the trials that have begun."""
        return [TrialFolder(path) for path in sorted((self.path / "trials").glob("*/"))]

    def _table_order(self) -> Any:
        spec = self.spec()
        names = [BASE_ARM, *(arm.name for arm in spec.arms)] if spec else [BASE_ARM]

        def key(record: TrialRecord) -> tuple[int, str, int]:
            known = names.index(record.arm) if record.arm in names else len(names)
            return known, record.arm, -1 if record.seed is None else record.seed

        return key

    def _write_csv(self, name: str, columns: tuple[str, ...], rows: Iterable[dict[str, Any]]) -> None:
        import pandas as pd

        frame = pd.DataFrame(rows, columns=list(columns)).astype({"seed": "Int64"})
        write_atomically(self.path / name, frame.to_csv(index=False, lineterminator="\n"))


def _why_unfinished(folder: TrialFolder, status: TrialStatus) -> str:
    if (folder.path / RECORD_FILE).exists():
        return f"can't be used: its {RECORD_FILE} is damaged, and the sweep's command trains it again"
    return f"failed: {status.reason}" if status.state is TrialState.FAILED else "has not finished"


_CURVE_COLUMNS = ("step", "epoch", "train_loss", "eval_loss", "learning_rate", "tokens", "train_loss_clean")


def trial_label(arm: str, seed: int | None) -> str:
    """Return what the name of a trial's folder begins with, before its id."""
    return _slug(arm) if seed is None else f"{_slug(arm)},seed={seed}"


def find_sweeps(paths: Sequence[Path]) -> list[SweepFolder]:
    """Return the sweeps at or below the paths, sorted."""
    found = {file.parent for path in paths for file in path.rglob(SWEEP_FILE)}
    return [SweepFolder(path) for path in sorted(found) if is_sweep(path)]


def is_sweep(folder: Path) -> bool:
    """Return whether a folder is one of a sweep: other programs have files of that name too, but no trials."""
    return (folder / SWEEP_FILE).is_file() and (folder / "trials").is_dir()


def check_writable(folder: Path) -> None:
    """See whether files can go to a folder that may not be there yet, before the work for them is done.

    Raises:
        UsageError: they can't.
    """
    there = next(path for path in (folder, *folder.parents, Path.cwd()) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise _not_writable(folder, f"{there} is no folder you can write to")


def write_files(folder: Path, contents: Mapping[str, str | bytes]) -> tuple[Path, ...]:
    """Write files into a folder that is made if it is missing, replacing those of another time; return their paths.

    Raises:
        UsageError: the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_atomically(folder / name, content)
    except OSError as error:
        raise _not_writable(folder, error.strerror) from None
    return tuple(folder / name for name in contents)


def _damaged(path: Path) -> UsageError:
    fix = "Restore it, or remove the trial's folder to train it again."
    return UsageError(Problem(f"{path} can't be understood.", fix))


def _not_writable(folder: Path, why: str | None) -> UsageError:
    return UsageError(Problem(f"{folder} can't be written: {why}.", "Give a folder you can write to with --output."))


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that it is there whole or not at all, even if the machine dies meanwhile."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _row(record: TrialRecord, table: str) -> dict[str, Any]:
    metrics: Record = getattr(record, table)
    return {**_key(record), **metrics.model_dump()}


def _key(record: TrialRecord) -> dict[str, Any]:
    return {"arm": record.arm, "alpha": record.alpha, "seed": record.seed}


def _slug(arm: str) -> str:
    return re.sub(r"[^\w=,.+-]+", "_", arm)[:80]


def _pretty(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def _read_record(path: Path, kind: type[RecordType]) -> RecordType | None:
    try:
        return kind.model_validate(_read_json(path) or {})
    except ValueError:
        return None


def _read_lines(path: Path, kind: type[RecordType]) -> list[RecordType]:
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    try:
        return [kind.model_validate_json(line) for line in lines]
    except ValueError:
        raise _damaged(path) from None
