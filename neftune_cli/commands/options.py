"""The options that commands share, spelt and explained once."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Noise(StrEnum):
    """Shapes of the draw."""

    UNIFORM = "uniform"
    GAUSSIAN = "gaussian"
    BERNOULLI = "bernoulli"


class Scale(StrEnum):
    """Whose sequence length scales the noise."""

    PAPER = "paper"
    HF = "hf"


class DataLayout(StrEnum):
    """How a data set lays out its examples."""

    ALPACA = "alpaca"
    PROMPT_COMPLETION = "prompt-completion"
    MESSAGES = "messages"
    TEXT = "text"


_DATA, _TRAINING, _EVALUATION, _NOISE, _RUN = "Data and model", "Training", "Evaluation", "Noise", "Run"


def _option(*names: str, help_: str, panel: str, metavar: str | None = None) -> object:
    return typer.Option(*names, help=help_, rich_help_panel=panel, metavar=metavar, show_default=False)


Model = Annotated[
    str | None,
    _option("--model", help_="tiny (embedded, default), smollm2, a hub id, or a local directory.", panel=_DATA),
]
DatasetName = Annotated[
    str | None,
    _option(
        "--dataset",
        help_="bios (embedded, default), a hub id, a .json, .jsonl, .csv or .parquet file, or a saved data set.",
        panel=_DATA,
    ),
]
Format = Annotated[
    DataLayout | None,
    _option("--format", help_="Layout of the data, where its columns don't tell.", panel=_DATA),
]
TrainExamples = Annotated[
    int | None,
    _option("--train-examples", help_="Train on at most so many, chosen by content hash.", panel=_DATA, metavar="N"),
]
EvalExamples = Annotated[
    int | None,
    _option("--eval-examples", help_="Hold out at most so many, chosen by content hash.", panel=_DATA, metavar="N"),
]
Epochs = Annotated[
    float | None, _option("--epochs", help_="Passes over the training examples [3].", panel=_TRAINING, metavar="N")
]
MaxSteps = Annotated[
    int | None, _option("--max-steps", help_="Optimizer steps, instead of epochs.", panel=_TRAINING, metavar="N")
]
LearningRate = Annotated[
    float | None,
    _option(
        "--learning-rate",
        help_="Peak rate of AdamW [1e-3 for tiny, 2e-5 for others, 2e-4 with --lora-rank].",
        panel=_TRAINING,
    ),
]
BatchSize = Annotated[
    int | None,
    _option(
        "--batch-size", help_="Examples a step and device [16 for tiny, 8 for others].", panel=_TRAINING, metavar="N"
    ),
]
MaxLength = Annotated[
    int | None,
    _option(
        "--max-length",
        help_="Tokens after which an example is cut [256 for tiny, 512 for others].",
        panel=_TRAINING,
        metavar="N",
    ),
]
LoraRank = Annotated[
    int | None,
    _option(
        "--lora-rank", help_="Train LoRA adapters of this rank, not the whole model.", panel=_TRAINING, metavar="R"
    ),
]
Settings = Annotated[
    list[str] | None,
    _option("--set", help_="Any other SFTConfig field; may be repeated.", panel=_TRAINING, metavar="KEY=VALUE"),
]
MaxNewTokens = Annotated[
    int | None,
    _option(
        "--max-new-tokens", help_="Longest answer to generate [96 for bios, else 128].", panel=_EVALUATION, metavar="N"
    ),
]
RepetitionPenalty = Annotated[
    float | None,
    _option("--repetition-penalty", help_="For greedy answers [1.0 for bios, else 1.2].", panel=_EVALUATION),
]
NoiseShape = Annotated[
    Noise | None, _option("--noise", help_="Shape of the draw, all of one variance [uniform].", panel=_NOISE)
]
NoiseScale = Annotated[
    Scale | None,
    _option(
        "--noise-scale",
        help_="paper: each example's own length; hf: the padded length, as transformers does [paper].",
        panel=_NOISE,
    ),
]
Output = Annotated[
    Path | None,
    _option("--output", help_="Folder for the results [results/NAME].", panel=_RUN, metavar="DIR"),
]
Quiet = Annotated[bool, _option("--quiet", help_="No progress.", panel=_RUN)]
Json = Annotated[bool, _option("--json", help_="Print one JSON summary, and nothing else, on stdout.", panel=_RUN)]
