"""`neftune sweep`: fine-tune over arms and seeds, alike in everything but the noise."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from neftune_cli.commands import options


class Retry(StrEnum):
    """Which trials run again."""

    FAILED = "failed"


def sweep(
    experiment: Annotated[Path | None, typer.Argument(metavar="FILE", help="A YAML experiment; options win.")] = None,
    model: options.Model = None,
    dataset: options.DatasetName = None,
    format_: options.Format = None,
    train_examples: options.TrainExamples = None,
    eval_examples: options.EvalExamples = None,
    alphas: Annotated[
        str | None, typer.Option(metavar="LIST", help="The arms (default 0,5,10,15).", rich_help_panel="Noise")
    ] = None,
    snr: Annotated[
        str | None,
        typer.Option(
            metavar="LIST", help="More arms, by embedding norm over noise norm: 20,10.", rich_help_panel="Noise"
        ),
    ] = None,
    noises: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Shapes to try at each alpha: uniform,gaussian.", rich_help_panel="Noise"),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(metavar="N|LIST", help="How many (3) or which (0,1,7) (default 3).", rich_help_panel="Noise"),
    ] = None,
    noise: options.NoiseShape = None,
    noise_scale: options.NoiseScale = None,
    noise_schedule: options.NoiseSchedule = None,
    noise_target: options.NoiseTarget = None,
    epochs: options.Epochs = None,
    max_steps: options.MaxSteps = None,
    learning_rate: options.LearningRate = None,
    batch_size: options.BatchSize = None,
    max_length: options.MaxLength = None,
    lora_rank: options.LoraRank = None,
    settings: options.Settings = None,
    max_new_tokens: options.MaxNewTokens = None,
    repetition_penalty: options.RepetitionPenalty = None,
    output: options.Output = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan, train nothing.", rich_help_panel="Run")
    ] = False,
    retry: Annotated[Retry | None, typer.Option(help="Run failed trials again too.", rich_help_panel="Run")] = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Fine-tune over arms and seeds that differ in the noise alone, and print what came out.

    The same command given again finishes what is missing and reruns nothing.
    With an alpha or a seed added it trains those alone.
    """
    chosen = options.experiment(locals())
    from neftune_cli.commands.request import understand
    from neftune_cli.commands.running import run_and_report
    from neftune_cli.commands.show_plan import show_plan

    request = understand(experiment, chosen, output)
    if dry_run:
        show_plan(request, retry_failed=retry is Retry.FAILED, as_json=as_json)
        return
    run_and_report(request, retry_failed=retry is Retry.FAILED, quiet=quiet, as_json=as_json)
