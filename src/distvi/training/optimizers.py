"""Optimizers of optax by name, and learning-rate schedules."""

import functools
import inspect
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from distvi.errors import InputError, nearest
from distvi.system.names import find, is_name

_FUNCTIONS = (FunctionType, functools.partial)
_SEEDS = ("key", "seed")
_RATES = ("learning_rate", "max_learning_rate")


def names() -> list[str]:
    """The optimizers of optax (and of ``optax.contrib``) that take a learning rate first.

    Some of them need more than gradients, and `build` refuses them.
    """
    return sorted({*_factories(optax), *_factories(optax.contrib)})


def build(
    name: str,
    learning_rate: optax.ScalarOrSchedule,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> optax.GradientTransformation:
    """An optimizer of optax by its name, such as ``adam``.

    Args:
        name: A function of ``optax``, or else of ``optax.contrib``, that takes a learning rate;
            or ``module:function``, called with the learning rate first.
        learning_rate: A number or a schedule.
        options: Further arguments of that function.
        seed: Of one that draws noise, unless its options say another.

    Raises:
        InputError: no such optimizer, no such argument, or one that needs more than gradients
            (a line search, a Polyak step), which no engine can give it.
    """
    if is_name(name):
        return made(find(name), learning_rate, options)
    factory = {**_factories(optax.contrib), **_factories(optax)}.get(name)
    if factory is None:
        raise InputError(f"unknown optimizer '{name}'{nearest(name, names())}")
    options = dict(options or {})
    rate, *known = inspect.signature(factory).parameters
    for option in options:
        if option not in known:
            raise InputError(f"optimizer '{name}' has no option '{option}'{nearest(option, known)}")
    source = next((name for name in _SEEDS if name in known), None)
    if source and options.keys().isdisjoint(_SEEDS):
        options[source] = seed
    try:
        optimizer = factory(**{rate: learning_rate}, **options)
        has_keys = any(map(_is_key, jax.tree.leaves(_try_out(optimizer))))
    except (TypeError, ValueError, AttributeError) as error:
        if "required keyword-only argument" in str(error):  # of its update: value, value_fn
            raise InputError(
                f"optimizer '{name}' needs values of the loss besides gradients, for a line search "
                "or a step size, which no engine gives; use another, such as adam"
            ) from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"optimizer '{name}' cannot be used with {options}: {reason}") from error
    return without_keys(optimizer) if has_keys else optimizer


def made(
    factory: Any,
    learning_rate: optax.ScalarOrSchedule,
    options: Mapping[str, Any] | None = None,
) -> optax.GradientTransformation:
    """An optimizer of one's own.

    Args:
        factory: Makes it of the learning rate; or it is one already.
        learning_rate: A number or a schedule.
        options: Further arguments.

    Raises:
        InputError: what it makes is no transformation of optax.
    """
    if isinstance(factory, optax.GradientTransformation):
        return without_keys(factory)
    optimizer = factory(learning_rate, **(options or {}))
    if not isinstance(optimizer, optax.GradientTransformation):
        raise InputError(
            f"{getattr(factory, '__qualname__', factory)}(learning_rate) gave "
            f"{type(optimizer).__name__}; it should give a transformation of optax"
        )
    return without_keys(optimizer)


def without_keys(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same optimizer, whose state has numbers where it had typed keys of JAX.

    Noise has a key (``noisy_sgd``), and the memory that processes share holds numbers alone.
    """

    def init(params: PyTree) -> PyTree:
        return jax.tree.map(_as_numbers, optimizer.init(params))

    def update(
        updates: PyTree, state: PyTree, params: PyTree | None = None, **extra: Any
    ) -> tuple[PyTree, PyTree]:
        like = jax.eval_shape(optimizer.init, updates)
        state = jax.tree.map(_as_typed, like, state)
        updates, state = optax.with_extra_args_support(optimizer).update(
            updates, state, params, **extra
        )
        return updates, jax.tree.map(_as_numbers, state)

    return optax.GradientTransformationExtraArgs(init, update)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)


def _as_numbers(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _as_typed(like: Any, leaf: Any) -> Any:
    return jax.random.wrap_key_data(leaf) if _is_key(like) else leaf


def try_out(optimizer: optax.GradientTransformation, shapes: PyTree) -> None:
    """Make one update of parameters abstractly.

    Raises:
        InputError: the optimizer does not suit them.
    """

    def one_update(params: PyTree) -> PyTree:
        return optimizer.update(params, optimizer.init(params), params)

    try:
        jax.eval_shape(one_update, shapes)
    except Exception as error:  # of someone's code
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"the optimizer cannot be used with the model's parameters: {reason}"
        ) from error


def schedule(
    kind: str, learning_rate: float, updates: int, *, warmup_updates: int = 0, final: float = 0.0
) -> optax.Schedule:
    """The learning rate of each update: a linear rise, then ``constant`` or ``cosine``.

    Args:
        kind: ``constant``, or ``cosine``: half a cosine down to ``final * learning_rate``.
        learning_rate: The rate at the end of the warm-up.
        updates: Updates of the whole run, the warm-up included.
        warmup_updates: The first update has ``learning_rate / warmup_updates``.
        final: Where the cosine ends, as a share of ``learning_rate``.

    Raises:
        InputError: the warm-up leaves no update for the rest of the run.
    """
    if warmup_updates >= updates:
        raise InputError(f"a warm-up of {warmup_updates} updates does not fit a run of {updates}")
    rest = updates - warmup_updates
    schedules: dict[str, Callable[[], optax.Schedule]] = {
        "constant": lambda: optax.constant_schedule(learning_rate),
        "cosine": lambda: optax.cosine_decay_schedule(learning_rate, rest, alpha=final),
    }
    after = schedules[kind]()
    if not warmup_updates:
        return after
    rise = optax.linear_schedule(learning_rate / warmup_updates, learning_rate, warmup_updates - 1)
    return optax.join_schedules([rise, after], [warmup_updates])


def scheduled(options: Mapping[str, Any], shape: optax.Schedule) -> dict[str, Any]:
    """Options of an optimizer, with the run's schedule for those that are peak rates.

    Muon's ``adam_learning_rate``, of the tensors that are no matrices, is the one in optax.

    Args:
        options: As they were given.
        shape: The schedule, as a share of the peak.
    """

    def rates(peak: float) -> optax.Schedule:
        return lambda update: peak * shape(update)

    return {
        name: rates(value)
        if name.endswith("learning_rate") and isinstance(value, int | float)
        else value
        for name, value in options.items()
    }


def _factories(module: Any) -> dict[str, Callable[..., optax.GradientTransformation]]:
    found = {}
    for name in dir(module):
        function = getattr(module, name) if not name.startswith("_") else None
        if not isinstance(function, _FUNCTIONS) or name.startswith("scale_by"):
            continue
        if next(iter(inspect.signature(function).parameters), "") in _RATES:
            found[name] = function
    return found


def _try_out(optimizer: optax.GradientTransformation) -> PyTree:
    """Make one update of a small matrix abstractly: wrong options fail here, not in the run.

    Returns:
        Shapes of the optimizer's state.
    """

    def one_update(params: PyTree) -> PyTree:
        return optimizer.update(params, optimizer.init(params), params)

    shapes = {"matrix": (2, 2), "vector": (2,)}
    params = {n: jax.ShapeDtypeStruct(s, "float32") for n, s in shapes.items()}
    _, state = jax.eval_shape(one_update, params)
    return state
