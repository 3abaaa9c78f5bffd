"""A kept model loads with transformers and PEFT alone, in a process that cannot import this package."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from neftune_cli.models.sources import find_model
from neftune_cli.store import SweepFolder
from neftune_cli.training.lora import name_task_and_base
from tests.command_line import Neftune

SMALL = ("--train-examples", "16", "--eval-examples", "4", "--max-steps", "2", "--max-new-tokens", "8")
_LOADING = """\
import json, sys
sys.modules["neftune_cli"] = None  # makes each import of the package fail
import torch
from transformers import AutoTokenizer, AutoModelForCausalLM, pipeline

kept, is_adapter, prompts = json.load(sys.stdin)
tokenizer = AutoTokenizer.from_pretrained(kept)
if is_adapter:
    from peft import AutoPeftModelForCausalLM
    model = AutoPeftModelForCausalLM.from_pretrained(kept)
else:
    model = AutoModelForCausalLM.from_pretrained(kept)
hooks = sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in model.modules())
tokens = tokenizer(prompts[0], return_tensors="pt").input_ids
with torch.no_grad():
    evaluated = model.eval()(tokens).logits
    trained = [model.train()(tokens).logits for _ in range(2)]
generate = pipeline("text-generation", kept, device="cpu")
greedy = {"max_new_tokens": 8, "do_sample": False, "return_full_text": False}
print(json.dumps({
    "hooks": hooks,
    "modules": sorted({type(one).__module__.split(".")[0] for one in model.modules()}),
    "same_in_training": all(torch.equal(evaluated, one) for one in trained),
    "responses": [generate(one, **greedy)[0]["generated_text"].strip() for one in prompts],
}))
"""


def _load_elsewhere(kept: Path, folder: Path, prompts: list[str], *, is_adapter: bool) -> dict[str, Any]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", _LOADING],
        input=json.dumps([str(kept), is_adapter, prompts]),
        cwd=folder,
        env={**environment, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return loaded


def test_an_adapter_of_a_relative_base_model_can_be_loaded_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "base").mkdir()
    monkeypatch.chdir(tmp_path)
    local, hub = (SimpleNamespace(base_model_name_or_path=name, task_type=None) for name in ("./base", "ada/base"))
    name_task_and_base(SimpleNamespace(peft_config={"default": local, "other": hub}))
    assert (local.base_model_name_or_path, hub.base_model_name_or_path) == (str(tmp_path / "base"), "ada/base")
    assert local.task_type == hub.task_type == "CAUSAL_LM"


@pytest.mark.slow
@pytest.mark.parametrize("rank", [None, 4])
def test_a_kept_model_loads_without_this_package_and_has_no_noise(
    rank: int | None, neftune: Neftune, tmp_path: Path
) -> None:
    shutil.copytree(find_model("tiny").path, tmp_path / "base")
    lora = () if rank is None else ("--lora-rank", str(rank))
    model = ("--model", "./base", "--repetition-penalty", "1.0", "--precision", "float32")
    done = neftune("train", "--alpha", "15", *model, *SMALL, *lora)
    assert done.code == 0, done.err
    (sweep,) = (SweepFolder(path.parent) for path in tmp_path.glob("results/*/sweep.yaml"))
    folder, _ = sweep.finished()[-1]
    (tmp_path / "elsewhere").mkdir()
    measured = [one for one in folder.generations() if one.split == "held-out"]
    prompts = [one.prompt for one in measured]
    found = _load_elsewhere(folder.model_path, tmp_path / "elsewhere", prompts, is_adapter=rank is not None)
    assert found["hooks"] == 0
    assert set(found["modules"]) <= {"torch", "transformers", "peft"}
    assert found["same_in_training"]
    assert found["responses"] == [one.response.strip() for one in measured]
    texts = [path.read_text() for path in folder.model_path.glob("*.json") if path.name != "tokenizer.json"]
    assert not any("noise" in text or "neftune" in text.replace(str(tmp_path), "") for text in texts)
