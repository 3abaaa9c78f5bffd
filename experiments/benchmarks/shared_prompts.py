"""Benchmark of the evaluation of a model: prompts computed twice, for losses and responses apart, and once for both.

`python -m experiments.benchmarks.shared_prompts [--model smollm2 --dataset mine.jsonl] [--pairs N]`

The model is the one before fine-tuning, in the recipe of `make bench`. The two take turns in one process with one
thread. The times are those of the processor, which other programs change less than the time of the clock.
"""

import time
from collections.abc import Callable
from typing import Annotated

import torch
import typer

from experiments.benchmarks.__main__ import SMOLLM2, TINY
from experiments.benchmarks.measurement import trial_of
from neftune_cli.evaluation.generation import scored_responses
from neftune_cli.records import ExampleLoss, Generation
from neftune_cli.training.model_cache import ModelCache
from neftune_cli.training.trial_metrics import measure_losses, measure_losses_and_responses

Evaluation = tuple[list[ExampleLoss], list[Generation]]
"""Losses and responses."""


def main(
    model: Annotated[str, typer.Option(help="tiny or smollm2.")] = "tiny",
    dataset: Annotated[str, typer.Option(help="Data of smollm2.")] = "bios",
    pairs: Annotated[int, typer.Option(help="Number of measurements of each.", min=1)] = 1,
) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    cache = ModelCache()
    trial = trial_of({**(SMOLLM2 if model == "smollm2" else TINY), "dataset": dataset}, 0.0, cache)
    loaded, prepared = cache.model_copy(trial), cache.prepared_data(trial)

    def twice() -> Evaluation:
        losses = measure_losses(loaded.model, prepared, epoch=0)
        examples = [*prepared.held_out, *prepared.probe_prompts]
        return losses, scored_responses(loaded.model, loaded.tokenizer, examples, trial.evaluation)

    def once() -> Evaluation:
        losses, responses = measure_losses_and_responses(
            loaded.model,
            loaded.tokenizer,
            prepared,
            trial.evaluation,
            epoch=0,
            not_finite_message="A loss is not finite.",
        )
        return losses, responses.generations

    for number in range(pairs):
        measured = {each: timed(each) for each in (twice, once)[:: -1 if number % 2 else 1]}
        (of_twice, before), (of_once, after) = measured[twice], measured[once]
        difference, other_responses = differences(of_twice, of_once)
        print(
            f"prompts twice {before:.1f} s, once {after:.1f} s, ratio {after / before:.3f}, "
            f"largest relative difference of losses {difference:.1e}, other responses {other_responses}",
            flush=True,
        )


def timed(evaluate: Callable[[], Evaluation]) -> tuple[Evaluation, float]:
    """Return the result of an evaluation, and its seconds of processor time."""
    begin = time.process_time()
    return evaluate(), time.process_time() - begin


def differences(first: Evaluation, second: Evaluation) -> tuple[float, int]:
    """Return the largest relative difference of two losses of an example, and the number of different responses."""
    losses = zip(first[0], second[0], strict=True)
    responses = zip(first[1], second[1], strict=True)
    return max(abs(one.loss / other.loss - 1) for one, other in losses), sum(
        one.response != other.response for one, other in responses
    )


if __name__ == "__main__":
    typer.run(main)
