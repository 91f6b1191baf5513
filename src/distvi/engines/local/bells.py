"""How workers learn that a version is complete, without a word from the main process.

A worker has its next order while the servers still make the version that it is to start from. A
server that has written its part *seals* the version, by its number in shared memory, and rings the
bell of every worker. A worker that computes is not disturbed, and one that does not hear its bell,
because it has been stopped for long, misses nothing: what counts is the seals.

That a seal is seen after what it seals is so on x86, which keeps the order of stores. Elsewhere
nothing but time is between them: a worker reads parameters tens of microseconds after the seal.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from distvi.engines.local.arena import Slots

Seals = Int64[np.ndarray, " servers"]
"""The newest version of which each server's part is complete."""


class Bell(NamedTuple):
    """A pipe.

    Attributes:
        ear: Descriptor for the worker.
        rope: Descriptor for the servers.
    """

    ear: int
    rope: int

    def close(self) -> None:
        """Close both ends in this process."""
        os.close(self.ear)
        os.close(self.rope)


def new_bell() -> Bell:
    """A bell on which nobody ever waits to ring it, nor to let it fade."""
    bell = Bell(*os.pipe())
    for end in bell:
        os.set_blocking(end, False)
    return bell


def ring(ropes: Iterable[int]) -> None:
    """Wake the workers that listen."""
    for rope in ropes:
        with suppress(BlockingIOError):  # full: it is ringing
            os.write(rope, b"!")


def let_fade(ear: int) -> None:
    """Stop the ringing of a bell that has been heard."""
    with suppress(BlockingIOError):
        os.read(ear, 1 << 16)


def seals_in(slots: Slots) -> Seals:
    """The seals of shared memory."""
    return slots.bytes(0).view(np.int64)
