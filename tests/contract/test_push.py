"""`neftune push`: the folder that it writes, the commit that it uploads, and its messages."""

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import yaml
from huggingface_hub import constants
from transformers import pipeline

from neftune_cli.reporting.model_card import shared_command
from neftune_cli.store import SweepFolder
from tests.command_line import CommandResult, Neftune
from tests.small_model import SMALL_MODEL, WITH_SMALL_MODEL

pytestmark = pytest.mark.usefixtures("small_model")

SMALL = (
    *WITH_SMALL_MODEL,
    *("--train-examples", "16", "--eval-examples", "4", "--max-steps", "2", "--max-new-tokens", "4", "--no-estimate"),
)


@pytest.fixture(scope="module")
def kept_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for the sweep of `sweep`, which is trained once for all tests."""
    return tmp_path_factory.mktemp("kept") / "out"


@pytest.fixture
def sweep(kept_sweep: Path, tmp_path: Path, neftune: Neftune) -> SweepFolder:
    """Return a finished sweep with an adapter of each of two arms and seeds."""
    if not kept_sweep.exists():
        arms = ("--alphas", "0,5", "--seeds", "3,4", "--keep", "all", "--lora-rank", "2")
        done = neftune("sweep", *arms, "--output", "out", *SMALL)
        assert done.code == 0, done.err
        shutil.copytree(tmp_path / "out", kept_sweep)
    else:
        shutil.copytree(kept_sweep, tmp_path / "out")
    return SweepFolder(tmp_path / "out")


def _on_the_hub(sweep: SweepFolder) -> None:
    """Rewrite the files of a sweep as if its base model were a cached copy of a model on the Hub."""
    for trial in sweep.trials():
        for file, values in (
            (trial.path / "spec.json", {"model": "ada/base", "dataset": "ada/data"}),
            (
                trial.model_path / "adapter_config.json",
                {"base_model_name_or_path": f"/home/ada/hub/models--ada--base/snapshots/{'0f' * 20}"},
            ),
        ):
            if file.is_file():
                file.write_text(json.dumps(json.loads(file.read_text()) | values))


def _header(card: str) -> dict[str, Any]:
    header: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return header


def test_the_folder_has_the_model_and_a_card(sweep: SweepFolder, neftune: Neftune) -> None:
    _on_the_hub(sweep)
    done = neftune("push", "out", "--arm", "5", "--seed", "4", "--output", "shared")
    assert (done.code, done.err) == (0, "Wrote shared\n")
    (trial, record) = next(one for one in sweep.finished() if (one[1].arm, one[1].seed) == ("alpha=5", 4))
    assert {path.name for path in Path("shared").iterdir()} == {path.name for path in trial.model_path.iterdir()}
    for name in ("adapter_model.safetensors", "tokenizer.json"):
        assert (Path("shared") / name).read_bytes() == (trial.model_path / name).read_bytes()
    card = Path("shared/README.md").read_text(encoding="utf-8")
    assert _header(card) == {
        "base_model": "ada/base",
        "datasets": ["ada/data"],
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["neftune", "sft", "lora"],
    }
    manifest = sweep.manifest()
    assert manifest.fingerprints is not None
    facts = [record.trial, manifest.fingerprints.model, manifest.fingerprints.data]
    facts += [f"transformers {manifest.versions['transformers']}", "device cpu, precision float32"]
    facts += ["neftune sweep --alphas 0,5 --seeds 3,4", f"{record.loss.eval_loss:.4f}", "NO VERDICT", "lora_rank: 2"]
    assert not [fact for fact in facts if fact not in card]


@pytest.mark.parametrize(("arm", "has_noise"), [("0", False), ("5", True)])
def test_only_the_card_of_an_arm_with_noise_says_that_there_was_noise(
    sweep: SweepFolder, neftune: Neftune, arm: str, has_noise: bool
) -> None:
    assert neftune("push", "out", "--arm", arm, "--output", "shared").code == 0
    card = Path("shared/README.md").read_text(encoding="utf-8")
    about_the_model = card.split("## ")[0].split("---\n")[2]
    assert ("without embedding noise" in about_the_model) is not has_noise
    assert ("Noise was added" in about_the_model) is has_noise
    assert ("neftune" in _header(card)["tags"]) is has_noise


def test_a_full_disk_leaves_no_part_of_the_model(
    sweep: SweepFolder, neftune: Neftune, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copyfile

    def copy_until_the_disk_is_full(source: Path, target: Path) -> None:
        copy(source, target)
        if source.name == "adapter_model.safetensors":
            raise OSError(errno.ENOSPC, "No space left on device")

    command = ("push", sweep.path.name, "--arm", "5", "--output", "shared/5")
    with monkeypatch.context() as full:
        full.setattr(shutil, "copyfile", copy_until_the_disk_is_full)
        done = neftune(*command)
    assert (done.code, done.err.splitlines()[0]) == (2, "Error: --output shared/5: No space left on device.")
    assert not list(Path("shared/5").iterdir())
    assert neftune(*command).code == 0
    assert {"README.md", "adapter_model.safetensors"} <= {path.name for path in Path("shared/5").iterdir()}


def test_no_folder_of_this_machine_is_shared(sweep: SweepFolder, neftune: Neftune) -> None:
    _on_the_hub(sweep)
    manifest = sweep.manifest()
    command = (*manifest.command, "--dataset", "/home/ada/secret/mine.jsonl")
    sweep.write_manifest(manifest.model_copy(update={"command": command}))
    neftune("push", "out", "--arm", "5", "--output", "shared")
    text = "".join(
        path.read_text(encoding="utf-8") for path in Path("shared").iterdir() if path.suffix != ".safetensors"
    )
    assert ("/home" in text, str(Path.cwd()) in text, "mine.jsonl" in text) == (False, False, True)
    adapter = json.loads(Path("shared/adapter_config.json").read_text())
    assert (adapter["base_model_name_or_path"], adapter["revision"]) == ("ada/base", "0f" * 20)


def test_an_adapter_of_a_local_model_is_loaded_with_the_base_model_in_a_subfolder(
    sweep: SweepFolder, neftune: Neftune, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = json.loads(next(sweep.path.rglob("adapter_config.json")).read_text())["base_model_name_or_path"]
    assert neftune("push", "out", "--arm", "5", "--output", "shared").code == 0
    adapter = json.loads(Path("shared/adapter_config.json").read_text())
    monkeypatch.chdir("shared")
    with pytest.raises(OSError):
        pipeline("text-generation", ".")
    shutil.copytree(base, adapter["base_model_name_or_path"])
    assert pipeline("text-generation", ".")("Who?", max_new_tokens=1)
    assert base not in "".join(
        path.read_text(encoding="utf-8") for path in (Path("README.md"), Path("adapter_config.json"))
    )


class _FakeApi:
    """Record of the calls that the client of the Hub would receive."""

    calls: list[tuple[Any, ...]] = []  # noqa: RUF012
    error: Exception | None = None
    public: frozenset[str] = frozenset()
    """Repositories that exist and are public: the Hub creates them again without a change."""

    def create_repo(self, repo: str, *, private: bool, exist_ok: bool) -> None:
        if self.error:
            raise self.error
        self.calls.append((repo, private, exist_ok))

    def repo_info(self, repo: str) -> Any:
        created_as = next(private for name, private, _ in self.calls if name == repo)
        return type("RepoInfo", (), {"private": created_as and repo not in self.public})

    def create_commit(self, repo: str, operations: Any, commit_message: str) -> Any:
        self.calls.append((repo, {one.path_in_repo for one in operations}, commit_message))
        return type("Done", (), {"commit_url": f"https://huggingface.co/{repo}/commit/1"})


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> type[_FakeApi]:
    """Replace the client of the Hub, with a login."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")
    monkeypatch.setattr(huggingface_hub, "HfApi", _FakeApi)
    monkeypatch.setattr(_FakeApi, "calls", [])
    return _FakeApi


