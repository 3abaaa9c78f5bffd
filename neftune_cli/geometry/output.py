"""Output of `sensitivity` and `visualize`: folders named after the options, and figures as PNG and SVG."""

import dataclasses
import hashlib
import io
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neftune_cli.config.spec import InputSpec
from neftune_cli.config.values import parse_columns
from neftune_cli.errors import Problem, UsageError
from neftune_cli.store import RESULTS, check_writable, write_files

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from matplotlib.figure import Figure

OPTIONS_FILE = "options.json"
_MAX_SUFFIX_LENGTH = 100


def default_folder(command: str, inputs: str, options: "DataclassInstance", named: Collection[str]) -> Path:
    """Return `results/COMMAND-INPUTS`, followed by the options that differ from their defaults.

    >>> default_folder("visualize", "tiny-bios", VisualizationOptions(alpha=10), named=("model", "dataset"))
    PosixPath('results/visualize-tiny-bios-alpha=10')

    Args:
        command: name of the command.
        inputs: short names of model and data.
        options: a dataclass; every field has a default.
        named: fields that `inputs` stands for.
    """
    changed = {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(options)
        if field.name not in named and getattr(options, field.name) != field.default
    }
    suffix = "".join(f"-{name}={_text(value)}" for name, value in changed.items())
    if len(suffix) > _MAX_SUFFIX_LENGTH or "/" in suffix:  # `--columns` may name a column with a slash
        suffix = f"-{hashlib.sha256(suffix.encode()).hexdigest()[:12]}"
    return RESULTS / f"{command}-{inputs}{suffix}"


def input_spec(dataset: str, layout: str | None, columns: str | None) -> InputSpec:
    """Return the spec of a data set with the values of `--format` and `--columns`.

    Raises:
        UsageError: `--columns` is not valid.
    """
    return InputSpec(dataset=dataset, layout=layout, columns=parse_columns(columns) if columns else {})


def check_output(folder: Path, options: "DataclassInstance", files: Collection[str]) -> None:
    """Check that the results of these options can be written to a folder.

    A folder with results of the same options is accepted: the command writes the same files again.

    Args:
        folder: may be missing.
        options: a dataclass of plain values.
        files: names of the result files.

    Raises:
        UsageError: the folder is not writable, or it has results of other options.
    """
    check_writable(folder)
    if (folder / OPTIONS_FILE).exists():
        found = _read(folder / OPTIONS_FILE)
    elif any((folder / name).exists() for name in files):
        found = {}
    else:
        return
    wanted = _plain(options)
    if differing := ", ".join(name for name in {**wanted, **found} if found.get(name) != wanted.get(name)):
        raise UsageError(
            Problem(
                f"{folder} has results of other options ({differing}).",
                "Choose another folder with --output, or delete this one.",
            )
        )


def write_output(folder: Path, options: "DataclassInstance", contents: Mapping[str, str | bytes]) -> tuple[Path, ...]:
    """Write result files and the options that they belong to; return their paths.

    Raises:
        UsageError: the folder is not writable.
    """
    text = json.dumps(_plain(options), indent=2, allow_nan=False)
    return write_files(folder, {**contents, OPTIONS_FILE: f"{text}\n"})


def _plain(options: "DataclassInstance") -> dict[str, Any]:
    """Return the options with JSON types; local paths of model and data are absolute."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(options)))
    paths = {name: Path(values[name]) for name in ("model", "dataset")}
    return {**values, **{name: str(path.resolve()) for name, path in paths.items() if path.exists()}}


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


_STYLE = {"figure.dpi": 150, "font.size": 9, "svg.hashsalt": "neftune"}


@dataclasses.dataclass(frozen=True)
class RenderedFigure:
    """One figure in two formats."""

    png: bytes
    """150 dpi."""
    svg: bytes


@contextmanager
def figure_style(style: Mapping[str, object]) -> Iterator[None]:
    """Apply matplotlib's defaults and a style on top, independent of the user's matplotlibrc."""
    import matplotlib.style

    with matplotlib.style.context(["default", {**_STYLE, **style}], after_reset=True):
        yield


def render(figure: "Figure") -> RenderedFigure:
    """Return a figure as PNG and SVG; call it within the `figure_style` in which the figure was drawn."""
    png, svg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return RenderedFigure(png.getvalue(), svg.getvalue())
