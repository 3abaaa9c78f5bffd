"""Fixtures of the crash tests: the forking process, and the files of uninterrupted sweeps."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.forks import ONE_TRAINING, Forks, forking_process, sweep_files


@pytest.fixture(scope="session")
def forks(small_model: str) -> Iterator[Forks]:
    """Return the process whose forks run commands, some of them with the small model."""
    with forking_process() as process:
        yield process


@pytest.fixture(scope="session")
def uninterrupted_folder(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an uninterrupted sweep."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    forks.finish(folder)
    return folder


@pytest.fixture(scope="session")
def uninterrupted(uninterrupted_folder: Path) -> dict[str, bytes]:
    """Return the files of the uninterrupted sweep."""
    return sweep_files(uninterrupted_folder / "sweep")


@pytest.fixture(scope="session")
def one_training_folder(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an uninterrupted sweep with one training."""
    folder = tmp_path_factory.mktemp("one-training")
    forks.finish(folder, ONE_TRAINING)
    return folder


@pytest.fixture(scope="session")
def one_training(one_training_folder: Path) -> dict[str, bytes]:
    """Return the files of the uninterrupted sweep with one training."""
    return sweep_files(one_training_folder / "sweep")
