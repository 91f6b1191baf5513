"""A process's place in a run on several machines."""

import time
from typing import NamedTuple

import zmq

from distvi.engines.base import Built
from distvi.engines.coordinator.messages import Message
from distvi.engines.coordinator.slots import Numbers, SlotMap
from distvi.engines.ray.assignment import Assignment
from distvi.engines.ray.messages import Content, Fetch, Network, Put
from distvi.engines.ray.sockets import Frames, Sockets, read, send


class Station(NamedTuple):
    """A process's place in the run.

    Attributes:
        assignment: What it is to do.
        built: The problem and the rules.
        slots: Where everything lies.
        numbers: Its own slots.
        sockets: Its sockets.
        control: To the coordinator.
        clock: The coordinator's, as well as this machine knows it.
    """

    assignment: Assignment
    built: Built
    slots: SlotMap
    numbers: Numbers
    sockets: Sockets
    control: "zmq.Socket[bytes]"
    clock: "Clock"

    def tell(self, message: Message | Network, frames: Frames = ()) -> None:
        """Send something to the coordinator."""
        send(self.control, message, frames)

    def put(self, message: Put, frames: Frames) -> None:
        """Take the content of a slot that the coordinator sends."""
        read(self.control, frames)

    def fetched(self, message: Fetch, frames: Frames) -> None:
        """Send the content of a slot to the coordinator."""
        self.tell(Content(message.kind, message.slot), frames)


class Clock:
    """The coordinator's clock, from this machine's and the difference that a greeting showed."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.perf_counter() - self.ahead_s
