"""Options for what is trained on what."""

from typing import Annotated, get_args

from neftune_cli.commands.options.panel import option
from neftune_cli.config import spec

Model = Annotated[
    str | None,
    option(
        "--model", help_="tiny (embedded, default), smollm2, a hub id, or a local directory.", panel="Data and model"
    ),
]
DatasetName = Annotated[
    str | None,
    option(
        "--dataset",
        help_="bios (embedded, default), a hub id, a .json, .jsonl, .csv or .parquet file, or a saved data set.",
        panel="Data and model",
    ),
]
Format = Annotated[
    spec.Layout | None,
    option(
        "--format",
        help_=f"Layout of the data, where its columns don't tell: {', '.join(get_args(spec.Layout))}.",
        panel="Data and model",
        metavar="LAYOUT",
    ),
]
TrainExamples = Annotated[
    int | None,
    option(
        "--train-examples",
        help_="Train on at most so many, chosen by content hash.",
        panel="Data and model",
        metavar="N",
    ),
]
EvalExamples = Annotated[
    int | None,
    option(
        "--eval-examples",
        help_="Hold out at most so many, chosen by content hash.",
        panel="Data and model",
        metavar="N",
    ),
]
