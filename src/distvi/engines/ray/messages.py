"""What processes on several machines say to each other beside `coordinator.messages`.

There a message names slots of memory that all share. Here everyone has slots of its own, under the
same numbers, and these messages say what travels between them; the numbers themselves follow in
frames of their own. ``shard`` is a server's number.
"""

from typing import NamedTuple

# From a process to the coordinator


class Hello(NamedTuple):
    """A process has begun.

    Attributes:
        pid: Its number for the operating system.
        node: Ray's name of its machine.
        address: Where it listens; empty: nowhere.
        clock_s: Its clock now.
    """

    pid: int
    node: str
    address: str
    clock_s: float


class Beat(NamedTuple):
    """It lives; from a thread of its own, whatever else it does."""


class Printed(NamedTuple):
    """What it printed; from the same thread."""

    text: str


class Arrived(NamedTuple):
    """A server has a payload whole, or what its primary saved.

    Attributes:
        request: Number of the payload's request; 0: it was a save.
        version: Of the save.
        is_forwarded: Whether the backup is about to say the same.
    """

    request: int
    version: int
    is_forwarded: bool


class Content(NamedTuple):
    """The content of a slot, as far as the process has it, in the frames that follow."""

    kind: str
    slot: int


# From the coordinator to a process


class Welcome(NamedTuple):
    """Of a process that has begun.

    Attributes:
        ahead_s: How far its clock is ahead of the coordinator's.
    """

    ahead_s: float


class Put(NamedTuple):
    """What a slot has from now on, in the frames that follow; ``tag`` as of `Push` and `Part`."""

    kind: str
    slot: int
    tag: int


class Fetch(NamedTuple):
    """A request for the content of a slot."""

    kind: str
    slot: int


class Servers(NamedTuple):
    """Where the servers listen, by shard; empty: not known yet."""

    addresses: tuple[str, ...]


class Follow(NamedTuple):
    """To a server: where its backup listens; empty: it has none any more."""

    address: str


class Copied(NamedTuple):
    """To a backup, and by it to the coordinator: it has all that its primary had."""


class Promote(NamedTuple):
    """To a backup: it is the server from now on."""


# Between workers and servers


class Pull(NamedTuple):
    """A worker asks for a server's part of a version.

    Attributes:
        slot: Where both have it.
        version: To be waited for.
    """

    slot: int
    version: int


class Part(NamedTuple):
    """A server's part of a version, in the frames that follow."""

    shard: int
    slot: int
    version: int


class Gone(NamedTuple):
    """A version that the server does not have: it began after that was over."""

    shard: int
    slot: int
    version: int


class Push(NamedTuple):
    """A server's message of a payload, in the frames that follow.

    Attributes:
        slot: Where it belongs.
        request: Number of its request. A slot never goes back to an older one, so what a process
            sends that has been given up can do no harm.
    """

    slot: int
    request: int


Network = (
    Hello
    | Beat
    | Printed
    | Arrived
    | Content
    | Welcome
    | Put
    | Fetch
    | Servers
    | Follow
    | Copied
    | Promote
    | Pull
    | Part
    | Gone
    | Push
)
"""All of them."""
