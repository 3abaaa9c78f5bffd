"""Files of a shared model: those of the kept model, its card, and the base model of an adapter."""

import json
from pathlib import Path

import pytest

from neftune_cli.errors import UsageError
from neftune_cli.records import TrialRecord
from neftune_cli.reporting.shared_model import Files, shared_files
from neftune_cli.store import SweepFolder, TrialFolder
from tests.finished_trials import write_sweep_with_responses

COMMIT = "0f" * 20
CACHED_COPY = f"/home/ada/hub/models--ada--base/snapshots/{COMMIT}"


@pytest.fixture
def sweep(tmp_path: Path, hand_made_records: list[TrialRecord]) -> SweepFolder:
    """Return a finished sweep. The first trial of alpha 5 has a kept adapter of a model in the Hub's cache."""
    folder = SweepFolder(tmp_path / "out")
    write_sweep_with_responses(folder, hand_made_records)
    trial, _ = _kept(folder)
    (trial.model_path / "parts").mkdir(parents=True)
    (trial.model_path / "parts" / "weights.safetensors").write_bytes(b"weights")
    _write_json(trial.model_path / "adapter_config.json", base_model_name_or_path=CACHED_COPY, r=2)
    _write_json(trial.path / "spec.json", model="ada/base", dataset="bios", train={"lora_rank": 2})
    return folder


def test_the_files_of_the_model_are_shared_as_they_are_with_a_card(sweep: SweepFolder) -> None:
    files = _shared(sweep)

    assert set(files) == {"README.md", "adapter_config.json", "parts/weights.safetensors"}
    assert files["parts/weights.safetensors"] == _kept(sweep)[0].model_path / "parts" / "weights.safetensors"
    assert "# out: alpha=5, seed 0\n" in _text(files, "README.md")
    assert "# ada/tuned\n" in _text(_shared(sweep, to="ada/tuned"), "README.md")


def test_an_adapter_names_its_base_model_on_the_hub(sweep: SweepFolder) -> None:
    adapter = json.loads(_text(_shared(sweep), "adapter_config.json"))

    assert adapter == {"base_model_name_or_path": "ada/base", "revision": COMMIT, "r": 2}


def test_a_folder_of_the_form_of_an_id_is_a_local_base_model(
    sweep: SweepFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ada" / "base").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    assert json.loads(_text(_shared(sweep), "adapter_config.json")) == {"base_model_name_or_path": "./base", "r": 2}
    with pytest.raises(UsageError, match="the adapter's base model 'ada/base' is not on the Hub"):
        _shared(sweep, to="ada/tuned")


def test_the_card_says_which_local_base_model_an_adapter_needs(sweep: SweepFolder) -> None:
    trial, _ = _kept(sweep)
    _write_json(trial.path / "spec.json", model="/home/ada/my llama", dataset="bios", train={"lora_rank": 2})
    _write_json(trial.model_path / "adapter_config.json", base_model_name_or_path="/home/ada/my llama")

    files = _shared(sweep)

    assert json.loads(_text(files, "adapter_config.json")) == {"base_model_name_or_path": "./my llama"}
    assert "Copy it to a subfolder `my llama` of this folder" in _text(files, "README.md")
    assert "/home" not in _text(files, "README.md")


def test_a_base_model_that_is_no_path_of_this_machine_is_kept(sweep: SweepFolder) -> None:
    trial, _ = _kept(sweep)
    _write_json(trial.path / "spec.json", model="tiny", dataset="bios", train={"lora_rank": 2})
    adapter = trial.model_path / "adapter_config.json"
    _write_json(adapter, base_model_name_or_path="ada/other")

    assert _shared(sweep)["adapter_config.json"] == adapter


def _kept(sweep: SweepFolder) -> tuple[TrialFolder, TrialRecord]:
    return next(one for one in sweep.finished() if (one[1].arm, one[1].seed) == ("alpha=5", 0))


def _shared(sweep: SweepFolder, to: str | None = None) -> Files:
    return shared_files(sweep, *_kept(sweep), to)


def _text(files: Files, name: str) -> str:
    content = files[name]
    assert isinstance(content, bytes)
    return content.decode()


def _write_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps(values), encoding="utf-8")
