"""One sweep on disk: its spec, its trials, and the tables of the finished trials."""

import re
import sys
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from neftune_cli.config.arm_names import trial_key
from neftune_cli.config.experiment_file import read_experiment
from neftune_cli.config.field_problems import Origin, independent
from neftune_cli.config.resolve import dump_spec, load_spec, written_version
from neftune_cli.config.spec import BASE_ARM, SweepSpec
from neftune_cli.errors import Problem, UsageError, first_line
from neftune_cli.records import SCHEMA_VERSION, MetricScores, TrialRecord
from neftune_cli.store.files import (
    MISSING_FILE,
    check_version,
    check_writable,
    parse_json,
    pretty_json,
    read_json,
    read_record,
    unreadable_file,
    unwritable_folder,
    write_atomically,
)
from neftune_cli.store.leases import HeartbeatMonitor
from neftune_cli.store.manifest import ALWAYS_WRITTEN, Manifest
from neftune_cli.store.tables import csv_tables
from neftune_cli.store.temporary_files import is_temporary, locked_folder, remove_abandoned_files, require_posix
from neftune_cli.store.trials import TrialFolder

RESULTS = Path("results")
"""Folder of all results, unless the user names another."""
SWEEP_FILE, MANIFEST_FILE, METRIC_SCORES_FILE = "sweep.yaml", "manifest.json", "metric_scores.json"
SUMMARY_FILE, REPORT_FILE = "summary.md", "report.html"
LABEL_LENGTH = 80
"""Number of characters of the name of an arm in the names of its folders."""
_RESTORE_LOOKS = "Restore it from a backup: nothing else lists the planned looks that were taken."
"""Fix of a damaged manifest of a sweep with planned looks."""
JOBS_FOLDER, _JOB_LIST = "jobs", "jobs.json"


