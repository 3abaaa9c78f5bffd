"""Event files of TensorBoard: one folder for each run, with curves, results and parameters."""

from pathlib import Path
from typing import Any

from neftune_cli.trackers import TrackedRun, run_folder_name


def make(folder: Path) -> "TensorBoardFiles":
    """Return a tracker that writes below a folder, for `tensorboard --logdir FOLDER`."""
    return TensorBoardFiles(folder)


class TensorBoardFiles:
    """Write event files with TensorBoard's own writer, without torch."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prepare(self, group: str) -> None:
        """Create the folder of a group."""
        (self._folder / group).mkdir(parents=True, exist_ok=True)

    def write(self, group: str, run: TrackedRun) -> bool:
        """Write a run into its own folder. Return False if the folder has event files."""
        target = self._folder / group / run_folder_name(run.name, run.id)
        if any(target.glob("events.out.tfevents.*")):
            return False
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        writer = EventFileWriter(str(target))
        try:
            for step, values in run.curves:
                writer.add_event(Event(step=step, summary=_scalars(values)))
            last = max((step for step, _ in run.curves), default=0)
            writer.add_event(Event(step=last, summary=_scalars({f"final/{k}": v for k, v in run.scores.items()})))
            writer.add_event(Event(step=last, summary=_text("parameters", run)))
        finally:
            writer.close()
        return True


def _scalars(values: Any) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])


def _text(tag: str, run: TrackedRun) -> Any:
    """Return the parameters as a table in Markdown, which the tab "Text" shows."""
    from tensorboard.plugins.text.summary_v2 import text_pb

    rows = "\n".join(f"| {name} | {value} |" for name, value in run.parameters.items())
    return text_pb(tag, f"| parameter | value |\n|---|---|\n{rows}")
