"""`neftune train`: one fine-tuning under one noise, its model kept."""

from pathlib import Path
from typing import Annotated

import typer

from neftune_cli.commands import options
from neftune_cli.config.running import OnOom


def train(
    model: options.Model = None,
    dataset: options.DatasetName = None,
    format_: options.Format = None,
    train_examples: options.TrainExamples = None,
    eval_examples: options.EvalExamples = None,
    alpha: Annotated[
        str | None, typer.Option(metavar="A", help="The noise; 0 is none (default 5).", rich_help_panel="Noise")
    ] = None,
    snr: Annotated[
        str | None,
        typer.Option(
            metavar="R", help="The noise by embedding norm over noise norm, like 10.", rich_help_panel="Noise"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides data order and noise.", rich_help_panel="Noise")] = 0,
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
    on_oom: options.OnOom = OnOom.FAIL,
    stop_on_divergence: options.StopOnDivergence = True,
    checkpoint_steps: options.CheckpointSteps = None,
    checkpoint_minutes: options.CheckpointMinutes = 2.0,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Fine-tune once under noise, keep the model, and print how it compares with the model before."""
    chosen, arguments = options.experiment(locals()), locals()
    from neftune_cli.commands.request import default_name
    from neftune_cli.commands.running import run_and_report
    from neftune_cli.config.running import run_options
    from neftune_cli.config.values import parse_size
    from neftune_cli.sweeps.remaining import place_of

    field, size = parse_size(alpha, snr)
    label = f"{field.removesuffix('s')}={size:g},seed={seed}"
    name = f"train-{default_name(model or 'tiny', dataset or 'bios')}-{label}"
    given = {**chosen, field: str(size), "seeds": f"{seed},"}
    running = run_options({**arguments, "workers": "1"})
    request = run_and_report(None, given, output or Path("results") / name, running, quiet=quiet, as_json=as_json)
    model_to = place_of(request.folder, request.plan.trials[-1]).model_path
    typer.echo(f"The model is in {model_to}" if model_to.exists() else _NO_MODEL.format(model_to.parent), err=True)


_NO_MODEL = "{} holds the record of this training and no model; to train it again, give another --output."