class SweepFolder:
    """The files of one sweep, `results/<name>/`.

    Raises:
        UsageError: the system has no POSIX file locks.
    """

    def __init__(self, path: Path) -> None:
        require_posix()
        # The path is an argument of printed commands, where a leading dash would begin an option.
        self.path = path.absolute() if str(path).startswith("-") else path
        self._monitor = HeartbeatMonitor()

    @property
    def name(self) -> str:
        """Return the name of the folder."""
        return self.path.resolve().name

    def spec(self) -> SweepSpec | None:
        """Return the spec in `sweep.yaml`, None if there is no such file.

        Raises:
            UsageError: the file is not valid, cannot be read, or was written by a newer version of neftune.
        """
        path = self.path / SWEEP_FILE
        try:
            text = path.read_text(encoding="utf-8")
            check_version(path, written_version(text))
            return load_spec(text)
        except MISSING_FILE:
            return None
        except OSError as error:
            raise unreadable_file(path, error) from None
        except ValueError as error:
            raise UsageError(*_spec_problems(path, error)) from None

    def open(self, spec: SweepSpec, *, replaces: SweepSpec | None = None) -> None:
        """Create the folder, and write `sweep.yaml` if it is missing or differs.

        Args:
            spec: the sweep.
            replaces: the sweep that the folder had when this one was planned; None if it had none.

        Raises:
            UsageError: the folder is not writable, or another command wrote a different `sweep.yaml` meanwhile.
        """
        try:
            (self.path / "trials").mkdir(parents=True, exist_ok=True)
            sys.audit("neftune.sweep-folder-made", str(self.path))
            check_writable(self.path / "trials")
            with locked_folder(self.path / "trials"):
                stored = self.spec()
                if stored is not None and _yaml(stored) not in {_yaml(one) for one in (spec, replaces) if one}:
                    what = f"Another command has written {self.path / SWEEP_FILE} since this one started."
                    raise UsageError(Problem(what, "Run this command again."))
                if stored is None or _yaml(stored) != _yaml(spec):
                    write_atomically(self.path / SWEEP_FILE, _yaml(spec))
        except OSError as error:
            raise unwritable_folder(self.path, error) from None
        sys.audit("neftune.sweep-spec-written", str(self.path))

    def has_lost_spec(self) -> bool:
        """Return whether the folder has trials, but no `sweep.yaml`."""
        return not (self.path / SWEEP_FILE).exists() and any(trial.has_started() for trial in self.trials())

    def has_foreign_files(self) -> bool:
        """Return whether the folder has content that a sweep killed at its start does not leave."""
        if not self.path.is_dir():
            return False
        content = (path for path in self.path.iterdir() if not is_temporary(path))
        return any(path.name != "trials" or not path.is_dir() or any(path.iterdir()) for path in content)

    def manifest(self) -> Manifest:
        """Return the manifest, empty if there is none.

        Raises:
            UsageError: the file is damaged or cannot be read, or a newer version of neftune wrote it.
        """
        path = self.path / MANIFEST_FILE
        try:
            return Manifest.model_validate(parse_json(path.read_bytes(), path))
        except MISSING_FILE:
            return Manifest()
        except OSError as error:
            raise unreadable_file(path, error) from None
        except ValueError:
            raise self._damaged_manifest() from None

    def whole_manifest(self) -> Manifest:
        """Return the manifest, empty if there is none.

        Raises:
            UsageError: as for `manifest`, or the file lacks a field that every version of neftune has written.
        """
        manifest, path = self.manifest(), self.path / MANIFEST_FILE
        if path.exists() and not manifest.model_fields_set >= ALWAYS_WRITTEN:
            raise self._damaged_manifest()
        return manifest

    def _damaged_manifest(self) -> UsageError:
        """Return the error for a damaged manifest. Read as empty, it would hide the looks that were taken."""
        fix = _RESTORE_LOOKS
        with suppress(UsageError):
            if (spec := self.spec()) and not spec.analysis.has_planned_looks:
                fix = "Restore it from a backup. If seeds were never added to the sweep, it can be removed instead."
        return UsageError(Problem(f"{self.path / MANIFEST_FILE} is damaged.", fix))

    def add_look(self, seeds: int) -> None:
        """Note in the manifest that the sweep was compared with this number of seeds."""
        self.update_manifest(
            lambda old: old if seeds in old.looks else old.model_copy(update={"looks": (*old.looks, seeds)})
        )

    def note_excluded_trials(self, looks: Sequence[int], failed: Collection[str]) -> None:
        """Note in the manifest, for each of these looks that has no note, the failed trials that it was tested without.

        These are the excluded trials: they are not retried. The key in the file is `settled`.
        """

        def with_excluded(manifest: Manifest) -> Manifest:
            new = {seeds: tuple(sorted(failed)) for seeds in looks if seeds not in manifest.settled}
            return manifest.model_copy(update={"settled": {**manifest.settled, **new}}) if new else manifest

        self.update_manifest(with_excluded)

    def update_manifest(self, change: Callable[[Manifest], Manifest]) -> Manifest:
        """Replace the manifest by what `change` makes of it, and return the new one.

        No other command changes the file meanwhile, as long as the file system has locks. If `change` returns the same
        object, nothing is written.

        Raises:
            UsageError: the file is damaged or cannot be read, or a newer version of neftune wrote it.
        """
        with locked_folder(self.path):
            before = self.manifest()
            after = change(before)
            if after is not before:
                self.write_manifest(after)
        return after

    def spec_text(self) -> str:
        """Return the text of `sweep.yaml`."""
        return (self.path / SWEEP_FILE).read_text(encoding="utf-8")

    def manifest_text(self) -> str | None:
        """Return the text of `manifest.json`, None if there is none.

        Raises:
            UsageError: the file is damaged, or a newer version of neftune wrote it.
        """
        path = self.path / MANIFEST_FILE
        self.manifest()  # refuses a damaged file
        return path.read_text(encoding="utf-8") if path.exists() else None

    def write_manifest(self, manifest: Manifest) -> None:
        """Write `manifest.json`."""
        current = manifest.model_copy(update={"schema_version": SCHEMA_VERSION})
        write_atomically(self.path / MANIFEST_FILE, pretty_json(current.model_dump(exclude_unset=True)))
        sys.audit("neftune.manifest-written", str(self.path))

    def trial(self, trial_id: str, arm: str, seed: int | None) -> TrialFolder:
        """Return the folder of a trial: the existing one with this id, or else a path with the name of the arm."""
        existing = min((self.path / "trials").glob(f"*-{trial_id}"), default=None)
        new = self.path / "trials" / f"{folder_label(arm, seed)}-{trial_id}"
        return TrialFolder(existing or new, self._monitor)

    def records(self) -> list[TrialRecord]:
        """Return the records of finished trials: base model first, then by arm, in the order of the spec, and seed."""
        return [record for _, record in self.finished()]

    def finished(self) -> list[tuple[TrialFolder, TrialRecord]]:
        """Return the finished trials with their folders, in the order of `records`."""
        return self.contents()[0]

    def contents(self) -> tuple[list[tuple[TrialFolder, TrialRecord]], list[str]]:
        """Return the finished trials as `finished` does, and one sentence per trial that failed or has not finished.

        Other folders of a finished trial are left out: copies of it, and attempts with other data or libraries.
        """
        order = self._table_order()
        finished, unfinished = dict[str, tuple[TrialFolder, TrialRecord]](), list[TrialFolder]()
        for folder in self.trials():
            if record := folder.record():
                first, _ = finished.setdefault(record.trial, (folder, record))
                if folder.id == record.trial != first.id:
                    finished[record.trial] = folder, record
            elif folder.has_started():
                unfinished.append(folder)
        ended = {folder_label(record.arm, record.seed) for _, record in finished.values()}
        missing = [one for one in unfinished if one.folder_label not in ended]
        reasons = [f"{one.folder_label} {one.why_without_record()}" for one in missing]
        return sorted(finished.values(), key=lambda one: order(one[1])), reasons

    def failed_trials(self) -> tuple[str, ...]:
        """Return the labels of the failed trials, such as `alpha=5,seed=0`. Only `--retry failed` runs them again."""
        return tuple(folder.folder_label for folder in self.trials() if folder.failure_reason() is not None)

    def unusable_trials(self, finished: Iterable[TrialFolder]) -> tuple[str, ...]:
        """Return the labels of the trials with a record but a missing or damaged file, which therefore run again.

        Args:
            finished: the trials without such files, which are not read again.
        """
        usable = {one.path for one in finished}
        return tuple(one.folder_label for one in self.trials() if one.path not in usable and one.has_lost_files())

    def write_tables(self) -> None:
        """Write loss.csv, eval.csv and curves.csv from the finished trials."""
        for name, text in csv_tables(self.finished()).items():
            write_atomically(self.path / name, text)
        sys.audit("neftune.tables-written", str(self.path))

    def metric_scores(self) -> MetricScores | None:
        """Return the scores of the sweep's own metric, None if there are none or if the file is damaged."""
        return read_record(self.path / METRIC_SCORES_FILE, MetricScores)

    def write_metric_scores(self, scores: MetricScores) -> None:
        """Write the scores of the sweep's own metric, which replace earlier ones."""
        write_atomically(self.path / METRIC_SCORES_FILE, pretty_json(scores.model_dump()))

    def new_job_folder(self) -> Path:
        """Create a folder for the files of submitted jobs, below `jobs/`."""
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        path = self.path.absolute() / JOBS_FOLDER / f"{stamp}-{uuid.uuid4().hex[:6]}"
        path.mkdir(parents=True)
        return path

    def write_jobs(self, folder: Path, jobs: Mapping[str, str]) -> None:
        """Write the scheduler's id of the job of each trial, by trial id, into a folder of `new_job_folder`."""
        write_atomically(folder / _JOB_LIST, pretty_json({"schema_version": SCHEMA_VERSION, "jobs": dict(jobs)}))

    def jobs(self) -> list[tuple[Path, dict[str, str]]]:
        """Return the folders of submitted jobs with the ids of their jobs by trial id, the latest first."""
        folders = sorted((self.path.absolute() / JOBS_FOLDER).glob("*/"), reverse=True)
        return [(path, dict((read_json(path / _JOB_LIST) or {}).get("jobs", {}))) for path in folders]

    def write_text(self, name: str, text: str) -> None:
        """Write a text file into the folder."""
        write_atomically(self.path / name, text)

    def write_plots(self, images: Mapping[str, str]) -> None:
        """Write the images into `plots/`, and remove all other images."""
        folder = self.path / "plots"
        folder.mkdir(exist_ok=True)
        for name, image in images.items():
            write_atomically(folder / name, image)
        for other in {*folder.glob("*.svg"), *folder.glob("*.png")} - {folder / name for name in images}:
            other.unlink(missing_ok=True)

    def trials(self) -> list[TrialFolder]:
        """Return the folders of the trials, sorted by name. One whose trial has not started may have only a lease."""
        return [TrialFolder(path, self._monitor) for path in sorted((self.path / "trials").glob("*/"))]

    def remove_leftovers(self, *, lease_seconds: float) -> None:
        """Remove the leftovers of finished trials, under their leases, and abandoned temporary files."""
        for folder in self.trials():
            is_due = folder.has_leftovers() and folder.record() is not None
            if is_due and (leased := folder.acquire_lease(lease_seconds=lease_seconds)):
                with leased:
                    leased.remove_leftovers()
        for subfolder in (self.path, self.path / "plots"):
            remove_abandoned_files(subfolder)

    def _table_order(self) -> Callable[[TrialRecord], tuple[int, str, int]]:
        spec = self.spec()
        names = [BASE_ARM, *(arm.name for arm in spec.arms)] if spec else [BASE_ARM]

        def key(record: TrialRecord) -> tuple[int, str, int]:
            position = names.index(record.arm) if record.arm in names else len(names)
            return position, record.arm, -1 if record.seed is None else record.seed

        return key


