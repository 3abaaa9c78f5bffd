"""The method: NEFTune noise on input embeddings, with a half-width that depends on the true length of each example."""

from typing import TYPE_CHECKING

from neftune_cli.noise.attachment import AttachedNoise, attach_noise
from neftune_cli.noise.embedding import NEFTuneEmbedding
from neftune_cli.noise.lengths import token_noise_scale

if TYPE_CHECKING:
    from neftune_cli.noise.callback import NEFTuneCallback

__all__ = [
    "AttachedNoise",
    "NEFTuneCallback",
    "NEFTuneEmbedding",
    "attach_noise",
    "token_noise_scale",
]


def __getattr__(name: str) -> object:
    if name == "NEFTuneCallback":  # needs transformers' trainer, which takes seconds to import
        from neftune_cli.noise.callback import NEFTuneCallback

        return NEFTuneCallback
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
