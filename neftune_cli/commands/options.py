"""Options of `sweep` and `train`, and those that other commands share: help, panel and destination of each.

All other options of a command are declared in its own module.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, get_args

from typer.models import OptionInfo

from neftune_cli.commands import analysis_options, cluster_options, data_options, evaluation_options
from neftune_cli.commands.routing import Destination, Option
from neftune_cli.config import choices, run_settings
from neftune_cli.config.executors import EXECUTORS
from neftune_cli.config.noises import DISTRIBUTIONS, SCHEDULES


def parsers() -> dict[str, str]:
    """Return the parser of each spec field whose option needs one: field -> function in `neftune_cli.config.values`."""
    return {option.field: option.parser_name for option in DECLARED if option.parser_name}


NOISE, TRAINING, RUN = "Noise", "Training", "Run"
_SPEC, _RUN, _COMMAND = Destination.SPEC, Destination.RUN, Destination.COMMAND


def derived_folder(command: str) -> OptionInfo:
    """Return the option `--output` of a command whose default folder is named after its options."""
    default = f"results/{command}-MODEL-DATASET and the options that differ from their defaults"
    again = "The same command rewrites its files; a folder with results of other options is an error."
    help_ = f"Results folder (default {default}). {again}"
    return OptionInfo(default=..., param_decls=None, help=help_, metavar="DIR", rich_help_panel=RUN)


def _executors() -> Mapping[str, str]:
    return {name: EXECUTORS[name].description for name in EXECUTORS}


Alphas = Annotated[
    str | None,
    Option(
        "--alphas",
        "Noise sizes, one arm each (default 0,5,10,15).",
        NOISE,
        _SPEC,
        field="alphas",
        parser_name="parse_alphas",
        metavar="LIST",
    ),
]
Snr = Annotated[
    str | None,
    Option(
        "--snr",
        "Noise sizes as signal-to-noise ratios, one arm each. At ratio 10, the norm of a token's noise is a tenth of "
        "the median embedding norm, in a training example of median length. Add --alphas 0 for a baseline.",
        NOISE,
        _SPEC,
        field="snr",
        parser_name="parse_snr",
        metavar="LIST",
    ),
]
Noises = Annotated[
    str | None,
    Option(
        "--noises",
        "Several noise distributions to compare, each in arms of its own, for example uniform,gaussian. "
        "Replaces --noise.",
        NOISE,
        _SPEC,
        field="noises",
        parser_name="parse_noises",
        metavar="LIST",
    ),
]
Alpha = Annotated[str | None, Option("--alpha", "Noise size; 0 is no noise (default 5).", NOISE, _COMMAND, metavar="A")]
TrainSnr = Annotated[
    str | None,
    Option(
        "--snr",
        "Noise size as a signal-to-noise ratio, in place of --alpha. At ratio 10, the norm of a token's noise is a "
        "tenth of the median embedding norm, in a training example of median length.",
        NOISE,
        _COMMAND,
        metavar="R",
    ),
]
Seed = Annotated[
    int,
    Option("--seed", "Seed of data order, dropout and noise (default 0).", NOISE, _COMMAND, metavar="N", at_least=0),
]
NoiseName = Annotated[
    str | None,
    Option(
        "--noise",
        "Noise distribution; all have the same variance (default uniform).",
        NOISE,
        _SPEC,
        field="noise",
        names=DISTRIBUTIONS.names,
    ),
]
NoiseScale = Annotated[
    str | None,
    Option(
        "--noise-scale",
        "Length in the noise formula. paper: tokens of the example; hf: padded length, as in transformers "
        "(default paper).",
        NOISE,
        _SPEC,
        field="noise_scale",
        names=partial(get_args, choices.NoiseScale),
    ),
]
NoiseSchedule = Annotated[
    str | None,
    Option(
        "--noise-schedule",
        "Change of alpha over the training: none, or a decrease to 0 (default constant).",
        NOISE,
        _SPEC,
        field="noise_schedule",
        names=SCHEDULES.names,
    ),
]
NoiseTarget = Annotated[
    str | None,
    Option(
        "--noise-target",
        "Tokens that receive noise (default all).",
        NOISE,
        _SPEC,
        field="noise_target",
        names=partial(get_args, choices.NoiseTarget),
    ),
]

Epochs = Annotated[
    float | None,
    Option(
        "--epochs", "Passes over the training examples (default 3).", TRAINING, _SPEC, field="train.epochs", metavar="N"
    ),
]
MaxSteps = Annotated[
    int | None,
    Option(
        "--max-steps",
        "Number of optimizer steps; replaces --epochs.",
        TRAINING,
        _SPEC,
        field="train.max_steps",
        metavar="N",
    ),
]
LearningRate = Annotated[
    float | None,
    Option(
        "--learning-rate",
        "Peak learning rate of AdamW (default 1e-3 for tiny, 2e-5 for others, 2e-4 with --lora-rank).",
        TRAINING,
        _SPEC,
        field="train.learning_rate",
        metavar="RATE",
    ),
]
BatchSize = Annotated[
    int | None,
    Option(
        "--batch-size",
        "Batch size per device (default 16 for tiny, 8 for others).",
        TRAINING,
        _SPEC,
        field="train.batch_size",
        metavar="N",
    ),
]
MaxLength = Annotated[
    int | None,
    Option(
        "--max-length",
        "Maximum length of an example in tokens; longer ones are cut (default 256 for tiny, 512 for others).",
        TRAINING,
        _SPEC,
        field="train.max_length",
        metavar="N",
    ),
]
LoraRank = Annotated[
    int | None,
    Option(
        "--lora-rank",
        "Train LoRA adapters of this rank instead of all weights.",
        TRAINING,
        _SPEC,
        field="train.lora_rank",
        metavar="R",
    ),
]
Precision = Annotated[
    choices.Precision | None,
    Option(
        "--precision",
        "Arithmetic of training; auto is bfloat16 where the hardware has it (default float32 for tiny, else auto).",
        TRAINING,
        _SPEC,
        field="train.precision",
    ),
]
MicroBatchTokens = Annotated[
    int | None,
    Option(
        "--micro-batch-tokens",
        "Compute each batch in parts of at most N tokens with padding; 0 computes it whole (default 512 on a CPU, "
        "16384 on a GPU).",
        TRAINING,
        _SPEC,
        field="train.micro_batch_tokens",
        metavar="N",
    ),
]
Settings = Annotated[
    list[str] | None,
    Option(
        "--set",
        "Any other field of SFTConfig; may be repeated.",
        TRAINING,
        _SPEC,
        field="train.sft",
        parser_name="parse_settings",
        metavar="KEY=VALUE",
    ),
]

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
        "Run a few calibration steps first, to estimate time and memory (default --estimate).",
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


NumberOfProcesses = Annotated[
    int,
    Option(
        "--nproc",
        "Processes that train each trial together, one per GPU or core. They divide the examples of each step. Trials "
        "run one at a time (default 1).",
        RUN,
        _RUN,
        metavar="N",
        at_least=1,
    ),
]
Executor = Annotated[str, Option("--executor", "Where the trials run (default local).", RUN, _RUN, names=_executors)]
Retry = Annotated[run_settings.Retry | None, Option("--retry", "Run failed trials again.", RUN, _RUN)]
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
        "Show the curves of running trials in a tracker; may be repeated. Files are written to a folder with its name.",
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

_SHARED = [
    hint
    for module in (data_options, analysis_options, evaluation_options, cluster_options)
    for hint in vars(module).values()
]
DECLARED: tuple[Option, ...] = tuple(
    option
    for hint in [*_SHARED, *globals().values()]
    for option in getattr(hint, "__metadata__", ())
    if isinstance(option, Option)
)
"""Every declared option."""
