"""Messages of the workers, the environment of a worker process, and the description of its exit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from neftune_cli.config.spec import SweepSpec
from neftune_cli.errors import NeftuneError, Problem, UsageError
from neftune_cli.records import Phase
from neftune_cli.sweeps.executors import Finished
from neftune_cli.sweeps.executors.inline import InlineExecutor
from neftune_cli.sweeps.executors.messages import (
    LineDecoder,
    WorkerMessage,
    answered_value,
    encode_line,
    from_json,
    to_json,
    trial_event,
)
from neftune_cli.sweeps.executors.worker_handle import ProcessExit, process_exit, worker_environment
from neftune_cli.sweeps.failures import DISK_KINDS, Failure, FailureKind
from neftune_cli.training.trial import Trial, TrialProgress
from neftune_cli.training.trial_log import log_tail

GIB = 1 << 30
ARMS = [{"name": "alpha=0", "alpha": 0}, {"name": "ümlaut\n", "alpha": 0.1, "train": {"weight_decay": 0.1}}]
TRAIN = {"epochs": 1, "learning_rate": 1e-3, "batch_size": 4, "max_length": 64, "optim": "sgd"}


def test_specs_and_numbers_are_unchanged_after_transmission() -> None:
    spec = SweepSpec.model_validate({"format": "alpaca", "train": TRAIN, "seeds": [0, 1], "arms": ARMS})
    (message,) = LineDecoder().feed(encode_line({"request": "inspect", "spec": to_json(spec)}))
    assert from_json(SweepSpec, message["spec"]) == spec
    progress = TrialProgress(Phase.TRAINING, 1, 2, 0.1 + 0.2)
    assert from_json(TrialProgress, json.loads(encode_line(to_json(progress)))) == progress


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_messages_are_decoded_from_pieces_of_any_size(size: int) -> None:
    messages = [{"event": "progress", "text": "größer\n"}, {"event": "finished"}]
    sent = b"".join(encode_line(message) for message in messages)
    decoder = LineDecoder()
    pieces = (sent[start : start + size] for start in range(0, len(sent), size))
    assert [message for piece in pieces for message in decoder.feed(piece)] == messages


def test_errors_of_a_worker_are_raised_with_their_texts() -> None:
    problem = Problem("The data do not fit.", "Use other data.")
    with pytest.raises(UsageError, match="The data do not fit"):
        answered_value(int, {"event": "refused", "problems": [to_json(problem)]})
    with pytest.raises(NeftuneError, match="It broke"):
        answered_value(int, {"event": "failed", "failure": to_json(Failure("failed", "It broke."))})


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (
            {"reason": "or its node was lost", "log_end": "The worker died.\nCheck the node.", "machine_lost": True},
            "The worker or its node was lost. Last log line: Check the node. Run the same command again.",
        ),
        (
            {"reason": "of job 17 ended without a result", "log_end": "", "log": "/cache/17_0_log.err"},
            "The worker of job 17 ended without a result. The log is /cache/17_0_log.err. Run the same command again.",
        ),
        (
            {"reason": "of job 17 ended without a result (OUT_OF_MEMORY)", "out_of_memory": True},
            "The worker of job 17 ended without a result (OUT_OF_MEMORY).",
        ),
    ],
)
def test_a_dead_worker_is_reported_in_whole_sentences(answer: WorkerMessage, text: str) -> None:
    with pytest.raises(NeftuneError) as raised:
        answered_value(int, {"event": "died", **answer})
    assert str(raised.value) == text


def test_unknown_events_raise() -> None:
    with pytest.raises(ValueError, match="'rested'"):
        trial_event(Trial("id", "arm", None, {}), {"event": "rested"})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'rested'"):
        answered_value(int, {"event": "rested"})


KINDS = (*DISK_KINDS, "out-of-memory", "stopped", "lease-lost", "failed")


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_of_a_failure_is_transmitted(kind: FailureKind) -> None:
    trial, sent = Trial("id", "arm", None, {}), Failure(kind, "It broke.")  # type: ignore[arg-type]
    line = encode_line({"event": "finished", "seconds": 1.5, "failure": to_json(sent)})
    (message,) = LineDecoder().feed(line)
    assert trial_event(trial, message) == Finished(trial, None, sent, 1.5)


def test_an_unknown_kind_of_failure_raises() -> None:
    message = {"event": "finished", "seconds": 1.5, "failure": {"kind": "Out of memory.", "reason": "It broke."}}
    with pytest.raises(ValueError, match="kind"):
        trial_event(Trial("id", "arm", None, {}), message)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (
            "os.kill(os.getpid(), 9)",
            ProcessExit("was killed by the system, probably because memory ran out", out_of_memory=True),
        ),
        ("os.kill(os.getpid(), 11)", ProcessExit("crashed with Segmentation fault (SIGSEGV)")),
        ("os.abort()", ProcessExit("crashed with Aborted (SIGABRT)")),
        ("raise SystemExit(3)", ProcessExit("ended with exit code 3")),
    ],
)
def test_the_exit_of_a_process_is_described(code: str, expected: ProcessExit) -> None:
    done = subprocess.run([sys.executable, "-c", f"import os; {code}"], check=False, capture_output=True)
    assert process_exit(done.returncode) == expected


def test_a_worker_has_its_threads_its_gpu_and_an_allocator_that_keeps_memory() -> None:
    found = worker_environment(3, 1, {"PATH": "/bin"})
    assert found["OMP_NUM_THREADS"] == found["MKL_NUM_THREADS"] == "3"
    assert found["CUDA_VISIBLE_DEVICES"] == "1"
    assert found["PATH"] == "/bin"
    assert found["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
    assert int(found["MALLOC_MMAP_THRESHOLD_"]) == GIB


def test_variables_of_the_user_are_kept() -> None:
    base = {
        "OMP_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "16",
        "CUDA_VISIBLE_DEVICES": "5, GPU-abc",
        "PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64",
        "TOKENIZERS_PARALLELISM": "true",
    }
    found = worker_environment(4, 1, base)
    assert found["OMP_NUM_THREADS"] == "2"  # at most the user's limit
    assert found["MKL_NUM_THREADS"] == "4"  # and at most the worker's share
    assert found["CUDA_VISIBLE_DEVICES"] == "GPU-abc"
    assert found["TOKENIZERS_PARALLELISM"] == "true"
    assert "PYTORCH_ALLOC_CONF" not in found
    assert worker_environment(4, None, base)["CUDA_VISIBLE_DEVICES"] == "5, GPU-abc"
    assert "CUDA_VISIBLE_DEVICES" not in worker_environment(4, None, {})


OF_LAUNCHERS = {
    "WORLD_SIZE": "2",
    "RANK": "0",
    "LOCAL_RANK": "0",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29511",
    "OMPI_COMM_WORLD_SIZE": "2",
    "ACCELERATE_MIXED_PRECISION": "bf16",
    "ACCELERATE_USE_FSDP": "true",
}


def test_a_worker_does_not_have_the_variables_of_launchers() -> None:
    assert worker_environment(1, None, OF_LAUNCHERS) == worker_environment(1, None, {})


def test_a_worker_below_a_launcher_is_alone_and_computes_in_full_precision() -> None:
    code = "from accelerate import Accelerator as A; print(A(cpu=True).num_processes, A(cpu=True).mixed_precision)"
    environment = worker_environment(1, None, {**os.environ, **OF_LAUNCHERS})
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "no"]


def test_the_inline_executor_hides_the_variables_of_launchers_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in OF_LAUNCHERS.items():
        monkeypatch.setenv(name, value)
    with InlineExecutor():
        assert not OF_LAUNCHERS.keys() & os.environ.keys()
    assert OF_LAUNCHERS.items() <= os.environ.items()


def test_a_process_in_this_environment_uses_its_threads_and_its_gpu() -> None:
    code = "import torch, os; print(torch.get_num_threads(), os.environ['CUDA_VISIBLE_DEVICES'])"
    environment = worker_environment(1, 0, os.environ)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "0"]


def test_the_end_of_a_log_has_its_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert log_tail(log) == ""
    log.write_text("".join(f"line {n}\n\n" for n in range(5000)))
    assert log_tail(log).splitlines() == [f"line {n}" for n in range(4980, 5000)]
