"""Event files of TensorBoard: one folder for each run, with curves, results and parameters."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neftune_cli.trackers import FINAL_PREFIX, TrackedRun, final


class TensorBoardFiles:
    """Write event files below a folder with TensorBoard's own writer, without torch."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prepare(self, group: str) -> None:
        """Create the folder of a group."""
        (self._folder / group).mkdir(parents=True, exist_ok=True)

    def write(self, group: str, run: TrackedRun) -> bool:
        """Write a run into its own folder. Return False if it is there already.

        That is so if an event file has its results, which are written last, or if it has no results and there is an
        event file.
        """
        target = _run_folder(self._folder, group, run)
        files = target.glob("events.out.tfevents.*")
        # event files have the names of values as plain text
        if any(not run.scores or FINAL_PREFIX.encode() in file.read_bytes() for file in files):
            return False
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        writer = EventFileWriter(str(target))
        try:
            for step, values in run.curves:
                writer.add_event(Event(step=step, summary=_scalars(values)))
            last = max((step for step, _ in run.curves), default=0)
            writer.add_event(Event(step=last, summary=_scalars(final(run.scores))))
            writer.add_event(Event(step=last, summary=_text("parameters", _parameter_table(run))))
        finally:
            writer.close()
        return True


class LiveEvents:
    """Event files of a running trial, which transformers' callback writes."""

    def __init__(self, folder: Path, group: str, run: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter
        from transformers.integrations.integration_utils import TensorBoardCallback

        self._writer: Any = SummaryWriter(str(_run_folder(folder, group, run)))
        self._writer.add_text("parameters", _parameter_table(run))
        self.callback = TensorBoardCallback(self._writer)

    def finish(self, scores: Mapping[str, float]) -> None:
        """Write the results."""
        for name, value in final(scores).items():
            self._writer.add_scalar(name, value)

    def close(self) -> None:
        """Write and close the event file."""
        self._writer.close()


make, open_run = TensorBoardFiles, LiveEvents


def _scalars(values: Any) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])


def _text(tag: str, text: str) -> Any:
    from tensorboard.plugins.text.summary_v2 import text_pb

    return text_pb(tag, text)


def _parameter_table(run: TrackedRun) -> str:
    """Return the parameters as a table in Markdown, which the tab "Text" shows."""
    rows = "\n".join(f"| {name} | {value} |" for name, value in run.parameters.items())
    return f"| parameter | value |\n|---|---|\n{rows}"


def _run_folder(folder: Path, group: str, run: TrackedRun) -> Path:
    return folder / group / re.sub(r"[^\w=,.+-]+", "_", f"{run.name}-{run.id}")
