"""Sweeps on Ray: a cluster of several nodes on this machine, with a node or the command killed in the middle."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neftune_cli.config.executors import make_executor
from neftune_cli.errors import UsageError
from tests.cluster_sweeps import FIRST_STEP, WAIT_SECONDS, command, tables, tables_of_the_local_executor, wait_for

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


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_trials_of_a_killed_node_continue_elsewhere(cluster: Any, tmp_path: Path, expected: list[bytes]) -> None:
    node = cluster.add_node(num_cpus=1)
    folder = tmp_path / "sweep"
    options = ("--executor", "ray", "--address", cluster.address, "--checkpoint-steps", "1")
    process = subprocess.Popen(command(folder, *options), stderr=subprocess.PIPE, text=True)
    place = wait_for(folder, CHECKPOINT).parents[2]
    cluster.remove_node(node, allow_graceful=False)
    cluster.add_node(num_cpus=1)
    _, printed = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0, printed
    log = (place / "log.txt").read_text()
    assert (log.count(" attempt "), log.count(FIRST_STEP)) == (2, 1)
    assert tables(folder) == expected


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_same_command_continues_after_the_kill_of_the_driver(
    cluster: Any, tmp_path: Path, expected: list[bytes]
) -> None:
    cluster.add_node(num_cpus=2)
    folder = tmp_path / "sweep"
    options = ("--executor", "ray", "--address", cluster.address, "--checkpoint-steps", "1")
    process = subprocess.Popen(command(folder, *options), stderr=subprocess.DEVNULL)
    wait_for(folder, CHECKPOINT)
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run(command(folder, *options), check=True, capture_output=True)
    assert tables(folder) == expected


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
