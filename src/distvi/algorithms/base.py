"""What a worker makes of a request, and what a server makes of the contributions.

The control plane (`distvi.protocol`) decides who starts on which version and which contributions
make an update; it knows no numbers. An **algorithm** says what the numbers are: a `Scheme` from
there, a `WorkerRule` and a `ServerRule`. Rules are tuples of pure functions that JAX can trace, and
they wrap one another, as optax's transformations do: ``top_k(0.01)(gradient(loss))``. Every engine
calls the same functions, on whole parameters or on a server's part of them.

A *part* is a tree like the parameters, with whole tensors or flat pieces of them, and None where a
tensor lies elsewhere.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, PyTree, Shaped, UInt32

from distvi.errors import InputError
from distvi.protocol import Scheme

Params = PyTree
"""Parameters: a tree of float32 arrays."""
Payload = PyTree
"""What a worker contributes: a tree like the parameters, such as a gradient."""
Memory = PyTree
"""What stays with a worker between two requests: any tree of arrays, () for nothing."""
Part = PyTree
"""A server's part of the parameters, or of a payload."""
ServerState = PyTree
"""What a server keeps beside its part, such as moments."""
Combined = PyTree
"""What contributions come to together: a part; or what the rule's own `update` makes sense of."""
Encoded = PyTree
"""What one server gets of a payload on the wire."""

Scalar = Float[Array, ""] | float | np.float32

Loss = Callable[[Params, Array, Array, Array, Array], Array]
"""``loss(params, x, y, index, key)``: the negative ELBO of a batch, in nats."""


class Batches(NamedTuple):
    """The batches that a request consumes, one after the other along the first axis.

    Attributes:
        step: Number of each in the worker's stream; its noise has the key ``fold_in(key, step)``.
        x: Inputs as stored.
        y: Targets as stored.
        positions: Of the examples in the training set.
    """

    step: UInt32[Array, " batches"]
    x: Shaped[Array, "batches batch inputs"]
    y: Shaped[Array, "batches batch ..."]
    positions: UInt32[Array, "batches batch"]


class Work(NamedTuple):
    """What a request came to.

    Attributes:
        payload: For the servers.
        memory: Of the worker from now on.
        neg_elbo: The mean over the batches, in nats.
    """

    payload: Payload
    memory: Memory
    neg_elbo: Float[Array, ""]


class Wire(NamedTuple):
    """How a payload travels where it does not travel as it is.

    Attributes:
        encode: A server's part of a payload -> what is sent to that server, of fixed shapes.
        decode: ``(message, like)`` -> the part again, as far as the message has it; ``like`` has
            the part's structure, shapes and dtypes.
        is_narrow: Whether numbers travel in fewer than 32 bits.
    """

    encode: Callable[[Part], Encoded]
    decode: Callable[[Encoded, Part], Part]
    is_narrow: bool = False


def _nothing(params: Params) -> Memory:
    return ()


class WorkerRule(NamedTuple):
    """What a worker makes of a request.

    Attributes:
        work: ``(params, memory, batches, key) -> Work``, on the parameters that it was sent.
        batches: How many a request consumes: 1 for a gradient, H for H local steps.
        init: Parameters -> the memory with which a worker begins, and begins anew after its death.
        wire: How the payload travels; None: as it is, dense and in float32.
        feedback: ``(memory, payload, received) -> memory``: told what the servers will have of the
            payload, where the wire loses some of it.
        partitioned: Whether each worker draws its batches from a share of the examples that is its
            own for the whole run.
        follows_itself: Whether a worker's parameters should have its earlier contributions in them,
            so that it is asked again no sooner, unless a scheme is told to.
    """

    work: Callable[[Params, Memory, Batches, Array], Work]
    batches: int = 1
    init: Callable[[Params], Memory] = _nothing
    wire: Wire | None = None
    feedback: Callable[[Memory, Payload, Payload], Memory] | None = None
    partitioned: bool = False
    follows_itself: bool = False

    def without_wire(self, rule: str) -> "WorkerRule":
        """Itself, for a rule that changes what is sent: it does not ask how that travels.

        Args:
            rule: The name of that rule.

        Raises:
            InputError: it says how its payloads travel.
        """
        if self.wire is not None or self.feedback is not None:
            raise InputError(
                f"rule '{rule}' changes what is sent, so it comes before rules that say how, "
                "such as 'top-k'; name it first"
            )
        return self


class Keep(StrEnum):
    """Which older parameters a server rule needs."""

    NOTHING = "nothing"
    BASE = "base"
    """Those that a contribution was computed on, until it is decided."""


