"""Entry points of installed packages, compared with `importlib.metadata`."""

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from zipfile import ZipFile

import pytest

from neftune_cli.config.registry import entry_points_of, may_be_declared

DECLARATION = "[neftune.examples]\none = package:ONE\n"


def test_every_group_of_the_environment_is_found() -> None:
    groups = entry_points().groups
    assert {"console_scripts", "pytest11"} <= groups
    assert all(may_be_declared(group) for group in groups)
    assert {one.name for one in entry_points_of("pytest11")} == {one.name for one in entry_points(group="pytest11")}


def test_a_group_of_no_package_has_no_entry_points() -> None:
    assert not may_be_declared("neftune.examples")
    assert entry_points_of("neftune.examples") == ()


@pytest.mark.parametrize("folder", ["package-1.0.dist-info", "package.egg-info", "Package-1.0.DIST-INFO"])
def test_a_new_package_on_the_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "entry_points.txt").write_text(DECLARATION)
    monkeypatch.syspath_prepend(tmp_path)
    assert may_be_declared("neftune.examples")


def test_an_archive_on_the_path_is_searched_by_importlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ZipFile(tmp_path / "package.zip", "w") as archive:
        archive.writestr("package-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: package\nVersion: 1.0\n")
        archive.writestr("package-1.0.dist-info/entry_points.txt", DECLARATION)
    monkeypatch.syspath_prepend(tmp_path / "package.zip")
    assert [one.value for one in entry_points_of("neftune.examples")] == ["package:ONE"]


def test_a_finder_of_another_kind_is_asked_by_importlib(monkeypatch: pytest.MonkeyPatch) -> None:
    class Finder:
        @staticmethod
        def find_distributions(*_arguments: object) -> list[object]:
            return []

        @staticmethod
        def find_spec(*_arguments: object) -> None:
            return None

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    assert may_be_declared("neftune.examples")


def test_an_installation_without_extensions_does_not_import_importlib_metadata() -> None:
    program = (
        "import sys; from neftune_cli.config.noises import DISTRIBUTIONS as d; "
        "print(*d, 'importlib.metadata' in sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.split() == ["uniform", "gaussian", "bernoulli", "False"]
