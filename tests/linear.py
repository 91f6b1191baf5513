"""A small stochastic problem that any process can build: linear regression with a noisy output."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from distvi.aggregation import Scheme, check_liveness, sync
from distvi.algorithms.base import Algorithm
from distvi.algorithms.draft import Draft
from distvi.algorithms.freeze import freeze, freezes
from distvi.algorithms.gradient import gradient, optimize
from distvi.algorithms.registry import draft_of, settings_of
from distvi.data import Examples, batch_indices, share_indices
from distvi.engines.base import Built, Problem, Recipe, Start
from distvi.engines.coordinator.engine import FleetEngine
from distvi.engines.coordinator.transport import Limits
from distvi.engines.local.engine import local_engine
from distvi.engines.local.fleet import Topology
from distvi.engines.mesh.devices import devices
from distvi.engines.mesh.engine import MeshEngine
from distvi.engines.mesh.leader import HostsEngine, hosts_engine
from distvi.engines.mesh.settings import MeshSettings
from distvi.engines.simulated.cluster import Cluster
from distvi.engines.simulated.engine import SimulatedEngine
from distvi.engines.simulated.settings import CLUSTERS, ClusterSettings
from distvi.engines.statistics import traffic_of
from distvi.numerics.gaussians import kl_to_normal
from distvi.parameters import layout_of, make_shards, place
from distvi.protocol import Rules
from distvi.testing.engine import played_engine
from distvi.training import optimizers
from tests import fault_injection

N = 96
UPDATES = 50
LIMITS = Limits()

Settings = dict[str, Any]
"""Of the problem, for JSON.

``seed``, ``batch_size``, ``updates``; ``optimizer`` and ``rate``; ``freeze_until``; ``rules``: the
options of each by its name; ``posterior``: whether w has one, then begin with `POSTERIOR`;
``workers`` and ``requests``: what rules are told, see `made`; ``poison``: examples whose ELBO is
not a number, every so many; ``bad_batch``: a batch whose ELBO is not; ``fault``: see
`tests.fault_injection`.
"""


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


def posterior() -> dict[str, Any]:
    """Parameters of the same line to begin with, of which w has a posterior."""
    w = {"mean": jnp.zeros((3, 2)), "log_var": jnp.full((3, 2), -2.0)}
    return start() | {"w": w}


def divergence(params) -> jax.Array:
    """KL of the posterior from a prior whose scale is learnt."""
    w = params["w"]
    return kl_to_normal(w["mean"], w["log_var"], 0.0, 2 * params["log_sd"])


def loss_with_posterior(params, x, y, index, key):
    """The negative ELBO of a sample of w, the same for all examples."""
    w = params["w"]
    noise = jax.random.normal(key, w["mean"].shape)
    drawn = params | {"w": w["mean"] + jnp.exp(0.5 * w["log_var"]) * noise}
    return loss(drawn, x, y, index, key) + divergence(params)


def examples(seed: int) -> Examples:
    """Rows of a line with noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, 3)).astype(np.float32)
    return Examples(x, (x @ rng.normal(size=(3, 2)) + 0.3).astype(np.float32))


def draft(settings: Settings) -> Draft:
    """What the rules of a run begin with."""

    def optimizer(steps: float) -> optax.GradientTransformation:
        plain = optimizers.build(settings.get("optimizer", "adam"), settings.get("rate", 1e-2))
        until = settings.get("freeze_until")
        return freeze(plain, jax.tree.map(lambda first: round(steps * first), until))

    server = optimize(optimizer(1), is_uniform=not freezes(settings.get("freeze_until")))
    numbers = settings.get("requests", 1.0), settings.get("workers", 1)
    return Draft(gradient(objective(settings)), server, optimizer, *numbers, divergence)


def build(settings: Settings, x: np.ndarray, y: np.ndarray) -> Built:
    """See `distvi.engines.base.Recipe`."""
    rules = draft_of(rules_of(settings), draft(settings))
    problem = Problem(
        shapes=jax.eval_shape(posterior if settings.get("posterior") else start),
        examples=Examples(x, y),
        indices=lambda position, count: batch_indices(3, N, position, count),
        batch_size=settings["batch_size"],
        key=jax.random.key(settings["seed"]),
        updates=settings.get("updates", UPDATES),
        shares=lambda worker, workers, *slice_: share_indices(3, N, worker, workers, *slice_),
        recipe=Recipe("tests.linear:build", settings),
    )
    return Built(problem, rules.worker, rules.server, fault_injection.fault_of(settings))


def rules_of(settings: Settings) -> dict[str, Any]:
    """Settings of the rules by name."""
    rules = settings.get("rules", {})
    return settings_of(
        rules, {name: value for own in rules.values() for name, value in own.items()}
    )


def objective(settings: Settings) -> Any:
    """The loss, with what goes wrong in it."""

    def poisoned(params, x, y, index, key):
        plain = loss_with_posterior if settings.get("posterior") else loss
        value = plain(params, x, y, index, key)
        if "poison" in settings:
            value = jnp.where((index % settings["poison"] == 0).any(), jnp.nan, value)
        if "bad_batch" in settings:
            bad = jnp.asarray(settings["bad_batch"], jnp.uint32)
            value = jnp.where((index == bad).all(), jnp.nan, value)
        if settings.get("fault") == "computing":
            jax.debug.callback(
                lambda seen: fault_injection.strike(settings) if 5 in seen else None, index
            )
        return value

    return poisoned


