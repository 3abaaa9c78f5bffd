"""What the noise costs a training step: off, ours and transformers' own hook, step by step in turn in one process.

`python -m experiments.benchmarks.step_time [--model tiny|smollm2] [--pairs N] [--batch-size B] [--length L]`

The three train the same weights: the model is copied module by module, and the copies share their parameters. So each
keeps its hooks from the first step to the last, and what ours measures of itself every ten steps is in its time.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from time import perf_counter
from typing import Annotated, Any, cast

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from transformers.integrations.neftune import activate_neftune, deactivate_neftune
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from neftune_cli.config.spec import default_recipe
from neftune_cli.data.loading import load_data
from neftune_cli.data.tokenization import tokenize
from neftune_cli.models.loading import LoadedModel, load_model
from neftune_cli.models.sources import find_model
from neftune_cli.noise import attach_noise
from neftune_cli.training.hardware import device_name, environment, has_bfloat16, keep_memory_between_steps

ALPHA = 5.0
WARM_UP = 3
"""Rounds that aren't counted: the allocator and the caches are still cold."""
RESAMPLES = 2000
MODES = ("off", "ours", "upstream")
RATIOS = (("ours", "off"), ("upstream", "off"), ("ours", "upstream"))

Batch = dict[str, Tensor]
Times = dict[str, NDArray[np.float64]]
"""Seconds a step, by mode: (rounds,) each, the same batch in one place."""


@dataclass(frozen=True)
class Ratio:
    """How much longer a step of one mode takes than one of another."""

    median: float
    """Of the rounds' own ratios."""
    interval: tuple[float, float]
    """Where it lies in 95% of bootstrap samples of the rounds."""
    quartiles: tuple[float, float]
    """Of the rounds' own ratios."""
    total: float
    """All time of the one over all time of the other: a cost that falls on few steps shows here alone."""


def main(
    model: Annotated[str, typer.Option(help="tiny, smollm2 or a local directory.")] = "tiny",
    pairs: Annotated[int, typer.Option(help="Rounds: steps of each of the three.", min=1)] = 200,
    batch_size: Annotated[
        int | None, typer.Option(help="Examples a step; the model's own recipe unless given.")
    ] = None,
    length: Annotated[int | None, typer.Option(help="Longest example, in tokens; likewise.")] = None,
) -> None:
    """Measure and print; run it while nothing else runs."""
    keep_memory_between_steps()
    recipe = default_recipe(model, lora=False)
    loaded = load_model(find_model(model))
    batches = embedded_batches(loaded, batch_size or recipe["batch_size"], length or recipe["max_length"])
    times = step_times(loaded.model, batches, rounds=pairs)
    print(report(times, f"{model}, {batches[0]['input_ids'].shape[0]} examples a step, {_tokens(batches)}"))


def embedded_batches(loaded: LoadedModel, batch_size: int, max_length: int) -> list[Batch]:
    """Return the embedded training examples, padded together as the trainer does it."""
    examples = tokenize(load_data("bios").train, loaded.tokenizer, max_length=max_length).examples
    collate = DataCollatorForLanguageModeling(pad_token_id=cast(int, loaded.tokenizer.pad_token_id))
    rows: list[dict[str, Any]] = [{"input_ids": list(one.input_ids), "labels": one.labels} for one in examples]
    return [collate(rows[i : i + batch_size]) for i in range(0, len(rows) - batch_size + 1, batch_size)]


def step_times(model: nn.Module, batches: Sequence[Batch], *, rounds: int) -> Times:
    """Time `rounds` steps of each mode; a round takes one batch and begins with another mode than the one before."""
    device = torch.device(device_name())
    model.to(device).train()
    optimizer = AdamW(model.parameters(), lr=1e-6, fused=True)
    times = np.empty((WARM_UP + rounds, len(MODES)))
    with three_ways(model) as models:
        for turn, batch in enumerate(islice(cycle(batches), WARM_UP + rounds)):
            on_device = {name: tensor.to(device) for name, tensor in batch.items()}
            for place in range(len(MODES)):
                mode = (turn + place) % len(MODES)
                times[turn, mode] = timed_step(models[mode], optimizer, on_device)
    return dict(zip(MODES, times[WARM_UP:].T, strict=True))


@contextmanager
def three_ways(model: nn.Module) -> Iterator[tuple[nn.Module, ...]]:
    """Yield the model without noise, with ours and with upstream's, all with the same parameters."""
    off, ours, upstream = (sharing_parameters(model) for _ in MODES)
    with ExitStack() as stack:
        stack.enter_context(attach_noise(ours, ALPHA))
        hook = activate_neftune(upstream, ALPHA)
        stack.callback(deactivate_neftune, upstream, hook)
        yield off, ours, upstream


def sharing_parameters(model: nn.Module) -> nn.Module:
    """Return a copy of the model's modules around its own parameters."""
    return copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})


def timed_step(model: nn.Module, optimizer: Optimizer, batch: Batch) -> float:
    """Return the seconds of one forward, backward and step of the optimizer."""
    device = next(model.parameters()).device
    _finish(device)
    start = perf_counter()
    with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device.type)):
        loss = model(**batch).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    _finish(device)
    return perf_counter() - start


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def compare(times: Times, numerator: str, denominator: str) -> Ratio:
    """Return how two modes compare, round by round."""
    ratios = times[numerator] / times[denominator]
    samples = np.random.default_rng(0).choice(ratios, (RESAMPLES, len(ratios)))
    return Ratio(
        median=float(np.median(ratios)),
        interval=_range(np.median(samples, axis=1), 2.5, 97.5),
        quartiles=_range(ratios, 25, 75),
        total=float(times[numerator].sum() / times[denominator].sum()),
    )


def _range(values: NDArray[np.float64], low: float, high: float) -> tuple[float, float]:
    first, last = np.percentile(values, [low, high])
    return float(first), float(last)


def report(times: Times, what: str) -> str:
    """Return the figures as text, with what they were measured on."""
    rounds = len(times["off"])
    on = ", ".join(f"{name} {value}" for name, value in environment(lora=False).items())
    medians = ", ".join(f"{mode} {np.median(times[mode]) * 1000:.1f} ms" for mode in MODES)
    lines = [f"{what}; {rounds} rounds, {torch.get_num_threads()} threads, {on}", f"median step: {medians}"]
    return "\n".join([*lines, *(_line(f"{one}/{other}", compare(times, one, other)) for one, other in RATIOS)])


def _line(name: str, ratio: Ratio) -> str:
    low, high = ratio.interval
    first, third = ratio.quartiles
    return (
        f"{name:<13} {ratio.median:.4f}  95% interval {low:.4f} to {high:.4f}, "
        f"quartiles {first:.4f} to {third:.4f}, of all time {ratio.total:.4f}"
    )


def _tokens(batches: Sequence[Batch]) -> str:
    widths = [batch["input_ids"].shape[1] for batch in batches]
    real = sum(int(batch["attention_mask"].sum()) for batch in batches)
    padded = sum(batch["input_ids"].numel() for batch in batches)
    return f"padded to {min(widths)} to {max(widths)} tokens ({1 - real / padded:.0%} padding)"


if __name__ == "__main__":
    typer.run(main)
