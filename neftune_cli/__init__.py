"""Embedding noise for fine-tuning (NEFTune), done right, and a tool that tells whether it helps.

from neftune_cli import NEFTuneCallback, NEFTuneEmbedding, attach_noise
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neftune_cli.noise import NEFTuneCallback, NEFTuneEmbedding, attach_noise

__all__ = ["NEFTuneCallback", "NEFTuneEmbedding", "attach_noise"]


def __getattr__(name: str) -> Any:
    """Import the noise, and torch with it, when it is first asked for: comparing needs neither."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from neftune_cli import noise

    return getattr(noise, name)
