"""Failure kinds, which determine the reaction of a sweep, tested with the real exceptions of Python and libraries."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from neftune_cli.errors import LeaseLost, NeftuneError, Problem, TrialError, TrialStopped, UsageError
from neftune_cli.sweeps.failures import failure_of, is_out_of_memory

FULL = Path("/dev/full")
"""A device to which every write fails with ENOSPC."""


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
"""Message of its Rust writer."""


def test_a_failed_allocation_of_torch_is_out_of_memory(tmp_path: Path) -> None:
    found = failure_of(raised(lambda: torch.empty(2**60)), tmp_path)
    assert found.kind == "out-of-memory"
    assert "--batch-size" in found.reason
    assert "--max-length" in found.reason
    assert "--on-oom halve-batch" in found.reason


def test_a_failed_allocation_of_numpy_is_out_of_memory() -> None:
    assert is_out_of_memory(raised(lambda: np.empty(2**46)))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_gpu_memory_is_distinguished_from_main_memory(error: Exception, tmp_path: Path) -> None:
    assert failure_of(error, tmp_path).kind == "out-of-memory"
    assert failure_of(error, tmp_path).reason.startswith("Out of GPU memory.")


def test_enomem_of_the_system_is_out_of_memory() -> None:
    assert is_out_of_memory(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)))


def test_an_error_that_only_mentions_memory_is_not_out_of_memory(tmp_path: Path) -> None:
    assert failure_of(ValueError("memory_limit is no field"), tmp_path).kind == "failed"


@pytest.mark.parametrize("text", ["Out of memory.", "cannot allocate memory", "No space left on device (os error 28)"])
def test_the_kind_does_not_depend_on_a_message_of_this_package(text: str, tmp_path: Path) -> None:
    for error in (NeftuneError(text), TrialError(text), UsageError(Problem(text, "Retry."))):
        assert failure_of(error, tmp_path).kind == "failed"


def test_a_failed_allocation_is_recognized_as_the_cause_of_another_error(tmp_path: Path) -> None:
    outer = UsageError(Problem("The model cannot be loaded from mps-chip.", "Download it again."))
    outer.__cause__ = MemoryError()
    found = failure_of(outer, tmp_path)
    assert found.kind == "out-of-memory"
    assert found.reason.startswith("Out of memory.")  # the name of the model does not count as a GPU


@pytest.mark.skipif(not FULL.exists(), reason="/dev/full does not exist")
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_full_disk_is_recognized_from_every_library(wrapped: bool, tmp_path: Path) -> None:
    for error in (raised(fill_by_python), raised(fill_by_pyarrow), SafetensorError(SAFETENSORS_TEXT)):
        if wrapped:
            outer = ValueError("The trainer could not save.")
            outer.__cause__ = error
            error = outer  # noqa: PLW2901
        assert failure_of(error, tmp_path).kind == "disk-full", repr(error)


def test_an_exceeded_quota_is_a_full_disk(tmp_path: Path) -> None:
    assert failure_of(OSError(errno.EDQUOT, "Disk quota exceeded"), tmp_path).kind == "disk-full"


def test_a_missing_folder_is_the_cause_of_other_errors(tmp_path: Path) -> None:
    gone = tmp_path / "sweep"
    for error in (raised((gone / "trials/x").mkdir), LeaseLost("Another process has taken it over.")):
        assert failure_of(error, gone).kind == "folder-gone"


def test_a_missing_file_elsewhere_is_a_failure_of_the_trial(tmp_path: Path) -> None:
    error = raised((tmp_path / "elsewhere/file").read_text)
    assert failure_of(error, tmp_path).kind == "failed"
    assert failure_of(error, tmp_path).reason.startswith("FileNotFoundError: ")


def test_only_a_denied_write_to_the_results_folder_is_read_only(tmp_path: Path) -> None:
    sweep, other = tmp_path / "sweep", tmp_path / "other"
    sweep.mkdir()
    for folder, kind in ((sweep, "read-only"), (other, "failed")):
        denied = PermissionError(errno.EACCES, "Permission denied", str(folder / "state.json"))
        assert failure_of(denied, sweep).kind == kind


def test_a_stop_a_lost_lease_and_an_interrupt_are_not_failures_of_the_trial(tmp_path: Path) -> None:
    assert failure_of(TrialStopped("asked"), tmp_path).kind == "stopped"
    assert failure_of(KeyboardInterrupt(), tmp_path).kind == "stopped"
    assert failure_of(LeaseLost("taken"), tmp_path).kind == "lease-lost"


def test_errors_of_other_packages_are_shown_with_their_type(tmp_path: Path) -> None:
    assert failure_of(TrialError("The loss is\nnot finite."), tmp_path).reason == "The loss is not finite."
    assert failure_of(KeyError("x"), tmp_path).reason == "KeyError: 'x'"
    assert len(failure_of(ValueError("y" * 1000), tmp_path).reason) == 300


def test_circular_causes_end(tmp_path: Path) -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert failure_of(one, tmp_path).kind == "failed"


def test_a_full_disk_elsewhere_is_a_failure_of_the_trial(tmp_path: Path) -> None:
    error = OSError(errno.ENOSPC, "No space left on device", "/tmp/elsewhere/file")
    found = failure_of(error, tmp_path)
    assert found.kind == "failed"
    assert "/tmp/elsewhere/file" in found.reason
    assert failure_of(OSError(errno.ENOSPC, "No space left", str(tmp_path / "a")), tmp_path).kind == "disk-full"


@pytest.mark.parametrize("number", [errno.EACCES, errno.ESTALE, errno.EIO])
def test_an_error_of_a_lost_network_drive_is_classified(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(path: Path, **_: object) -> os.stat_result:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "stat", lost)
    found = failure_of(OSError(number, os.strerror(number), str(tmp_path / "state.json")), tmp_path)
    assert found.kind == "read-only"
    assert str(tmp_path) in found.reason


def test_a_reason_with_long_paths_keeps_its_fix(tmp_path: Path) -> None:
    error = UsageError(Problem(f"{'folder/' * 60}record.json cannot be read.", "Check the disk."))
    failure = failure_of(error, tmp_path)
    assert failure.kind == "failed"
    assert failure.reason.endswith("record.json cannot be read. Check the disk.")
