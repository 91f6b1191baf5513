"""The processes of a run on several machines, and what keeps the numbers of each server twice.

To the coordinator a server is one process. Behind it stands a backup on another machine, where
there is one; when the server is lost and the coordinator starts it anew, the backup is promoted and
another one is started. What processes say is believed when it is safe
(`distvi.engines.ray.deliveries`).
"""

import contextlib
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from typing import ClassVar, NamedTuple

import numpy as np

from distvi.engines.base import Examples, Halted, Recipe
from distvi.engines.coordinator.clock import Clock
from distvi.engines.coordinator.environment import server_environment
from distvi.engines.coordinator.fleet import Fleet, Post, Process, Received, Role, Wanted
from distvi.engines.coordinator.messages import (
    Abandoned,
    Begin,
    Compute,
    Computed,
    Failed,
    Message,
    Ready,
    Saved,
)
from distvi.engines.coordinator.slots import Numbers, SlotMap
from distvi.engines.ray.assignment import Assignment
from distvi.engines.ray.beat import BEAT
from distvi.engines.ray.contents import Contents, Holding
from distvi.engines.ray.deliveries import Deliveries
from distvi.engines.ray.launcher import Launcher
from distvi.engines.ray.machines import Machines
from distvi.engines.ray.messages import (
    Arrived,
    Beat,
    Content,
    Copied,
    Fetch,
    Follow,
    Hello,
    Network,
    Printed,
    Promote,
    Put,
    Servers,
    Welcome,
)
from distvi.engines.ray.remote import RayProcess
from distvi.engines.ray.server import MEMORIES, PARAMETERS, STATES
from distvi.engines.ray.settings import RaySettings
from distvi.engines.ray.sockets import Frames, Keys, Sockets, receive_from, send, skip

_LOOK_S = 0.5  # between two looks at who has ended
_BEATS = 5  # in the time after which silence is an end


class Topology(NamedTuple):
    """How a run is spread over processes.

    Attributes:
        settings: Written out.
        contributions: That most updates are made of.
    """

    settings: RaySettings
    contributions: int


