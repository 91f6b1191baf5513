"""The options of schemes: of which type each is, and what holds where it is not given."""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any, Literal, NamedTuple, get_args, get_origin

from distvi.errors import InputError, nearest

REQUIRED: Any = object()
"""The default of an option that has none."""


class ByWorkers(NamedTuple):
    """A default that depends on the number of workers.

    Attributes:
        words: How the help puts it.
        of: From the workers that a run begins with to the value.
    """

    words: str
    of: Callable[[int], int | float]


def _whole_number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError
    return int(value)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    if not math.isfinite(number := float(value)):
        raise ValueError
    return number


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


_TYPES: Mapping[type, tuple[str, Callable[[object], int | float | str]]] = {
    int: ("a whole number", _whole_number),
    float: ("a number", _number),
    str: ("a text", _text),
}
"""What a value of each type is called, and how it is read; the command line has text for all."""


@dataclass(frozen=True, slots=True)
class Option:
    """An argument of a scheme that a run can give.

    Attributes:
        name: As in ``scheme_options={name: value}``.
        kind: ``int``, ``float`` or ``str``; or what can be chosen, by name.
        help: One line.
        default: What the scheme is made with where nothing is given: the argument itself, or a
            ``ByWorkers``; ``REQUIRED`` if something must be.
        least: The lowest number that makes sense, if there is one.
    """

    name: str
    kind: type | Mapping[str, Any]
    help: str = ""
    default: Any = REQUIRED
    least: int | float | None = None

    @property
    def expected(self) -> str:
        """What a value has to be, in words."""
        if isinstance(self.kind, Mapping):
            return f"one of {', '.join(self.kind)}"
        noun, _ = _TYPES[self.kind]
        return noun if self.least is None else f"{noun} of at least {self.least}"

    def typed(self, scheme: str, value: object) -> int | float | str:
        """The value, of the option's type; a choice stays a name.

        Args:
            scheme: For the message.
            value: As it was given, perhaps as text.

        Raises:
            InputError: It is nothing of that type, out of range, or not among the choices.
        """
        if isinstance(self.kind, Mapping):
            if isinstance(value, str) and value in self.kind:
                return value
            known = nearest(str(value), self.kind)
            raise InputError(f"scheme {scheme} has no {self.name} {value!r}{known}")
        _, read = _TYPES[self.kind]
        try:
            result = read(value)
            if self.least is None or float(result) >= self.least:
                return result
        except (ValueError, OverflowError):
            pass
        raise InputError(f"scheme {scheme}: {self.name} is {value!r}; it must be {self.expected}")

    def argument(self, value: int | float | str) -> Any:
        """What the scheme is made with for a value of the option's type."""
        return self.kind[str(value)] if isinstance(self.kind, Mapping) else value

    def default_argument(self, workers: int) -> Any:
        """What the scheme is made with where nothing is given."""
        return self.default.of(workers) if isinstance(self.default, ByWorkers) else self.default


def options_of(
    make: Callable[..., Any], choices: Mapping[str, Mapping[str, Any]]
) -> tuple[Option, ...]:
    """The options of a function that makes schemes, read off its signature.

    Parameters annotated with ``int``, ``float``, ``str`` (or one of them ``| None``) or a
    ``Literal`` of names are options; those without annotation are of their default's type, or
    whole numbers. Others are none and keep their defaults.

    Args:
        make: The function.
        choices: Parameters that are chosen by name, and among what.

    Raises:
        InputError: A parameter is of another type and has no default.
    """
    return tuple(_read(make, choices))


def _read(make: Callable[..., Any], choices: Mapping[str, Mapping[str, Any]]) -> Iterator[Option]:
    try:
        signature = inspect.signature(make, eval_str=True)
    except NameError:  # an annotation that only type checkers know
        signature = inspect.signature(make)
    for name, parameter in signature.parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        kind = choices.get(name) or _kind(parameter)
        default = REQUIRED if parameter.default is parameter.empty else parameter.default
        if kind is not None and parameter.kind is not parameter.POSITIONAL_ONLY:
            yield Option(name, kind, default=default)
        elif default is REQUIRED:
            raise InputError(
                f"the scheme's parameter '{name}' cannot be given by a run: annotate it with int, "
                "float, str or a Literal of names, or give it a default"
            )


def _kind(parameter: inspect.Parameter) -> type | Mapping[str, str] | None:
    annotation, default = parameter.annotation, parameter.default
    if annotation is parameter.empty:
        annotation = int if default is parameter.empty or default is None else type(default)
    if isinstance(annotation, str):
        annotation = {kind.__name__: kind for kind in _TYPES}.get(annotation)
    members = get_args(annotation)
    if get_origin(annotation) is Literal and all(isinstance(name, str) for name in members):
        return {name: name for name in members}
    if members and NoneType in members:
        annotation, *others = (member for member in members if member is not NoneType)
        annotation = None if others else annotation
    return next((kind for kind in _TYPES if kind is annotation), None)
