"""The examples of README work as they are written there."""

import json
import re
from pathlib import Path

import pytest
import yaml

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.models.sources import BUNDLED_MODEL_DIRECTORY
from neftune_cli.noise.callback import NEFTuneCallback
from tests.command_line import Neftune

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def blocks(heading: str) -> list[str]:
    """Return the indented blocks of a section, without their indentation."""
    section = README.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    found = re.findall(r"(?:^    .*\n|^\n(?=    ))+", section, re.MULTILINE)
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE).strip() for block in found]


@pytest.mark.parametrize("columns", [("prompt", "completion"), ("instruction", "output")])
def test_the_callback_example_trains(columns: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = (dict(zip(columns, (f"What follows {n}?", f"{n + 1}."), strict=True)) for n in range(8))
    Path("mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    example = blocks("Use in your own training")[0]
    assert len([line for line in example.splitlines() if line]) == 9
    for there, here in ((HUB_ID, str(BUNDLED_MODEL_DIRECTORY)), ("SFTConfig(", "SFTConfig(use_cpu=True, output_dir=")):
        example = example.replace(there, here)
    scope: dict[str, object] = {}
    exec(example, scope)
    (noise,) = [one for one in scope["trainer"].callback_handler.callbacks if isinstance(one, NEFTuneCallback)]  # type: ignore[attr-defined]
    assert noise.attestation is not None
    assert noise.attestation.calls == 1
    assert noise.attestation.rms == pytest.approx(1, abs=0.02)
    assert not noise.deviations


def test_the_experiment_file_is_valid(tmp_path: Path) -> None:
    text = next(block for block in blocks("Experiment files") if "arms:" in block)
    assert yaml.safe_load(text)["grid"]
    (tmp_path / "experiment.yaml").write_text(text)
    arms = [arm.name for arm in resolve_sweep(tmp_path / "experiment.yaml", {}).arms]
    assert arms[:4] == ["alpha=0", "alpha=5", "alpha=5,noise=gaussian", "weight decay"]
    assert len(arms) == 4 + 7  # the grid repeats the plain alpha 5


@pytest.mark.parametrize("heading", ["Noise options", "Noise size on your model"])
def test_the_sweeps_with_noise_options_can_be_planned(neftune: Neftune, heading: str) -> None:
    for line in "\n".join(blocks(heading)).splitlines():
        if line.startswith("neftune sweep"):
            assert neftune(*line.split()[1:], "--dry-run", "--no-estimate").code == 0
