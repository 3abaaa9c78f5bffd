"""`neftune train`: one fine-tuning with one noise size, whose model is kept."""

import typer

from neftune_cli.commands import data_options, options, run_options
from neftune_cli.commands.routing import Destination, values_for
from neftune_cli.config.run_settings import Keep, OnOom, Retry
from neftune_cli.errors import Problems


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
    output: run_options.TrainOutput = None,
    nproc: run_options.TrainProcesses = 1,
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
    from neftune_cli.commands.request import checked_request, default_name
    from neftune_cli.config.spec import DEFAULT_DATASET, DEFAULT_MODEL
    from neftune_cli.config.values import parse_size
    from neftune_cli.store import RESULTS
    from neftune_cli.sweeps.plan import trial_folder

    problems = Problems()
    name, size = problems.attempt(lambda: parse_size(alpha, snr)) or ("alpha", 0.0)  # 0.0 to check the other options
    field = "snr" if name == "snr" else "alphas"
    names = default_name(DEFAULT_MODEL if model is None else model, DEFAULT_DATASET if dataset is None else dataset)
    request = checked_request(
        {
            **values_for(Destination.SPEC, train, arguments),
            field: str(size),  # a request parses the texts of options
            "seeds": f"{seed},",  # the comma makes a list of it
        },
        {**values_for(Destination.RUN, train, arguments), "workers": "1", "keep": Keep.ALL, "retry": Retry.FAILED},
        output=output or RESULTS / f"train-{names}-{name}={size:g},seed={seed}",
        single_trial=True,
        problems=problems,
    )
    trained = run_and_report(request, quiet=quiet, as_json=as_json)
    model_path = trial_folder(trained.folder, trained.plan.trials[-1]).model_path
    if not model_path.exists():
        typer.echo(_NO_MODEL.format(model_path.parent), err=True)


_NO_MODEL = "{} has the results of this training run but no model. To train it again, use another folder with --output."
