"""What a trial died of decides what the sweep does next, so each kind is known by what really raises it."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from neftune_cli.errors import LeaseLost, TrialError, TrialStopped
from neftune_cli.sweeps.failures import failure, is_out_of_memory

FULL = Path("/dev/full")
"""A device on which no write finds space."""


def raised(act: Callable[[], object]) -> BaseException:
    with pytest.raises(BaseException) as caught:
        act()
    return caught.value


def fill_by_python() -> None:
    with FULL.open("wb", buffering=0) as file:
        file.write(b"x")


def fill_by_pyarrow() -> None:
    import pyarrow as pa

    with pa.OSFile(str(FULL), "wb") as file:
        file.write(b"x" * 2**20)


SAFETENSORS_TEXT = "Error while serializing: I/O error: No space left on device (os error 28)"
"""What its writer, which is Rust, says."""


def test_torchs_refusal_to_allocate_is_out_of_memory(tmp_path: Path) -> None:
    found = failure(raised(lambda: torch.empty(2**60)), tmp_path)
    assert found.kind == "out-of-memory"
    assert "--batch-size" in found.reason
    assert "--max-length" in found.reason
    assert "--on-oom halve-batch" in found.reason


def test_numpys_refusal_to_allocate_is_out_of_memory() -> None:
    assert is_out_of_memory(raised(lambda: np.empty(2**46)))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_the_gpus_memory_is_told_from_the_machines(error: Exception, tmp_path: Path) -> None:
    assert failure(error, tmp_path).kind == "out-of-memory"
    assert failure(error, tmp_path).reason.startswith("Out of GPU memory;")


def test_a_failed_start_of_a_process_for_want_of_memory_is_out_of_memory() -> None:
    assert is_out_of_memory(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)))


def test_an_error_that_mentions_memory_otherwise_is_none(tmp_path: Path) -> None:
    assert failure(ValueError("memory_limit is no field"), tmp_path).kind == "failed"


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_full_disk_is_one_whoever_says_so(wrapped: bool, tmp_path: Path) -> None:
    for error in (raised(fill_by_python), raised(fill_by_pyarrow), SafetensorError(SAFETENSORS_TEXT)):
        if wrapped:
            outer = ValueError("The trainer could not save.")
            outer.__cause__ = error
            error = outer  # noqa: PLW2901
        assert failure(error, tmp_path).kind == "disk-full", repr(error)


def test_a_quota_is_a_full_disk(tmp_path: Path) -> None:
    assert failure(OSError(errno.EDQUOT, "Disk quota exceeded"), tmp_path).kind == "disk-full"


def test_a_folder_that_was_removed_is_the_reason_for_whatever_follows(tmp_path: Path) -> None:
    gone = tmp_path / "sweep"
    for error in (raised((gone / "trials/x").mkdir), LeaseLost("Another process has taken it over.")):
        assert failure(error, gone).kind == "folder-gone"


def test_a_missing_file_elsewhere_is_the_trials_own_failure(tmp_path: Path) -> None:
    error = raised((tmp_path / "elsewhere/file").read_text)
    assert failure(error, tmp_path).kind == "failed"
    assert failure(error, tmp_path).reason.startswith("FileNotFoundError: ")


def test_a_right_is_missing_for_the_folder_or_for_something_else(tmp_path: Path) -> None:
    sweep, other = tmp_path / "sweep", tmp_path / "other"
    sweep.mkdir()
    for place, kind in ((sweep, "read-only"), (other, "failed")):
        denied = PermissionError(errno.EACCES, "Permission denied", str(place / "state.json"))
        assert failure(denied, sweep).kind == kind


def test_a_stop_a_lost_claim_and_an_interrupt_are_no_failures_of_the_trial(tmp_path: Path) -> None:
    assert failure(TrialStopped("asked"), tmp_path).kind == "stopped"
    assert failure(KeyboardInterrupt(), tmp_path).kind == "stopped"
    assert failure(LeaseLost("taken"), tmp_path).kind == "claim-lost"


def test_an_error_of_this_package_is_its_own_text_and_another_has_its_type(tmp_path: Path) -> None:
    assert failure(TrialError("The loss is\nnot finite."), tmp_path).reason == "The loss is not finite."
    assert failure(KeyError("x"), tmp_path).reason == "KeyError: 'x'"
    assert len(failure(ValueError("y" * 1000), tmp_path).reason) == 300


def test_errors_that_go_round_in_a_circle_end(tmp_path: Path) -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert failure(one, tmp_path).kind == "failed"


def test_a_full_disk_elsewhere_is_the_trials_own_failure(tmp_path: Path) -> None:
    error = OSError(errno.ENOSPC, "No space left on device", "/tmp/elsewhere/file")
    found = failure(error, tmp_path)
    assert found.kind == "failed"
    assert "/tmp/elsewhere/file" in found.reason
    assert failure(OSError(errno.ENOSPC, "No space left", str(tmp_path / "a")), tmp_path).kind == "disk-full"
