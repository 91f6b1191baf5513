"""Numbers are float32, whatever ``JAX_ENABLE_X64`` says: it would make the same code another run.

With it a parameter, a key's draw or a constant without a type of its own is float64: other numbers
from the same seed, which fit no checkpoint and no server's memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import MappingProxyType

FLOAT32 = MappingProxyType({"JAX_ENABLE_X64": "0"})
"""For a process that has not imported JAX yet."""


@contextmanager
def in_float32() -> Iterator[None]:
    """Hold this thread to it, inside the ``with`` block or the function that is decorated.

    JAX keeps the setting for each thread; one that is started inside has to be held by itself.
    """
    import jax

    with jax.enable_x64(False):
        yield
