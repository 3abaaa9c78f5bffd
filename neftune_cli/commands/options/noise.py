"""Options of the noise: the arms and seeds of a sweep, the size of a single one, and how it is drawn."""

from typing import Annotated

from neftune_cli.commands.options.panel import option
from neftune_cli.config import spec

Alphas = Annotated[str | None, option("--alphas", help_="The arms (default 0,5,10,15).", panel="Noise", metavar="LIST")]
Snr = Annotated[
    str | None,
    option("--snr", help_="More arms, by embedding norm over noise norm: 20,10.", panel="Noise", metavar="LIST"),
]
Noises = Annotated[
    str | None,
    option("--noises", help_="Shapes to try at each alpha: uniform,gaussian.", panel="Noise", metavar="LIST"),
]
Seeds = Annotated[
    str | None,
    option("--seeds", help_="How many (3) or which (0,1,7) (default 3).", panel="Noise", metavar="N|LIST"),
]
Alpha = Annotated[str | None, option("--alpha", help_="The noise; 0 is none (default 5).", panel="Noise", metavar="A")]
Ratio = Annotated[
    str | None,
    option("--snr", help_="The noise by embedding norm over noise norm, like 10.", panel="Noise", metavar="R"),
]
Seed = Annotated[
    int, option("--seed", help_="Decides data order and noise (default 0).", panel="Noise", metavar="N", at_least=0)
]
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
