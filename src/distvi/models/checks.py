"""Shapes where a model meets the rest: looked at while JAX traces, so that no update takes longer.

A wrong shape is often no error to JAX: a column (n, 1) minus a row (n,) is a matrix (n, n), and a
model trains on its mean to no avail.
"""

import re
import warnings
from collections.abc import Callable, Mapping
from itertools import count

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distvi.errors import InputError
from distvi.models.base import Batch, Params, Trainable

_PROMOTION = re.compile(r"rank promotion for (\w+) on shapes (.+?)\. ")
"""JAX's warning of two shapes of which one has fewer axes; see `refuse_outer_products`."""

_sizes = count(1009)  # a square of so many is no burden to a model that makes it in NumPy


def checked_neg_elbo(
    model: Trainable, params: Params, batch: Batch, key: Array, n_data: int
) -> Float[Array, ""]:
    """A model's ``neg_elbo``, if it is what it should be: one float32 number.

    Raises:
        InputError: it is of another shape or type.
    """
    value = jnp.asarray(model.neg_elbo(params, batch, key, n_data))
    if value.shape != ():
        raise InputError(
            f"the model's negative ELBO has shape {value.shape} for a batch of "
            f"{batch.x.shape[0]}; it should be one number: the estimate for the whole training "
            "set, such as n_data * mean over the batch"
        )
    if value.dtype != jnp.float32:
        raise InputError(
            f"the model's negative ELBO is {value.dtype}; it should be float32: "
            "value.astype(jnp.float32)"
        )
    return value


def check_neg_elbo(
    model: Trainable,
    shapes: Params,
    row: tuple[np.ndarray, np.ndarray],
    size: int,
    key: Array,
    n_data: int,
) -> None:
    """Look at a model's ``neg_elbo`` without computing it.

    Args:
        model: Of one's own.
        shapes: Of its parameters.
        row: Inputs and targets of one example, as the model sees them.
        size: Examples in a batch.
        key: Any key.
        n_data: Examples in the training set.

    Raises:
        InputError: it is no number, or sets each example against every other.
    """

    def neg_elbo(params: Params, x: Array, y: Array, index: Array) -> Array:
        return checked_neg_elbo(model, params, Batch(x, y, index), key, n_data)

    def look(size: int) -> None:
        x, y = (jax.ShapeDtypeStruct((size, *rows.shape[1:]), rows.dtype) for rows in row)
        jax.eval_shape(neg_elbo, shapes, x, y, jax.ShapeDtypeStruct((size,), jnp.uint32))

    refuse_outer_products(look, _name(model))
    look(size)


def check_divergence(divergence: Callable[[Params], Array], shapes: Params) -> None:
    """Look at a model's ``divergence`` without computing it.

    Args:
        divergence: Of one's own.
        shapes: Of the parameters.

    Raises:
        InputError: it is not a function of the parameters that gives one number.
    """
    try:
        found = jax.eval_shape(lambda params: jnp.asarray(divergence(params)), shapes)
        is_number = found.shape == () and found.dtype == jnp.float32
    except Exception as error:  # of someone's code
        raise InputError(
            f"the model's divergence(params) failed: {error}; it should give its KL in nats, one "
            "float32 number, or have another name"
        ) from error
    if not is_number:
        raise InputError(
            f"the model's divergence(params) gives {found.dtype}{list(found.shape)}; it should "
            "give its KL in nats, one float32 number, or have another name"
        )


def _name(model: Trainable) -> str:
    return type(getattr(model, "own", model)).__name__


def check_params(shapes: Params) -> None:
    """Refuse parameters that no optimizer could move.

    Args:
        shapes: Of what ``init`` returns (``jax.ShapeDtypeStruct``).

    Raises:
        InputError: there are none, or one of them is not float32.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(shapes)
    if not leaves:
        raise InputError("the model's init(key) returns no arrays; it should return its parameters")
    for path, leaf in leaves:
        if leaf.dtype != jnp.float32:
            name = jax.tree_util.keystr(path)
            raise InputError(
                f"init(key){name} is {leaf.dtype}{list(leaf.shape)}; parameters are float32, and "
                "constants belong to the model's fields"
            )


def check_log_density(log_p: Array, f: Array) -> None:
    """Refuse log densities of a likelihood that are not one number for each point.

    Args:
        log_p: Log p(y | f).
        f: Sampled values, (samples, points, latents).

    Raises:
        InputError: they have another shape.
    """
    if log_p.shape != f.shape[:-1]:
        raise InputError(
            f"the likelihood's log_density has shape {log_p.shape} for values of shape {f.shape}; "
            f"it should be {f.shape[:-1]}, one number for each point, summed over the target's "
            "columns"
        )


def check_predictions(found: Mapping[str, Array], points: int, outputs: int | None) -> None:
    """Refuse predictions of a wrong shape.

    Args:
        found: ``log_density``, (points,); ``probabilities`` or ``mean`` and ``variance``, (points,
            outputs); ``quantiles``, (points, quantiles, outputs).
        points: How many there are.
        outputs: Targets; None: not known, for classes.

    Raises:
        InputError: one has another shape.
    """
    axes = {"log_density": 1, "quantiles": 3}
    for name, array in found.items():
        rank = axes.get(name, 2)
        is_right = array.ndim == rank and array.shape[0] == points
        if is_right and rank > 1 and outputs is not None:
            is_right = array.shape[-1] == outputs
        if not is_right:
            words = ("points", "quantiles", "outputs")
            shape = ", ".join(words[:1] if rank == 1 else words if rank == 3 else words[::2])
            raise InputError(
                f"{name} of the model's predictions has shape {array.shape} for {points} points; "
                f"it should be ({shape})"
            )


def refuse_outer_products(look: Callable[[int], object], model: str) -> None:
    """Refuse ``(batch, 1)`` and ``(batch,)`` in one operation of a model.

    Its result is ``(batch, batch)``: each example against every other. JAX can only be told to warn
    of, or to refuse, all operations on unequal numbers of axes, most of which are as they should be
    (a bias added to rows); so its warnings are read. What JAX has traced before, with arguments of
    the same shapes, it does not trace again, and does not warn of; so each look has a size of batch
    of its own, and nothing is said of a model that can do no batch of that size.

    Args:
        look: ``look(size)`` traces the model with a batch of that size.
        model: Name of its class, for the message.

    Raises:
        InputError: names the operation and the shapes.
    """
    size = next(_sizes)
    with warnings.catch_warnings(record=True) as caught, jax.numpy_rank_promotion("warn"):
        warnings.simplefilter("always")
        try:
            look(size)
        except Exception:
            return  # whatever it is, it comes again with the batches of the run
    column, row = f"({size}, 1)", f"({size},)"
    for warning in caught:
        found = _PROMOTION.search(str(warning.message))
        if found and column in found[2] and row in found[2]:
            raise InputError(
                f"{model}: {found[1]} of a column (batch, 1) and a row (batch,) makes (batch, "
                "batch) values, each example against every other. Targets are (batch, outputs) "
                "where they are numbers and (batch,) where they are class numbers; bring both to "
                "one shape, such as f[:, None]. If the square is meant, write a[None, :]"
            )
