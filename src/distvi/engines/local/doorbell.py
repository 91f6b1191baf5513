"""How workers learn that a version is complete, without a word from the main process.

A worker has its next request while the servers still make the version that it is to start from. A
server that has written its part *publishes* the version: it puts the number into shared memory, and
rings every worker's doorbell (a pipe; the word is RDMA's and NVMe's). A worker that computes is not
disturbed, and one that misses the doorbell, because it has been stopped for long, misses nothing:
what counts are the published numbers.

That a number is seen after what it stands for is so on x86, which keeps the order of stores.
Elsewhere nothing but time is between them: a worker reads parameters tens of microseconds later.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple


class Doorbell(NamedTuple):
    """A pipe.

    Attributes:
        read_end: Descriptor for the worker.
        write_end: Descriptor for the servers.
    """

    read_end: int
    write_end: int

    def close(self) -> None:
        """Close both ends in this process."""
        os.close(self.read_end)
        os.close(self.write_end)


def new_doorbell() -> Doorbell:
    """A doorbell on which nobody ever waits to ring it, nor to drain it."""
    doorbell = Doorbell(*os.pipe())
    for end in doorbell:
        os.set_blocking(end, False)
    return doorbell


def notify(write_ends: Iterable[int]) -> None:
    """Wake the workers that listen."""
    for write_end in write_ends:
        with suppress(BlockingIOError):  # full: it is ringing
            os.write(write_end, b"!")


def drain(read_end: int) -> None:
    """Stop the ringing of a doorbell that has been heard."""
    with suppress(BlockingIOError):
        os.read(read_end, 1 << 16)
