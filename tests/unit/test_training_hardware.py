"""Hardware of a trial, and settings of the process and of torch: set before the import, and restored after a run."""

import platform
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.trainer_utils import enable_full_determinism
from transformers.utils.import_utils import enable_tf32

from neftune_cli.training.hardware import gpu_models, processor_name, restore_torch_settings


def settings() -> tuple[object, ...]:
    backends: Any = torch.backends
    return (
        backends.fp32_precision,
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
    )


def test_tf32_and_determinism_are_restored_and_can_be_set_again() -> None:
    before = settings()
    for _ in range(2):
        with restore_torch_settings():
            enable_tf32(True)
            enable_full_determinism(0)
            assert settings()[:2] == ("tf32", True)
        assert settings() == before


def test_equal_gpus_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = [SimpleNamespace(name="NVIDIA H200", total_memory=150_000_000_000)] * 2
    gpus.append(SimpleNamespace(name="NVIDIA L4", total_memory=24_000_000_000))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(gpus))
    monkeypatch.setattr(torch.cuda, "get_device_properties", gpus.__getitem__)

    assert gpu_models() == "2 x NVIDIA H200 (140 GiB), 1 x NVIDIA L4 (22 GiB)"


def test_a_cpu_has_no_gpu_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert gpu_models() == ""


@pytest.mark.parametrize(
    "entry",
    [
        "from neftune_cli.config.executors import make_executor; make_executor('inline')",
        "from neftune_cli.training.rank import main; main()",
        "from neftune_cli.commands.sensitivity import sensitivity; sensitivity()",
    ],
    ids=["inline", "rank", "sensitivity"],
)
def test_a_process_that_trains_is_configured_before_the_import_of_torch(entry: str) -> None:
    """OpenMP reads the number of spins once, when torch loads it."""
    code = (
        "import os, sys\n"
        "from neftune_cli.training import hardware\n"
        "configure = hardware.configure_process\n"
        "def configured():\n"
        "    configure()\n"
        "    print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules, flush=True)\n"
        "    os._exit(0)\n"
        f"hardware.configure_process = configured\n{entry}"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("{}\n")  # rank 0 writes its request and leaves stdin open
        process.stdin.flush()
        assert process.stdout.read() == "1000 False\n"


def test_the_processor_has_its_name_or_its_architecture(tmp_path: Path) -> None:
    known, unknown = tmp_path / "known", tmp_path / "unknown"
    known.write_text("processor\t: 0\nmodel name\t: AMD EPYC 7B13 \nmodel name\t: another\n")

    assert processor_name(known) == "AMD EPYC 7B13"
    assert processor_name(unknown) in (platform.processor(), platform.machine())
