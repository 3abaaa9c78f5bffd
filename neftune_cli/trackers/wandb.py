"""Runs of Weights & Biases: a sweep is a group, and a trial is a run. `wandb sync` uploads offline runs."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from neftune_cli.errors import Problem, UsageError
from neftune_cli.trackers import TrackedRun, final


class WandbRuns:
    """Write runs with wandb's own client. Its files are below a folder.

    Offline runs need no login and no network. Without a mode, that of WANDB_MODE or `wandb offline` is used.
    """

    def __init__(self, folder: Path, mode: Literal["offline"] | None = None) -> None:
        self._folder, self._mode = folder, mode

    def prepare(self, group: str) -> None:  # noqa: ARG002
        """Check that the user is logged in, unless runs are offline."""
        import wandb

        with _errors_raised():
            needs_login = not self._mode and wandb.setup().settings.mode == "online"
            if needs_login and not wandb.login(prompt=False):
                what = "wandb: you are not logged in to Weights & Biases."
                raise UsageError(Problem(what, "Run `wandb login`, or set WANDB_MODE=offline."))

    def write(self, group: str, run: TrackedRun) -> bool:
        """Write a run of a group. Return False if the folder has a run with its id, which an online run replaces."""
        local = self._folder / "wandb"
        if any(local.glob(f"offline-run-*-{_id(run)}")):
            return False
        is_new = not any(local.glob(f"run-*-{_id(run)}"))
        with _errors_raised():
            written = _opened(self._folder, group, run, mode=self._mode)
            for step, values in run.curves:
                written.log(dict(values), step=step)
            _add_scores(written, run.scores)
            for file in run.files:
                copy = Path(shutil.copy(file, written.dir))  # `save` would link to the file, which may change
                written.save(str(copy), base_path=written.dir, policy="now")
            written.finish()
        return is_new


class LiveWandbRun:
    """The run of a running trial, which transformers' callback writes."""

    def __init__(self, folder: Path, group: str, run: TrackedRun) -> None:
        from transformers.integrations.integration_utils import WandbCallback

        self._run = _opened(folder, group, run, resume="allow")
        self._exit_code = 1
        self.callback = WandbCallback()

    def finish(self, scores: Mapping[str, float]) -> None:
        """Write the results into the summary."""
        _add_scores(self._run, scores)
        self._exit_code = 0

    def close(self) -> None:
        """End the run, as failed if it is not finished."""
        self._run.finish(exit_code=self._exit_code)


make, open_run = WandbRuns, LiveWandbRun


def _opened(folder: Path, group: str, run: TrackedRun, **options: Any) -> Any:
    """Open a run in the project WANDB_PROJECT, or in one with the name of the group."""
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    return wandb.init(
        dir=str(folder),
        project=os.environ.get("WANDB_PROJECT") or group,
        group=group,
        name=run.name,
        id=_id(run),
        config=dict(run.parameters),
        settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
        **options,
    )


@contextmanager
def _errors_raised() -> Iterator[None]:
    """Raise errors of wandb as OSError."""
    from wandb.errors import Error

    try:
        yield
    except Error as error:
        raise OSError(str(error)) from error


def _id(run: TrackedRun) -> str:
    return run.id[:64]


def _add_scores(opened: Any, scores: Mapping[str, float]) -> None:
    opened.summary.update(final(scores))
