"""How far a server rule looks: at single entries, at whole tensors, or at all of them together.

Whether an update may be computed in parts is a property of the rule's computation, so it is read
off that: JAX's trace of it is followed from every payload to every parameter. A trial with numbers
could miss a clipping that did not come into play.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import jax
from jaxtyping import PyTree

from distvi.algorithms.base import Delivery, Keep, ServerRule


class Locality(IntEnum):
    """What one entry of an updated part depends on."""

    ELEMENTWISE = 0
    """On the numbers of that entry alone: any placement gives the same parameters."""
    PER_TENSOR = 1
    """On the numbers of its tensor: tensors must stay whole, and keep their shapes."""
    GLOBAL = 2
    """On more than its tensor, or on draws whose shape matters: nothing can be separated."""


class Reach(NamedTuple):
    """What a value in the trace depends on.

    Attributes:
        tensors: Numbers of the parameters' tensors.
        mixed: Whether one of its entries depends on several of a tensor's.
        cause: The operation that mixed them.
    """

    tensors: frozenset[int] = frozenset()
    mixed: bool = False
    cause: str = ""


_DELIVERIES = 5  # what joins them counts as well, and few may be joined otherwise than many

_NOTHING = Reach()
_EVERYTHING = frozenset((-1, -2))  # of no tensor, and never of one alone

_ELEMENTWISE = frozenset((
    "abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh",
    "cbrt", "ceil", "clamp", "convert_element_type", "copy", "cos", "cosh", "div", "eq", "erf",
    "erf_inv", "exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow", "is_finite", "le",
    "log", "log1p", "logistic", "lt", "max", "min", "mul", "ne", "neg", "nextafter", "not", "or",
    "pow", "reduce_precision", "rem", "round", "rsqrt", "select_n", "sign", "sin", "sinh", "sqrt",
    "square", "stop_gradient", "sub", "tan", "tanh", "xor",
))  # fmt: skip
_RESHAPING = frozenset(("broadcast_in_dim", "expand_dims", "reshape", "squeeze"))
_CALLS = frozenset(
    ("jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "remat", "checkpoint")
)


def locality_of(rule: ServerRule, params: PyTree) -> tuple[Locality, str]:
    """The locality of a rule, and the operation that widened it, or the rule that did by its name.

    Where the analysis does not know an operation it assumes the wider locality.

    Args:
        rule: Of a server.
        params: Parameters, or their shapes.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from distvi.algorithms.gradient import optimize
        >>> locality_of(optimize(optax.adam(0.1)), {"w": jnp.zeros((2, 2))})[0].name
        'ELEMENTWISE'
    """
    if rule.needs_all:
        return Locality.GLOBAL, f"rule '{rule.needs_all}'"
    params = jax.eval_shape(lambda tree: tree, params)
    state = jax.eval_shape(rule.init, params)
    leaves = len(jax.tree.leaves(params))
    own = [Reach(frozenset((tensor,))) for tensor in range(leaves)]

    def update(part: PyTree, state: PyTree, payload: PyTree, base: PyTree) -> tuple[PyTree, PyTree]:
        one = Delivery(payload, 1.0, base if rule.keeps is Keep.BASE else None)
        return rule.apply(part, state, [one] * _DELIVERIES, 1.0)

    initial = jax.make_jaxpr(rule.init)(params)
    reaches = _follow(initial.jaxpr, own)
    traced = jax.make_jaxpr(update)(params, state, params, params)
    while True:  # what the state depends on after many updates
        answer = _follow(traced.jaxpr, [*own, *reaches, *own, *own])
        widened = [_union(pair) for pair in zip(reaches, answer[leaves:], strict=True)]
        if widened == reaches:
            break
        reaches = widened
    found = [(_locality(reach), reach.cause) for reach in answer]
    return max(found, key=lambda pair: pair[0], default=(Locality.ELEMENTWISE, ""))


def _locality(reach: Reach) -> Locality:
    if len(reach.tensors) > 1:
        return Locality.GLOBAL
    return Locality.PER_TENSOR if reach.mixed else Locality.ELEMENTWISE


def _union(reaches: Sequence[Reach]) -> Reach:
    tensors = frozenset().union(*(reach.tensors for reach in reaches))
    causes = [reach.cause for reach in reaches if reach.cause]
    return Reach(tensors, any(reach.mixed for reach in reaches), causes[0] if causes else "")


def _follow(jaxpr: Any, inputs: Sequence[Reach]) -> list[Reach]:
    """The reach of a trace's outputs, given that of its inputs."""
    known: dict[Any, Reach] = dict(zip(jaxpr.invars, inputs, strict=True))

    def reach(atom: Any) -> Reach:
        return (
            _NOTHING
            if not hasattr(atom, "count") and hasattr(atom, "val")
            else known.get(atom, _NOTHING)
        )

    for equation in jaxpr.eqns:
        outputs = _through(equation, [reach(atom) for atom in equation.invars])
        known.update(zip(equation.outvars, outputs, strict=True))
    return [reach(atom) for atom in jaxpr.outvars]


def _through(equation: Any, inputs: list[Reach]) -> list[Reach]:
    """The reach of one operation's outputs."""
    name, params = equation.primitive.name, equation.params
    if name in _CALLS and (inner := _inner(params)) is not None:
        return _follow(inner, inputs)
    both = _union(inputs)
    if name == "cond":
        predicate, *operands = inputs
        branches = [_follow(branch.jaxpr, operands) for branch in params["branches"]]
        chosen = predicate._replace(mixed=bool(predicate.tensors), cause=predicate.cause or name)
        return [_union([chosen, *outputs]) for outputs in zip(*branches, strict=True)]
    if name == "iota" or name.startswith(("random_", "threefry", "rng")):
        both = Reach(_EVERYTHING, True, name)
    elif both.tensors and not _is_elementwise(name, equation):
        both = both._replace(mixed=True, cause=both.cause or name)
    if len(both.tensors) > 1 and not both.cause:
        both = both._replace(cause=name)
    return [both] * len(equation.outvars)


def _is_elementwise(name: str, equation: Any) -> bool:
    if name in _RESHAPING:
        return equation.invars[0].aval.shape == equation.outvars[0].aval.shape
    return name in _ELEMENTWISE


def _inner(params: Mapping[str, Any]) -> Any:
    inner = params.get("jaxpr", params.get("call_jaxpr"))
    return getattr(inner, "jaxpr", inner)
