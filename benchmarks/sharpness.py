"""How sharp the loss is along each tensor, in the metric of Adam: what a stale gradient meets.

    DISTVI_DATA=DIR python -m benchmarks.sharpness [--updates 600] [--inputs unit center pca]

A model is trained for a while by one worker; then, for each tensor, the largest curvature h of the
likelihood's part of the loss in Adam's metric is found by power iterations on D^-1/2 H D^-1/2, D
the root of the second moment, on one large batch with its noise held still. With a delay of tau
updates and no momentum, a step is stable while rate * h < 2 sin(pi / (2 (2 tau + 1))) (Giladi et
al. 2019, arXiv 1909.12340): the table has rate * h, and below it those limits.
"""

import argparse
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from distvi.config.resolve import resolve
from distvi.engines.base import read_batches
from distvi.training.plan import Plan
from distvi.training.prepare import prepare

MODEL = {
    "hidden_layers": 1,
    "orthogonal": True,
    "initial_lengthscale": 0.3,
    "input_scale": 1.0,
    "initial_weight_var": 0.001,
    "initial_weight_spread": 0.0,
}
RATE = 0.005
ITERATIONS = 10
BATCHES = 5  # of 200 examples


def trained(inputs: str, updates: int) -> tuple[Plan, Any, Any]:
    """A model after some updates of one worker, and Adam's second moments."""
    settings = {
        "inputs": inputs,
        "model": MODEL,
        "updates": updates,
        "learning_rate": RATE,
        "optimizer": "adam",
        "engine": "simulated",
        "workers": 1,
    }
    plan = prepare(resolve("mnist", settings=settings))
    with plan.engine() as engine:
        engine.advance(updates)
        state = engine.state
    adam: Any = optax.tree_utils.tree_get(state.opt_state, "nu")
    corrected = jax.tree.map(lambda nu: nu / (1 - 0.999**updates), adam)
    return plan, state.params, corrected


def loss_of(plan: Plan) -> Callable[[Any], jax.Array]:
    """The loss of a large batch, its noise held still, without the KL.

    That is flat in Adam's metric wherever there is data, and where there is none, at pixels that
    are always black, its curvature over next to no gradient would be all that is seen.
    """
    batches = read_batches(plan.problem, 0, BATCHES)
    work, key = plan.algorithm.worker.work, plan.problem.key

    def loss(params: Any) -> jax.Array:
        def of(batch: Any) -> jax.Array:
            return work(params, (), jax.tree.map(lambda rows: rows[None], batch), key).neg_elbo

        return jax.lax.map(of, batches).mean() - plan.divergence(params)

    return loss


def sharpness(loss: Callable[[Any], jax.Array], params: Any, nu: Any) -> dict[str, float]:
    """The largest curvature along each tensor, in Adam's metric."""
    gradient = jax.grad(loss)

    product = jax.jit(lambda vector: jax.jvp(gradient, (params,), (vector,))[1])
    scale = jax.tree.map(lambda n: 1 / jnp.sqrt(jnp.sqrt(n) + 1e-8), nu)
    paths, structure = jax.tree_util.tree_flatten_with_path(params)
    found = {}
    for number, (path, leaf) in enumerate(paths):
        name = ".".join(str(entry.key) for entry in path)
        if leaf.size < 50 or "kernel" in name:  # the likelihood knows it through Omega alone
            continue
        zeros = [jnp.zeros_like(each) for _, each in paths]
        vector = jax.random.normal(jax.random.key(number), leaf.shape)
        value = 0.0
        for _ in range(ITERATIONS):
            vector = vector / jnp.linalg.norm(vector)
            inner = jax.tree.leaves(scale)[number]
            whole = structure.unflatten([*zeros[:number], inner * vector, *zeros[number + 1 :]])
            image = inner * jax.tree.leaves(product(whole))[number]
            value, vector = float(jnp.vdot(vector, image)), image
        found[name] = value
    return found


def main() -> None:
    """Train, iterate, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--updates", type=int, default=600)
    parser.add_argument("--inputs", nargs="+", default=["unit", "center", "pca"])
    arguments = parser.parse_args()
    columns: dict[str, dict[str, float]] = {}
    for inputs in arguments.inputs:
        plan, params, nu = trained(inputs, arguments.updates)
        columns[inputs] = sharpness(loss_of(plan), params, nu)
    names = list(next(iter(columns.values())))
    print(f"MNIST, 1 hidden layer, {arguments.updates} updates of one worker; rate {RATE} times h")
    print(f"{'tensor':<30}" + "".join(f"{inputs:>12}" for inputs in columns))
    for name in names:
        values = "".join(f"{RATE * column[name]:12.4g}" for column in columns.values())
        print(f"{name:<30}{values}")
    limits = {tau: 2 * math.sin(math.pi / (2 * (2 * tau + 1))) for tau in (0, 7, 15, 31)}
    print("stable below: " + ", ".join(f"{h:.3f} (delay {tau})" for tau, h in limits.items()))


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    main()
