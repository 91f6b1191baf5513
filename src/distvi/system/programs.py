"""Programs: functions that JAX has compiled, each run's own, or shared among runs of one shape.

A function of a run reads numbers that are no arguments of it, such as the learning rate in the
optimizer's schedule. Compiled, they are constants, and a run that differs in them alone needs a
program of its own: seconds for what may train in milliseconds. Where runs share their programs,
such numbers stand in a `Varying`: functions read them from there, and programs take them as one
more argument.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import jax

Function = Callable[..., Any]
T = TypeVar("T")


@runtime_checkable
class Programs(Protocol):
    """Compiles the functions of a run."""

    def jit(self, name: str, function: Function, **options: Any) -> Function:
        """The function, compiled whenever it meets arguments of new shapes.

        Args:
            name: What no other function of the run is called.
            function: What to compile.
            **options: Of `jax.jit`.
        """
        ...

    def compiled(
        self, name: str, function: Function, arguments: Sequence[Any], **options: Any
    ) -> Function:
        """The function, compiled now for arguments like these."""
        ...

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What follows from the shape of the run, and takes time to find out."""
        ...


class OwnPrograms:
    """Each run compiles its own."""

    def jit(self, name: str, function: Function, **options: Any) -> Function:
        """See `Programs`."""
        return jax.jit(function, **options)

    def compiled(
        self, name: str, function: Function, arguments: Sequence[Any], **options: Any
    ) -> Function:
        """See `Programs`."""
        return jax.jit(function, **options).lower(*arguments).compile()

    def once(self, name: str, make: Callable[[], T]) -> T:
        """See `Programs`."""
        return make()


OWN_PROGRAMS: Programs = OwnPrograms()


class Varying(Generic[T]):
    """Numbers that functions read though they are no arguments of theirs.

    Attributes:
        values: A tree of numbers; of tracers while a program is made that takes them as argument.
    """

    def __init__(self, values: T) -> None:
        self.values = values

    @contextmanager
    def replaced(self, values: T) -> Iterator[None]:
        """Let functions read these meanwhile."""
        before, self.values = self.values, values
        try:
            yield
        finally:
            self.values = before


class _Pool:
    """What runs of one shape have in common."""

    def __init__(self, varying: Varying[Any]) -> None:
        self.varying = varying
        self.programs: dict[str, Function] = {}
        self.found: dict[str, Any] = {}

    def taking_values(self, function: Function) -> Function:
        """The function with the varying values as its first argument."""

        def with_values(values: Any, *arguments: Any) -> Any:
            with self.varying.replaced(values):
                return function(*arguments)

        return with_values


class SharedPrograms:
    """Those of one among many runs of one shape; made by `pool` and `for_values`.

    The first run's functions are compiled, and called for all others with these' own values. So
    all runs must be the same but for what `Varying` holds and for the arguments. Not for threads.
    """

    def __init__(self, pool: _Pool, values: Any) -> None:
        self._pool, self._values = pool, values

    @classmethod
    def pool(cls, varying: Varying[Any]) -> "SharedPrograms":
        """Programs of the first run, whose functions read ``varying``."""
        return cls(_Pool(varying), varying.values)

    def for_values(self, values: Any) -> "SharedPrograms":
        """The same programs for a run that has other values, of the same shapes."""
        return SharedPrograms(self._pool, values)

    def jit(self, name: str, function: Function, **options: Any) -> Function:
        """See `Programs`."""
        made = self._pool.programs.get(name)
        if made is None:
            with_values = self._pool.taking_values(function)
            made = self._pool.programs[name] = jax.jit(with_values, **_shifted(options))
        return lambda *arguments: made(self._values, *arguments)

    def compiled(
        self, name: str, function: Function, arguments: Sequence[Any], **options: Any
    ) -> Function:
        """See `Programs`."""
        made = self._pool.programs.get(name)
        if made is None:
            jitted = jax.jit(self._pool.taking_values(function), **_shifted(options))
            made = self._pool.programs[name] = jitted.lower(self._values, *arguments).compile()
        return lambda *given: made(self._values, *given)

    def once(self, name: str, make: Callable[[], T]) -> T:
        """See `Programs`."""
        if name not in self._pool.found:
            self._pool.found[name] = make()
        return self._pool.found[name]


def _shifted(options: dict[str, Any]) -> dict[str, Any]:
    """Options of `jax.jit` for a function with one more argument before the others."""
    if "donate_argnums" not in options:
        return options
    donated = options["donate_argnums"]
    numbers = (donated,) if isinstance(donated, int) else donated
    return options | {"donate_argnums": tuple(number + 1 for number in numbers)}