class RayFleet(Fleet):
    """Worker and server processes on the machines of a Ray cluster.

    Args:
        topology: How many, and where.
        recipe: Builds the problem and the rules in each.
        examples: The training set.
        slots: Where everything lies.
        numbers: The coordinator's own.
        clock: The coordinator's.
    """

    shares_memory: ClassVar[bool] = False

    def __init__(
        self,
        topology: Topology,
        recipe: Recipe,
        examples: Examples,
        slots: SlotMap,
        numbers: Numbers,
        clock: Clock,
    ) -> None:
        super().__init__()
        self._settings, self._contributions = topology
        self._recipe, self._examples = recipe, examples
        self._contents, self._clock = Contents(numbers, slots), clock
        self._shards = len(slots.shards.each)
        self._keys = Keys.new() if self._settings.encrypt else None
        self._backups: dict[int, RayProcess] = {}
        self._by_name: dict[str, RayProcess] = {}
        self._starts: dict[tuple[Role, int], int] = {}
        self._were_on: dict[int, str] = {}
        self._deliveries = Deliveries(self._shards)
        self._held: deque[Received] = deque()
        self._fetched: set[tuple[str, str, int]] = set()
        self._brought: set[Holding] = set()
        self._has_begun = False
        self._restarts = 0
        self._looked_s = clock.machine()

    # Its life

    def __enter__(self) -> "RayFleet":
        settings = self._settings
        assert settings.workers is not None
        copies = self._shards * (1 + settings.replicas)
        cores = settings.workers * settings.cpus_per_worker + copies
        with ExitStack() as stack:
            self._ray = stack.enter_context(Launcher(settings.address, int(np.ceil(cores))))
            self._machines = Machines(settings, self._ray)
            self._machines.check()
            self._x = self._machines.offer(self._examples.x)
            self._y = self._ray.share(self._examples.y)
            self._sockets = Sockets(self._keys)
            stack.callback(self._sockets.close)
            self._control, self._address = self._sockets.bound(self._ray.endpoint)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self.processes.clear()
        self._by_name.clear()
        self._open.close()

    # Starting and ending

    def start(self, post: Post) -> Process:
        """Start a process; a server that was lost: promote its backup.

        Raises:
            Halted: there is no room, or what a server had is lost with it.
        """
        place: tuple[Role, int] = post.role, post.number
        assert place not in self.processes, f"{post.role} {post.number} lives"
        if post.role == "worker" or not self._has_begun:  # nothing is lost
            process = self._launch(post)
            needs_backup = post.role == "server" and self._settings.replicas
            if needs_backup and post.number not in self._backups:
                self._launch_backup(post.number)
        else:
            process = self._promoted(post.number)
        self.processes[place] = process
        return process

    def _launch(self, post: Post, *, is_backup: bool = False) -> RayProcess:
        place: tuple[Role, int] = post.role, post.number
        start = self._starts.get(place, 0)
        self._starts[place] = start + 1
        identity = f"{post.role}-{post.number}.{start}"
        now_s = self._clock.machine()
        process = RayProcess(*place, start, now_s, identity=identity, heard_s=now_s)
        settings = self._settings
        assert settings.workers is not None
        if post.role == "worker":
            process.waits_for_room = not self._machines.have_room(self._were_on.get(post.number))
            environment, resources = self._machines.of_worker()
        else:
            server = self.processes.get(("server", post.number)) if is_backup else None
            others = server.node if isinstance(server, RayProcess) else ""
            process.node = self._machines.for_server(
                post.number, is_backup=is_backup, not_on=others
            )
            environment, resources = server_environment(), {"num_cpus": 0.0, "num_gpus": 0.0}
        assignment = Assignment(
            role=post.role,
            number=post.number,
            name=identity,
            is_backup=is_backup,
            workers=settings.workers,
            servers=self._shards,
            placement=settings.placement,
            recipe=(self._recipe.factory, dict(self._recipe.settings)),
            first_request=post.first_request,
            memory=post.memory,
            contributions=self._contributions,
            coordinator=self._address,
            keys=self._keys,
            beat_s=settings.silence_s / _BEATS,
            is_alone=settings.address == "local",
            environment=environment,
        )
        self._by_name[identity] = process
        self._ray.launch(assignment, self._x, self._y, node=process.node, resources=resources)
        return process

    def _launch_backup(self, shard: int) -> None:
        self._backups[shard] = self._launch(Post("server", shard), is_backup=True)

    def _promoted(self, shard: int) -> RayProcess:
        """The backup in the place of its server, and another backup."""
        backup = self._backups.pop(shard, None)
        if backup is None or not backup.is_current:
            raise Halted(
                f"server {shard} is lost, and there was no backup that had all it had: go on from "
                "the last checkpoint with distvi resume"
            )
        backup.is_ready, backup.started_s = False, self._clock.machine()
        self._held.extend(Received(*each) for each in self._deliveries.promoted(shard))
        send(self._control, Promote(), to=backup.identity)
        self.processes["server", shard] = backup
        self._tell_addresses()
        if self._settings.replicas and self._may_restart():
            self._launch_backup(shard)
        return backup

    def _may_restart(self) -> bool:
        """Whether another backup may be started; these are counted by themselves."""
        self._restarts += 1
        return self._restarts <= self._settings.max_restarts

    def stop(self, process: Process) -> None:
        """End a process. Of what it may still have sent, nothing counts."""
        assert isinstance(process, RayProcess)
        if self.processes.get((process.role, process.number)) is process:
            del self.processes[process.role, process.number]
        self._by_name.pop(process.identity, None)
        self._ray.kill(process.identity)
        if process.role == "worker":
            self._were_on[process.number] = process.node
            self._deliveries.ended(process)

    # Messages

    def send(self, process: Process, message: Message) -> None:
        """Send a message; one that is not there does not get it."""
        assert isinstance(process, RayProcess)
        self._brought.clear()
        if isinstance(message, Compute):
            self._deliveries.asked(process, message.request)
        self._has_begun = self._has_begun or isinstance(message, Begin)
        self._tell(process, message)

    def _tell(self, process: RayProcess, message: Message | Network, frames: Frames = ()) -> None:
        send(self._control, message, frames, to=process.identity)

    def receive(self, timeout_s: float) -> Iterator[Received]:
        """What has come from all processes, and who has ended."""
        if self._held:
            timeout_s = 0.0
        self._control.poll(max(0, round(1000 * timeout_s)))
        while self._control.poll(0):
            self._one()
            while self._held:
                yield self._held.popleft()
        self._look_around()
        while self._held:
            yield self._held.popleft()

    def _one(self) -> None:
        """Take the message that is there."""
        name, message = receive_from(self._control)
        process = self._by_name.get(name.removesuffix(BEAT))
        if process is None:  # it has been given up
            skip(self._control)
            return
        process.heard_s = self._clock.machine()
        if isinstance(message, Content):
            self._contents.take(self._control, message.kind, message.slot, process.number)
            self._fetched.add((process.identity, message.kind, message.slot))
        elif isinstance(message, Printed):
            self._print(process, message.text)
        elif not isinstance(message, Beat):
            self._held.extend(Received(*each) for each in self._meaning(process, message))

    def _print(self, process: RayProcess, text: str) -> None:
        if self.logs is not None:
            with contextlib.suppress(OSError):  # the disk may be full; that ends no run
                self.logs.mkdir(parents=True, exist_ok=True)
                with (self.logs / f"{process.role}-{process.number}.log").open("a") as log:
                    log.write(text)

    def _meaning(
        self, process: RayProcess, message: Message | Network
    ) -> list[tuple[Process, Message]]:
        """What the coordinator is to know of a message."""
        is_backup = process is self._backups.get(process.number) and process.role == "server"
        if isinstance(message, Hello):
            self._greet(process, message, is_backup=is_backup)
        elif isinstance(message, Arrived):
            return [*self._deliveries.arrived(process, message, from_backup=is_backup)]
        elif isinstance(message, Copied):
            process.is_current = True
            server = self.processes.get(("server", process.number))
            if server is not None and not server.is_ready:  # it waited for that
                return [(server, Ready(0.0))]
        elif isinstance(message, Computed):
            return [*self._deliveries.computed(message)]
        elif isinstance(message, Saved):
            return [*self._deliveries.saved(process, message)]
        elif isinstance(message, Ready) and process.role == "server":
            process.is_compiled = True
            self._have_followed(process.number)
            if not is_backup and not self._has_begun and self._settings.replicas:
                return []  # a server without its backup could lose what it is given
            return [] if is_backup else [(process, message)]
        elif isinstance(message, Abandoned):
            self._deliveries.settled(message.request)
            return [(process, message)]
        else:
            process.ended_itself = isinstance(message, Failed)
            return [(process, message)]  # pyright: ignore[reportReturnType]
        return []

    def _greet(self, process: RayProcess, message: Hello, *, is_backup: bool) -> None:
        process.system_pid, process.address = message.pid, message.address
        process.node, process.waits_for_room = message.node, False
        process.started_s = self._clock.machine()
        self._tell(process, Welcome(message.clock_s - self._clock.machine()))
        if process.role == "worker":
            self._tell(process, Servers(self._addresses))
            self._put(process, MEMORIES, 0)
        elif not is_backup:
            for kind in (PARAMETERS, STATES):
                self._put(process, kind, self._contents.published(process.number))
            self._tell_addresses()

    def _put(self, process: RayProcess, kind: str, tag: int) -> None:
        """Give a process what there is of its slots."""
        for slot in self._contents.touched(kind):
            frames = self._contents.frames(kind, slot, process.number)
            self._tell(process, Put(kind, slot, tag), frames)

    def _have_followed(self, shard: int) -> None:
        """Let a server know its backup, once both are compiled."""
        server, backup = self.processes.get(("server", shard)), self._backups.get(shard)
        if not isinstance(server, RayProcess) or backup is None:
            return
        if server.is_compiled and backup.is_compiled:
            self._tell(server, Follow(backup.address))

    @property
    def _addresses(self) -> tuple[str, ...]:
        servers = (self.processes.get(("server", shard)) for shard in range(self._shards))
        return tuple(each.address if isinstance(each, RayProcess) else "" for each in servers)

    def _tell_addresses(self) -> None:
        for process in self.of("worker"):
            assert isinstance(process, RayProcess)
            if process.system_pid:  # else it is told with its welcome, which comes first
                self._tell(process, Servers(self._addresses))

    # Who has ended

    def _look_around(self) -> None:
        now_s = self._clock.machine()
        if now_s - self._looked_s < _LOOK_S:
            return
        self._looked_s = now_s
        for name, how in list(self._ray.ended()):
            if (process := self._by_name.get(name)) is not None:
                self._lost(process, how)
        for process in list(self._by_name.values()):
            silent_s = now_s - process.heard_s
            if process.system_pid and silent_s > self._settings.silence_s:
                what = "its process or its machine stopped, or the link to it is cut"
                self._lost(process, f"gave no sign of life for {silent_s:.0f} s: {what}")
        if draining := self._machines.draining():
            for process in list(self._by_name.values()):
                if process.node in draining:
                    self._make_room(process, draining)

    def _make_room(self, process: RayProcess, draining: Collection[str]) -> None:
        """A machine is about to be taken away: what is on it goes elsewhere.

        A server goes when it has a backup on another machine, and is given one for that.
        """
        shard, backup = process.number, self._backups.get(process.number)
        if process.role == "server" and process is not backup and self._has_begun:
            if backup is None and self._machines.can_take(not_on=process.node):
                self._launch_backup(shard)
            if backup is None or not backup.is_current or backup.node in draining:
                return
        process.makes_room = True
        self._lost(process, "makes room: its machine is being drained")

    def _lost(self, process: RayProcess, how: str) -> None:
        process.end = how
        if not process.makes_room:
            self._machines.suspect(process.node)
        self.stop(process)
        shard = process.number
        if process is not self._backups.get(shard) or process.role != "server":
            self._held.append(Received(process, None))
            return
        del self._backups[shard]
        if isinstance(server := self.processes.get(("server", shard)), RayProcess):
            self._tell(server, Follow(""))
        self._held.extend(Received(*each) for each in self._deliveries.alone(shard))
        if self._settings.replicas and (process.makes_room or self._may_restart()):
            self._launch_backup(shard)

    # The coordinator's numbers

    def bring(self, wanted: Wanted) -> None:
        """Fetch slots from the processes that have them.

        Raises:
            Halted: one of these is lost, or does not answer in time.
        """
        holdings = set(self._contents.holdings(wanted))
        if not self._has_begun or holdings <= self._brought:  # it lies here
            return
        self._fetched.clear()
        self._brought.clear()
        missing: set[tuple[str, str, int]] = set()
        for role, number, kind, slot in holdings:
            process = self.processes.get((role, number))
            if not isinstance(process, RayProcess):
                raise Halted(f"{role} {number} is lost, and with it the newest of what it had")
            missing.add((process.identity, kind, slot))
            self._tell(process, Fetch(kind, slot))
        until_s = self._clock.machine() + self._settings.worker_timeout_s
        while not missing <= self._fetched:
            self._control.poll(100)
            while self._control.poll(0):
                self._one()
            self._look_around()
            lost = [each for each, *_ in missing - self._fetched if each not in self._by_name]
            if lost or self._clock.machine() > until_s:
                names = ", ".join(sorted({each for each, *_ in missing - self._fetched}))
                raise Halted(f"{names} did not say what it had: it is lost, or too slow")
        self._brought = holdings
