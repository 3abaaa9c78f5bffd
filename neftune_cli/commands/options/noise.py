"""Options of the noise."""

from typing import Annotated

from neftune_cli.commands.options.panel import option
from neftune_cli.config import spec

NoiseShape = Annotated[
    spec.NoiseShape | None,
    option("--noise", help_="Shape of the draw, all of one variance (default uniform).", panel="Noise"),
]
NoiseScale = Annotated[
    spec.NoiseScale | None,
    option(
        "--noise-scale",
        help_="paper: each example's own length; hf: the padded length, as transformers does (default paper).",
        panel="Noise",
    ),
]
NoiseSchedule = Annotated[
    spec.NoiseSchedule | None,
    option(
        "--noise-schedule",
        help_="How alpha falls over the training: not at all, or to zero by the last step (default constant).",
        panel="Noise",
    ),
]
NoiseTarget = Annotated[
    spec.NoiseTarget | None, option("--noise-target", help_="The tokens that get noise (default all).", panel="Noise")
]
