"""What the control plane knows of a gradient: never its numbers, only its ticket."""

from dataclasses import dataclass
from typing import NamedTuple

TicketId = tuple[int, int, int]
"""``(worker, incarnation, sequence)``: what a repeated push is recognised by."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """One gradient, identified by ``(worker, incarnation, sequence)``.

    Attributes:
        worker: Number of the worker that computed it.
        incarnation: How often that worker has been started anew; a gradient of an earlier
            incarnation is never taken for one of the present.
        sequence: The request it answers (``SendParameters.sequence``); counts from 0 in each
            incarnation.
        base: Version of the parameters it was computed on.
        size: Examples in its batch, at least 1.
    """

    worker: int
    incarnation: int
    sequence: int
    base: int
    size: int = 1

    @property
    def key(self) -> TicketId:
        """The identity by which a repeated push is recognised."""
        return (self.worker, self.incarnation, self.sequence)


class Contribution(NamedTuple):
    """A gradient's part in an update.

    The optimizer is handed ``sum(weight * gradient)``. A rate is a factor of the learning rate
    instead, which is another thing to optimizers that do not heed a gradient's scale, like Adam.

    Attributes:
        ticket: The gradient.
        weight: Its factor in the sum.
        rate: Its factor of the learning rate.
    """

    ticket: Ticket
    weight: float = 1.0
    rate: float = 1.0


Lot = tuple[Contribution, ...]
"""Gradients that go through the stages, and into one update, together."""


class Refusal(NamedTuple):
    """A gradient that a stage will not use, and why (a ``Reason``, or words of one's own)."""

    ticket: Ticket
    reason: str
