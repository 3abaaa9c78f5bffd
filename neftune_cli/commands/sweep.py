"""`neftune sweep`: fine-tune one model with several alphas and seeds, and print the comparison."""

from pathlib import Path
from typing import Annotated

import typer

from neftune_cli.commands import analysis_options, data_options, options, run_options
from neftune_cli.commands.routing import Destination, values_for
from neftune_cli.config.run_settings import Keep, OnOom


def sweep(
    experiment: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Experiment in YAML. Options override its fields.")
    ] = None,
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
    alphas: options.Alphas = None,
    snr: options.Snr = None,
    noises: options.Noises = None,
    noise: options.NoiseName = None,
    noise_scale: options.NoiseScale = None,
    noise_schedule: options.NoiseSchedule = None,
    noise_target: options.NoiseTarget = None,
    seeds: analysis_options.Seeds = None,
    until_decided: analysis_options.UntilDecided = None,
    looks: analysis_options.Looks = None,
    max_seeds: analysis_options.MaxSeeds = None,
    pause_at: analysis_options.PauseAt = None,
    metric: analysis_options.PrimaryMetric = None,
    margin: analysis_options.PrimaryMargin = None,
    primary_arm: analysis_options.PrimaryArm = None,
    controls: analysis_options.Controls = None,
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
    output: run_options.Output = None,
    dry_run: run_options.DryRun = False,
    hourly_rate: run_options.HourlyRate = None,
    estimate: run_options.Estimate = True,
    workers: run_options.Workers = "auto",
    nproc: run_options.NumberOfProcesses = 1,
    accelerate_config: run_options.AccelerateConfig = None,
    executor: run_options.Executor = "local",
    slurm: run_options.Slurm = None,
    detach: run_options.Detach = False,
    address: run_options.Address = None,
    gpus_per_trial: run_options.GpusPerTrial = None,
    cpus_per_trial: run_options.CpusPerTrial = None,
    retry: run_options.Retry = None,
    fail_fast: run_options.FailFast = False,
    on_oom: run_options.OnOom = OnOom.FAIL,
    stop_on_divergence: run_options.StopOnDivergence = True,
    keep: run_options.Keep = Keep.NONE,
    track: run_options.Track = None,
    checkpoint_steps: run_options.CheckpointSteps = None,
    checkpoint_minutes: run_options.CheckpointMinutes = 2.0,
    quiet: run_options.Quiet = False,
    as_json: run_options.Json = False,
) -> None:
    """Fine-tune one model with several alphas and seeds, and print the comparison.

    The same command resumes an interrupted sweep. With a fixed number of seeds, further alphas or
    seeds add only the new trials.
    """
    arguments = locals()
    from neftune_cli.commands.execution import run_and_report
    from neftune_cli.commands.request import checked_request

    fields, run = (values_for(one, sweep, arguments) for one in (Destination.SPEC, Destination.RUN))
    request = checked_request(fields, run, file=experiment, output=output, pause_at=pause_at)
    if dry_run:
        from neftune_cli.commands.dry_run import dry_run as show_plan

        show_plan(request, hourly_rate=hourly_rate, quiet=quiet, as_json=as_json)
        return
    run_and_report(request, quiet=quiet, as_json=as_json)
