"""Guesses, from model and data: how many workers a sweep gets, and what memory and disk they need."""

from neftune_cli.store import KEPT_CHECKPOINTS
from neftune_cli.sweeps.inspection import Preparation

LIBRARIES = 1 << 30
"""Bytes a process holds with its libraries imported, and what glibc keeps."""
FLOAT = 4
"""Bytes of a float32, in which weights, gradients and Adam's two averages are."""
ACTIVATIONS = 68
"""Bytes kept for the backward pass a token, layer and element of width: 34 in two-byte numbers, attention's scores left
out (Korthikanti et al. 2022, "Reducing Activation Recomputation", equation 2), twice that in float32."""
LOGITS = 3
"""Copies of a batch's float32 logits at once: themselves, their log-softmax, their gradient."""


def workers_auto(trials: int, *, cores: int, memory: int, need: int, gpus: int, device: str) -> int:
    """Return how many workers run at once, at least one.

    On the CPU one thread a trial does most work a second, as long as there are trials for all cores: no part of it
    waits for another.

    Args:
        trials: how many there are in all.
        cores: how many may be used.
        memory: bytes of main memory that are available.
        need: bytes of it that a worker takes.
        gpus: how many there are; each gets one trial at a time.
        device: `cuda`, `mps` or `cpu`.
    """
    places = {"cuda": max(1, gpus), "mps": 1}.get(device, cores)
    return max(1, min(trials, places, memory // max(1, need)))


def disk_need(preparation: Preparation, *, workers: int, models: int) -> int:
    """Guess the bytes that checkpoints and kept models take at most.

    Args:
        preparation: what is known of the model.
        workers: trials side by side, each with two checkpoints while it writes a third.
        models: how many trained models are kept.
    """
    checkpoint = 3 * FLOAT * preparation.trainable  # the weights, and Adam's two averages
    return workers * (KEPT_CHECKPOINTS + 1) * checkpoint + models * preparation.weight_bytes


def memory_need(preparation: Preparation, *, batch_size: int, max_length: int) -> int:
    """Guess the bytes that a worker holds at its peak, all on one device.

    Args:
        preparation: what is known of model and data.
        batch_size: examples in a batch, before gradient accumulation.
        max_length: tokens after which an example is cut; a packed row is as long.
    """
    tokens = batch_size * min(max_length, preparation.longest)
    weights = 2 * preparation.weight_bytes + 3 * FLOAT * preparation.trainable  # one copy stays as it was
    activations = ACTIVATIONS * tokens * preparation.width * preparation.layers
    logits = LOGITS * FLOAT * tokens * preparation.vocabulary
    return LIBRARIES + weights + activations + logits
