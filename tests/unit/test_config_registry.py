"""Registries: names, duplicate and unknown names, and entry points of installed packages."""

import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from neftune_cli.config.noises import DISTRIBUTIONS, SCHEDULES
from neftune_cli.config.registry import Registry
from neftune_cli.errors import UsageError


@dataclass(frozen=True)
class Color:
    name: str


BLUE = Color("blue")
NOT_A_COLOR = "green"
TWO_COLORS = Color("red,blue")


@pytest.fixture
def colors() -> Registry[Color]:
    colors = Registry("color", "neftune.colors", Color, lambda color: color.name)
    colors.register(Color("red"))
    colors.register(Color("amber"))
    return colors


def installed(monkeypatch: pytest.MonkeyPatch, *values: tuple[str, str]) -> list[str]:
    """Install entry points of the group, and return the list of groups that are read."""
    read = []

    def entry_points(group: str) -> list[EntryPoint]:
        read.append(group)
        return [EntryPoint(name, value, group) for name, value in values]

    monkeypatch.setattr("neftune_cli.config.registry.may_be_declared", lambda _group: True)
    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    return read


def test_names_keep_the_order_of_registration(colors: Registry[Color]) -> None:
    assert colors.names() == tuple(colors) == ("red", "amber")
    assert colors["amber"] == Color("amber")
    assert len(colors) == 2


def test_a_duplicate_name_raises(colors: Registry[Color]) -> None:
    with pytest.raises(UsageError, match="The color 'red' is registered twice"):
        colors.register(Color("red"))


@pytest.mark.parametrize("name", ["", "a,b", "two words", "-a", "a=b", 3])
def test_a_name_that_no_option_can_state_is_refused(colors: Registry[Color], name: Any) -> None:
    with pytest.raises(UsageError, match=f"A color cannot have the name {name!r}"):
        colors.register(Color(name))
    assert colors.names() == ("red", "amber")


def test_a_declaration_of_another_type_is_refused(colors: Registry[Any]) -> None:
    with pytest.raises(UsageError, match=r"The color 3 is not a Color\. Use a Color\."):
        colors.register(3)


def test_what_a_package_prints_when_it_is_imported_is_not_among_the_results(
    colors: Registry[Color], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(_entry_point: EntryPoint) -> object:
        print("loaded")
        return BLUE

    installed(monkeypatch, ("blue", f"{__name__}:BLUE"))
    monkeypatch.setattr(EntryPoint, "load", load)
    assert "blue" in colors
    assert capsys.readouterr() == ("", "loaded\n")


def test_a_package_that_ends_the_process_is_named(colors: Registry[Color], monkeypatch: pytest.MonkeyPatch) -> None:
    def end(_entry_point: EntryPoint) -> object:
        sys.exit(3)

    installed(monkeypatch, ("blue", f"{__name__}:BLUE"))
    monkeypatch.setattr(EntryPoint, "load", end)
    with pytest.raises(UsageError, match=r"The color 'blue' of the package .* cannot be imported: SystemExit: 3"):
        colors.names()


def test_an_unknown_name_raises_with_the_known_names(colors: Registry[Color]) -> None:
    assert "blue" not in colors
    assert colors.get("blue") is None
    with pytest.raises(UsageError, match=r"color 'blue' is unknown\. Use one of: red, amber\."):
        colors["blue"]
    with pytest.raises(ValueError, match=r"^must be red or amber$"):
        colors.valid_name("blue")


def test_an_entry_point_is_loaded_once_and_only_when_needed(
    colors: Registry[Color], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = installed(monkeypatch, ("blue", f"{__name__}:BLUE"))
    assert colors["red"].name == "red"
    assert read == []
    assert colors["blue"].name == "blue"
    assert colors.names() == ("red", "amber", "blue")
    assert read == ["neftune.colors"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_package:BLUE", "color 'blue' of the package .* cannot be imported"),
        (f"{__name__}:NO_SUCH_NAME", "cannot be imported"),
        (f"{__name__}:NOT_A_COLOR", "The color 'green' is not a Color"),
        (f"{__name__}:TWO_COLORS", "entry point 'blue' of the package .*cannot have the name 'red,blue'"),
    ],
)
def test_a_broken_entry_point_raises_every_time(
    colors: Registry[Color], monkeypatch: pytest.MonkeyPatch, value: str, message: str
) -> None:
    installed(monkeypatch, ("blue", value))
    for _ in range(2):
        with pytest.raises(UsageError, match=message):
            colors.names()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("no_such_package:GREEN", "color 'green' of the package .* cannot be imported"),
        (f"{__name__}:BLUE", "color 'blue' is registered twice"),
    ],
)
def test_the_message_on_a_broken_entry_point_does_not_change(
    colors: Registry[Color], monkeypatch: pytest.MonkeyPatch, broken: str, message: str
) -> None:
    installed(monkeypatch, ("blue", f"{__name__}:BLUE"), ("green", broken))
    for _ in range(2):
        with pytest.raises(UsageError, match=message):
            colors.names()


def test_a_module_of_an_entry_point_may_register_more_when_it_is_imported(
    colors: Registry[Color], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, ("blue", f"{__name__}:BLUE"))
    load = EntryPoint.load

    def load_and_register(entry_point: EntryPoint) -> object:
        colors.register(Color("green"))
        return load(entry_point)

    monkeypatch.setattr(EntryPoint, "load", load_and_register)
    assert colors.names() == ("red", "amber", "green", "blue")


def test_an_installed_package_adds_a_noise_to_a_new_process(tmp_path: Path) -> None:
    package = tmp_path / "lap.py"
    package.write_text(
        "from neftune_cli.config.noises import NoiseDistribution\n"
        "LAPLACE = NoiseDistribution('laplace', 'double exponential', 'lap:draw')\n"
    )
    metadata = tmp_path / "lap-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: lap\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[neftune.noises]\nlaplace = lap:LAPLACE\n")
    program = "import sys; from neftune_cli.config.noises import DISTRIBUTIONS as d; print(*d, 'torch' in sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {program}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert output.split() == ["uniform", "gaussian", "bernoulli", "laplace", "False"]


def test_every_noise_and_schedule_has_a_one_line_description() -> None:
    noises = [noise.description for noise in DISTRIBUTIONS.values()]
    schedules = [schedule.description for schedule in SCHEDULES.values()]
    assert all(text and "\n" not in text for text in noises + schedules)
