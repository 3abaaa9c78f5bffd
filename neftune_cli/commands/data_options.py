"""Options on the model and the data: each is declared once, with its help, its panel and its destination."""

from functools import partial
from typing import Annotated, get_args

from neftune_cli.commands.routing import Destination, Option
from neftune_cli.config.choices import LearnedTurns, layout_names

DATA = "Data and model"
_SPEC = Destination.SPEC

Model = Annotated[
    str | None,
    Option(
        "--model",
        "tiny (bundled, default), smollm2, a hub id, or a local directory.",
        DATA,
        _SPEC,
        field="model",
        metavar="NAME",
    ),
]
DatasetName = Annotated[
    str | None,
    Option(
        "--dataset",
        "bios (bundled, default), a hub id, a folder, or comma-separated files: JSON, JSON lines, CSV, TSV, Parquet "
        "or Arrow.",
        DATA,
        _SPEC,
        field="dataset",
        metavar="NAME",
    ),
]
Format = Annotated[
    str | None,
    Option(
        "--format",
        "Layout of the data, if its columns are ambiguous.",
        DATA,
        _SPEC,
        field="format",
        names=layout_names,
    ),
]
TrainExamples = Annotated[
    int | None,
    Option(
        "--train-examples",
        "Maximum number of training examples, chosen by content hash (default: all, 400 for bios).",
        DATA,
        _SPEC,
        field="train_examples",
        metavar="N",
    ),
]
EvalExamples = Annotated[
    int | None,
    Option(
        "--eval-examples",
        "Number of held-out examples, chosen by content hash. With a test, validation or eval split: at most N of its "
        "examples (default 200). Otherwise: N examples of the training data (default: those of one fifth of the "
        "prompts, at most 200).",
        DATA,
        _SPEC,
        field="eval_examples",
        metavar="N",
    ),
]
Columns = Annotated[
    str | None,
    Option(
        "--columns",
        "Columns by meaning, for example prompt=question,completion=answer. Other columns are not read.",
        DATA,
        _SPEC,
        field="columns",
        metavar="MEANING=COLUMN,...",
    ),
]
SplitName = Annotated[
    str | None,
    Option("--split", "Split of the data set to train on (default train).", DATA, _SPEC, field="split", metavar="NAME"),
]
EvalDataset = Annotated[
    str | None,
    Option(
        "--eval-dataset",
        "Data set of the held-out examples. By default they are a test split or a part of the data set.",
        DATA,
        _SPEC,
        field="eval_dataset",
        metavar="NAME",
    ),
]
EvalSplit = Annotated[
    str | None,
    Option(
        "--eval-split",
        "Split of the held-out examples (default: the test, validation or eval split, if there is one).",
        DATA,
        _SPEC,
        field="eval_split",
        metavar="NAME",
    ),
]
Loss = Annotated[
    str | None,
    Option(
        "--loss",
        "Turns that the loss is computed on: the last assistant turn, or all assistant turns (default last).",
        DATA,
        _SPEC,
        field="loss",
        names=partial(get_args, LearnedTurns),
    ),
]
Raw = Annotated[
    bool | None,
    Option("--raw", "Train on prompts and completions without a chat template.", DATA, _SPEC, field="raw"),
]
AllowSpecialTokens = Annotated[
    bool | None,
    Option(
        "--allow-special-tokens",
        "Read special tokens in the text of a turn as special tokens. By default they are ordinary text.",
        DATA,
        _SPEC,
        field="allow_special_tokens",
    ),
]
SkipBadRows = Annotated[
    bool | None,
    Option("--skip-bad-rows", "Drop and count rows that cannot be used.", DATA, _SPEC, field="skip_bad_rows"),
]
MaxBadShare = Annotated[
    float | None,
    Option(
        "--max-bad-share",
        "Largest share of rows that --skip-bad-rows may drop (default 0.05).",
        DATA,
        _SPEC,
        field="max_bad_share",
        metavar="SHARE",
    ),
]
LoadIn4Bit = Annotated[
    bool | None,
    Option(
        "--load-in-4bit",
        "Quantize the frozen weights to 4 bits; requires --lora-rank, a GPU and bitsandbytes.",
        DATA,
        _SPEC,
        field="load_in_4bit",
    ),
]
