"""Registry of named declarations, open to other packages through entry points."""

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from neftune_cli.config.entry_points import entry_points_of
from neftune_cli.errors import Problem, UsageError, alternatives

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

D = TypeVar("D")


def imported(reference: str) -> Any:
    """Import what a declaration names as `module:name`, so that a registry can list it without the import."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)


class Registry(Mapping[str, D], Generic[D]):
    """A mapping from names to declarations, in the order of registration.

    Built-in declarations are registered where they are defined. Other packages add theirs with an entry point:

        [project.entry-points."neftune.noises"]
        triangular = "my_package.noises:TRIANGULAR"

    The entry point refers to a declaration of the registry's type. Entry points are loaded once, when a name is not
    among the declarations registered so far or when the names are listed. A call of `register` has the same effect for
    the current process only; the worker processes of a sweep see entry points alone.

    Registered names iterate, `name in registry` tests them, and `registry[name]` returns the declaration.

    Args:
        kind: singular noun phrase for error messages, for example "noise distribution".
        group: name of the entry point group, for example "neftune.noises".
        declares: type of the declarations.
        name_of: returns the name of a declaration.

    """

    def __init__(self, kind: str, group: str, declares: type[D], name_of: Callable[[D], str]) -> None:
        self.kind = kind
        self.group = group
        self._declares = declares
        self._name_of = name_of
        self._declared: dict[str, D] = {}
        self._loaded = False

    def register(self, declaration: D) -> D:
        """Add a declaration and return it.

        Raises:
            UsageError: its name is already registered.

        """
        name = self._name_of(declaration)
        if name in self._declared:
            raise UsageError(Problem(f"The {self.kind} {name!r} is registered twice.", "Rename one of the two."))
        self._declared[name] = declaration
        return declaration

    def unregister(self, name: str) -> None:
        """Remove a declaration that `register` added; meant for tests."""
        del self._declared[name]

    def __getitem__(self, name: str) -> D:
        """Return the declaration of a name.

        Raises:
            UsageError: the name is unknown. The message lists the known names.

        """
        if name not in self:
            names = tuple(self._declared)
            raise UsageError(Problem(f"{self.kind} {name!r} is unknown.", f"Use one of: {', '.join(names)}."))
        return self._declared[name]

    def __contains__(self, name: object) -> bool:
        if name not in self._declared:
            self._load_entry_points()
        return name in self._declared

    def __iter__(self) -> Iterator[str]:
        self._load_entry_points()
        return iter(tuple(self._declared))

    def __len__(self) -> int:
        self._load_entry_points()
        return len(self._declared)

    def get(self, name: str, default: Any = None) -> Any:
        """Return the declaration of a name, or `default` if the name is unknown."""
        return self._declared[name] if name in self else default

    def names(self) -> tuple[str, ...]:
        """Return all names."""
        return tuple(self)

    def valid_name(self, name: str) -> str:
        """Return the name if it is known; a validator for pydantic.

        Raises:
            ValueError: the name is unknown. The message states the allowed names.

        """
        if name not in self:
            raise ValueError(f"must be {alternatives(self)}")
        return name

    def _load_entry_points(self) -> None:
        if self._loaded:
            return
        self._loaded = True  # set first: a module that is loaded may itself read this registry
        try:
            for entry_point in entry_points_of(self.group):
                self.register(self._load(entry_point))
        except BaseException:
            self._loaded = False
            raise

    def _load(self, entry_point: "EntryPoint") -> D:
        package = entry_point.dist.name if entry_point.dist else entry_point.value
        try:
            declaration = entry_point.load()
        except Exception as error:
            raise UsageError(
                Problem(
                    f"The {self.kind} {entry_point.name!r} of the package {package} cannot be imported: {error}.",
                    f"Upgrade or uninstall {package}.",
                )
            ) from error
        if not isinstance(declaration, self._declares):
            raise UsageError(
                Problem(
                    f"The entry point {entry_point.name!r} of the package {package} is not a "
                    f"{self._declares.__name__}.",
                    f"Upgrade or uninstall {package}.",
                )
            )
        return declaration
