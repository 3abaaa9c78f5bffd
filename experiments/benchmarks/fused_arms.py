"""Benchmark of several arms at once: in processes, fused by `torch.func.vmap`, and as adapters on one frozen base.

`python -m experiments.benchmarks.fused_arms [--model tiny|smollm2] [--arms 1,2,4,8] [--seconds S]`

All arms of a seed see the same batches, so their steps could be computed together. Each method trains K arms on the
same micro-batches with AdamW. The table has the training tokens per second of all arms together. The processes divide
the cores, as the workers of a sweep do. Noise and evaluation are left out.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import cycle
from multiprocessing import get_context
from time import perf_counter, time
from typing import Annotated, Any

import torch
import typer
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn.functional import cross_entropy
from torch.optim import AdamW

from neftune_cli.config.resolve import default_recipe
from neftune_cli.config.spec import InputSpec
from neftune_cli.data.loading import load_data
from neftune_cli.data.tokenization import tokenize
from neftune_cli.models.loading import load_model
from neftune_cli.models.sources import find_model
from neftune_cli.training.hardware import configure_process

MICRO_BATCH_TOKENS = 512
RANK = 16
LEARNING_RATE = 1e-6
WARM_UP = 2
"""Untimed steps at the start, while allocator and caches are cold."""
START_SECONDS = 60.0
"""Processes load their model in this time, and then start together."""


@dataclass(frozen=True)
class Arms:
    """Arms that are trained together."""

    step: Callable[[Tensor], None]
    """Makes one training step of every arm on the same micro-batch: token ids of shape (rows, length)."""
    weights: Mapping[str, Tensor]
    """Trained weights with the gradients of the last step; with several arms, (arms, ...) each."""


def main(
    model: Annotated[str, typer.Option(help="tiny, smollm2 or a local directory.")] = "tiny",
    arms: Annotated[str, typer.Option(help="Numbers of arms, separated by commas.")] = "1,2,4,8",
    seconds: Annotated[float, typer.Option(help="Seconds of each measurement.", min=1)] = 20.0,
    start: Annotated[float, typer.Option(help="Seconds in which processes load the model.", min=1)] = START_SECONDS,
) -> None:
    """Measure and print. Run it on an otherwise idle machine."""
    console, counts = Console(width=100), [int(count) for count in arms.split(",")]
    table = Table("training", "method", *(f"{count} arms" for count in counts), box=box.SIMPLE)
    for training in METHODS:
        for method, rate in {"processes": processes_rate, "fused": one_process_rate}.items():
            rates = [measured(rate, model, training, count, seconds, start) for count in counts]
            table.add_row(training, method, *rates)
            typer.echo(f"{training} {method}: {', '.join(rates)}", err=True)
    console.print(f"{model}: training tokens per second of all arms together, {os.cpu_count()} cores")
    console.print(table)


def measured(rate: Callable[..., float], *args: Any) -> str:
    """Return the tokens per second as text, or that a process ended without a result."""
    try:
        return f"{rate(*args):.0f}"
    except BrokenProcessPool:
        return "killed"  # by the system, as the memory did not suffice


def processes_rate(model: str, training: str, count: int, seconds: float, start: float) -> float:
    """Return the tokens per second of `count` processes with one arm each."""
    return sum(in_processes(count, fused_rate, model, training, 1, seconds, time() + start))


def one_process_rate(model: str, training: str, count: int, seconds: float, _start: float) -> float:
    """Return the tokens per second of `count` arms in one process."""
    return in_processes(1, fused_rate, model, training, count, seconds, 0.0)[0]


def in_processes(count: int, function: Callable[..., float], *args: Any) -> list[float]:
    """Call a function in `count` new processes at once, which divide the cores, and return the results."""
    threads = max(1, (os.cpu_count() or 1) // count)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    with ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=configure_process) as pool:
        return [future.result() for future in [pool.submit(function, *args) for _ in range(count)]]


def fused_rate(model: str, training: str, arms: int, seconds: float, start: float) -> float:
    """Return the tokens per second of all arms of this process together.

    Args:
        model: name or directory of the model.
        training: a key of METHODS.
        arms: number of arms.
        seconds: the time to measure.
        start: time of the first timed step, in seconds since the epoch; earlier times are ignored.
    """
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    loaded = load_model(find_model(model))
    together, batches = METHODS[training](loaded.model, arms), cycle(micro_batches(loaded, model))
    for _ in range(WARM_UP):
        together.step(next(batches))
    while time() < start:
        together.step(next(batches))
    tokens, begin = 0, perf_counter()
    while perf_counter() - begin < seconds:
        batch = next(batches)
        together.step(batch)
        tokens += arms * batch.numel()
    return tokens / (perf_counter() - begin)


def micro_batches(loaded: Any, model: str) -> list[Tensor]:
    """Return micro-batches without padding, (rows, length) each: examples cut to the shortest of their batch."""
    length = default_recipe(model, lora=False)["max_length"]
    examples = tokenize(load_data(InputSpec()).train, loaded.tokenizer, max_length=length).examples
    rows = sorted((list(example.input_ids) for example in examples), key=len)
    return list(_micro_batches(rows))


def _micro_batches(rows: Sequence[list[int]]) -> Iterator[Tensor]:
    while rows:
        count = max(1, MICRO_BATCH_TOKENS // len(rows[0]))
        if len(rows) >= count:
            yield torch.tensor([row[: len(rows[0])] for row in rows[:count]])
        rows = rows[count:]


def loss_of(logits: Tensor, input_ids: Tensor) -> Tensor:
    """Return the mean loss of all tokens but the first, in nats."""
    return cross_entropy(logits[:, :-1].flatten(0, 1), input_ids[:, 1:].flatten())


def full_arms(model: Any, arms: int) -> Arms:
    """Return arms in full fine-tuning, with stacked weights. One arm is trained as usual."""
    model.train()
    if arms == 1:
        return _arms_of(model, lambda input_ids: loss_of(model(input_ids=input_ids, use_cache=False).logits, input_ids))
    model.set_attn_implementation("eager")  # vmap has no rule for the fused attention of a CPU
    weights, buffers = stack_module_state([model] * arms)
    optimizer = AdamW(weights.values(), lr=LEARNING_RATE, fused=True)

    def loss(own: dict[str, Tensor], own_buffers: dict[str, Tensor], input_ids: Tensor) -> Tensor:
        logits = functional_call(model, (own, own_buffers), kwargs={"input_ids": input_ids, "use_cache": False}).logits
        return loss_of(logits, input_ids)

    gradients = vmap(grad(loss), in_dims=(0, 0, None), randomness="different")

    def step(input_ids: Tensor) -> None:
        for name, gradient in gradients(weights, buffers, input_ids).items():
            weights[name].grad = gradient
        optimizer.step()

    return Arms(step, weights)


def _arms_of(model: nn.Module, loss: Callable[[Tensor], Tensor]) -> Arms:
    """Return the arms of a model whose loss reaches all of its trained weights."""
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    optimizer = AdamW(weights.values(), lr=LEARNING_RATE, fused=True)

    def step(input_ids: Tensor) -> None:
        optimizer.zero_grad()
        loss(input_ids).backward()
        optimizer.step()

    return Arms(step, weights)


class ArmAdapters(nn.Module):
    """A frozen linear layer with a LoRA adapter for each arm. The rows of a batch are those of all arms in turn."""

    def __init__(self, base: nn.Linear, arms: int) -> None:
        super().__init__()
        self.base, self.arms = base, arms
        self.down = nn.Parameter(torch.randn(arms, base.in_features, RANK) / base.in_features)
        self.up = nn.Parameter(torch.zeros(arms, RANK, base.out_features))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs, (rows of all arms, length, features)."""
        by_arm = inputs.view(self.arms, -1, inputs.shape[-1])
        change = by_arm @ self.down @ self.up
        outputs: Tensor = self.base(inputs)
        return outputs + change.view(outputs.shape)


def lora_arms(model: Any, arms: int) -> Arms:
    """Return arms with LoRA on one frozen base, which computes the rows of all arms in one batch."""
    model.train().requires_grad_(False)
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and module is not model.get_output_embeddings():
            parent, _, own_name = name.rpartition(".")
            setattr(model.get_submodule(parent), own_name, ArmAdapters(module, arms))

    def loss(input_ids: Tensor) -> Tensor:
        rows = input_ids.repeat(arms, 1)
        return arms * loss_of(model(input_ids=rows, use_cache=False).logits, rows)

    return _arms_of(model, loss)


METHODS: dict[str, Callable[[Any, int], Arms]] = {"full": full_arms, "lora": lora_arms}

if __name__ == "__main__":
    typer.run(main)