def test_one_commit_has_all_files(sweep: SweepFolder, neftune: Neftune, api: type[_FakeApi]) -> None:
    _on_the_hub(sweep)
    done = neftune("push", "out", "--arm", "alpha=5", "--to", "ada/tuned", "--private")
    assert (done.code, done.err) == (0, "Uploaded https://huggingface.co/ada/tuned/commit/1\n")
    (created, (repo, files, message)) = api.calls
    assert created == ("ada/tuned", True, True)
    assert (repo, message) == ("ada/tuned", "Add alpha=5, seed 3")
    assert {"README.md", "adapter_model.safetensors", "adapter_config.json", "tokenizer.json"} <= files


def test_a_private_model_is_not_uploaded_to_a_public_repository(
    sweep: SweepFolder, neftune: Neftune, api: type[_FakeApi], monkeypatch: pytest.MonkeyPatch
) -> None:
    _on_the_hub(sweep)
    monkeypatch.setattr(api, "public", frozenset({"ada/open"}))
    done = neftune("push", "out", "--arm", "5", "--to", "ada/open", "--private")
    assert (done.code, done.err.splitlines()) == (
        2,
        [
            "Error: --private: the repository ada/open exists and is public.",
            "  Make it private on the Hub, or use another name.",
        ],
    )
    assert [call[1:] for call in api.calls] == [(True, True)]  # no commit
    assert neftune("push", "out", "--arm", "5", "--to", "ada/open").code == 0


