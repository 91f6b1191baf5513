"""Numbers that travel in fewer than 32 bits, dense ones or those that another wire has chosen.

A wire that chooses, such as top-k, makes a message of numbers and of whole numbers. One that
narrows takes such a message for a part: it narrows the numbers, and the rest travels as it is.
"""

from typing import Any

import jax
import jax.numpy as jnp

from distvi.algorithms.base import Encoded, Part, Wire, WorkerRule
from distvi.algorithms.error_feedback import error_feedback
from distvi.errors import InputError


def is_number(leaf: Any) -> bool:
    """Whether an array has numbers to be narrowed."""
    return leaf.dtype == jnp.float32


def narrowed(name: str, rule: WorkerRule, wire: Wire) -> WorkerRule:
    """Send what a rule sends by a wire that narrows numbers.

    Args:
        name: Of the rule that does it.
        rule: It may have a wire that chooses numbers.
        wire: Takes parts, and messages of the other wire.

    Raises:
        InputError: the numbers are narrow already.
    """
    chosen = rule.wire
    if chosen is None:
        return rule._replace(wire=wire)
    if chosen.is_narrow:
        raise InputError(
            f"rule '{name}' sends numbers in fewer bits, and so does a rule before it; leave one "
            "of 'cast' and 'int8' out"
        )

    def encode(part: Part) -> Encoded:
        return wire.encode(chosen.encode(part))

    def decode(message: Encoded, like: Part) -> Part:
        return chosen.decode(wire.decode(message, jax.eval_shape(chosen.encode, like)), like)

    return rule._replace(wire=Wire(encode, decode, is_narrow=True))


def narrowed_with_feedback(name: str, rule: WorkerRule, wire: Wire) -> WorkerRule:
    """The same with error feedback; that of a wire that chooses counts both losses."""
    keeps_account = rule.wire is not None and rule.feedback is not None
    rule = narrowed(name, rule, wire)
    return rule if keeps_account else error_feedback(rule)
