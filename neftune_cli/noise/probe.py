"""Sees what a module returns by itself and what leaves it after all its hooks, whoever put them there."""

from collections.abc import Callable

from torch import Tensor, nn


class Probe:
    """Watches the calls of a module until it is removed.

    It has to be put on when all other hooks are there, since hooks run in the order in which they came.

    Args:
        module: returns one tensor.
        seen: takes, after each call, what the module returned and what its hooks made of it, both without gradient.

    """

    def __init__(self, module: nn.Module, seen: Callable[[Tensor, Tensor], None]) -> None:
        self._seen = seen
        self._returned: Tensor | None = None
        self._hooks = (
            module.register_forward_hook(self._remember, prepend=True),
            module.register_forward_hook(self._report),
        )

    def remove(self) -> None:
        """Watch no longer; calling it again does nothing."""
        for hook in self._hooks:
            hook.remove()

    def _remember(self, _: nn.Module, __: tuple[object, ...], output: Tensor) -> None:
        self._returned = output.detach()

    def _report(self, _: nn.Module, __: tuple[object, ...], output: Tensor) -> None:
        assert self._returned is not None
        self._seen(self._returned, output.detach())
