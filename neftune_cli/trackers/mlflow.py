"""Runs of MLflow: a sweep is an experiment, and a trial is a run with parameters, metrics and tags."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from neftune_cli.trackers import TrackedRun, final

_ID = "neftune.id"
"""Tag that has the id of the trial."""
_AT_ONCE = 100
"""Largest number of parameters or metrics of a request."""
_LONGEST = 500
"""Largest length of a value, in characters."""


class MLflowRuns:
    """Write runs with MLflow's client to the server `MLFLOW_TRACKING_URI`, or to a database in the folder."""

    def __init__(self, folder: Path) -> None:
        from mlflow import MlflowClient

        folder.mkdir(parents=True, exist_ok=True)
        self.uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(folder / 'mlflow.db').absolute()}"
        self._client: Any = MlflowClient(tracking_uri=self.uri)
        self._artifacts = None if self.uri.startswith("http") else (folder / "mlartifacts").absolute().as_uri()

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
        if self._known(group, run, " and attributes.status = 'FINISHED'"):
            return False
        created = self._created(group, run)
        self.add_metrics(created, run)
        for file in run.files:
            self._client.log_artifact(created, str(file))
        self._client.set_terminated(created)
        return True

    def continued(self, group: str, run: TrackedRun) -> str:
        """Return MLflow's id of the run of a trial that begins or resumes."""
        return self._known(group, run) or self._created(group, run)

    def add_metrics(self, run_id: str, run: TrackedRun) -> None:
        """Add the curves and the scores."""
        for some in _parts(list(_metrics(run))):
            self._client.log_batch(run_id, metrics=some)

    def _known(self, group: str, run: TrackedRun, condition: str = "") -> str | None:
        found = self._client.search_runs(
            [self._experiment(group)], f"tags.`{_ID}` = '{run.id}'{condition}", max_results=1
        )
        return found[0].info.run_id if found else None

    def _created(self, group: str, run: TrackedRun) -> str:
        """Create a run with its parameters."""
        tags = {_ID: run.id}
        created: str = self._client.create_run(self._experiment(group), run_name=run.name, tags=tags).info.run_id
        for some in _parts(list(_parameters(run))):
            self._client.log_batch(created, params=some)
        return created

    def _experiment(self, group: str) -> str:
        known = self._client.get_experiment_by_name(group)
        return str(known.experiment_id if known else self._client.create_experiment(group, self._artifacts))


class LiveMLflowRun:
    """The run of a running trial, which transformers' callback writes."""

    def __init__(self, folder: Path, group: str, run: TrackedRun) -> None:
        import mlflow
        from transformers.integrations.integration_utils import MLflowCallback

        self._runs, self._run = MLflowRuns(folder), run
        self._id = self._runs.continued(group, run)
        mlflow.set_tracking_uri(self._runs.uri)
        mlflow.start_run(run_id=self._id, log_system_metrics=False)
        self._mlflow: Any = mlflow
        self._status = "KILLED"
        self.callback = MLflowCallback()

    def finish(self, scores: Mapping[str, float]) -> None:
        """Write the results as metrics."""
        self._runs.add_metrics(self._id, replace(self._run, scores=scores))
        self._status = "FINISHED"

    def close(self) -> None:
        """End the run, with the status KILLED if it is not finished."""
        self._mlflow.end_run(self._status)


make, open_run = MLflowRuns, LiveMLflowRun


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
    yield from (Metric(_name(name), value, now, 0) for name, value in final(run.scores).items())


def _name(name: str) -> str:
    """Return a name without the characters that MLflow does not allow."""
    return "".join(one if one.isalnum() or one in "_-./ " else "_" for one in name)
