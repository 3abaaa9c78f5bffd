"""Options of how answers are generated and where results go."""

from pathlib import Path
from typing import Annotated

from neftune_cli.commands.options.panel import option

MaxNewTokens = Annotated[
    int | None,
    option(
        "--max-new-tokens",
        help_="Longest answer to generate (default 96 for bios, else 128).",
        panel="Evaluation",
        metavar="N",
    ),
]
RepetitionPenalty = Annotated[
    float | None,
    option("--repetition-penalty", help_="For greedy answers (default 1.0 for bios, else 1.2).", panel="Evaluation"),
]
Output = Annotated[
    Path | None,
    option("--output", help_="Folder for the results (default results/NAME).", panel="Run", metavar="DIR"),
]
Quiet = Annotated[bool, option("--quiet", help_="No progress.", panel="Run")]
Json = Annotated[bool, option("--json", help_="Print one JSON summary, and nothing else, on stdout.", panel="Run")]
