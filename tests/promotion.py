"""JAX without implicit promotion, except within the optimizers of optax."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import optax

from distvi.training import optimizers


def refuse() -> None:
    """Let JAX raise an error where it would change a type or add an axis unseen.

    A third of optax's optimizers raise a float to the power of their count of updates, which is a
    whole number: Adam and its kin, to correct a bias. So all of them, and nothing else, are traced
    with the usual promotion of types, whoever calls them.
    """
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    for name in optimizers.names():
        for module in (optax, optax.contrib):
            if name in vars(module):
                setattr(module, name, _exempt(vars(module)[name]))


def _exempt(factory: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(factory)  # its signature says which options there are
    def make(*args: Any, **options: Any) -> Any:
        optimizer = factory(*args, **options)
        return type(optimizer)(*map(_with_usual_types, optimizer))

    return make


def _with_usual_types(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return function(*args, **options)

    return call
