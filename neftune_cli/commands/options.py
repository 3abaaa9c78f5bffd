"""Options on the noise, the training and the evaluation of trained models: help, panel and destination of each.

The other modules `*_options` have those on the data, the analysis and the run. All other options of a command are
declared in its own module.
"""

from functools import partial
from typing import Annotated, get_args

from neftune_cli.commands.routing import Destination, Option
from neftune_cli.config import choices
from neftune_cli.config.noises import DISTRIBUTIONS, SCHEDULES

NOISE, TRAINING, EVALUATION = "Noise", "Training", "Evaluation"
"""Titles of the groups in `--help`."""
_SPEC, _COMMAND = Destination.SPEC, Destination.COMMAND


Alphas = Annotated[
    str | None,
    Option(
        "--alphas",
        "Noise sizes, one arm each (default 0,5,10,15).",
        NOISE,
        _SPEC,
        field="alphas",
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
    Option(
        "--seed",
        "Seed of data order, dropout, noise and the initial weights of LoRA adapters (default 0).",
        NOISE,
        _COMMAND,
        metavar="N",
        at_least=0,
    ),
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
        "Schedule of alpha during training: constant, or decreasing to 0 (default constant).",
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
        "Batch size, before gradient accumulation (default 16 for tiny, 8 for others).",
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
        "Maximum length of an example in tokens. The completion of a longer example is cut. An example whose prompt "
        "alone has N tokens or more is dropped (default 256 for tiny, 512 for others).",
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
        "Train LoRA adapters of this rank instead of all weights: on all linear layers except the language modeling "
        "head and routers, with lora_alpha twice the rank and no dropout.",
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
        "Floating-point precision of training; auto is bfloat16 where the hardware has it (default float32 for tiny, "
        "else auto).",
        TRAINING,
        _SPEC,
        field="train.precision",
    ),
]
MicroBatchTokens = Annotated[
    int | None,
    Option(
        "--micro-batch-tokens",
        "Compute each batch in parts of at most N tokens, padding included; 0 computes it whole (default 512 on a CPU, "
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
        metavar="KEY=VALUE",
    ),
]

MaxNewTokens = Annotated[
    int | None,
    Option(
        "--max-new-tokens",
        "Maximum length of a generated response in tokens; the model's context can end it earlier (default 96 for "
        "bios, else 128).",
        EVALUATION,
        _SPEC,
        field="evaluation.max_new_tokens",
        metavar="N",
    ),
]
RepetitionPenalty = Annotated[
    float | None,
    Option(
        "--repetition-penalty",
        "Repetition penalty of greedy generation (default 1.0 for bios, else 1.2).",
        EVALUATION,
        _SPEC,
        field="evaluation.repetition_penalty",
        metavar="P",
    ),
]
Decoding = Annotated[
    choices.DecodingName | None,
    Option(
        "--decoding",
        "Generation of responses: with a preallocated key-value cache, or with transformers (default preallocated).",
        EVALUATION,
        _SPEC,
        field="evaluation.decoding",
    ),
]

CurveExamples = Annotated[
    int | None,
    Option(
        "--curve-examples",
        "Measure the loss curves on N held-out and N training examples, the same in all trials. The loss on all "
        "examples is still measured after the last epoch, and after each epoch with a new lowest loss (default: all "
        "examples, every epoch).",
        EVALUATION,
        _SPEC,
        field="evaluation.curve_examples",
        metavar="N",
    ),
]

ProbeExamples = Annotated[
    int | None,
    Option(
        "--probe-examples",
        "Maximum number of training examples whose noise-off loss is measured (default 120, which is also the largest "
        "number). Responses are measured on at most 64 of them.",
        EVALUATION,
        _SPEC,
        field="evaluation.probe_examples",
        metavar="N",
    ),
]
LmEval = Annotated[
    str | None,
    Option(
        "--lm-eval",
        "Tasks of lm-evaluation-harness for the base model and each trained model: names, YAML files, or folders of "
        "YAML files. Needs `pip install '.[lm-eval]'`.",
        EVALUATION,
        _SPEC,
        field="evaluation.lm_eval",
        metavar="TASKS",
    ),
]
LmEvalLimit = Annotated[
    int | None,
    Option(
        "--lm-eval-limit",
        "Maximum number of documents of each task of --lm-eval (default all).",
        EVALUATION,
        _SPEC,
        field="evaluation.lm_eval_limit",
        metavar="N",
    ),
]
