"""The code blocks of docs/extending.md run, are short, and have the described effects."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from neftune_cli.config import choices
from neftune_cli.config.executors import EXECUTORS
from neftune_cli.config.noises import DISTRIBUTIONS
from neftune_cli.data import layouts
from neftune_cli.metrics import METRICS, REGISTERED_METRICS
from neftune_cli.noise.draws import NoiseStream
from tests.command_line import Neftune
from tests.registries import restored

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = {
    heading: re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    for heading, section in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
}
SMALL = "--seeds 1 --max-steps 1 --train-examples 4 --eval-examples 2 --max-new-tokens 4 --no-estimate --quiet".split()


@pytest.fixture(scope="module", autouse=True)
def extensions() -> Iterator[None]:
    columns, names = list(layouts._COLUMN_SETS), list(choices._LAYOUTS)
    with restored(DISTRIBUTIONS, REGISTERED_METRICS, EXECUTORS):
        for blocks in BLOCKS.values():
            for block in blocks:
                exec(block, {"__name__": "extension"})
        yield
    layouts._COLUMN_SETS[:] = columns
    choices._LAYOUTS[:] = names


@pytest.mark.parametrize(
    "heading", ["A noise distribution", "A metric", "A function without registration", "An executor", "A data layout"]
)
def test_an_extension_has_fewer_than_20_lines_of_code(heading: str) -> None:
    (block,) = BLOCKS[heading]
    assert len([line for line in block.splitlines() if line.strip()]) < 20


def test_the_noise_distribution_has_the_variance_of_the_uniform_one() -> None:
    drawn = NoiseStream("triangular", seed=0).draw((100_000,), torch.device("cpu"))
    assert drawn.var().item() == pytest.approx(1 / 3, rel=0.02)


def test_a_sweep_uses_the_distribution_the_metric_the_executor_and_the_layout(neftune: Neftune, tmp_path: Path) -> None:
    rows = [{"question": f"What follows {number}?", "answer": f"{number + 1} follows."} for number in range(12)]
    Path("mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["sweep", "--dataset", "mine.jsonl", "--alphas", "5", "--noises", "uniform,triangular", *SMALL]
    ended = neftune(*arguments, "--executor", "traced", "--output", "out")
    assert ended.code == 0, ended.err
    assert "submitted alpha=5,noise=triangular" in ended.out
    header, *_ = (tmp_path / "out" / "eval.csv").read_text().splitlines()
    assert header.endswith(",word_overlap")
    compared = json.loads(neftune("compare", "out", "--format", "json", "--metric", "word_overlap").out)
    assert _metrics(compared) >= {"word_overlap", "probe_word_overlap"}
    refused = neftune("compare", "out", "--metric", "overlap")
    assert "word_overlap (word overlap)" in refused.err


def test_help_lists_the_new_distribution_and_executor(neftune: Neftune, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = neftune("sweep", "--help").out
    assert "triangular" in text
    assert "traced" in text


def _metrics(compared: dict[str, Any]) -> set[str]:
    text = json.dumps(compared)
    return {key for key in METRICS if f'"{key}"' in text}
