"""Parameters of any shape as one flat vector, and back."""

from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from distvi.errors import InputError


class Tensor(NamedTuple):
    """Where one array of the parameters lies in the flat vector.

    Attributes:
        name: Its path in the tree, such as ``layers/0/w_mean``.
        shape: Its shape.
        start: Position of its first entry.
        stop: Position after its last entry.
    """

    name: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Layout:
    """The order of all parameters in one float32 vector: tensors in the tree's order, row by row.

    Attributes:
        tensors: The arrays of the tree.
        structure: The tree without its arrays.
    """

    tensors: tuple[Tensor, ...]
    structure: Any

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.tensors[-1].stop if self.tensors else 0

    @property
    def nbytes(self) -> int:
        """Bytes of all parameters."""
        return 4 * self.size

    @property
    def sizes(self) -> list[int]:
        """Entries of each tensor."""
        return [tensor.stop - tensor.start for tensor in self.tensors]

    def flatten(self, tree: PyTree) -> Float[Array, " size"]:
        """The vector of a tree."""
        return jnp.concatenate([jnp.ravel(leaf) for leaf in self.structure.flatten_up_to(tree)])

    def unflatten(self, flat: Float[Array | np.ndarray, " size"]) -> PyTree:
        """The tree of a vector, JAX's or NumPy's; the inverse of `flatten`."""
        leaves = [flat[t.start : t.stop].reshape(t.shape) for t in self.tensors]
        return self.structure.unflatten(leaves)


def layout_of(params: PyTree) -> Layout:
    """The layout of a tree of float32 arrays, or of their shapes.

    Raises:
        InputError: an array is not float32.

    Example:
        >>> layout_of({"b": jnp.zeros(2), "w": jnp.zeros((2, 3))}).tensors[1]
        Tensor(name='w', shape=(2, 3), start=2, stop=8)
    """
    tensors, start = [], 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if leaf.dtype != jnp.float32:
            raise InputError(f"parameter {name} is {leaf.dtype}; servers hold float32 alone")
        stop = start + prod(leaf.shape)
        tensors.append(Tensor(name, tuple(leaf.shape), start, stop))
        start = stop
    return Layout(tuple(tensors), jax.tree.structure(params))
