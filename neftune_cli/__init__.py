"""Noisy embeddings for fine-tuning (NEFTune), and a comparison of fine-tunes with and without the noise.

from neftune_cli import NEFTuneCallback, NEFTuneEmbedding, attach_noise
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neftune_cli.data.loading import load_examples
    from neftune_cli.noise import NEFTuneCallback, NEFTuneEmbedding, attach_noise

__all__ = ["NEFTuneCallback", "NEFTuneEmbedding", "attach_noise", "load_examples"]


def __getattr__(name: str) -> Any:
    """Import a public name on first access, because the import of torch takes seconds."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "load_examples":
        from neftune_cli.data.loading import load_examples

        return load_examples
    from neftune_cli import noise

    return getattr(noise, name)


def __dir__() -> list[str]:
    """Return the names of the module, with the public names that are not imported yet."""
    return sorted({*globals(), *__all__})
