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


class Schedule(StrEnum):
    """How alpha changes over a training."""

    CONSTANT = "constant"
    LINEAR = "linear"
    COSINE = "cosine"


class Target(StrEnum):
    """Which tokens get noise."""

    ALL = "all"
    PROMPT = "prompt"
    COMPLETION = "completion"


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
NoiseSchedule = Annotated[
    Schedule | None,
    option(
        "--noise-schedule",
        help_="How alpha falls over the training: not at all, or to zero by the last step (default constant).",
        panel="Noise",
    ),
]
NoiseTarget = Annotated[
    Target | None, option("--noise-target", help_="The tokens that get noise (default all).", panel="Noise")
]
