"""`neftune train`: one fine-tuning with one noise size, whose model is kept."""

from pathlib import Path
from typing import Annotated

import typer

from neftune_cli.commands import data_options, options, run_options
from neftune_cli.commands.routing import Destination, Option, values_for
from neftune_cli.config.run_settings import Keep, OnOom, Retry
from neftune_cli.errors import Problems

_OUTPUT = "Results folder (default results/train-MODEL-DATASET-alpha=A,seed=N)."
Output = Annotated[Path | None, Option("--output", _OUTPUT, run_options.RUN, Destination.COMMAND, metavar="DIR")]
_PROCESSES = "Processes that train together, one per GPU or core. They divide the examples of each step (default 1)."
NumberOfProcesses = Annotated[
    int, Option("--nproc", _PROCESSES, run_options.RUN, Destination.RUN, metavar="N", at_least=1)
]


def train(
    model: data_options.Model = None,
    dataset: data_options.DatasetName = None,
    format_: data_options.Format = None,
    train_examples: data_options.TrainExamples = None,
    eval_examples: data_options.EvalExamples = None,
    columns: data_options.Columns = None,
    split: data_options.SplitName = None,
    eval_dataset: data_options.EvalDataset = None,
    eval_split: data_options.EvalSplit = None,
    loss: data_options.Loss = None,
    raw: data_options.Raw = None,
    allow_special_tokens: data_options.AllowSpecialTokens = None,
    skip_bad_rows: data_options.SkipBadRows = None,
    max_bad_share: data_options.MaxBadShare = None,
    load_in_4bit: data_options.LoadIn4Bit = None,
    alpha: options.Alpha = None,
    snr: options.TrainSnr = None,
    seed: options.Seed = 0,
    noise: options.NoiseName = None,
    noise_scale: options.NoiseScale = None,
    noise_schedule: options.NoiseSchedule = None,
    noise_target: options.NoiseTarget = None,
    epochs: options.Epochs = None,
    max_steps: options.MaxSteps = None,
    learning_rate: options.LearningRate = None,
    batch_size: options.BatchSize = None,
    max_length: options.MaxLength = None,
    lora_rank: options.LoraRank = None,
    precision: options.Precision = None,
    micro_batch_tokens: options.MicroBatchTokens = None,
    settings: options.Settings = None,
    max_new_tokens: options.MaxNewTokens = None,
    repetition_penalty: options.RepetitionPenalty = None,
    decoding: options.Decoding = None,
    curve_examples: options.CurveExamples = None,
    probe_examples: options.ProbeExamples = None,
    lm_eval: options.LmEval = None,
    lm_eval_limit: options.LmEvalLimit = None,
    output: Output = None,
    nproc: NumberOfProcesses = 1,
    accelerate_config: run_options.AccelerateConfig = None,
    on_oom: run_options.OnOom = OnOom.FAIL,
    stop_on_divergence: run_options.StopOnDivergence = True,
    track: run_options.Track = None,
    checkpoint_steps: run_options.CheckpointSteps = None,
    checkpoint_minutes: run_options.CheckpointMinutes = 2.0,
    quiet: run_options.Quiet = False,
    as_json: run_options.Json = False,
) -> None:
    """Fine-tune once with noise, keep the model, and print its comparison with the base model."""
    arguments = locals()
    from neftune_cli.commands.execution import run_and_report
    from neftune_cli.commands.request import SweepRequest, default_name, raise_any_with_spec_problems
    from neftune_cli.config.run_settings import sweep_settings
    from neftune_cli.config.spec import DEFAULT_DATASET, DEFAULT_MODEL
    from neftune_cli.config.values import parse_size
    from neftune_cli.sweeps.plan import trial_folder

    fields = {**values_for(Destination.SPEC, train, arguments), "seeds": f"{seed},"}  # the comma makes a list of it
    fixed = {"workers": "1", "keep": Keep.ALL, "retry": Retry.FAILED}
    problems = Problems()
    noise_size = problems.attempt(lambda: parse_size(alpha, snr))
    run_settings = problems.attempt(lambda: sweep_settings({**values_for(Destination.RUN, train, arguments), **fixed}))
    raise_any_with_spec_problems(problems, None, fields)
    assert noise_size is not None
    assert run_settings is not None
    name, size = noise_size
    label = f"{name}={size:g},seed={seed}"
    names = default_name(DEFAULT_MODEL if model is None else model, DEFAULT_DATASET if dataset is None else dataset)
    folder = output or Path("results") / f"train-{names}-{label}"
    fields["snr" if name == "snr" else "alphas"] = str(size)  # a request parses the texts of options
    request = SweepRequest(None, fields, folder, run_settings, single_trial=True)
    trained = run_and_report(request, quiet=quiet, as_json=as_json)
    model_path = trial_folder(trained.folder, trained.plan.trials[-1]).model_path
    if not model_path.exists():
        typer.echo(_NO_MODEL.format(model_path.parent), err=True)


_NO_MODEL = "{} has the results of this training run but no model. To train it again, use another folder with --output."
