"""Options of the noise."""

from enum import StrEnum
from typing import Annotated

from neftune_cli.commands.options.panel import option


class Noise(StrEnum):
    """Shapes of the draw."""

    UNIFORM = "uniform"
    GAUSSIAN = "gaussian"
    BERNOULLI = "bernoulli"


class Scale(StrEnum):
    """Whose sequence length scales the noise."""

    PAPER = "paper"
    HF = "hf"


NoiseShape = Annotated[
    Noise | None, option("--noise", help_="Shape of the draw, all of one variance (default uniform).", panel="Noise")
]
NoiseScale = Annotated[
    Scale | None,
    option(
        "--noise-scale",
        help_="paper: each example's own length; hf: the padded length, as transformers does (default paper).",
        panel="Noise",
    ),
]
