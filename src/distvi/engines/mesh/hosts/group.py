"""All processes of a run, as the command that leads it sees them: gathered, heard, begun anew."""

import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from typing import Any

import numpy as np

from distvi.engines.base import Examples, Halted, StateLost
from distvi.engines.mesh.address import Hosts
from distvi.engines.mesh.hosts.children import Child, Children
from distvi.engines.mesh.hosts.messages import (
    AGAIN,
    ENDED,
    REFUSED,
    Assignment,
    Broken,
    End,
    Failed,
    Give,
    Given,
    Hello,
    Link,
    Made,
    Make,
    Message,
    Ready,
    connection_of,
)
from distvi.engines.mesh.hosts.sample import is_same, sample_of, versions

JOIN_S = 300.0
"""For all processes to come, and to compile: the commands may read their data at their leisure."""

_CAUSE_S = 0.5
"""One process breaks off because another has died: so long the others are heard for the cause."""


_LOOK_S = 0.5
"""Between two looks at who has been silent."""

_END_S = 2.0
_CERTAIN = 2


class Lost(Exception):
    """A process is lost, and with it what all have computed since the state was last asked for.

    Attributes:
        certainty: That this is the cause, and not what comes of another loss.
    """

    def __init__(self, why: str, certainty: int = 1) -> None:
        super().__init__(why)
        self.certainty = certainty


@dataclass(eq=False)
class Member:
    """A process that has come.

    Attributes:
        link: To it.
        host: Its machine's address.
        heard_s: When it last gave a sign of life.
        hello: What it said first.
        ready: What it said when it could begin.
    """

    link: Link
    host: str
    heard_s: float
    hello: Hello | None = None
    ready: Ready | None = None

    @property
    def name(self) -> str:
        """In words."""
        number = "a process" if self.hello is None else f"process {self.hello.number}"
        return f"{number} on {self.host}"


