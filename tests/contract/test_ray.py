"""Sweeps on Ray: a cluster of several nodes on this machine, with a node or the command killed in the middle."""

import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from neftune_cli.config.executors import make_executor
from neftune_cli.errors import UsageError
from neftune_cli.records import TrialState
from neftune_cli.store import TrialFolder
from tests.cluster_sweeps import (
    FIRST_STEP,
    OF_EACH_PROCESS,
    WAIT_SECONDS,
    command,
    tables,
    tables_of_the_local_executor,
    wait_for,
)
from tests.command_line import overridden

pytest.importorskip("ray", reason="the extra ray is not installed")

from neftune_cli.sweeps.executors.ray import RayCluster, _fitting

CHECKPOINT = "trials/alpha=5,*/checkpoints/step-*/index.json"


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Return the tables of the local executor."""
    return tables_of_the_local_executor(tmp_path_factory.mktemp("local") / "sweep")


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Return a cluster whose head runs no trials."""
    from ray.cluster_utils import Cluster

    one: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        yield one
    finally:
        one.shutdown()


@dataclass(frozen=True)
class Place:
    """The results folder of a test."""

    directory: Path
    """Working directory of the command."""
    output: Path
    """Value of `--output`."""

    @property
    def folder(self) -> Path:
        """Return the path of the folder in this process."""
        return self.directory / "sweep"

    @property
    def is_shared(self) -> bool:
        """Return whether the nodes see the folder."""
        return self.output == self.folder

    def command(self, cluster: Any) -> list[str]:
        options = ("--executor", "ray", "--address", cluster.address, "--checkpoint-steps", "1")
        return command(self.output, *options)

    def start(self, cluster: Any, *options: str) -> subprocess.Popen[str]:
        """Start the sweep, and return when a trial with noise has a checkpoint."""
        command = overridden(*self.command(cluster), *options)
        process = subprocess.Popen(command, cwd=self.directory, stderr=subprocess.PIPE, text=True)
        trial = TrialFolder(wait_for(self.folder, CHECKPOINT).parents[2])
        holder = trial.holder()
        assert holder is None or (holder.process == process.pid) != self.is_shared
        return process

    @property
    def trial(self) -> TrialFolder:
        """Return the trial with noise."""
        (path,) = self.folder.glob("trials/alpha=5,*")
        return TrialFolder(path)


@pytest.fixture(params=["shared disk", "no shared disk"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Return a results folder that all nodes see, or only the command."""
    if request.param == "shared disk":
        return Place(tmp_path, tmp_path / "sweep")
    return Place(tmp_path, OF_EACH_PROCESS / "sweep")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_trials_of_a_killed_node_continue_elsewhere(cluster: Any, place: Place, expected: list[bytes]) -> None:
    node = cluster.add_node(num_cpus=1)
    process = place.start(cluster)
    cluster.remove_node(node, allow_graceful=False)
    cluster.add_node(num_cpus=1)
    _, printed = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0, printed
    log = place.trial.log_path.read_text()
    assert (log.count(" attempt "), log.count(FIRST_STEP)) == (2, 1)
    assert tables(place.folder) == expected


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_same_command_continues_after_the_kill_of_the_driver(cluster: Any, place: Place, expected: list[bytes]) -> None:
    cluster.add_node(num_cpus=2)
    process = place.start(cluster)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = subprocess.run(place.command(cluster), cwd=place.directory, check=True, capture_output=True, text=True)
    assert "Traceback" not in again.stderr
    log = place.trial.log_path.read_text()
    assert (log.count(" attempt "), log.count(FIRST_STEP)) == (2, 1)
    assert tables(place.folder) == expected


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_checkpoint_of_an_interrupted_trial_arrives(cluster: Any, place: Place) -> None:
    cluster.add_node(num_cpus=1)
    process = place.start(cluster, "--epochs", "100")  # the trial must not end before the interrupt reaches it
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 130, printed
    status, checkpoint = place.trial.status(), place.trial.newest_checkpoint()
    assert status
    assert status.state is TrialState.STOPPED
    assert checkpoint
    assert checkpoint.step == status.step
    assert not place.trial.is_leased()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_tables_are_the_same_if_one_of_two_nodes_does_not_see_the_folder(
    cluster: Any, tmp_path: Path, expected: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.add_node(num_cpus=1)
    monkeypatch.chdir(tmp_path)
    cluster.add_node(num_cpus=1)
    place = Place(tmp_path, OF_EACH_PROCESS / "sweep")
    subprocess.run(place.command(cluster), cwd=tmp_path, check=True, capture_output=True)
    assert tables(place.folder) == expected


@pytest.mark.slow
def test_data_that_a_node_does_not_have_are_a_usage_error(cluster: Any, tmp_path: Path) -> None:
    cluster.add_node(num_cpus=1)
    (tmp_path / "mine.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 9)
    data = OF_EACH_PROCESS / "mine.jsonl"
    options = ["--dataset", str(data)]
    place = Place(tmp_path, tmp_path / "sweep")
    found = subprocess.run(
        [*place.command(cluster), *options], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert found.returncode == 2, found.stderr
    assert f"{socket.gethostname()} cannot read {data}." in " ".join(found.stderr.split())
    assert "Put model and data under the same path on every node" in " ".join(found.stderr.split())
    assert "Traceback" not in found.stderr
    assert not place.folder.exists()


@pytest.mark.slow
def test_resources_that_no_node_has_are_a_usage_error(cluster: Any) -> None:
    cluster.add_node(num_cpus=2)
    executor = make_executor("ray", {"address": cluster.address, "gpus_per_trial": 1.0, "cpus_per_trial": 4.0})
    with pytest.raises(UsageError) as caught, executor:
        pass
    (problem,) = caught.value.problems
    assert problem.what.startswith("No node has the resources of a trial: 4 cores and 1 GPUs.")
    assert "2 cores and 0 GPUs" in problem.what


@pytest.mark.slow
def test_address_without_a_cluster_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"There is no Ray cluster at 127\.0\.0\.1:1"):
        RayCluster("127.0.0.1:1").slots()


def test_number_of_trials_that_fit_on_a_node() -> None:
    assert _fitting({"CPU": 8.0, "GPU": 2.0}, {"CPU": 1.0, "GPU": 0.5}) == 4
    assert _fitting({"CPU": 8.0}, {"CPU": 1.0, "GPU": 1.0}) == 0
    assert _fitting({"CPU": 3.0}, {"CPU": 2.0, "GPU": 0.0}) == 1
