"""Benchmark of the time that noise adds to a training step: no noise, ours, and the hook of transformers.

`python -m experiments.benchmarks.step_time [--model tiny|smollm2] [--pairs N] [--batch-size B] [--length L]`

The three modes take turns, step by step, in one process. They train the same weights: copies of the model share its
parameters, and each copy keeps its hooks. The time of ours includes its own measurements every ten steps.
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

from neftune_cli.config.resolve import default_recipe
from neftune_cli.config.spec import InputSpec
from neftune_cli.data.loading import load_data
from neftune_cli.data.tokenization import tokenize
from neftune_cli.models.loading import LoadedModel, load_model
from neftune_cli.models.sources import find_model
from neftune_cli.noise import attach_noise
from neftune_cli.training.hardware import configure_process, device_kind, environment, has_bfloat16

ALPHA = 5.0
WARM_UP = 3
"""Untimed rounds at the start, while allocator and caches are cold."""
RESAMPLES = 2000
MODES = ("off", "ours", "upstream")
RATIOS = (("ours", "off"), ("upstream", "off"), ("ours", "upstream"))

Times = dict[str, NDArray[np.float64]]
"""Seconds per step, by mode: (rounds,) each. The same index means the same batch."""


@dataclass(frozen=True)
class Ratio:
    """Ratio of the step times of two modes."""

    median: float
    """Median of the ratios of single rounds."""
    interval: tuple[float, float]
    """95% bootstrap interval of the median, over rounds."""
    quartiles: tuple[float, float]
    """Quartiles of the ratios of single rounds."""
    total: float
    """Ratio of the total times, which also shows costs that occur in few steps."""


def main(
    model: Annotated[str, typer.Option(help="tiny, smollm2 or a local directory.")] = "tiny",
    pairs: Annotated[int, typer.Option(help="Number of rounds: steps of each mode.", min=1)] = 200,
    batch_size: Annotated[int | None, typer.Option(help="Batch size per device. Default: the model's recipe.")] = None,
    length: Annotated[int | None, typer.Option(help="Maximum length in tokens. Default: the model's recipe.")] = None,
) -> None:
    """Measure and print. Run it on an otherwise idle machine."""
    configure_process()
    recipe = default_recipe(model, lora=False)
    loaded = load_model(find_model(model))
    batches = bundled_batches(loaded, batch_size or recipe["batch_size"], length or recipe["max_length"])
    times = step_times(loaded.model, batches, rounds=pairs)
    print(report(times, f"{model}, {batches[0]['input_ids'].shape[0]} examples per step, {_tokens(batches)}"))


def bundled_batches(loaded: LoadedModel, batch_size: int, max_length: int) -> list[dict[str, Tensor]]:
    """Return batches of the bundled training examples, padded as the trainer pads them."""
    examples = tokenize(load_data(InputSpec()).train, loaded.tokenizer, max_length=max_length).examples
    collate = DataCollatorForLanguageModeling(pad_token_id=cast(int, loaded.tokenizer.pad_token_id))
    rows: list[dict[str, Any]] = [{"input_ids": list(one.input_ids), "labels": one.labels} for one in examples]
    return [collate(rows[i : i + batch_size]) for i in range(0, len(rows) - batch_size + 1, batch_size)]


def step_times(model: nn.Module, batches: Sequence[dict[str, Tensor]], *, rounds: int) -> Times:
    """Time `rounds` steps of each mode. A round uses one batch, and the first mode rotates from round to round."""
    device = torch.device(device_kind())
    model.to(device).train()
    optimizer = AdamW(model.parameters(), lr=1e-6, fused=True)
    times = np.empty((WARM_UP + rounds, len(MODES)))
    with models_of_modes(model) as models:
        for turn, batch in enumerate(islice(cycle(batches), WARM_UP + rounds)):
            on_device = {name: tensor.to(device) for name, tensor in batch.items()}
            for place in range(len(MODES)):
                mode = (turn + place) % len(MODES)
                times[turn, mode] = timed_step(models[mode], optimizer, on_device)
    return dict(zip(MODES, times[WARM_UP:].T, strict=True))


@contextmanager
def models_of_modes(model: nn.Module) -> Iterator[tuple[nn.Module, ...]]:
    """Yield one model per mode (off, ours, upstream), all with the same parameters."""
    off, ours, upstream = (sharing_parameters(model) for _ in MODES)
    with ExitStack() as stack:
        stack.enter_context(attach_noise(ours, ALPHA))
        hook = activate_neftune(upstream, ALPHA)
        stack.callback(deactivate_neftune, upstream, hook)
        yield off, ours, upstream


def sharing_parameters(model: nn.Module) -> nn.Module:
    """Return a copy of the model that shares its parameters."""
    return copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})


def timed_step(model: nn.Module, optimizer: Optimizer, batch: dict[str, Tensor]) -> float:
    """Return the seconds of one forward pass, backward pass and optimizer step."""
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
    """Return the ratio of the step times of two modes, paired by round."""
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


def report(times: Times, subject: str) -> str:
    """Return the results as text, with model, rounds and environment."""
    rounds = len(times["off"])
    on = ", ".join(f"{name} {value}" for name, value in environment(lora=False).items())
    medians = ", ".join(f"{mode} {np.median(times[mode]) * 1000:.1f} ms" for mode in MODES)
    lines = [f"{subject}; {rounds} rounds, {torch.get_num_threads()} threads, {on}", f"median step: {medians}"]
    return "\n".join([*lines, *(_line(f"{one}/{other}", compare(times, one, other)) for one, other in RATIOS)])


def _line(name: str, ratio: Ratio) -> str:
    low, high = ratio.interval
    first, third = ratio.quartiles
    return (
        f"{name:<13} {ratio.median:.4f}  95% interval {low:.4f} to {high:.4f}, "
        f"quartiles {first:.4f} to {third:.4f}, of total time {ratio.total:.4f}"
    )


def _tokens(batches: Sequence[dict[str, Tensor]]) -> str:
    widths = [batch["input_ids"].shape[1] for batch in batches]
    real = sum(int(batch["attention_mask"].sum()) for batch in batches)
    padded = sum(batch["input_ids"].numel() for batch in batches)
    return f"padded to {min(widths)} to {max(widths)} tokens ({1 - real / padded:.0%} padding)"


if __name__ == "__main__":
    typer.run(main)
