"""How many workers there are, what they are started with, and what they and the sweep say to each other."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from neftune_cli.config.spec import SweepSpec
from neftune_cli.sweeps.executors.protocol import Lines, as_line, packed, unpacked
from neftune_cli.sweeps.executors.worker_process import exit_in_words, worker_environment
from neftune_cli.sweeps.inspection import Preparation
from neftune_cli.sweeps.resources import available_memory, memory_need, workers_auto
from neftune_cli.training.trial import TrialProgress
from neftune_cli.training.trial_log import log_tail

GIB = 1 << 30


@pytest.mark.parametrize(
    ("trials", "cores", "memory", "gpus", "device", "expected"),
    [
        (12, 8, 100, 0, "cpu", 8),  # a trial a core
        (3, 8, 100, 0, "cpu", 3),  # fewer trials than cores: they share them
        (1, 8, 100, 0, "cpu", 1),
        (12, 8, 7, 0, "cpu", 3),  # memory for three
        (12, 8, 1, 0, "cpu", 1),  # not even for one: one must try
        (12, 16, 100, 4, "cuda", 4),  # one a GPU
        (12, 16, 100, 1, "cuda", 1),
        (12, 8, 100, 1, "mps", 1),
        (12, 2, 100, 8, "cuda", 8),  # fewer cores than GPUs
    ],
)
def test_workers_by_trials_cores_memory_and_gpus(
    trials: int, cores: int, memory: int, gpus: int, device: str, expected: int
) -> None:
    found = workers_auto(trials, cores=cores, memory=memory * GIB, need=2 * GIB, gpus=gpus, device=device)
    assert found == expected


def test_the_need_of_memory_is_that_of_weights_and_of_the_largest_batch() -> None:
    million = Preparation((), 10**6, 4 * 10**6, vocabulary=1000, width=100, layers=10, longest=50)
    # by hand: 1 GiB; 4 MB of weights twice, gradients and two averages; 8 x 50 tokens
    expected = GIB + 8 * 10**6 + 12 * 10**6 + 400 * 68 * 100 * 10 + 400 * 1000 * 12
    assert memory_need(million, batch_size=8, max_length=256) == expected
    adapters = replace(million, trainable=10**4)
    assert expected - memory_need(adapters, batch_size=8, max_length=256) == 12 * (10**6 - 10**4)
    assert memory_need(million, batch_size=8, max_length=25) < expected


def grouped(tmp_path: Path, own: str, files: dict[str, str]) -> dict[str, Path]:
    for name, content in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    (tmp_path / "own").write_text(own)
    return {"cgroups": tmp_path / "cgroup", "own": tmp_path / "own"}


def test_cores_are_those_of_the_affinity() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    code += "from neftune_cli.sweeps.resources import available_cores; print(available_cores())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"1\n"


def test_memory_is_what_a_containers_limit_leaves(tmp_path: Path) -> None:
    files = {"memory.max": "1000000", "memory.current": "700000", "memory.stat": "anon 5\ninactive_file 200000"}
    assert available_memory(**grouped(tmp_path, "0::/\n", files)) == 500_000  # files' cache is given up
    unlimited = grouped(tmp_path / "other", "0::/\n", {"memory.max": "max", "memory.current": "1"})
    assert available_memory(**unlimited) > 10**7


def test_a_worker_has_its_threads_its_gpu_and_an_allocator_that_keeps_memory() -> None:
    found = worker_environment(3, 1, {"PATH": "/bin"})
    assert found["OMP_NUM_THREADS"] == found["MKL_NUM_THREADS"] == "3"
    assert found["CUDA_VISIBLE_DEVICES"] == "1"
    assert found["PATH"] == "/bin"
    assert found["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
    assert int(found["MALLOC_MMAP_THRESHOLD_"]) == GIB


def test_what_the_user_has_set_stays() -> None:
    base = {
        "OMP_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "16",
        "CUDA_VISIBLE_DEVICES": "5, GPU-abc",
        "PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64",
        "TOKENIZERS_PARALLELISM": "true",
    }
    found = worker_environment(4, 1, base)
    assert found["OMP_NUM_THREADS"] == "2"  # at most what the user allows
    assert found["MKL_NUM_THREADS"] == "4"  # and no more than the worker's share
    assert found["CUDA_VISIBLE_DEVICES"] == "GPU-abc"
    assert found["TOKENIZERS_PARALLELISM"] == "true"
    assert "PYTORCH_ALLOC_CONF" not in found
    assert worker_environment(4, None, base)["CUDA_VISIBLE_DEVICES"] == "5, GPU-abc"
    assert "CUDA_VISIBLE_DEVICES" not in worker_environment(4, None, {})


def test_a_process_of_that_environment_computes_with_its_threads_and_sees_its_gpus() -> None:
    code = "import torch, os; print(torch.get_num_threads(), os.environ['CUDA_VISIBLE_DEVICES'])"
    environment = worker_environment(1, 0, os.environ)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "0"]


ARMS = [{"name": "alpha=0", "alpha": 0}, {"name": "ümlaut\n", "alpha": 0.1, "train": {"weight_decay": 0.1}}]
TRAIN = {"epochs": 1, "learning_rate": 1e-3, "batch_size": 4, "max_length": 64, "optim": "sgd"}


def test_a_spec_is_the_same_after_the_journey_and_its_numbers_to_the_last_bit() -> None:
    spec = SweepSpec.model_validate({"format": "alpaca", "train": TRAIN, "seeds": [0, 1], "arms": ARMS})
    (message,) = Lines().feed(as_line({"do": "inspect", "spec": packed(spec)}))
    assert unpacked(SweepSpec, message["spec"]) == spec
    assert unpacked(TrialProgress, json.loads(as_line(packed(TrialProgress("training", 1, 2, 0.1 + 0.2))))) == (
        TrialProgress("training", 1, 2, 0.1 + 0.2)
    )


def test_messages_are_put_together_from_pieces_of_any_size() -> None:
    messages = [{"event": "progress", "text": "größer\n"}, {"event": "ended"}]
    sent = b"".join(as_line(message) for message in messages)
    for size in (1, 2, 7, len(sent)):
        lines = Lines()
        pieces = (sent[start : start + size] for start in range(0, len(sent), size))
        assert [one for piece in pieces for one in lines.feed(piece)] == messages


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("os.kill(os.getpid(), 9)", "was killed, most likely by the system for want of memory"),
        ("os.kill(os.getpid(), 11)", "crashed: Segmentation fault (SIGSEGV)"),
        ("os.abort()", "crashed: Aborted (SIGABRT)"),
        ("raise SystemExit(3)", "ended with exit code 3"),
    ],
)
def test_an_end_in_words(code: str, words: str) -> None:
    done = subprocess.run([sys.executable, "-c", f"import os; {code}"], check=False, capture_output=True)
    assert exit_in_words(done.returncode) == words


def test_the_end_of_a_log_is_its_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert log_tail(log) == ""
    log.write_text("".join(f"line {n}\n\n" for n in range(5000)))
    assert log_tail(log).splitlines() == [f"line {n}" for n in range(4980, 5000)]


PEAKS = """
from neftune_cli.training.hardware import reset_peak_memory, peak_memory_bytes

size = 400 * 2**20
bytearray(size)[::4096] = b"x" * (size // 4096)
before = peak_memory_bytes()
reset_peak_memory()
assert peak_memory_bytes() < before - size // 2
block = b"x" * size
assert peak_memory_bytes() > before - size // 2
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can forget a peak")
def test_the_peak_of_memory_is_that_since_it_was_forgotten() -> None:
    subprocess.run([sys.executable, "-c", PEAKS], check=True)  # this process's allocator may keep what it had
