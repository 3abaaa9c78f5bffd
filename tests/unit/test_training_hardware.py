"""Process-wide settings of torch are restored after each training run."""

from typing import Any

import torch
from transformers.trainer_utils import enable_full_determinism
from transformers.utils.import_utils import enable_tf32

from neftune_cli.training.hardware import restore_torch_settings


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
