"""Options of the training recipe."""

from typing import Annotated

from neftune_cli.commands.options.panel import option

Epochs = Annotated[
    float | None,
    option("--epochs", help_="Passes over the training examples (default 3).", panel="Training", metavar="N"),
]
MaxSteps = Annotated[
    int | None, option("--max-steps", help_="Optimizer steps, instead of epochs.", panel="Training", metavar="N")
]
LearningRate = Annotated[
    float | None,
    option(
        "--learning-rate",
        help_="Peak rate of AdamW (default 1e-3 for tiny, 2e-5 for others, 2e-4 with --lora-rank).",
        panel="Training",
    ),
]
BatchSize = Annotated[
    int | None,
    option(
        "--batch-size",
        help_="Examples a step and device (default 16 for tiny, 8 for others).",
        panel="Training",
        metavar="N",
    ),
]
MaxLength = Annotated[
    int | None,
    option(
        "--max-length",
        help_="Tokens after which an example is cut (default 256 for tiny, 512 for others).",
        panel="Training",
        metavar="N",
    ),
]
LoraRank = Annotated[
    int | None,
    option(
        "--lora-rank", help_="Train LoRA adapters of this rank, not the whole model.", panel="Training", metavar="R"
    ),
]
Settings = Annotated[
    list[str] | None,
    option("--set", help_="Any other SFTConfig field; may be repeated.", panel="Training", metavar="KEY=VALUE"),
]