class Delivery(NamedTuple):
    """One contribution to an update, as a server has it.

    Attributes:
        payload: The server's part of it.
        factor: In the sum of all; see `distvi.algorithms.combine.rates`.
        base: The part of the parameters that it was computed on, with ``Keep.BASE``; else None.
    """

    payload: Part
    factor: Scalar = 1.0
    base: Part | None = None


Combine = Callable[[Part, ServerState, Sequence[Delivery]], Combined]
"""``(part, state, deliveries) -> combined``: several contributions as one."""


def weighted_sum(part: Part, state: ServerState, deliveries: Sequence[Delivery]) -> Part:
    """The payloads by their factors, summed in the order in which they are given."""
    first, *others = deliveries
    total = jax.tree.map(lambda leaf: first.factor * leaf, first.payload)
    for factor, payload in ((other.factor, other.payload) for other in others):
        total = jax.tree.map(lambda s, leaf, f=factor: s + f * leaf, total, payload)
    return total


class ServerRule(NamedTuple):
    """What a server makes of the contributions to an update.

    Combining is apart from updating, because the number of contributions changes from update to
    update, and what is compiled for one number is of no use for another.

    Attributes:
        init: Part -> the state before the first update.
        update: ``(part, state, combined, rate) -> (part, state)``: one update by what the
            contributions come to together. ``rate`` is a factor of the learning rate.
        combine: What they come to. A rule that wraps another hands on what that makes of them,
            perhaps with numbers of its own beside it, which its own ``update`` takes off.
        keeps: Which older parameters it needs.
        is_uniform: Whether it treats all entries alike, whichever tensor they are in; then a part
            need not be cut where tensors end. Not so where labels or masks name tensors.
        needs_all: Name of the rule that asks the model about all parameters, as one tree: then
            there can be but one server. Empty where none does.
    """

    init: Callable[[Part], ServerState]
    update: Callable[[Part, ServerState, Combined, Scalar], tuple[Part, ServerState]]
    combine: Combine = weighted_sum
    keeps: Keep = Keep.NOTHING
    is_uniform: bool = False
    needs_all: str = ""

    def apply(
        self, part: Part, state: ServerState, deliveries: Sequence[Delivery], rate: Scalar
    ) -> tuple[Part, ServerState]:
        """Combine and update."""
        return self.update(part, state, self.combine(part, state, deliveries), rate)


class Algorithm(NamedTuple):
    """How a run's numbers come about.

    Attributes:
        scheme: The control plane's half: stages and pacing.
        worker: What workers make of requests.
        server: What servers make of contributions.
    """

    scheme: Scheme
    worker: WorkerRule
    server: ServerRule


Transmit = Callable[[Wire, Payload], tuple[list[Encoded], Payload]]
"""From a payload to the messages for all servers, and what these will have of it together."""


class Answer(NamedTuple):
    """A worker's answer to a request.

    Attributes:
        neg_elbo: The mean over the batches, in nats.
        payload: What the servers will have.
        messages: One for each server; None where the payload travels as it is.
        memory: Of the worker from now on.
    """

    neg_elbo: Float[Array, ""]
    payload: Payload
    messages: list[Encoded] | None
    memory: Memory


def answer(
    rule: WorkerRule,
    transmit: Transmit,
    params: Params,
    memory: Memory,
    batches: Batches,
    key: Array,
) -> Answer:
    """Work on a request and put the payload on the wire; the one place where this is done.

    Args:
        rule: Of the worker.
        transmit: How messages for all servers are made; asked only where there is a wire.
        params: That the worker was sent.
        memory: Of the worker.
        batches: ``rule.batches`` of them.
        key: The run's key.
    """
    payload, memory, neg_elbo = rule.work(params, memory, batches, key)
    messages, received = None, payload
    if rule.wire is not None:
        messages, received = transmit(rule.wire, payload)
    if rule.feedback is not None:
        memory = rule.feedback(memory, payload, received)
    return Answer(neg_elbo, received, messages, memory)


def whole(wire: Wire, payload: Payload) -> tuple[list[Encoded], Payload]:
    """`Transmit` to one server that has all parameters."""
    message = wire.encode(payload)
    return [message], wire.decode(message, payload)


def at(batches: Batches, number: int | Array) -> tuple[Array, Array, Array, Array]:
    """One of the batches: step, x, y, positions."""
    step, x, y, positions = jax.tree.map(lambda rows: rows[number], batches)
    return step, x, y, positions
