"""Effects of a failed training run: hooks left on the model, and noise in the next run."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from experiments.noise_implementations.finding import ALPHA, Finding
from experiments.noise_implementations.tiny_models import EXAMPLE_TOKENS, alpha_of, llama, noise_received, trainer


@dataclass(frozen=True)
class Aftermath:
    """State after a `train()` that raised, during a second `train()`, and after it."""

    hooks: int
    second_alpha: float
    hooks_after_second: int
    next_forward: str


def after_a_failure() -> Iterator[Finding]:
    """Yield what remains of the noise: ours as a Trainer callback, upstream's as `neftune_noise_alpha`."""
    from neftune_cli.noise.callback import NEFTuneCallback

    both = [aftermath([NEFTuneCallback(alpha=ALPHA)]), aftermath([], upstream_alpha=ALPHA)]
    yield Finding("hooks on the model after a failed train()", "0", *(str(one.hooks) for one in both))
    alphas = [f"{one.second_alpha:.2f}" for one in both]
    yield Finding("effective alpha in a second train() of the same trainer", f"{ALPHA:.2f}", *alphas)
    yield Finding("hooks on the model after the second train()", "0", *(str(one.hooks_after_second) for one in both))
    yield Finding(
        "forward pass in training mode after the second train()", "works", *(one.next_forward for one in both)
    )


def aftermath(callbacks: list[TrainerCallback], upstream_alpha: float | None = None) -> Aftermath:
    """Let a training run fail at its first step, then train again with the same trainer."""
    model, failing = llama(), _FailingCallback()
    arguments = {"max_steps": 16, "neftune_noise_alpha": upstream_alpha}
    with trainer(arguments, model=model, callbacks=[*callbacks, failing]) as training:
        try:
            training.train()
        except _IntendedError:
            hooks = _hooks_on(model)
        training.remove_callback(failing)
        with noise_received(model) as received:
            training.train()
    alpha = alpha_of(torch.cat(received), EXAMPLE_TOKENS)
    return Aftermath(hooks, alpha, _hooks_on(model), _one_more_forward(model))


class _IntendedError(Exception):
    pass


class _FailingCallback(TrainerCallback):
    def on_step_end(self, *_: object, **__: object) -> None:
        raise _IntendedError


def _hooks_on(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def _one_more_forward(model: Any) -> str:
    try:
        model.train()(input_ids=torch.ones(1, EXAMPLE_TOKENS, dtype=torch.long))
    except Exception as error:
        return f"raises {type(error).__name__}"
    return "works"
