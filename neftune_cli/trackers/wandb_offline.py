"""Offline runs of Weights & Biases, which `wandb sync` uploads: a sweep is a group, and a trial is a run."""

from pathlib import Path

from neftune_cli.trackers import TrackedRun


def make(folder: Path) -> "OfflineRuns":
    """Return a tracker that writes runs below a folder."""
    return OfflineRuns(folder)


class OfflineRuns:
    """Write runs in the mode `offline`, which needs no login and no network."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, group: str, run: TrackedRun) -> bool:
        """Write a run of a group. Return False if the folder has a run with its id."""
        import wandb

        name = f"{run.id}"[:64]
        if any((self._folder / "wandb").glob(f"offline-run-*-{name}")):
            return False
        self._folder.mkdir(parents=True, exist_ok=True)
        written = wandb.init(
            mode="offline",
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
