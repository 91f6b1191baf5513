"""A small stochastic problem that any process can build: linear regression with a noisy output."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from distvi.aggregation import Scheme, check_liveness
from distvi.data import Examples, batch_indices
from distvi.engines import Problem
from distvi.engines.local import Limits, LocalEngine, Processes, Recipe
from distvi.protocol import Rules
from tests import fault_injection

N = 96
LIMITS = Limits()


def start() -> dict[str, jax.Array]:
    """Parameters to begin with."""
    return {"w": jnp.zeros((3, 2)), "b": jnp.zeros(2), "log_sd": jnp.zeros(())}


def loss(params, x, y, index, key):
    """A negative ELBO with noise of every example."""

    def noise_of(i):
        return jax.random.normal(jax.random.fold_in(key, i), (2,))

    noise = jax.vmap(noise_of)(index)
    f = x @ params["w"] + params["b"][None, :] + jnp.exp(params["log_sd"]) * noise
    return N * ((y - f) ** 2).mean() - params["log_sd"]


def examples(seed: int) -> Examples:
    """Rows of a line with noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, 3)).astype(np.float32)
    return Examples(x, (x @ rng.normal(size=(3, 2)) + 0.3).astype(np.float32))


def build(settings: dict[str, Any], x: np.ndarray, y: np.ndarray) -> tuple[Problem, Any]:
    """See `distvi.engines.local.Recipe`; for the setting ``fault`` see `tests.fault_injection`."""

    def objective(params, x, y, index, key):
        value = loss(params, x, y, index, key)
        if "poison" in settings:
            value = jnp.where((index % settings["poison"] == 0).any(), jnp.nan, value)
        if settings.get("fault") == "computing":
            jax.debug.callback(
                lambda seen: fault_injection.strike(settings) if 5 in seen else None, index
            )
        return value

    fault_injection.prepare(settings)
    problem = Problem(
        loss=objective,
        optimizer=getattr(optax, settings.get("optimizer", "adam"))(settings.get("rate", 1e-2)),
        examples=Examples(x, y),
        indices=lambda position, count: batch_indices(3, N, position, count),
        batch_size=settings["batch_size"],
        key=jax.random.key(settings["seed"]),
        freeze_until=settings.get("freeze_until"),
    )
    return problem, start()


def local(
    settings: dict[str, Any],
    scheme: Scheme,
    workers: int,
    servers: int = 1,
    *,
    updates: int = 50,
    placement: str = "ranges",
    limits: Limits = LIMITS,
    worker_timeout_s: float | None = None,
    nonfinite_limit: int = 20,
    params: Any = None,
    cache: Path | None = None,
    pin: bool = True,
    **options: Any,
) -> LocalEngine:
    """The local engine on this problem."""
    rows = examples(settings["seed"])
    problem, initial = build(settings, rows.x, rows.y)
    lot = check_liveness(scheme, workers)
    processes = Processes(workers, servers, placement, lot, pin=pin, limits=limits, cache=cache)
    rules = Rules(
        scheme, updates, worker_timeout_s=worker_timeout_s, nonfinite_limit=nonfinite_limit
    )
    recipe = Recipe("tests.linear:build", settings)
    params = initial if params is None else params
    return LocalEngine(problem, params, rules, recipe, processes, **options)