def folder_label(arm: str, seed: int | None = None) -> str:
    """Return the name of a trial folder without the id, for example `weight_decay,seed=0` of the arm `weight decay`.

    It identifies the trial in its sweep, except in sweeps of earlier versions: a plan refuses new arms whose folders
    would have equal names.
    """
    return trial_key(re.sub(r"[^\w=,.+-]+", "_", arm)[:LABEL_LENGTH], seed)


def finished_in_another_sweep(trial: TrialFolder, metrics: Set[str]) -> TrialFolder | None:
    """Return the trial with this id and these metrics of responses that a sweep beside the trial's own has finished."""
    for other in map(TrialFolder, sorted({*trial.path.parents[2].glob(f"*/trials/*-{trial.id}")} - {trial.path})):
        with suppress(UsageError):  # a damaged record is reported by the commands that read its sweep
            record = other.record()
            if record and metrics <= record.eval.model_dump().keys() and other.example_losses() is not None:
                return other
    return None


def is_sweep(folder: Path) -> bool:
    """Return whether a folder holds a sweep. Other programs use the same file name, but have no `trials` folder."""
    return (folder / SWEEP_FILE).is_file() and (folder / "trials").is_dir()


def _yaml(spec: SweepSpec) -> str:
    return dump_spec(spec, schema_version=SCHEMA_VERSION)


def _spec_problems(path: Path, error: Exception) -> Iterator[Problem]:
    """Yield what is wrong with `sweep.yaml`, as in an experiment file: the line, the field and the requirement."""
    try:
        origin = Origin(read_experiment(path), {}, ())
    except UsageError as unreadable:
        yield from (Problem(one.what, _RESTORE_SPEC) for one in unreadable.problems)
        return
    if not isinstance(error, ValidationError):
        yield Problem(f"{path} is not valid ({first_line(error)}).", _RESTORE_SPEC)
        return
    for details in independent(error):
        message = _MISFITS.get(details["type"])
        known = {**details, "type": "", "msg": message} if message else details
        yield Problem(origin.problem(known).what, _RESTORE_SPEC)


_RESTORE_SPEC = (
    "Restore the file from a backup, or remove it and run the command of the sweep again: finished trials are kept."
)
_MISFITS = {"missing": "is missing", "tuple_type": "must be a list"}
"""Messages on errors that only a damaged `sweep.yaml` has, by pydantic's type of error."""
