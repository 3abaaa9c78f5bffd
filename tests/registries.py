"""Registries in tests: what a test registers or removes does not affect other tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from neftune_cli.config.registry import Registry


@contextmanager
def restored(*registries: Registry[Any]) -> Iterator[None]:
    """Restore the declarations of registries at the end."""
    before = [dict(vars(registry)) for registry in registries]
    try:
        yield
    finally:
        for registry, state in zip(registries, before, strict=True):
            vars(registry).update(state)


@contextmanager
def without(registry: Registry[Any], *names: str) -> Iterator[None]:
    """Remove declarations until the end."""
    with restored(registry):
        registry._declared = {name: one for name, one in registry._declared.items() if name not in names}
        yield
