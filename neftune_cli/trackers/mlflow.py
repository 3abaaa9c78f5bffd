"""Runs of MLflow: a sweep is an experiment, and a trial is a run with parameters, metrics and tags."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from neftune_cli.trackers import RUN_ID_TAG, TrackedRun, mlflow_uri

_AT_ONCE = 100
"""Largest number of parameters or metrics of a request."""
_LONGEST = 500
"""Largest length of a value, in characters."""


def make(folder: Path) -> "MLflowRuns":
    """Return a tracker for the server `MLFLOW_TRACKING_URI`, or for a database in the folder."""
    return MLflowRuns(mlflow_uri(folder), folder)


class MLflowRuns:
    """Write runs with MLflow's client."""

    def __init__(self, uri: str, folder: Path) -> None:
        from mlflow import MlflowClient

        self._client: Any = MlflowClient(tracking_uri=uri)
        self._artifacts = None if uri.startswith("http") else (folder / "mlartifacts").absolute().as_uri()

    def prepare(self, group: str) -> None:
        """Create the experiment `group`, and the database if there is none."""
        from mlflow.exceptions import MlflowException

        try:
            self._experiment(group)
        except MlflowException as error:
            raise OSError(str(error)) from error

    def write(self, group: str, run: TrackedRun) -> bool:
        """Write a run of the experiment `group`. Return False if the experiment has a finished run with its id."""
        from mlflow.exceptions import MlflowException

        try:
            return self._write(group, run)
        except MlflowException as error:
            raise OSError(str(error)) from error

    def _write(self, group: str, run: TrackedRun) -> bool:
        experiment = self._experiment(group)
        written = f"tags.`{RUN_ID_TAG}` = '{run.id}' and attributes.status = 'FINISHED'"
        if self._client.search_runs([experiment], written, max_results=1):
            return False
        created = self._client.create_run(experiment, run_name=run.name, tags={RUN_ID_TAG: run.id}).info.run_id
        for some in _parts(list(_parameters(run))):
            self._client.log_batch(created, params=some)
        for some in _parts(list(_metrics(run))):
            self._client.log_batch(created, metrics=some)
        for file in run.files:
            self._client.log_artifact(created, str(file))
        self._client.set_terminated(created)
        return True

    def _experiment(self, group: str) -> str:
        known = self._client.get_experiment_by_name(group)
        return str(known.experiment_id if known else self._client.create_experiment(group, self._artifacts))


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