def test_a_failed_upload_is_explained(
    sweep: SweepFolder, neftune: Neftune, api: type[_FakeApi], monkeypatch: pytest.MonkeyPatch
) -> None:
    _on_the_hub(sweep)
    monkeypatch.setattr(api, "error", OSError("403 Forbidden"))
    done = neftune("push", "out", "--arm", "0", "--to", "ada/tuned")
    assert (done.code, done.err.splitlines()[0]) == (2, "Error: --to ada/tuned: the upload failed: 403 Forbidden.")


def test_an_adapter_of_a_local_model_is_not_uploaded(sweep: SweepFolder, neftune: Neftune, api: type[_FakeApi]) -> None:
    done = neftune("push", sweep.path.name, "--arm", "0", "--to", "ada/tuned")
    assert done.code == 2
    assert f"the adapter's base model '{SMALL_MODEL}' is not on the Hub" in done.err
    assert not api.calls


def test_wrong_usage_is_explained(sweep: SweepFolder, neftune: Neftune) -> None:
    def problems(*arguments: str) -> list[str]:
        done: CommandResult = neftune("push", *arguments)
        assert (done.code, done.out) == (2, "")
        return [line.removeprefix("Error: ") for line in done.err.splitlines()]

    assert problems("out", "--arm", "5") == ["There is no target.", "  Add --to OWNER/NAME, or --output DIR."]
    assert problems("out", "--output", "x") == [
        "Several arms have a model.",
        "  Use --arm with one of 'alpha=0', 'alpha=5'.",
    ]
    assert problems("out", "--output", "out", "--arm", "alpha=6", "--to", "tuned") == [
        "--output out exists.",
        "  Use another folder, or delete it.",
        "--to tuned is not a repository.",
        "  Use OWNER/NAME, for example --to ada/my-model.",
        "--to tuned: HF_HUB_OFFLINE is set.",
        "  Unset it, or use --output DIR.",
        "--arm alpha=6: out has no finished training run of this arm.",
        "  Did you mean 'alpha=0' or 'alpha=5'?",
    ]
    assert problems("out", "--arm", "5", "--seed", "0", "--output", "x") == [
        "--seed 0: out has no finished training run of 'alpha=5' with this seed.",
        "  Use one of the seeds 3, 4.",
    ]
    for trial in sweep.trials():
        shutil.rmtree(trial.model_path, ignore_errors=True)
    (what, fix) = problems("out", "--output", "x")
    assert what == "out has no kept model."
    assert "--keep all" in fix
    assert not Path("x").exists()


def test_a_sweep_without_a_finished_training_run_has_nothing_to_share(sweep: SweepFolder, neftune: Neftune) -> None:
    for trial, record in sweep.finished():
        if record.seed is not None:
            shutil.rmtree(trial.path)
    for arm in ((), ("--arm", "5")):
        done = neftune("push", "out", *arm, "--output", "shared")
        assert (done.code, done.err.splitlines()) == (
            2,
            [
                "Error: out has no finished training run.",
                "  Wait for its first one, or train failed trials again with --retry failed.",
            ],
        )