def made(settings: Settings, scheme: Scheme, workers: int = 1) -> tuple[Problem, Algorithm]:
    """The problem in this process, and the algorithm."""
    rows = examples(settings["seed"])
    requests = check_liveness(scheme, workers) / workers
    built = build(settings | {"workers": workers, "requests": requests}, rows.x, rows.y)
    return built.problem, Algorithm(scheme, built.worker, built.server)


def from_state(engine: Any, **changes: Any) -> Start:
    """Where another engine goes on from this one, with copies of all that it has."""
    state = jax.tree.map(np.array, engine.state)
    found = Start(
        params=lambda: jax.tree.map(jnp.asarray, state.params),
        state=jax.tree.map(jnp.asarray, state.opt_state),
        memories=jax.tree.map(jnp.asarray, state.memories),
        update=engine.update,
        counters=engine.counters,
        time_s=engine.now_s(),
    )
    return found._replace(**changes)


BEGIN, POSTERIOR = Start(start), Start(posterior)


def mesh(settings: Settings, *, start: Start = BEGIN, on: int = 1, **options: Any) -> MeshEngine:
    """The engine of JAX devices on this problem; options are the engine's."""
    problem, algorithm = made(settings, sync())
    options = {"resident": False} | options
    return MeshEngine(problem, algorithm, start, devices(None)[:1] * on, **options)


def hosts(
    settings: Settings,
    *,
    start: Start = BEGIN,
    processes: int = 2,
    cache: Path | None = None,
    **options: Any,
) -> HostsEngine:
    """The engine of processes that cut the batch, all on loopback; options are its settings."""
    problem, algorithm = made(settings, sync())
    options = {"hosts": ",".join(["127.0.0.1"] * processes)} | options
    chosen = MeshSettings(**options).written_out()
    assert isinstance(chosen, MeshSettings)
    return hosts_engine(chosen, problem, algorithm, start, cache)


def simulated(
    settings: Settings,
    scheme: Scheme,
    workers: int,
    servers: int = 1,
    *,
    placement: str = "ranges",
    costs: ClusterSettings = CLUSTERS["compute-bound"],
    nonfinite_limit: int = 20,
    start: Start = BEGIN,
) -> SimulatedEngine:
    """The simulated engine on this problem."""
    problem, algorithm = made(settings, scheme, workers)
    check_liveness(scheme, workers)
    layout = layout_of(problem.shapes)
    shards = make_shards(layout, place(placement, layout.sizes, servers), algorithm.server)
    traffic = traffic_of(shards, algorithm)
    cluster = Cluster(
        costs,
        workers,
        traffic.pulled,
        problem.batch_size,
        pushed_bytes=traffic.pushed,
        batches=algorithm.worker.batches,
        start_s=start.time_s,
    )
    rules = Rules(scheme, updates=problem.updates, nonfinite_limit=nonfinite_limit)
    traffic = traffic_of(shards, algorithm)
    return SimulatedEngine(problem, algorithm, rules, cluster, shards, start, traffic)


def local(
    settings: Settings,
    scheme: Scheme,
    workers: int,
    servers: int = 1,
    *,
    placement: str = "ranges",
    limits: Limits = LIMITS,
    worker_timeout_s: float | None = None,
    nonfinite_limit: int = 20,
    start: Start = BEGIN,
    cache: Path | None = None,
    pin: bool = True,
) -> FleetEngine:
    """The local engine on this problem."""
    problem, algorithm = made(settings, scheme, workers)
    lot = check_liveness(scheme, workers)
    topology = Topology(workers, servers, placement, lot, pin=pin, cache=cache)
    rules = Rules(
        scheme, problem.updates, worker_timeout_s=worker_timeout_s, nonfinite_limit=nonfinite_limit
    )
    return local_engine(topology, problem, algorithm, rules, limits, start)


def played(
    settings: Settings,
    scheme: Scheme,
    workers: int,
    servers: int = 1,
    *,
    nonfinite_limit: int = 20,
    start: Start = BEGIN,
) -> FleetEngine:
    """The fleet without processes on this problem."""
    problem, algorithm = made(settings, scheme, workers)
    return played_engine(
        problem,
        algorithm,
        start,
        workers=workers,
        servers=servers,
        nonfinite_limit=nonfinite_limit,
    )


def ray(
    settings: Settings,
    scheme: Scheme,
    workers: int,
    servers: int = 1,
    *,
    start: Start = BEGIN,
    **options: Any,
) -> FleetEngine:
    """The engine of a Ray cluster on this problem; options are its settings."""
    from distvi.engines.ray.engine import build as ray_engine
    from distvi.engines.ray.settings import RaySettings

    problem, algorithm = made(settings, scheme, workers)
    chosen = RaySettings(workers=workers, servers=servers, **options).written_out()
    assert isinstance(chosen, RaySettings)
    return ray_engine(chosen, problem, algorithm, start)
