"""Runs trials one after the other in this process."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence

from neftune_cli.errors import NeftuneError
from neftune_cli.records import TrialRecord
from neftune_cli.sweeps.executors import Result
from neftune_cli.training.trial import Trial


class LocalExecutor:
    """One trial at a time, here."""

    def run(self, trials: Sequence[Trial], work: Callable[[Trial], TrialRecord]) -> Iterator[Result]:
        """Yield a result for each trial as it ends; only an interrupt ends them all."""
        for trial in trials:
            started = time.monotonic()
            record, reason = _attempt(trial, work)
            gc.collect()  # a trainer holds itself in a cycle, and its model with it
            yield Result(trial, record, reason, time.monotonic() - started)


def _attempt(trial: Trial, work: Callable[[Trial], TrialRecord]) -> tuple[TrialRecord | None, str]:
    try:
        return work(trial), ""
    except NeftuneError as error:
        return None, _one_line(str(error))
    except MemoryError:
        return None, "Out of memory; lower --batch-size or --max-length."
    except Exception as error:
        if "out of memory" in str(error).lower():
            return None, "Out of memory; lower --batch-size or --max-length."
        return None, _one_line(f"{type(error).__name__}: {error}")


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
