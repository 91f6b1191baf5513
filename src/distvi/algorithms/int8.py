"""Eight bits: blocks of a payload travel as whole numbers with one scale each, with error feedback.

Each tensor, or run of tensors, is cut into blocks of B numbers in a row, the last one shorter::

    s = max |p| / 127 over the block;   sent = round(p / s);   received = s * sent

That is B + 4 bytes for 4 B. An entry is off by at most s / 2, so a block contracts::

    ||p - received||^2 <= B (s / 2)^2 <= B / (4 * 127^2) ||p||^2

With 1024 that is a factor of 0.016. A large number costs accuracy in its own block alone. What is
lost is kept by the worker and added to its next payload, see
`distvi.algorithms.error_feedback`.

References:
    Seide et al. (2014), 1-bit stochastic gradient descent, for quantization with error feedback;
    Dettmers (2016), 8-bit approximations for parallelism in deep learning, for gradients in 8 bits;
    Dettmers et al. (2022), 8-bit optimizers via block-wise quantization, for a scale per block.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8
from pydantic import Field

from distvi.algorithms.base import Encoded, Part, Wire
from distvi.algorithms.draft import Draft
from distvi.algorithms.narrow import is_number, narrowed_with_feedback
from distvi.system.settings import Settings

_MOST = 127.0
_LEAST = float(jnp.finfo(jnp.float32).tiny)


class Int8Settings(Settings):
    """Payloads travel in 8 bits; a worker keeps what rounding has lost for later."""

    block: int = Field(default=1024, ge=1, le=32_768)
    """Numbers that share a scale."""


def int8(block: int) -> Wire:
    """Numbers as whole ones from -127 to 127, with a float32 scale for each block.

    Args:
        block: Numbers that share a scale.
    """

    def encode(part: Part) -> Encoded:
        leaves, tree = jax.tree.flatten(part)
        pairs = [quantized(leaf, block) if is_number(leaf) else (leaf, None) for leaf in leaves]
        numbers = tree.unflatten([number for number, _ in pairs])
        return {"numbers": numbers, "scales": [scale for _, scale in pairs]}

    def decode(message: Encoded, like: Part) -> Part:
        leaves, tree = jax.tree.flatten(message["numbers"])
        pairs = zip(leaves, message["scales"], strict=True)
        return tree.unflatten(
            [sent if scale is None else restored(sent, scale, block) for sent, scale in pairs]
        )

    return Wire(encode, decode, is_narrow=True)


def quantized(
    leaf: Float[Array, "*shape"], block: int
) -> tuple[Int8[Array, "*shape"], Float[Array, " blocks"]]:
    """Whole numbers, and the scales of the blocks; these are not finite where a number is not."""
    rows = _blocks(leaf, block)
    scales = jnp.maximum(jnp.abs(rows).max(axis=1) / _MOST, _LEAST)
    whole = jnp.round(rows / scales[:, None]).astype(jnp.int8)
    return whole.ravel()[: leaf.size].reshape(leaf.shape), scales


def restored(
    sent: Int8[Array, "*shape"], scales: Float[Array, " blocks"], block: int
) -> Float[Array, "*shape"]:
    """The inverse of `quantized`, up to rounding."""
    rows = _blocks(sent.astype(jnp.float32), block) * scales[:, None]
    return rows.ravel()[: sent.size].reshape(sent.shape)


def _blocks(leaf: Float[Array, "*shape"], block: int) -> Float[Array, "blocks block"]:
    """The numbers in rows, the last filled up with zeros."""
    width = min(block, leaf.size)
    return jnp.pad(leaf.ravel(), (0, -leaf.size % width)).reshape(-1, width)


def wrap(settings: Int8Settings, draft: Draft) -> Draft:
    """See `distvi.algorithms.registry`."""
    worker = narrowed_with_feedback("int8", draft.worker, int8(settings.block))
    return draft._replace(worker=worker)
