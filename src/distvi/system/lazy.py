"""Names of a package that are imported when they are first asked for."""

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any


def lazy(package: str, homes: Mapping[str, Iterable[str]]) -> Callable[[str], Any]:
    """A package's ``__getattr__``: it imports a name's module when the name is first used.

    So a light module of the package, such as its settings, can be had without the heavy ones.

    Args:
        package: Its ``__name__``.
        homes: The names that each module gives.
    """
    home_of = {name: module for module, names in homes.items() for name in names}

    def getattr_(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(import_module(home_of[name]), name)

    return getattr_
