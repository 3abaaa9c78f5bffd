"""Registry of named declarations, open to other packages through entry points."""

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from functools import cache
from importlib import import_module
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from neftune_cli.errors import Problem, UsageError, alternatives, with_type

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


D = TypeVar("D")

_NAME = re.compile(r"\w[\w.+-]*")
"""Form of a name: it is a value of an option, and may be one of several with commas between them."""


def imported(reference: str | D) -> D:
    """Return the object of a declaration: a text `module:name` is imported now, anything else is the object."""
    if not isinstance(reference, str):
        return reference
    module, _, name = reference.partition(":")
    found: D = getattr(import_module(module), name)
    return found


class Registry(Mapping[str, D], Generic[D]):
    """A mapping from names to declarations, in the order of registration.

    Built-in declarations are registered where they are defined. Other packages add theirs with an entry point:

        [project.entry-points."neftune.noises"]
        triangular = "my_package.noises:TRIANGULAR"

    The entry point refers to a declaration of the registry's type. Entry points are loaded once, when a name is not
    among the declarations registered so far or when the names are listed. A call of `register` has the same effect for
    the current process only; the worker processes of a sweep see entry points alone.

    Iteration yields the names, `name in registry` tests a name, and `registry[name]` returns its declaration.

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
            UsageError: it cannot be used, or its name is already registered.
        """
        if problems := list(self.problems_of(declaration)):
            raise UsageError(*problems)
        self._declared = self._with(declaration)
        return declaration

    def problems_of(self, declaration: D) -> Iterator[Problem]:
        """Yield each reason why a declaration cannot be used, whether it is registered here or by an entry point."""
        if not isinstance(declaration, self._declares):
            name = self._declares.__name__
            yield Problem(f"The {self.kind} {declaration!r} is not a {name}.", f"Use a {name}.")
            return
        yield from self.name_problems(self._name_of(declaration))

    def name_problems(self, name: str) -> Iterator[Problem]:
        """Yield each reason why a name cannot be used."""
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            yield Problem(f"A {self.kind} cannot have the name {name!r}.", "Use letters, digits, _, ., + and -.")

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
            self._declared = self._with(*[self._load(entry_point) for entry_point in entry_points_of(self.group)])
        except BaseException:
            self._loaded = False
            raise

    def _with(self, *declarations: D) -> dict[str, D]:
        """Return the registered declarations by name, followed by these."""
        found = dict(self._declared)
        for declaration in declarations:
            name = self._name_of(declaration)
            if name in found:
                raise UsageError(Problem(f"The {self.kind} {name!r} is registered twice.", "Rename one of the two."))
            found[name] = declaration
        return found

    def _load(self, entry_point: "EntryPoint") -> D:
        package = entry_point.dist.name if entry_point.dist else entry_point.value
        try:
            with redirect_stdout(sys.stderr):  # stdout has nothing but results
                declaration: D = entry_point.load()
        except (Exception, SystemExit) as error:  # a script may end the process
            raise UsageError(
                Problem(
                    f"The {self.kind} {entry_point.name!r} of the package {package} cannot be imported: "
                    f"{with_type(error)}.",
                    f"Upgrade or uninstall {package}.",
                )
            ) from error
        if problems := list(self.problems_of(declaration)):
            where, fix = f"The entry point {entry_point.name!r} of the package {package}:", f"Or uninstall {package}."
            raise UsageError(*(replace(one, what=f"{where} {one.what}", fix=f"{one.fix} {fix}") for one in problems))
        return declaration


def entry_points_of(group: str) -> "tuple[EntryPoint, ...]":
    """Return the entry points of a group, sorted by name."""
    if not may_be_declared(group):
        return ()
    from importlib.metadata import entry_points

    return tuple(sorted(entry_points(group=group), key=lambda one: one.name))


def may_be_declared(group: str) -> bool:
    """Return False only if no installed package declares an entry point of the group.

    Archives on the import path, and finders of other kinds, are not searched: the answer is then True.
    """
    finders = (one for one in sys.meta_path if hasattr(one, "find_distributions") and one is not PathFinder)
    archives = (folder for folder in sys.path if os.path.isfile(folder))  # noqa: PTH113 - a Path costs more time
    return any(finders) or any(archives) or group in _texts(tuple(sys.path))


@cache
def _texts(path: tuple[str, ...]) -> str:
    """Return the text of all files `entry_points.txt` on an import path."""
    return "\n".join(text for folder in path for text in _texts_in(folder or "."))


def _texts_in(folder: str) -> Iterator[str]:
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except OSError:
        return
    for name in names:
        if name.lower().endswith((".dist-info", ".egg-info")) or name.lower() == "egg-info":
            try:
                with open(f"{folder}/{name}/entry_points.txt", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                    yield file.read()
            except OSError:  # most packages have no entry points, and some egg-info is a file
                continue
