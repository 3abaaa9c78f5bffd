"""Noisy embeddings for fine-tuning (NEFTune), and a comparison of fine-tunes with and without the noise.

from neftune_cli import NEFTuneCallback, NEFTuneEmbedding, attach_noise    # noise in your own training
from neftune_cli import compare, sweep                                     # sweeps in a program or a notebook
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neftune_cli.api import compare, sweep
    from neftune_cli.data.loading import load_examples
    from neftune_cli.noise import NEFTuneCallback, NEFTuneEmbedding, attach_noise

__all__ = ["NEFTuneCallback", "NEFTuneEmbedding", "attach_noise", "compare", "load_examples", "sweep"]

_MODULES = {"compare": "neftune_cli.api", "sweep": "neftune_cli.api", "load_examples": "neftune_cli.data.loading"}
"""Modules of the public names that are not in `neftune_cli.noise`."""


def __getattr__(name: str) -> Any:
    """Import a public name on first access, because the import of torch takes seconds."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES.get(name, "neftune_cli.noise")), name)


def __dir__() -> list[str]:
    """Return the names of the module, with the public names that are not imported yet."""
    return sorted({*globals(), *__all__})
