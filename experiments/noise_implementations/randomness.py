"""Random generator of the noise: its effect on dropout and data order, and its state in checkpoints."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
import transformers
from torch import Tensor, nn

from experiments.noise_implementations.finding import ALPHA, BOTH, Attach, Finding, attach_nothing, attach_ours
from experiments.noise_implementations.size import LENGTH, padded
from experiments.noise_implementations.tiny_models import DIM, VOCABULARY, examples, llama, noise_received, trainer


def draws() -> Iterator[Finding]:
    """Yield whether forward passes at alpha 5 and at alpha 0 draw from torch's global generator."""
    for alpha in (ALPHA, 0.0):
        moved = ["yes" if draws_from_global_generator(attach, alpha) else "no" for attach in BOTH]
        yield Finding(f"forward pass at alpha {alpha:g} draws from the global generator", "no", *moved)


def draws_from_global_generator(attach: Attach, alpha: float) -> bool:
    """Return whether a forward pass in training mode, without dropout, advances the global generator."""
    model = llama()
    before = torch.get_rng_state()
    with attach(model, alpha):
        model(**padded((LENGTH,), LENGTH))
    return not torch.equal(before, torch.get_rng_state())


def differences_between_arms() -> Iterator[Finding]:
    """Yield differences in dropout and data order between training with and without noise at the same seed."""
    dropout = [f"{dropout_that_differs(attach):.1%}" for attach in BOTH]
    yield Finding("dropout decisions that differ from those without noise", "0.0%", *dropout)
    for seedable in (True, False):
        without = second_epoch(attach_nothing, seedable=seedable)
        with_noise = (
            second_epoch(attach_ours, seedable=seedable),
            second_epoch(attach_nothing, ALPHA, seedable=seedable),
        )
        moved = [sum(a != b for a, b in zip(without, order, strict=True)) for order in with_noise]
        name = f"of {len(without)} examples, those whose position in epoch 2 differs from that without noise"
        yield Finding(f"{name}, use_seedable_sampler={seedable}", "0", *map(str, moved))


def dropout_that_differs(attach: Attach) -> float:
    """Return the share of dropout decisions, at a rate of 0.1 in two forward passes, that the noise changes."""
    without, with_noise = _dropped(attach_nothing), _dropped(attach)
    return (without != with_noise).float().mean().item()


def _dropped(attach: Attach) -> Tensor:
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=VOCABULARY, n_positions=LENGTH, n_embd=DIM, n_layer=2, n_head=2)
    model: Any = transformers.GPT2LMHeadModel(config).train()
    dropped: list[Tensor] = []
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda _, __, output: dropped.append((output == 0).flatten()))
    with attach(model, ALPHA):
        for _ in range(2):
            model(**padded((LENGTH,), LENGTH))
    return torch.cat(dropped)


def second_epoch(attach: Attach, upstream_alpha: float | None = None, *, seedable: bool = True) -> list[int]:
    """Return the order of examples in the second epoch of a Trainer, with or without its seedable sampler."""
    model = llama()
    order: list[int] = []
    model.register_forward_pre_hook(lambda _, __, call: order.append(int(call["input_ids"][0, 0])), with_kwargs=True)
    sampler = {"use_seedable_sampler": seedable}
    arguments = {"num_train_epochs": 2, "neftune_noise_alpha": upstream_alpha, "accelerator_config": sampler}
    with trainer(arguments, model=model) as training, attach(model, ALPHA):
        training.train()
    return order[len(examples()) :]


def resumes() -> Iterator[Finding]:
    """Yield whether resumed training draws the same noise as uninterrupted training."""
    equal = [equal_steps_after_resuming(noise) for noise in ("callback", "upstream")]
    yield Finding(
        "of 2 steps after resuming, those whose noise equals that of an uninterrupted run", "2", *map(str, equal)
    )


def equal_steps_after_resuming(noise: Literal["callback", "upstream"]) -> int:
    """Return how many of the last two of four steps get the same noise if training is resumed before them."""
    with _checkpointing(noise) as (whole, received):
        whole.train()
        with _checkpointing(noise) as (resumed, received_again):
            resumed.train(resume_from_checkpoint=f"{whole.args.output_dir}/checkpoint-2")
    return sum(torch.equal(one, other) for one, other in zip(received[2:], received_again, strict=True))


@contextmanager
def _checkpointing(noise: Literal["callback", "upstream"]) -> Iterator[tuple[Any, list[Tensor]]]:
    from neftune_cli.noise.callback import NEFTuneCallback

    model = llama()
    arguments: dict[str, Any] = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    arguments["neftune_noise_alpha"] = ALPHA if noise == "upstream" else None
    callbacks = [NEFTuneCallback(alpha=ALPHA)] if noise == "callback" else []
    with trainer(arguments, model=model, callbacks=callbacks) as training, noise_received(model) as received:
        yield training, received
