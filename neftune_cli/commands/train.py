"""`neftune train`: one fine-tuning under one noise, its model kept."""

from pathlib import Path

import typer

from neftune_cli.commands import options
from neftune_cli.config.running import OnOom
from neftune_cli.errors import Problems


def train(
    model: options.Model = None,
    dataset: options.DatasetName = None,
    format_: options.Format = None,
    train_examples: options.TrainExamples = None,
    eval_examples: options.EvalExamples = None,
    alpha: options.Alpha = None,
    snr: options.Ratio = None,
    seed: options.Seed = 0,
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
    chosen, arguments = {**options.experiment(locals()), "seeds": f"{seed},"}, locals()
    from neftune_cli.commands.options.reading import raise_with_others
    from neftune_cli.commands.request import default_name
    from neftune_cli.commands.running import run_and_report
    from neftune_cli.config.running import run_options
    from neftune_cli.config.values import parse_size
    from neftune_cli.sweeps.plan import place_of

    problems = Problems()
    size_of_noise = problems.attempt(lambda: parse_size(alpha, snr))
    running = problems.attempt(lambda: run_options({**arguments, "workers": "1"}))
    raise_with_others(problems, None, chosen)
    assert size_of_noise is not None
    assert running is not None
    field, size = size_of_noise
    label = f"{field.removesuffix('s')}={size:g},seed={seed}"
    name = f"train-{default_name(model or 'tiny', dataset or 'bios')}-{label}"
    given, folder = {**chosen, field: str(size)}, output or Path("results") / name
    request = run_and_report(None, given, folder, running, quiet=quiet, as_json=as_json, only_one=True)
    model_to = place_of(request.folder, request.plan.trials[-1]).model_path
    if not model_to.exists():
        typer.echo(_NO_MODEL.format(model_to.parent), err=True)


_NO_MODEL = "{} holds the record of this training and no model; to train it again, give another --output."