def test_an_arm_without_a_kept_model_gets_the_arms_with_one(sweep: SweepFolder, neftune: Neftune) -> None:
    for trial, record in sweep.finished():
        if record.arm == "alpha=0":
            shutil.rmtree(trial.model_path, ignore_errors=True)
    done = neftune("push", "out", "--arm", "0", "--output", "shared")
    assert (done.code, done.err.splitlines()) == (
        2,
        [
            "Error: out has no kept model of the arm 'alpha=0'.",
            "  Use --arm with one of 'alpha=5'. --keep all keeps the models of all arms.",
        ],
    )
    assert neftune("push", "out", "--output", "shared").code == 0


def test_a_seed_without_a_kept_model_gets_the_seed_with_one(sweep: SweepFolder, neftune: Neftune) -> None:
    for trial, record in sweep.finished():
        if record.seed == 4:
            shutil.rmtree(trial.model_path, ignore_errors=True)
    done = neftune("push", "out", "--arm", "5", "--seed", "4", "--output", "shared")
    assert (done.code, done.err.splitlines()) == (
        2,
        ["Error: --seed 4: out has no kept model of 'alpha=5' with this seed.", "  Use --seed 3."],
    )


def test_the_recipe_of_the_card_is_that_of_the_training(sweep: SweepFolder, neftune: Neftune) -> None:
    assert neftune("push", sweep.path.name, "--arm", "5", "--output", "shared").code == 0
    recipe = Path("shared/README.md").read_text(encoding="utf-8").partition("## Recipe")[2]
    assert "max_steps: 2\n" in recipe
    assert "epochs:" not in recipe
    assert "LoRA has a lora" in recipe


def test_a_model_without_weights_is_not_shared(sweep: SweepFolder, neftune: Neftune) -> None:
    for trial, record in sweep.finished():
        if (record.arm, record.seed) == ("alpha=5", 3):
            (trial.model_path / "adapter_model.safetensors").unlink()
    done = neftune("push", "out", "--arm", "5", "--seed", "3", "--output", "shared")
    assert (done.code, done.err.splitlines()) == (
        2,
        [
            "Error: --seed 3: out has no kept model of 'alpha=5' with this seed. The model of alpha=5, seed 3 is "
            "incomplete: adapter_model.safetensors is missing.",
            "  Use --seed 4.",
        ],
    )
    assert not Path("shared").exists()
    assert neftune("push", "out", "--arm", "5", "--output", "shared").code == 0
    assert Path("shared/adapter_model.safetensors").is_file()


def test_a_sweep_whose_models_lack_weights_has_no_kept_model(sweep: SweepFolder, neftune: Neftune) -> None:
    for trial, _ in sweep.finished():
        (trial.model_path / "adapter_model.safetensors").unlink(missing_ok=True)
    done = neftune("push", "out", "--output", "shared")
    assert done.code == 2
    assert "out has no kept model. The model of alpha=0, seed 3 is incomplete" in done.err


def test_a_model_of_train_and_a_missing_spec(neftune: Neftune) -> None:
    assert neftune("train", "--alpha", "5", "--output", "one", *SMALL[:-1]).code == 0
    assert neftune("push", "one", "--output", "shared").code == 0
    assert "NOTHING TO COMPARE" in Path("shared/README.md").read_text(encoding="utf-8")
    (spec,) = Path("one/trials").glob("alpha=5*/spec.json")
    spec.unlink()
    done = neftune("push", "one", "--output", "again")
    assert (done.code, "has no valid spec.json.\n  Restore it" in done.err) == (2, True)


def test_a_missing_login_is_explained(
    sweep: SweepFolder, neftune: Neftune, api: type[_FakeApi], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    done = neftune("push", sweep.path.name, "--arm", "0", "--to", "ada/tuned")
    assert done.code == 2
    assert "you are not logged in.\n  Run `hf auth login`" in done.err
    assert not api.calls


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["/venv/bin/neftune", "sweep", "/home/ada/a.yaml", "--workers", "1"], "neftune sweep a.yaml --workers 1"),
        (["python", "-m", "neftune_cli", "train", "--dataset=~/mine.jsonl"], "neftune train --dataset=mine.jsonl"),
        (["neftune", "sweep", "--set", "optim=adamw_torch"], "neftune sweep --set optim=adamw_torch"),
    ],
)
def test_commands_are_shared_without_folders(arguments: list[str], shown: str) -> None:
    assert shared_command(arguments) == shown
