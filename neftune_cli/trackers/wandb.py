"""Runs of Weights & Biases: a sweep is a group, and a trial is a run. `wandb sync` uploads offline runs."""

from pathlib import Path
from typing import Literal

from neftune_cli.errors import Problem, UsageError
from neftune_cli.trackers import TrackedRun


def make(folder: Path) -> "WandbRuns":
    """Return a tracker in the mode that WANDB_MODE or `wandb offline` sets. Its files are written below a folder."""
    return WandbRuns(folder)


def make_offline(folder: Path) -> "WandbRuns":
    """Return a tracker that writes offline runs below a folder. It needs no login and no network."""
    return WandbRuns(folder, mode="offline")


class WandbRuns:
    """Write runs with wandb's own client."""

    def __init__(self, folder: Path, mode: Literal["offline"] | None = None) -> None:
        self._folder, self._mode = folder, mode

    def prepare(self, group: str) -> None:  # noqa: ARG002
        """Check that the user is logged in, unless runs are offline."""
        import wandb

        if not self._mode and wandb.setup().settings.mode == "online" and not wandb.login(prompt=False):
            what = "--track wandb: you are not logged in to Weights & Biases."
            raise UsageError(Problem(what, "Run `wandb login`, or set WANDB_MODE=offline."))

    def write(self, group: str, run: TrackedRun) -> bool:
        """Write a run of a group. Return False if the folder has an offline run with its id."""
        import wandb

        name = f"{run.id}"[:64]
        if any((self._folder / "wandb").glob(f"offline-run-*-{name}")):
            return False
        self._folder.mkdir(parents=True, exist_ok=True)
        written = wandb.init(
            mode=self._mode,
            dir=str(self._folder),
            project=group,
            group=group,
            name=run.name,
            id=name,
            config=dict(run.parameters),
            settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
        )
        for step, values in run.curves:
            written.log(dict(values), step=step)
        written.summary.update({f"final/{key}": value for key, value in run.scores.items()})
        for file in run.files:
            written.save(str(file), base_path=str(file.parent), policy="now")
        written.finish()
        return True
