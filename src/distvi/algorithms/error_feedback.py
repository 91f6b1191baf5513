"""Error feedback: a worker keeps what the wire has lost of a payload, and adds it to its next.

With the residual m, the payload g and whatever the wire leaves of it, C::

    p = g + m;   sent = C(p);   m = p - sent

So the sum of all that was sent is the sum of all payloads, less the last residual: nothing is lost,
only late. (A payload that the scheme refuses has been sent, and is lost as ever.) Convergence asks
of C that it contracts: ``||p - C(p)||^2 <= (1 - delta) ||p||^2`` with a delta above 0.

References:
    Seide et al. (2014), 1-bit stochastic gradient descent; Stich, Cordonnier, Jaggi (2018),
    Sparsified SGD with memory; Karimireddy et al. (2019), Error feedback fixes SignSGD.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from distvi.algorithms.base import Batches, Memory, Params, Payload, Work, WorkerRule


def error_feedback(rule: WorkerRule) -> WorkerRule:
    """Add to each payload what the wire has lost of those before it.

    Args:
        rule: Whose payloads travel by a wire that loses something, and which keeps no account of
            that itself.
    """

    def init(params: Params) -> Memory:
        return rule.init(params), jax.tree.map(jnp.zeros_like, params)

    def work(params: Params, memory: Memory, batches: Batches, key: Array) -> Work:
        inner, residual = memory
        payload, inner, neg_elbo = rule.work(params, inner, batches, key)
        corrected = jax.tree.map(jnp.add, payload, residual)
        return Work(corrected, (inner, residual), neg_elbo)

    def feedback(memory: Memory, payload: Payload, received: Payload) -> Memory:
        inner, _ = memory
        if rule.feedback is not None:
            inner = rule.feedback(inner, payload, received)
        return inner, jax.tree.map(jnp.subtract, payload, received)

    return rule._replace(work=work, init=init, feedback=feedback)
