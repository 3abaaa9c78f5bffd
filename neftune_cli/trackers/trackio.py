"""Runs of Trackio: a sweep is a project of a local database, and a trial is a run. `trackio show` displays them."""

import os
import sqlite3
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

from neftune_cli.errors import Problem, UsageError
from neftune_cli.trackers import TrackedRun, final

_FOLDER = "TRACKIO_DIR"
"""Variable with the folder of the databases, which trackio reads once in a process, when it is imported."""
_REMOTE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_BUCKET_ID")
"""Variables that tell trackio to use the network."""


class TrackioRuns:
    """Write runs with trackio's own client, below TRACKIO_DIR or the folder. It needs no server and no network."""

    def __init__(self, folder: Path) -> None:
        self._trackio = _imported(folder)

    def prepare(self, group: str) -> None:
        """Create the database of a group, unless trackio collects the values in files, as on network file systems."""
        from trackio import utils

        with _errors_raised():
            self._trackio.SQLiteStorage.validate_project_name(group)
            utils.TRACKIO_DIR.mkdir(parents=True, exist_ok=True)
            if utils.get_storage_mode() == "sqlite":
                self._trackio.SQLiteStorage.init_db(group)

    def write(self, group: str, run: TrackedRun) -> bool:
        """Write a run of a group. Return False if the group has a run with its id."""
        self.prepare(group)
        with _errors_raised():
            if run.id in _known(self._trackio, group):
                return False
            written = _opened(self._trackio, group, run)
            for step, values in run.curves:
                written.log(dict(values), step=step)
            _add_scores(written, run.scores)
            for file in run.files:
                written.log_artifact(str(file), type="report")
            written.finish()
        return True


class LiveTrackioRun:
    """The run of a running trial, which transformers' callback writes."""

    def __init__(self, folder: Path, group: str, run: TrackedRun) -> None:
        from transformers.integrations.integration_utils import TrackioCallback

        trackio = _imported(folder)
        self._run = _opened(trackio, group, run)
        trackio.context_vars.current_run.set(self._run)
        self.callback = TrackioCallback()
        self.callback._initialized = True  # otherwise it opens a run of its own

    def finish(self, scores: Mapping[str, float]) -> None:
        """Write the results."""
        _add_scores(self._run, scores)

    def close(self) -> None:
        """Write what was logged, and end the thread that writes it."""
        self._run.finish()


make, open_run = TrackioRuns, LiveTrackioRun


def _imported(folder: Path) -> Any:
    """Return trackio, which writes below TRACKIO_DIR, or below the folder if it is not set.

    Raises:
        UsageError: a variable tells trackio to use the network.
        OSError: trackio was imported before, with another folder.
    """
    if remote := next((name for name in _REMOTE if os.environ.get(name)), None):
        what = f"trackio: {remote} is set, but neftune writes runs of trackio to a local folder only."
        raise UsageError(Problem(what, f"Run `unset {remote}`. To upload the runs later, use `trackio sync`."))
    wanted = Path(os.environ.setdefault(_FOLDER, str(folder.absolute())))
    trackio: Any = import_module("trackio")
    if wanted != trackio.TRACKIO_DIR:
        raise OSError(
            f"this process imported trackio before, with the folder {trackio.TRACKIO_DIR}. Set {_FOLDER} to it"
        )
    return trackio


def _known(trackio: Any, group: str) -> set[str]:
    """Return the ids of the runs of a group, those in files that no dashboard has collected included."""
    from trackio import fragments

    fragments.import_inbox_dir()
    return {record["id"] for record in trackio.SQLiteStorage.get_run_records(group)}


def _opened(trackio: Any, group: str, run: TrackedRun) -> Any:
    """Open a run by its id. `trackio.init` finds runs by their names only, and looks up the user's name on the Hub."""
    local_run = type("LocalRun", (trackio.Run,), {"_get_username": lambda _: None})
    return local_run(
        url=None,
        project=group,
        client=None,
        name=run.name,
        run_id=run.id,
        group=run.parameters.get("arm"),
        config=dict(run.parameters),
    )


def _add_scores(opened: Any, scores: Mapping[str, float]) -> None:
    opened.log(final(scores))


@contextmanager
def _errors_raised() -> Iterator[None]:
    """Raise what trackio reports as a warning, print nothing of it, and raise errors of its database as OSError."""
    try:
        with warnings.catch_warnings(record=True) as reported, redirect_stdout(StringIO()):
            warnings.simplefilter("always")
            yield
    except (sqlite3.Error, ValueError) as error:
        raise OSError(str(error)) from error
    for warning in reported:
        if warning.category is UserWarning:
            raise OSError(str(warning.message))
