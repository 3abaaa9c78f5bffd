"""`neftune sweep`: fine-tune over arms and seeds, alike in everything but the noise."""

from pathlib import Path
from typing import Annotated

import typer

from neftune_cli.commands import options
from neftune_cli.config.running import Keep, OnOom
from neftune_cli.errors import Problems


def sweep(
    experiment: Annotated[Path | None, typer.Argument(metavar="FILE", help="A YAML experiment; options win.")] = None,
    model: options.Model = None,
    dataset: options.DatasetName = None,
    format_: options.Format = None,
    train_examples: options.TrainExamples = None,
    eval_examples: options.EvalExamples = None,
    alphas: options.Alphas = None,
    snr: options.Snr = None,
    noises: options.Noises = None,
    seeds: options.Seeds = None,
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
    dry_run: options.DryRun = False,
    hourly_rate: options.HourlyRate = None,
    estimate: options.Estimate = True,
    workers: options.Workers = "auto",
    retry: options.Retry = None,
    fail_fast: options.FailFast = False,
    on_oom: options.OnOom = OnOom.FAIL,
    stop_on_divergence: options.StopOnDivergence = True,
    keep: options.Keep = Keep.NONE,
    checkpoint_steps: options.CheckpointSteps = None,
    checkpoint_minutes: options.CheckpointMinutes = 2.0,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Fine-tune over arms and seeds that differ in the noise alone, and print what came out.

    The same command given again finishes what is missing and reruns nothing.
    With an alpha or a seed added it trains those alone.
    """
    chosen, arguments = options.experiment(locals()), locals()
    from neftune_cli.commands.options.reading import raise_with_others
    from neftune_cli.commands.running import run_and_report
    from neftune_cli.commands.show_plan import show_plan
    from neftune_cli.config.running import run_options

    problems = Problems()
    running = problems.attempt(lambda: run_options(arguments))
    raise_with_others(problems, experiment, chosen)
    assert running is not None
    if dry_run:
        show_plan(experiment, chosen, output, running, hourly_rate=hourly_rate, as_json=as_json)
        return
    run_and_report(experiment, chosen, output, running, quiet=quiet, as_json=as_json)
