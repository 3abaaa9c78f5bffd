"""Runs of MLflow: a sweep is an experiment, and a trial is a run with parameters, metrics and tags."""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from neftune_cli.trackers import TrackedRun

_ID = "neftune.id"
_AT_ONCE = 100
"""Largest number of parameters or metrics of a request."""
_LONGEST = 500
"""Largest length of a value, in characters."""


def make(folder: Path) -> "MLflowRuns":
    """Return a tracker for the server `MLFLOW_TRACKING_URI`, or for a database in the folder."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(folder / 'mlflow.db').absolute()}"
    folder.mkdir(parents=True, exist_ok=True)
    return MLflowRuns(uri, folder)


class MLflowRuns:
    """Write runs with MLflow's client."""

    def __init__(self, uri: str, folder: Path) -> None:
        from mlflow import MlflowClient

        self._client: Any = MlflowClient(tracking_uri=uri)
        self._artifacts = None if uri.startswith("http") else (folder / "mlartifacts").absolute().as_uri()

    def write(self, group: str, run: TrackedRun) -> bool:
        """Write a run of the experiment `group`. Return False if the experiment has a finished run with its id."""
        from mlflow.exceptions import MlflowException

        try:
            return self._write(group, run)
        except MlflowException as error:
            raise OSError(str(error)) from error

    def _write(self, group: str, run: TrackedRun) -> bool:
        known = self._client.get_experiment_by_name(group)
        experiment = known.experiment_id if known else self._client.create_experiment(group, self._artifacts)
        written = f"tags.`{_ID}` = '{run.id}' and attributes.status = 'FINISHED'"
        if self._client.search_runs([experiment], written, max_results=1):
            return False
        created = self._client.create_run(experiment, run_name=run.name, tags={_ID: run.id}).info.run_id
        for some in _parts(list(_parameters(run))):
            self._client.log_batch(created, params=some)
        for some in _parts(list(_metrics(run))):
            self._client.log_batch(created, metrics=some)
        for file in run.files:
            self._client.log_artifact(created, str(file))
        self._client.set_terminated(created)
        return True


def _parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (values[start : start + _AT_ONCE] for start in range(0, len(values), _AT_ONCE))


def _parameters(run: TrackedRun) -> Iterator[Any]:
    from mlflow.entities import Param

    return (Param(_name(name), str(value)[:_LONGEST]) for name, value in run.parameters.items())


def _metrics(run: TrackedRun) -> Iterator[Any]:
    from mlflow.entities import Metric

    now = int(1000 * time.time())
    for step, values in run.curves:
        yield from (Metric(_name(name), value, now, step) for name, value in values.items())
    yield from (Metric(_name(f"final/{name}"), value, now, 0) for name, value in run.scores.items())


def _name(name: str) -> str:
    """Return a name without the characters that MLflow does not allow."""
    return "".join(one if one.isalnum() or one in "_-./ " else "_" for one in name)