class Group:
    """They share fate: whatever happens to one is `Lost`, and with `again` all begin anew.

    A context, at whose end none is left.

    Args:
        hosts: Which there are.
        children: Those of this machine.
        examples: The training set.
        silence_s: Who gives no sign of life for longer is lost.
    """

    def __init__(
        self, hosts: Hosts, children: Children, examples: Examples, silence_s: float
    ) -> None:
        self._hosts, self._children, self._silence_s = hosts, children, silence_s
        self._sample = sample_of(examples.x, examples.y)
        self._members: list[Member] = []
        self._made: deque[Made] = deque()
        self._given: list[bytes] | None = None

    def __enter__(self) -> "Group":
        try:
            self._listener = listener(self._hosts)
        except OSError as error:
            raise Halted(str(error)) from error
        self._first = self._hosts.first[0], self._listener.getsockname()[1]
        with ExitStack() as stack:
            stack.callback(self._listener.close)
            stack.enter_context(self._children)
            self._start()
            self._open = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        is_well = not any(isinstance(value, BaseException) for value in exception)
        why = "" if is_well else "the run has failed on its first host, which says why"
        try:
            if is_well:
                self._end_gently()
            self._close(End(ENDED if is_well else REFUSED, why))
        finally:
            self._open.close()

    def _end_gently(self) -> None:
        """The first process is the last to end: in the others JAX would call it a failure."""
        others = [each for each in self._members if each.hello and each.hello.number]
        for member in others:
            _send(member, End(ENDED))
        until_s = time.monotonic() + _END_S
        while others and (left_s := until_s - time.monotonic()) > 0:
            by_connection = {member.link.connection: member for member in others}
            for connection in wait(list(by_connection), left_s):
                member = by_connection[connection]  # pyright: ignore[reportArgumentType]
                try:
                    member.link.receive()
                except (EOFError, OSError):
                    others.remove(member)

    def _start(self) -> None:
        for number in self._hosts.own:
            self._children.start(number, self._first, JOIN_S)

    def _close(self, message: End) -> None:
        for member in self._members:
            _send(member, message)
            member.link.connection.close()
        self._members.clear()

    @property
    def processes(self) -> dict[int, tuple[int, str]]:
        """The operating system's numbers, and what they do, of those that have come."""
        return {
            member.hello.number: (member.hello.pid, "starting" if member.ready is None else "")
            for member in list(self._members)
            if member.hello is not None
        }

    # Beginning

    def gather(self, interrupted: Callable[[], bool]) -> bool:
        """Wait until all have come; whether they have, or it was interrupted.

        Raises:
            Lost: one has died.
            StateLost: one has not come in time, or cannot take part.
        """

        def are_there() -> bool:
            return len(self._numbered) == self._hosts.processes

        self._wait_for(lambda: are_there() or interrupted(), JOIN_S, self._missing, StateLost)
        return are_there()

    def begin(self, assignment: Assignment, arrays: Sequence[np.ndarray]) -> list[Ready]:
        """Have all begin, once they are gathered.

        Args:
            assignment: Without the coordinator's address, which is found here.
            arrays: The state to begin with.

        Raises:
            Lost: one has died, or is not ready in time.
            StateLost: one cannot take part.
        """
        hello = self._numbered[0].hello
        assert hello is not None
        found = assignment._replace(coordinator=f"{self._first[0]}:{hello.port}")
        for member in self._members:
            _send(member, found, arrays)
        self._wait_for(
            lambda: all(member.ready for member in self._members),
            JOIN_S,
            lambda: "not all processes were ready to begin",
        )
        return [member.ready for member in self._members if member.ready is not None]

    @property
    def _numbered(self) -> dict[int, Member]:
        return {each.hello.number: each for each in self._members if each.hello is not None}

    def _missing(self) -> str:
        missing = [n for n in range(self._hosts.processes) if n not in self._numbered]
        return f"process {missing[0]} of {self._hosts.processes} did not come"

    def again(self) -> None:
        """End all processes, and start those of this machine; the others' commands start theirs."""
        self._close(End(AGAIN))
        self._children.end()
        self._made.clear()
        self._given = None
        self._start()

    def cause_of(self, lost: Lost) -> str:
        """Why one was lost; others may know better."""
        until_s = time.monotonic() + _CAUSE_S
        while lost.certainty < _CERTAIN and (left_s := until_s - time.monotonic()) > 0:
            try:
                self._listen(left_s)
            except Lost as other:
                lost = max(lost, other, key=lambda each: each.certainty)
        return str(lost)

    # Speaking

    def make(self, count: int) -> None:
        """Have all make the next updates."""
        for member in self._members:
            _send(member, Make(count))

    def made(self, limit_s: float) -> Made:
        """What came of the earliest updates whose values were not taken yet."""
        self._wait_for(lambda: bool(self._made), limit_s, lambda: "no update was made")
        return self._made.popleft()

    def give(self, limit_s: float, *, whole: bool) -> list[bytes]:
        """Arrays of the parameters, or of the whole state."""
        _send(self._numbered[0], Give(whole))
        self._wait_for(lambda: self._given is not None, limit_s, lambda: "no state was given")
        given, self._given = self._given, None
        assert given is not None
        return given

    def _wait_for(
        self,
        is_there: Callable[[], bool],
        limit_s: float,
        what: Callable[[], str],
        late: Callable[[str], Exception] = lambda why: Lost(why, _CERTAIN),
    ) -> None:
        """Listen until something is there."""
        until_s = time.monotonic() + limit_s
        while self._listen(0.0):  # what has come while nobody listened
            if is_there():
                return
        while not is_there():
            now_s = time.monotonic()
            for member in self._members:
                if now_s - member.heard_s > self._silence_s:
                    why = f"{member.name} gave no sign of life for {self._silence_s:g} s"
                    raise Lost(why, _CERTAIN)
            if now_s > until_s:
                raise late(f"{what()} within {limit_s:g} s")
            self._listen(min(_LOOK_S, until_s - now_s))

    def _listen(self, timeout_s: float) -> bool:
        """Take what has come, after waiting for at most so long; whether there was anything."""
        sources: dict[Any, Callable[[], None]] = {self._listener: self._accept}
        for member in self._members:
            sources[member.link.connection] = partial(self._hear, member)
        for child in self._children.each.values():
            sources[child.connection] = partial(self._attend, child)
        ready = wait(list(sources), max(timeout_s, 0.0))
        for source in ready:
            sources[source]()
        return bool(ready)

    def _accept(self) -> None:
        found, address = self._listener.accept()
        limit = struct.pack("ll", int(self._silence_s) + 1, 0)  # of a peer that stands still
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            found.setsockopt(socket.SOL_SOCKET, option, limit)
        link = Link(connection_of(found))
        self._members.append(Member(link, str(address[0]), time.monotonic()))

    def _attend(self, child: Child) -> None:
        if not child.listen():
            is_again = child.process.wait() == AGAIN  # which it does when another is lost
            raise Lost(child.how_it_ended(), 0 if is_again else _CERTAIN)

    def _hear(self, member: Member) -> None:
        if member not in self._members:
            return
        try:
            message, arrays = member.link.receive()
        except (EOFError, OSError):
            self._members.remove(member)
            member.link.connection.close()
            raise Lost(f"{member.name} has gone") from None
        member.heard_s = time.monotonic()
        self._take(member, message, arrays)

    def _take(self, member: Member, message: Message, arrays: list[bytes]) -> None:
        if isinstance(message, Hello):
            self._check(member, message)
        elif isinstance(message, Ready):
            member.ready = message
        elif isinstance(message, Made):
            self._made.append(message)
        elif isinstance(message, Given):
            self._given = arrays
        elif isinstance(message, Broken):
            self._members.remove(member)  # its end is no news
            member.link.connection.close()
            raise Lost(f"{member.name} broke off: {message.why}", 0)
        elif isinstance(message, Failed):
            raise StateLost(f"{member.name} failed with {message.what}")

    def _check(self, member: Member, hello: Hello) -> None:
        """Let a process in, if it can take part."""
        own = versions()
        why = ""
        if hello.processes != self._hosts.processes or not 0 <= hello.number < hello.processes:
            why = (
                f"it is one of {hello.processes}, and not of {self._hosts.processes}; name as many"
            )
        elif hello.versions != own:
            why = f"it has {hello.versions}, but the first host has {own}"
        elif not is_same(hello.sample, self._sample):
            why = "it has other training examples than the first host"
        if why:
            _send(member, End(REFUSED, f"process {hello.number} cannot take part: {why}"))
            raise StateLost(f"process {hello.number} on {member.host} cannot take part: {why}")
        if hello.number in self._numbered:
            raise Lost(f"process {hello.number} was started a second time")
        member.hello = hello


def listener(hosts: Hosts) -> socket.socket:
    """Where processes find the command that leads.

    Raises:
        OSError: that cannot be; in words.
    """
    host, port = hosts.first
    try:
        return socket.create_server((host, port), backlog=hosts.processes)
    except OSError as error:
        raise OSError(f"cannot listen at {host}:{port}: {error.strerror or error}") from error


def _send(member: Member, message: Message, arrays: Sequence[np.ndarray] = ()) -> None:
    """Send; one that has gone does not get it, and its end is heard of in its turn."""
    with suppress(OSError):
        member.link.send(message, arrays)
