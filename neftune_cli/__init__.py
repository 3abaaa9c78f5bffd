"""Embedding noise for fine-tuning (NEFTune), done right, and a tool that tells whether it helps.

from neftune_cli import NEFTuneCallback, NEFTuneEmbedding, attach_noise
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neftune_cli.data.loading import load_examples
    from neftune_cli.noise import NEFTuneCallback, NEFTuneEmbedding, attach_noise

__all__ = ["NEFTuneCallback", "NEFTuneEmbedding", "attach_noise", "load_examples"]


def __getattr__(name: str) -> Any:
    """Import a name, and torch where it is needed, on first access; `neftune compare` needs neither."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "load_examples":
        from neftune_cli.data.loading import load_examples

        return load_examples
    from neftune_cli import noise

    return getattr(noise, name)
