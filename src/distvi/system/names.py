"""Classes and functions by name: how another process finds one that this process has.

A name is ``"package.module:Class"``, or ``"/folder/script.py:Class"`` for what a script defines
that is run as a program: no module of that name can be imported anywhere. Standard library only.
"""

import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from distvi.errors import InputError

SEPARATOR = ":"

OWN = "own"
"""Stands in a configuration for an object that was given and has no name."""

_SCRIPT = "distvi_script_"  # modules that were loaded from the file of a script
_loading: list[Path] = []


class CannotTravel(InputError):
    """An object that another process cannot be told of; the message says why, and what to do."""


def is_name(text: object) -> bool:
    """Whether a setting names a class or function of a module, and nothing that distvi lists."""
    return isinstance(text, str) and SEPARATOR in text


def name_of(thing: Any, what: str) -> str:
    """By which another process finds a class, a function or whatever else a module holds.

    Args:
        thing: It.
        what: What it is to the person who gave it, for the message: ``"the model"``.

    Raises:
        CannotTravel: it is a lambda, it was made inside a function or in a session without a file,
            or its module has something else of its name.

    Example:
        >>> name_of(Path, "the class")
        'pathlib:Path'
    """
    module = getattr(thing, "__module__", None)
    path = getattr(thing, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(path, str):
        raise CannotTravel(f"{what} has no name by which another process could find it")
    if "<lambda>" in path:
        raise CannotTravel(f"{what} is a lambda, which has no name; make it a function of a module")
    if "<locals>" in path:
        raise CannotTravel(
            f"{what} is {path.replace('.<locals>.', '() > ')}, made inside a function; "
            "move it to the top level of a module or of the script"
        )
    place = _place(module, what)
    try:
        found = _attribute(sys.modules[module], path)
    except (KeyError, AttributeError):
        found = None
    if found is not thing:
        raise CannotTravel(
            f"{what} is called {path}, but module {module} has something else of that name; give "
            "it the name under which it can be imported"
        )
    return f"{place}{SEPARATOR}{path}"


def find(name: str) -> Any:
    """What a name stands for; its module or script is imported if need be.

    Raises:
        InputError: there is no such module or script, or it has nothing of that name.

    Example:
        >>> find("pathlib:Path")
        <class 'pathlib.Path'>
    """
    place, _, path = name.rpartition(SEPARATOR)
    if not place or not path:
        raise InputError(f"{name!r} names nothing; write module:name, such as my_models:Net")
    is_file = place.endswith(".py")
    module = _script(Path(place)) if is_file else _imported(place, name)
    try:
        return _attribute(module, path)
    except AttributeError:
        raise InputError(f"{place} has no {path!r}, which {name!r} asks for") from None


def located(name: str) -> str:
    """A name that means the same from any folder.

    Example:
        >>> located("pathlib:Path")
        'pathlib:Path'
    """
    place, _, path = name.rpartition(SEPARATOR)
    return f"{Path(place).resolve()}{SEPARATOR}{path}" if place.endswith(".py") else name


@dataclass(frozen=True)
class ByName:
    """A call that is written down: of what, and with which arguments. See `by_name`."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, *first: Any) -> Any:
        """Make it.

        Raises:
            InputError: see `find`.
        """
        return find(self.name)(*first, **self.arguments)


def by_name(name: str, /, **arguments: Any) -> ByName:
    """An object by the name of what makes it, for runs whose processes make it for themselves.

    Args:
        name: ``"module:function"``, ``"module:Class"``, or ``"script.py:function"``.
        **arguments: Of that function, in every process.

    Example:
        >>> optimizer = by_name("optax:adam", b1=0.8)  # called with the learning rates first
        >>> run = distvi.train("digits", optimizer=optimizer)  # doctest: +SKIP
    """
    return ByName(name, arguments)


def refuse_while_loading(what: str) -> None:
    """Refuse to begin, in a process that imports a script for the classes in it.

    Raises:
        InputError: says how scripts are written.
    """
    if _loading:
        raise InputError(
            f"{_loading[-1]} calls {what} as it is imported, which every worker process does for "
            "the classes in it; put the call below: if __name__ == '__main__':"
        )


def _place(module: str, what: str) -> str:
    if module.startswith(_SCRIPT):
        return str(sys.modules[module].__file__)
    if module != "__main__":
        return module
    main = sys.modules["__main__"]
    if spec := getattr(main, "__spec__", None):  # python -m package.module
        return spec.name
    file = getattr(main, "__file__", None)
    if file is None or not Path(file).is_file():
        raise CannotTravel(
            f"{what} was made in this session, which other processes cannot import; write it to a "
            "file, such as my_models.py, and import it from there"
        )
    return str(Path(file).resolve())


def _attribute(module: ModuleType, path: str) -> Any:
    found: Any = module
    for part in path.split("."):
        found = getattr(found, part)
    return found


def _imported(place: str, name: str) -> ModuleType:
    main = sys.modules.get("__main__")
    if place == getattr(getattr(main, "__spec__", None), "name", None):
        assert main is not None
        return main
    try:
        return import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{place}.".startswith(f"{error.name}."):
            raise  # it is there, and imports what is not
        raise InputError(
            f"cannot import {place}, which {name!r} asks for; put its folder on PYTHONPATH, or "
            "write the path of its file: folder/my_models.py:Net"
        ) from error


def _script(path: Path) -> ModuleType:
    """The module of a script: this program itself, or loaded under a name of its own."""
    path = path.resolve()
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if main and file and not getattr(main, "__spec__", None) and Path(file).resolve() == path:
        return main
    name = f"{_SCRIPT}{zlib.crc32(str(path).encode()):08x}"
    if name in sys.modules:
        return sys.modules[name]
    if not path.is_file():
        raise InputError(f"{path}: there is no such script; it held a part of the run")
    with _load(path):
        spec = spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return module


@contextmanager
def _load(path: Path) -> Iterator[None]:
    _loading.append(path)
    try:
        yield
    finally:
        _loading.pop()
