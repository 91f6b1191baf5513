"""Objects written down, so that other processes and later runs can make them again.

A record is made of what JSON and TOML know. An object becomes the name of its class and its fields,
a function its name; nothing is pickled, and what a record says can be read by anyone. What cannot
be written down, such as a closure, is refused with the place of it and what to do.
"""

import functools
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from pydantic import BaseModel

from distvi.system.names import ByName, CannotTravel, find, located, name_of

Record = Any
"""Plain values and lists, and tables whose first key says what they are."""

MOST_ENTRIES = 10_000
"""Of an array that is written down."""

_PLAIN = (bool, int, float, str)
_NUMBERS = "biuf"


def describe(thing: Any, what: str = "the object") -> Record:
    """An object, written down.

    Args:
        thing: An instance of a dataclass, a named tuple, pydantic settings or a plain class; a
            function or class of a module or of the running script; ``functools.partial`` of those;
            `distvi.by_name`; an array; lists, tuples and dictionaries of such things.
        what: What it is to the person who gave it: ``"the model"``.

    Raises:
        CannotTravel: a part of it cannot be written down.

    Example:
        >>> describe((1, Path("a")))
        {'tuple': [1, {'path': 'a'}]}
    """
    return _describe(thing, what, ())


def revive(record: Record) -> Any:
    """The object of a record; the inverse of `describe`.

    Raises:
        InputError: a class or function is not where it was, or the record is none.

    Example:
        >>> revive({"tuple": [1, {"path": "a"}]}) == (1, Path("a"))
        True
    """
    if isinstance(record, list):
        return [revive(each) for each in record]
    if not isinstance(record, Mapping):
        return record
    for tag, make in _REVIVERS.items():
        if tag in record:
            return make(record)
    raise CannotTravel(f"a table with the keys {', '.join(record)} describes no object")


def _describe(thing: Any, what: str, inside: tuple[int, ...]) -> Record:
    if thing is None:
        return {"none": True}
    if type(thing) in _PLAIN:
        return thing
    if id(thing) in inside:
        raise CannotTravel(f"{what} refers to itself")
    inside = (*inside, id(thing))

    def part(each: Any, name: str) -> Record:
        return _describe(each, f"{name} of {what}", inside)

    if type(thing) is list:  # what is derived from one is more than its entries
        return _list(thing, what, part)
    if type(thing) is dict:
        return _dict(thing, what, part)
    for kind, write in _WRITERS:
        if isinstance(thing, kind):
            return write(thing, what, part)
    if _is_jax_array(thing):
        return {**_array(_of_jax(thing, what), what, part), "jax": True}
    if isinstance(thing, type) or hasattr(thing, "__qualname__"):
        return {"name": name_of(thing, what)}
    return _object(thing, what, part)


Part = Callable[[Any, str], Record]


def _array(array: np.ndarray, what: str, part: Part) -> Record:
    if array.dtype.kind not in _NUMBERS:
        raise CannotTravel(f"{what} is an array of {array.dtype}, which is not written down")
    if array.size > MOST_ENTRIES:
        raise CannotTravel(
            f"{what} is an array of {array.size:,} numbers, too many to write down; let a function "
            "make it, and give distvi.by_name('module:function', ...)"
        )
    return {
        "array": array.ravel().tolist(),
        "shape": list(array.shape),
        "dtype": str(array.dtype),
    }


def _scalar(number: np.generic, what: str, part: Part) -> Record:
    return {**_array(np.asarray(number), what, part), "scalar": True}


def _list(things: list, what: str, part: Part) -> Record:
    return [part(each, f"entry {number}") for number, each in enumerate(things)]


def _tuple(things: tuple, what: str, part: Part) -> Record:
    if names := getattr(things, "_fields", None):
        own = {name: part(getattr(things, name), f"field {name!r}") for name in names}
        return {"of": name_of(type(things), f"the class of {what}"), "fields": own}
    return {"tuple": _list(list(things), what, part)}


def _dict(things: dict, what: str, part: Part) -> Record:
    if not all(isinstance(key, str) for key in things):
        raise CannotTravel(f"{what} is a dictionary whose keys are not all text; use text")
    return {"dict": {key: part(each, f"entry {key!r}") for key, each in things.items()}}


def _by_name(call: ByName, what: str, part: Part) -> Record:
    own = {name: part(each, f"argument {name!r}") for name, each in call.arguments.items()}
    return {"by_name": located(call.name), "arguments": own}


