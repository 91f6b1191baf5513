"""Cast: payloads travel in 16 bits, rounded to the nearest; servers compute in 32 as ever.

Every message is scaled by a power of two s, which travels along and costs no accuracy::

    sent = round_16(p / s),  s = 2^(floor(log2 max |p|) - 14);    received = s * sent

So its largest number lies from 2^14 on and below 2^15, and nothing overflows: float16 ends at
65504, and gradients in nats of a whole data set go beyond. An entry is off by at most a share of
2^-8 with bfloat16, 2^-11 with float16; with float16, what is below the largest by a factor of 2^28
or more may be lost. Rounding to the nearest loses on average nothing that matters to a noisy
gradient, so error feedback is off unless asked for.

References:
    Micikevicius et al. (2018), Mixed precision training, for float16 and scaling by powers of two;
    Kalamkar et al. (2019), A study of bfloat16 for deep learning training.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from distvi.algorithms.base import Encoded, Part, Wire
from distvi.algorithms.draft import Draft
from distvi.algorithms.narrow import is_number, narrowed, narrowed_with_feedback
from distvi.system.settings import Settings

_TOP = 2.0**-14
"""Over the power of two below a message's largest number: its scale."""

_LEAST = float(jnp.finfo(jnp.float32).tiny)
_EXPONENT_BITS = 0x7F800000


class CastSettings(Settings):
    """Payloads travel in 16 bits, rounded to the nearest."""

    wire_dtype: Literal["bfloat16", "float16"] = "bfloat16"
    """bfloat16, with 8 significant bits, or float16, with 11 and less range below the largest."""

    feedback: bool = False
    """Whether a worker adds what rounding has lost to its next payload."""


def cast(wire_dtype: str) -> Wire:
    """Numbers as a type of 16 bits, all of a message scaled alike.

    Args:
        wire_dtype: ``bfloat16`` or ``float16``.
    """
    dtype = jnp.dtype(wire_dtype)
    form = jnp.finfo(dtype)

    def encode(part: Part) -> Encoded:
        scale = power_of_two([leaf for leaf in jax.tree.leaves(part) if is_number(leaf)])

        def rounded(leaf: Array) -> Array:
            if not is_number(leaf):
                return leaf
            # XLA may leave out two conversions that undo each other, but never this rounding.
            return jax.lax.reduce_precision(leaf / scale, form.nexp, form.nmant).astype(dtype)

        return {"numbers": jax.tree.map(rounded, part), "scale": scale}

    def decode(message: Encoded, like: Part) -> Part:
        def widened(sent: Array, leaf: Any) -> Array:
            return message["scale"] * sent.astype(jnp.float32) if is_number(leaf) else sent

        return jax.tree.map(widened, message["numbers"], like)

    return Wire(encode, decode, is_narrow=True)


def power_of_two(leaves: list[Array]) -> Float[Array, ""]:
    """The scale of numbers: an exact power of two; not finite where one of them is not."""
    largest = jnp.stack([jnp.abs(leaf).max() for leaf in leaves]).max()
    bits = jax.lax.bitcast_convert_type(largest, jnp.int32) & _EXPONENT_BITS
    below = jax.lax.bitcast_convert_type(bits, jnp.float32)
    return jnp.maximum(_TOP * below, _LEAST)


def wrap(settings: CastSettings, draft: Draft) -> Draft:
    """See `distvi.algorithms.registry`."""
    send = narrowed_with_feedback if settings.feedback else narrowed
    return draft._replace(worker=send("cast", draft.worker, cast(settings.wire_dtype)))
