"""The commands of README, docs and experiment files run as they are written there, on tiny sizes."""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neftune_cli.cli import SUMMARIES, load_command
from tests.command_line import Neftune
from tests.small_model import WITH_SMALL_MODEL

pytestmark = pytest.mark.usefixtures("small_model")

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("experiments/*.yaml"))]
GENERATED = "reference.md"
SMALL = ("--train-examples", "16", "--eval-examples", "4", "--max-steps", "1", "--max-new-tokens", "4", "--no-estimate")
MODELS = ("HuggingFaceTB/SmolLM2-135M", "Qwen/Qwen3-0.6B-Base", "smollm2", "my-model")
"""Models that are not on this machine; `tiny` takes their place."""
DECLARED_THERE = ("triangular", "word_overlap", "my_scores", "traced")
"""Names of declarations that docs/extending.md shows."""
OF_THE_HUB = ("experiments/qwen3", "experiments/smollm2_1.7b", "experiments/llama2_alpaca.yaml", "hellaswag")
"""Recipes whose model or data are on the Hub, which the tests of experiment files resolve, and a task of the Hub."""
OF_OTHER_TOOLS = ("evals/", "logs/", "runs/", "annotations.json", "companies")
"""Results that this test does not make; tests of their readers do."""

OPTIONAL_LIBRARIES = {"tensorboard": "tensorboard", "slurm": "submitit", "ray": "ray"}
"""Arguments of commands that need a library which not every machine has."""


def _documented() -> Iterator[tuple[str, str]]:
    """Yield the page and the arguments of each command in a block, or in the comments of an experiment file."""
    names = f"(?:{'|'.join(SUMMARIES)})"
    for page in PAGES:
        if page.name == GENERATED:
            continue
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        pattern = rf"`neftune ({names} .+?)`" if page.suffix == ".yaml" else rf"^(?:    )?neftune ({names}\b.*)$"
        commands = re.findall(pattern, text, re.MULTILINE)
        yield from ((str(page.relative_to(ROOT)), shlex.join(shlex.split(one, comments=True))) for one in commands)


COMMANDS = {command: page for page, command in _documented() if "..." not in command}
"""Each documented command without comments, and a page that has it."""


def _commands(*names: str, without: tuple[str, ...] = ()) -> list[Any]:
    """Return the arguments of the commands with one of these names, without those that contain one of some texts."""
    return [
        pytest.param(shlex.split(command), id=f"{page}: {command}")
        for command, page in COMMANDS.items()
        if command.split()[0] in names and not any(text in command for text in without)
    ]


def test_commands_are_found() -> None:
    assert len(COMMANDS) > 50
    assert {command.split()[0] for command in COMMANDS} == set(SUMMARIES) - {"train"}


@pytest.mark.parametrize("arguments", _commands(*SUMMARIES, without=DECLARED_THERE))
def test_options_and_values_are_accepted(arguments: list[str]) -> None:
    load_command(arguments[0]).make_context(arguments[0], arguments[1:])


@pytest.mark.slow
@pytest.mark.parametrize("arguments", _commands("sweep", without=(*DECLARED_THERE, *OF_THE_HUB)))
def test_sweeps_can_be_planned(arguments: list[str], neftune: Neftune) -> None:
    _write_inputs()
    _skip_without_library(arguments)
    options = [argument for argument in _here(arguments) if argument not in ("--detach", "--dry-run")]
    planned = neftune(*options, "--dry-run", "--no-estimate")
    assert planned.code == 0, planned.err


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for the sweep of `results`, which is trained once for all tests."""
    return tmp_path_factory.mktemp("documented") / "tiny-bios"


@pytest.fixture
def results(trained: Path, tmp_path: Path, neftune: Neftune) -> Path:
    """Return the folder `results/` with a finished sweep that has kept its models."""
    folder = tmp_path / "results" / "tiny-bios"
    if not trained.exists():
        arms = ("--alphas", "0,5", "--seeds", "2", "--keep", "all", "--lora-rank", "2")
        done = neftune("sweep", *WITH_SMALL_MODEL, *arms, *SMALL, "--output", "results/tiny-bios")
        assert done.code == 0, done.err
        shutil.copytree(folder, trained)
    else:
        shutil.copytree(trained, folder)
    return folder.parent


READERS = _commands("compare", "status", "export", "push", without=(*DECLARED_THERE, *OF_OTHER_TOOLS, "--to OWNER"))


@pytest.mark.parametrize("arguments", READERS)
def test_results_can_be_read(arguments: list[str], results: Path, neftune: Neftune) -> None:
    if "push" in arguments and "--arm" not in arguments:
        arguments = [*arguments, "--arm", "5"]  # its page shows a sweep that keeps one model
    for argument in arguments:
        if re.fullmatch(r"(results|/shared)/[\w.-]+", argument) and not (results / Path(argument).name).exists():
            shutil.copytree(results / "tiny-bios", results / Path(argument).name)
    _skip_without_library(arguments)
    done = neftune(*(one.replace("/shared/", "results/") for one in arguments if one != "--watch"))
    assert done.code == 0, done.err


@pytest.mark.parametrize("arguments", _commands("preview"))
def test_data_can_be_previewed(arguments: list[str], neftune: Neftune) -> None:
    _write_inputs()
    done = neftune(*_here(arguments))
    assert done.code == 0, done.err


def _skip_without_library(arguments: list[str]) -> None:
    for word, library in OPTIONAL_LIBRARIES.items():
        if word in arguments:
            pytest.importorskip(library)


def _here(arguments: list[str]) -> list[str]:
    """Return a command with files of this machine."""
    return [
        "tiny" if one in MODELS else str(ROOT / one) if one.startswith("experiments/") else one for one in arguments
    ]


def _write_inputs() -> None:
    """Write the files that the pages name into the working directory."""
    rows = "".join(json.dumps({"instruction": f"What is {n}?", "output": f"It is {n}."}) + "\n" for n in range(60))
    for name in ("mine.jsonl", "sums.jsonl"):
        Path(name).write_text(rows, encoding="utf-8")
