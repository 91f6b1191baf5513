"""A batch that devices compute in equal slices, each its own: the mean over all of them."""

import jax
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

SLICES = "slices"
"""The axis of devices along which an engine has cut the batch, if it has."""


def mean_over_slices(tree: PyTree) -> PyTree:
    """The mean of a tree of float32 arrays over the slices of a batch; itself of a whole batch.

    All of it travels as one vector: sixteen arrays of 0.3 MB took seven times as long between two
    processes as one of 4.4 MB, for each waits for the network by itself.
    """
    try:
        jax.lax.axis_index(SLICES)
    except NameError:  # no engine has cut anything
        return tree
    flat, restore = ravel_pytree(tree)
    return restore(jax.lax.pmean(flat, SLICES))
