"""Output folders of sensitivity and visualize: one per set of options, and protected against other options."""

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

from neftune_cli.commands.sensitivity import sensitivity
from neftune_cli.commands.visualize import visualize
from neftune_cli.errors import UsageError
from neftune_cli.geometry.output import check_output, default_folder, write_output
from neftune_cli.geometry.projection.command import VisualizationOptions
from neftune_cli.geometry.sensitivity.command import SensitivityOptions

INPUTS = ("model", "dataset")
FILES = ("points.csv",)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (VisualizationOptions(), "results/x-tiny-bios"),
        (VisualizationOptions(alpha=7.5, seed=1), "results/x-tiny-bios-alpha=7.5-seed=1"),
        (SensitivityOptions(alphas="0,5"), "results/x-tiny-bios-alphas=0,5"),
        (SensitivityOptions(max_length=64), "results/x-tiny-bios-max_length=64"),
    ],
)
def test_the_folder_is_named_after_options_that_differ_from_the_defaults(options: object, expected: str) -> None:
    assert default_folder("x", "tiny-bios", options, INPUTS) == Path(expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("command", "options"), [(sensitivity, SensitivityOptions()), (visualize, VisualizationOptions())]
)
def test_the_defaults_of_a_command_are_those_that_its_folder_leaves_out(
    command: Callable[..., None], options: SensitivityOptions | VisualizationOptions
) -> None:
    parameters = inspect.signature(command).parameters
    defaults = {name: value for name, value in dataclasses.asdict(options).items() if name in parameters}
    declared = {name: parameters[name].default for name in defaults}
    assert {name: defaults[name] for name, value in declared.items() if value is not None} == {
        name: value for name, value in declared.items() if value is not None
    }


def test_a_long_list_of_options_is_hashed() -> None:
    folders = {
        default_folder("x", "tiny-bios", SensitivityOptions(alphas=",".join(map(str, range(count)))), INPUTS)
        for count in (100, 101)
    }
    assert len(folders) == 2
    assert all(len(folder.name) < 40 for folder in folders)


def test_a_column_with_a_slash_names_no_folder_in_a_folder() -> None:
    options = SensitivityOptions(columns="prompt=a/b,completion=c")
    assert default_folder("x", "tiny-bios", options, INPUTS).parent == Path("results")


def test_the_same_options_may_write_again(tmp_path: Path) -> None:
    options = VisualizationOptions(alpha=7)
    files = write_output(tmp_path / "out", options, {"points.csv": "a\n"})
    assert [file.name for file in files] == ["points.csv", "options.json"]
    check_output(tmp_path / "out", VisualizationOptions(alpha=7), FILES)


def test_other_options_raise_and_are_named(tmp_path: Path) -> None:
    write_output(tmp_path, VisualizationOptions(), {"points.csv": "a\n"})
    with pytest.raises(UsageError, match=r"has results of other options \(alpha, seed\)\. Choose another folder"):
        check_output(tmp_path, VisualizationOptions(alpha=7, seed=2), FILES)


@pytest.mark.parametrize("text", [None, "", "[]", "{}"])
def test_results_without_readable_options_raise(tmp_path: Path, text: str | None) -> None:
    (tmp_path / "points.csv").write_text("a\n")
    if text is not None:
        (tmp_path / "options.json").write_text(text)
    with pytest.raises(UsageError, match="has results of other options"):
        check_output(tmp_path, VisualizationOptions(), FILES)


def test_a_folder_with_unrelated_files_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    check_output(tmp_path, VisualizationOptions(), FILES)
    check_output(tmp_path / "missing", VisualizationOptions(), FILES)


def test_a_local_data_file_is_identified_by_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "data.jsonl").touch()
    monkeypatch.chdir(tmp_path / "one")
    write_output(tmp_path / "out", SensitivityOptions(dataset="data.jsonl"), {"points.csv": ""})
    check_output(tmp_path / "out", SensitivityOptions(dataset="../one/data.jsonl"), FILES)
    monkeypatch.chdir(tmp_path / "two")
    with pytest.raises(UsageError, match=r"other options \(dataset\)"):
        check_output(tmp_path / "out", SensitivityOptions(dataset="data.jsonl"), FILES)