def _partial(call: functools.partial, what: str, part: Part) -> Record:
    return {
        "partial": part(call.func, "the function"),
        "positional": _list(list(call.args), what, part),
        "arguments": {
            name: part(each, f"argument {name!r}") for name, each in call.keywords.items()
        },
    }


def _settings(settings: BaseModel, what: str, part: Part) -> Record:
    own = {
        name: part(getattr(settings, name), f"field {name!r}") for name in settings.model_fields_set
    }
    return {"of": name_of(type(settings), f"the class of {what}"), "fields": own}


def _object(thing: Any, what: str, part: Part) -> Record:
    """An instance of a class: its fields, as they are given to the class or as they are stored."""
    kind = type(thing)
    name = name_of(kind, f"the class of {what}")
    if is_dataclass(thing) and _takes_its_fields(kind):
        names = [each.name for each in fields(thing) if each.init]
        return {"of": name, "fields": {n: part(getattr(thing, n), f"field {n!r}") for n in names}}
    slots = any(getattr(each, "__slots__", ()) for each in kind.__mro__)
    plain = kind.__new__ is object.__new__ and kind.__reduce_ex__ is object.__reduce_ex__
    if not plain or slots or not hasattr(thing, "__dict__"):
        raise CannotTravel(
            f"{what} is {kind.__module__}.{kind.__qualname__}, whose fields cannot be seen; make "
            "it in a function of a module, and give distvi.by_name('module:function', ...)"
        )
    own = {
        name: each
        for name, each in vars(thing).items()
        if not isinstance(getattr(kind, name, None), functools.cached_property)
    }
    return {"of": name, "stored": {n: part(each, f"field {n!r}") for n, each in own.items()}}


def _takes_its_fields(kind: type) -> bool:
    """Whether a class is made of its fields, as ``dataclass`` writes it."""
    maker = next(each for each in kind.__mro__ if "__init__" in vars(each))
    parameters = vars(maker).get("__dataclass_params__")
    return parameters is not None and parameters.init


_WRITERS: tuple[tuple[Any, Callable[[Any, str, Part], Record]], ...] = (
    (Enum, lambda thing, what, part: {"enum": name_of(type(thing), what), "member": thing.name}),
    (ByName, _by_name),
    (functools.partial, _partial),
    (BaseModel, _settings),
    (tuple, _tuple),
    (Path, lambda thing, what, part: {"path": str(thing)}),
    (np.dtype, lambda thing, what, part: {"dtype": str(thing)}),
    (np.generic, _scalar),
    (np.ndarray, _array),
    (ModuleType, lambda thing, what, part: {"module": thing.__name__}),
)


def _is_jax_array(thing: Any) -> bool:
    jax = sys.modules.get("jax")  # who has such an array has imported it
    return jax is not None and isinstance(thing, jax.Array)


def _of_jax(array: Any, what: str) -> np.ndarray:
    try:
        return np.asarray(array)
    except Exception as error:  # a key, or a tracer
        raise CannotTravel(f"{what} is an array of {array.dtype}, which has no numbers") from error


# Back again


def _revive_array(record: Mapping[str, Any]) -> Any:
    array = np.asarray(record["array"], record["dtype"]).reshape(record["shape"])
    if record.get("scalar"):
        return array[()]
    if record.get("jax"):
        import jax.numpy as jnp

        return jnp.asarray(array)
    return array


def _revive_instance(record: Mapping[str, Any]) -> Any:
    kind = find(record["of"])
    if "fields" in record:
        return kind(**{name: revive(each) for name, each in record["fields"].items()})
    thing = kind.__new__(kind)
    vars(thing).update({name: revive(each) for name, each in record["stored"].items()})
    return thing


def _revive_arguments(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: revive(each) for name, each in record.get("arguments", {}).items()}


def _revive_partial(record: Mapping[str, Any]) -> Any:
    return functools.partial(
        revive(record["partial"]), *revive(record["positional"]), **_revive_arguments(record)
    )


_REVIVERS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "none": lambda record: None,
    "tuple": lambda record: tuple(revive(each) for each in record["tuple"]),
    "dict": lambda record: {name: revive(each) for name, each in record["dict"].items()},
    "array": _revive_array,
    "of": _revive_instance,
    "by_name": lambda record: ByName(record["by_name"], _revive_arguments(record)),
    "partial": _revive_partial,
    "name": lambda record: find(record["name"]),
    "enum": lambda record: find(record["enum"])[record["member"]],
    "path": lambda record: Path(record["path"]),
    "dtype": lambda record: np.dtype(record["dtype"]),
    "module": lambda record: import_module(record["module"]),
}
