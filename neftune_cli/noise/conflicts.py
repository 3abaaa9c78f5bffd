"""Detection of noise that a model already has: two noise sources on one model are always an error."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from torch import nn

from neftune_cli.errors import Problem, UsageError

Source = TypeVar("Source", bound=Callable[..., object])

ATTACHED_NOISE = Problem(
    "The model already has noise from attach_noise or a NEFTuneCallback.",
    "Leave the `with` block first or call detach() on its handle, and pass at most one callback to a trainer.",
)
NOISY_EMBEDDING = Problem(
    "The model already has a NEFTuneEmbedding.",
    "Restore the plain embedding: model.set_input_embeddings(model.get_input_embeddings().embedding).",
)
UPSTREAM_NOISE = Problem(
    "The model has transformers' own NEFTune hook, which would add noise a second time.",
    "Remove neftune_noise_alpha from the training arguments. If a failed training left the hook behind, load the model "
    "again.",
)

_UPSTREAM_ATTRIBUTE = "neftune_noise_alpha"
_UPSTREAM_HOOK = "neftune_post_forward_hook"
_OWN_MARK = "adds_neftune_noise"


def mark_noise_source(source: Source) -> Source:
    """Mark a forward hook, or a class of modules, as one that adds noise."""
    setattr(source, _OWN_MARK, True)
    return source


def require_no_noise(module: nn.Module) -> None:
    """Raise a UsageError with one problem for each kind of noise that the module or a part of it already has."""
    if problems := dict.fromkeys(noise_sources(module)):
        raise UsageError(*problems)


def noise_sources(model: nn.Module) -> Iterator[Problem]:
    """Yield one problem for each hook or module in the model that adds noise to embeddings."""
    for module in model.modules():
        hooks = list(module._forward_hooks.values())
        yield from (ATTACHED_NOISE for hook in hooks if getattr(hook, _OWN_MARK, False))
        if has_upstream_noise(module) or any(map(_is_upstream, hooks)):
            yield UPSTREAM_NOISE
        if getattr(type(module), _OWN_MARK, False):
            yield NOISY_EMBEDDING


def has_upstream_noise(embedding: nn.Module) -> bool:
    """Return whether transformers' own NEFTune is active at this embedding."""
    return hasattr(embedding, _UPSTREAM_ATTRIBUTE)


def remove_upstream_noise(model: nn.Module) -> None:
    """Remove transformers' own NEFTune hook from all modules of the model."""
    for module in model.modules():
        for key, hook in list(module._forward_hooks.items()):
            if _is_upstream(hook):
                del module._forward_hooks[key]
        if hasattr(module, _UPSTREAM_ATTRIBUTE):
            delattr(module, _UPSTREAM_ATTRIBUTE)


def _is_upstream(hook: object) -> bool:
    return getattr(hook, "__name__", "") == _UPSTREAM_HOOK
