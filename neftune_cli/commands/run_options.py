"""Options on how trials are run, on this machine or on a cluster, and on what a command prints and writes."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

from typer.models import OptionInfo

from neftune_cli.commands.routing import Destination, Option
from neftune_cli.config import run_settings
from neftune_cli.config.executors import EXECUTORS

RUN, CLUSTER = "Run", "Cluster"
"""Titles of the groups in `--help`."""
_RUN, _COMMAND = Destination.RUN, Destination.COMMAND


def derived_folder(command: str) -> OptionInfo:
    """Return the option `--output` of a command whose default folder is named after its options."""
    default = f"results/{command}-MODEL-DATASET, followed by the options that differ from their defaults"
    again = "The same command rewrites its files; a folder with results of other options is an error."
    help_ = f"Results folder (default {default}). {again}"
    return OptionInfo(default=..., param_decls=None, help=help_, metavar="DIR", rich_help_panel=RUN)


def _executors() -> Mapping[str, str]:
    return {name: EXECUTORS[name].description for name in EXECUTORS}


Output = Annotated[
    Path | None,
    Option(
        "--output",
        "Results folder (default results/MODEL-DATASET, or results/NAME for an experiment NAME.yaml).",
        RUN,
        _COMMAND,
        metavar="DIR",
    ),
]
TrainOutput = Annotated[
    Path | None,
    Option(
        "--output",
        "Results folder (default results/train-MODEL-DATASET-alpha=A,seed=N).",
        RUN,
        _COMMAND,
        metavar="DIR",
    ),
]
DryRun = Annotated[
    bool,
    Option(
        "--dry-run",
        "Print the plan with estimates of time, memory and cost, and run no trial. Unless --no-estimate is given, "
        "calibration steps are run for the estimates.",
        RUN,
        _RUN,
    ),
]
HourlyRate = Annotated[
    float | None,
    Option("--hourly-rate", "Cost of the machine per hour, for --dry-run.", RUN, _RUN, metavar="R"),
]
Estimate = Annotated[
    bool,
    Option(
        "--estimate/--no-estimate",
        "Run a few calibration steps first, to estimate time and memory (default --estimate). Trials of several "
        "processes or on a cluster are not calibrated.",
        RUN,
        _RUN,
    ),
]
Workers = Annotated[
    str,
    Option(
        "--workers",
        "Number of trials that run in parallel. auto: as many as machine and model allow (default auto). "
        "0: in the main process, one after another, for debugging.",
        RUN,
        _RUN,
        metavar="N|auto",
    ),
]
_processes = partial(Option, "--nproc", panel=RUN, to=_RUN, metavar="N", at_least=1)
NumberOfProcesses = Annotated[
    int,
    _processes(
        "Processes that train each trial together, one per GPU or core (default 1). They divide the examples of each "
        "step. With more than one, trials run one at a time."
    ),
]
TrainProcesses = Annotated[
    int,
    _processes(
        "Processes that train together, one per GPU or core (default 1). They divide the examples of each step."
    ),
]
AccelerateConfig = Annotated[
    Path | None,
    Option(
        run_settings.ACCELERATE_CONFIG,
        "Shard the weights of each trial over several GPUs with FSDP, as this configuration file of accelerate says. "
        "Its num_processes replaces --nproc.",
        RUN,
        _RUN,
        metavar="FILE",
    ),
]
Executor = Annotated[str, Option("--executor", "Where the trials run (default local).", RUN, _RUN, names=_executors)]
Retry = Annotated[
    run_settings.Retry | None,
    Option(
        "--retry",
        "Run failed trials again, except those whose arm was tested at a planned look without them.",
        RUN,
        _RUN,
    ),
]
FailFast = Annotated[bool, Option("--fail-fast", "Stop all trials when one fails.", RUN, _RUN)]
OnOom = Annotated[
    run_settings.OnOom,
    Option(
        "--on-oom",
        "If memory runs out: fail the trial, or restart it with half the batch size and twice the gradient "
        "accumulation (default fail).",
        RUN,
        _RUN,
    ),
]
StopOnDivergence = Annotated[
    bool,
    Option(
        "--stop-on-divergence/--no-stop-on-divergence",
        "Stop a trial whose loss is not finite (default --stop-on-divergence).",
        RUN,
        _RUN,
    ),
]
Keep = Annotated[
    run_settings.Keep,
    Option(
        "--keep",
        "Trained models to keep. best: the one with the lowest held-out loss over all arms and seeds (default none).",
        RUN,
        _RUN,
    ),
]
Track = Annotated[
    list[run_settings.LiveTracker] | None,
    Option(
        "--track",
        "Show the curves of running trials in a tracker; may be repeated. Files are written to a folder "
        "named after the tracker.",
        RUN,
        _RUN,
        metavar=f"<{'|'.join(run_settings.LiveTracker)}>",
    ),
]
CheckpointSteps = Annotated[
    int | None, Option("--checkpoint-steps", "Also write a checkpoint every N steps.", RUN, _RUN, metavar="N")
]
CheckpointMinutes = Annotated[
    float, Option("--checkpoint-minutes", "Write a checkpoint every M minutes (default 2).", RUN, _RUN, metavar="M")
]
Quiet = Annotated[bool, Option("--quiet", "Show no progress.", RUN, _COMMAND)]
Json = Annotated[bool, Option("--json", "Print one JSON summary on stdout, and nothing else.", RUN, _COMMAND)]

Slurm = Annotated[
    list[str] | None,
    Option(
        "--slurm",
        "Setting of SLURM jobs for --executor slurm, for example partition=gpu, time=120 (minutes) or gres=gpu:1; may "
        "be repeated.",
        CLUSTER,
        _RUN,
        metavar="KEY=VALUE",
    ),
]
Detach = Annotated[
    bool,
    Option(
        "--detach",
        "End the command when all trials are submitted (--executor slurm). The same command later shows the results.",
        CLUSTER,
        _RUN,
    ),
]
Address = Annotated[
    str | None,
    Option(
        "--address",
        "Address of the Ray cluster for --executor ray; auto: the cluster that RAY_ADDRESS names or that runs on this "
        "machine (default auto, or a new cluster on this machine if there is none).",
        CLUSTER,
        _RUN,
        metavar="HOST:PORT",
    ),
]
GpusPerTrial = Annotated[
    float | None,
    Option(
        "--gpus-per-trial",
        "GPUs of each trial with --executor ray, at most 1; 0.5 runs two trials on one GPU (default 1 if there are "
        "GPUs).",
        CLUSTER,
        _RUN,
        metavar="N",
    ),
]
CpusPerTrial = Annotated[
    float | None,
    Option(
        "--cpus-per-trial",
        "CPU cores of each trial with --executor ray, which are also its threads (default 1).",
        CLUSTER,
        _RUN,
        metavar="N",
    ),
]
