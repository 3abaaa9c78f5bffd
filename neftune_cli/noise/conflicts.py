"""Other noise that a model may carry already, and how it is told of: two noises on one model are never right."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from torch import nn

from neftune_cli.errors import Problem
from neftune_cli.noise.embedding import NEFTuneEmbedding

_UPSTREAM_ATTRIBUTE = "neftune_noise_alpha"
_UPSTREAM_HOOK = "neftune_post_forward_hook"
_OWN_MARK = "adds_neftune_noise"

Hook = TypeVar("Hook", bound=Callable[..., object])


def adds_noise(hook: Hook) -> Hook:
    """Mark a forward hook as one that adds noise."""
    setattr(hook, _OWN_MARK, True)
    return hook


def noise_on(model: nn.Module) -> Iterator[Problem]:
    """Yield one problem for each hook or module in the model that adds noise to embeddings."""
    for module in model.modules():
        hooks = list(module._forward_hooks.values())
        yield from (OWN_NOISE for hook in hooks if getattr(hook, _OWN_MARK, False))
        if carries_upstream_noise(module) or any(map(_is_upstream, hooks)):
            yield UPSTREAM_NOISE
        if isinstance(module, NEFTuneEmbedding):
            yield NOISY_EMBEDDING


def carries_upstream_noise(embedding: nn.Module) -> bool:
    """Say whether transformers' own NEFTune is switched on at this embedding."""
    return hasattr(embedding, _UPSTREAM_ATTRIBUTE)


def take_off_upstream_noise(model: nn.Module) -> None:
    """Remove transformers' own NEFTune hook wherever it is."""
    for module in model.modules():
        for key, hook in list(module._forward_hooks.items()):
            if _is_upstream(hook):
                del module._forward_hooks[key]
        if hasattr(module, _UPSTREAM_ATTRIBUTE):
            delattr(module, _UPSTREAM_ATTRIBUTE)


def _is_upstream(hook: object) -> bool:
    return getattr(hook, "__name__", "") == _UPSTREAM_HOOK


OWN_NOISE = Problem(
    "The model carries noise from attach_noise or a NEFTuneCallback already.",
    "Leave the `with` block first or call detach() on its handle, and give a trainer no more than one callback.",
)
NOISY_EMBEDDING = Problem(
    "The model holds a NEFTuneEmbedding already.",
    "Put the plain one back: model.set_input_embeddings(model.get_input_embeddings().embedding).",
)
UPSTREAM_NOISE = Problem(
    "The model carries transformers' own NEFTune hook, which would add noise twice.",
    "Leave neftune_noise_alpha out of the training arguments; if an earlier training failed and left the hook behind, "
    "load the model again.",
)
