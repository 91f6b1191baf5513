"""The whole machine under random events: nothing is lost, applied twice, or left waiting.

The test plays the cluster. It keeps its own books of what was requested and how each request ended,
and sends what a network may send: joins, losses, gradients in any order, repeated, late or made up.
"""

from collections.abc import Iterable

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from distvi.aggregation import (
    Scheme,
    add,
    asynchronous,
    average_by_size,
    backup_gradients,
    backup_workers,
    bounded_lead,
    chain,
    collect,
    drop_stale,
    drop_stale_async,
    dynamic_backup,
    k_async,
    k_batch_async,
    k_batch_sync,
    k_sync,
    one_from_each,
    softsync,
    ssp,
    staleness_aware,
    sync,
)
from distvi.protocol import (
    Alarm,
    Cancel,
    Command,
    Commit,
    Dismiss,
    Event,
    Free,
    GradientArrived,
    GradientNonFinite,
    Ignored,
    Joined,
    Left,
    Rules,
    SendParameters,
    SetAlarm,
    Status,
    Stop,
    StopRequested,
    Ticket,
    initial_state,
    react,
    violations,
)

WORKERS = 5
STEPS_PER_RUN = 105
RUNS = 130

SCHEMES = [
    sync(),
    sync(add),
    asynchronous(),
    asynchronous(in_flight=2),
    backup_workers(3),
    dynamic_backup(1, 2.0),
    dynamic_backup(2, 100.0),
    backup_gradients(3),
    backup_gradients(8),
    ssp(0),
    ssp(2),
    softsync(2),
    softsync(2, max_staleness=4),
    k_sync(2),
    k_batch_sync(3),
    k_async(2, average_by_size),
    k_batch_async(3),
    drop_stale_async(1),
    staleness_aware(k_async(3)),
    Scheme("two barriers", chain(one_from_each(2), collect(3), drop_stale(2)), bounded_lead(3)),
]

Key = tuple[int, int, int]
workers = st.integers(0, WORKERS - 1)


class Cluster(RuleBasedStateMachine):
    """Everything a cluster can do to the control plane."""

    steps = 0

    @initialize(
        scheme=st.sampled_from(SCHEMES),
        worker_timeout_s=st.sampled_from([None, 3.0]),
        idle_limit_s=st.sampled_from([None, 20.0]),
        members=st.integers(1, WORKERS),
    )
    def begin(
        self,
        scheme: Scheme,
        worker_timeout_s: float | None,
        idle_limit_s: float | None,
        members: int,
    ) -> None:
        self.told = Rules(
            scheme, worker_timeout_s=worker_timeout_s, idle_limit_s=idle_limit_s, nonfinite_limit=4
        )
        self.state = initial_state(self.told)
        self.now_s = 0.0
        self.incarnation = dict.fromkeys(range(WORKERS), -1)
        self.requested: dict[Key, int] = {}
        self.arrived: dict[Key, Ticket] = {}
        self.ended: dict[Key, str] = {}
        self.committed: list[Ticket] = []
        for worker in range(members):
            self.join(worker)

    # What can happen

    @rule(worker=workers)
    def join(self, worker: int) -> None:
        event = Joined(worker, self.incarnation[worker] + 1)
        if self.state.outcome is None:
            self.incarnation[worker] += 1
            self.lose(worker)
            self.send(event)
        else:
            self.send_in_vain(event)

    @rule(worker=workers)
    def leave(self, worker: int) -> None:
        present = self.state.members.get(worker)
        if present is not None:
            self.lose(worker)
            self.send(Left(worker, present.incarnation))
            assert worker not in self.state.members

    @rule(choice=st.integers(0, 10**6), size=st.integers(1, 9), wait_s=st.floats(0, 1))
    def deliver(self, choice: int, size: int, wait_s: float) -> None:
        if under_way := self.under_way():
            key = under_way[choice % len(under_way)]
            ticket = Ticket(*key, base=self.requested[key], size=size)
            self.arrived[key] = ticket
            self.now_s += wait_s
            answer = self.send(GradientArrived(ticket))
            assert not [command for command in answer if isinstance(command, Ignored)]
        else:
            self.let_time_pass(wait_s)

    @rule(choices=st.lists(st.integers(0, 10**6), max_size=6), size=st.integers(1, 9))
    def deliver_several(self, choices: list[int], size: int) -> None:
        for choice in choices:
            self.deliver(choice, size, 0.0)

    @rule(choice=st.integers(0, 10**6), wrong_base=st.booleans())
    def deliver_unusable(self, choice: int, wrong_base: bool) -> None:
        if under_way := self.under_way():
            key = under_way[choice % len(under_way)]
            ticket = Ticket(*key, base=self.requested[key] - wrong_base)
            self.arrived[key] = ticket
            self.send(GradientArrived(ticket) if wrong_base else GradientNonFinite(ticket))
            assert self.ended[key] == "freed"

    @rule(choice=st.integers(0, 10**6))
    def repeat(self, choice: int) -> None:
        if self.arrived:
            tickets = list(self.arrived.values())
            self.send_in_vain(GradientArrived(tickets[choice % len(tickets)]))
        else:
            self.let_time_pass(0.1)

    @rule(choice=st.integers(0, 10**6))
    def arrive_late(self, choice: int) -> None:
        late = [key for key, end in self.ended.items() if end in ("lost", "cancelled")]
        if late:
            key = late[choice % len(late)]
            self.send_in_vain(GradientArrived(Ticket(*key, base=self.requested[key])))
        else:
            self.let_time_pass(0.1)

    @rule(worker=workers, incarnation=st.integers(-1, 3), sequence=st.sampled_from([-1, 10**6]))
    def make_up(self, worker: int, incarnation: int, sequence: int) -> None:
        self.send_in_vain(GradientArrived(Ticket(worker, incarnation, sequence, base=0)))

    @rule(worker=workers, ago=st.integers(0, 3))
    def repeat_join(self, worker: int, ago: int) -> None:
        if self.incarnation[worker] >= 0:
            self.send_in_vain(Joined(worker, max(0, self.incarnation[worker] - ago)))

    @rule(worker=workers, ago=st.integers(1, 3))
    def repeat_loss(self, worker: int, ago: int) -> None:
        self.send_in_vain(Left(worker, self.incarnation[worker] - ago))

    @rule(wait_s=st.floats(0, 4))
    def let_time_pass(self, wait_s: float) -> None:
        self.now_s += wait_s
        self.send(Alarm())

    @rule(die=st.integers(1, 30))
    def stop(self, die: int) -> None:
        if die == 13 and self.state.outcome is None:
            self.send(StopRequested())
            assert self.state.outcome is not None

    # The books

    def under_way(self) -> list[Key]:
        return [key for key in self.requested if key not in self.ended and key not in self.arrived]

    def lose(self, worker: int) -> None:
        present = self.state.members.get(worker)
        if present is not None:
            for key in self.under_way():
                if key[:2] == (worker, present.incarnation):
                    self.end(key, "lost")

    def end(self, key: Key, how: str) -> None:
        assert key in self.requested, f"{key} was never requested"
        assert key not in self.ended, f"{key} ends twice: {self.ended.get(key)}, then {how}"
        self.ended[key] = how

    def send(self, event: Event) -> tuple[Command, ...]:
        type(self).steps += 1
        before = self.state
        self.state, commands = react(self.told, before, event, self.now_s)
        if self.steps % 5 == 0:
            again = react(self.told, before, event, self.now_s)
            assert again == (self.state, commands), "react is not pure"
        version = before.version
        for place, command in enumerate(commands):
            version = self.book(command, version, last=place == len(commands) - 1)
        assert version == self.state.version
        return commands

    def send_in_vain(self, event: Event) -> None:
        before = self.state
        commands = self.send(event)
        assert [type(command) for command in commands if not isinstance(command, SetAlarm)] == [
            Ignored
        ]
        changed = {
            name
            for name, old, new in zip(before._fields, before, self.state, strict=True)
            if old != new
        }
        assert changed <= {"now_s", "incarnations", "alarm_s", "idle_since_s", "gate"}

    def book(self, command: Command, version: int, last: bool) -> int:
        match command:
            case SendParameters(worker, incarnation, sequence, sent):
                assert (worker, incarnation, sequence) not in self.requested
                assert sent == version, "not the newest parameters"
                self.requested[worker, incarnation, sequence] = sent
            case Commit(made, parts):
                assert made == version + 1
                assert parts, "an update of nothing"
                assert list(parts) == sorted(parts, key=lambda part: part.ticket.key)
                for part in parts:
                    assert self.arrived[part.ticket.key] == part.ticket
                    self.end(part.ticket.key, "committed")
                return made
            case Free(ticket, reason):
                assert reason
                assert self.arrived[ticket.key] == ticket
                self.end(ticket.key, "freed")
            case Cancel(worker, incarnation, sequence):
                assert (worker, incarnation, sequence) not in self.arrived
                self.end((worker, incarnation, sequence), "cancelled")
            case Dismiss(worker, incarnation):
                for key in self.under_way():
                    if key[:2] == (worker, incarnation):
                        self.end(key, "lost")
            case SetAlarm(at_s):
                assert at_s >= self.now_s
            case Stop():
                assert last, "commands after the stop"
        return version

    @invariant()
    def promises_hold(self) -> None:
        if not hasattr(self, "state"):
            return
        assert violations(self.told, self.state) == ()

    @invariant()
    def every_gradient_is_somewhere(self) -> None:
        if not hasattr(self, "state"):
            return
        held = {ticket.key: ticket for tickets in self.state.held.values() for ticket in tickets}
        assert held == {
            key: ticket for key, ticket in self.arrived.items() if key not in self.ended
        }
        computing = [
            (record.worker, record.incarnation, request.sequence)
            for record in self.state.members.values()
            for request in record.requests
        ]
        assert sorted(computing) == sorted(self.under_way())
        assert self.state.counts == {
            Status.COMPUTING: len(computing),
            Status.HELD: len(held),
            Status.COMMITTED: count(self.ended.values(), "committed"),
            Status.REFUSED: count(self.ended.values(), "freed"),
            Status.CANCELLED: count(self.ended.values(), "cancelled"),
            Status.LOST: count(self.ended.values(), "lost"),
        }

    @invariant()
    def somebody_can_make_progress(self) -> None:
        """While workers are here and the run goes on, at least one of them is computing."""
        if not hasattr(self, "state") or self.told.scheme.name == "two barriers":
            return
        if self.state.members and self.state.outcome is None:
            assert self.state.counts[Status.COMPUTING] > 0


def count(ends: Iterable[str], which: str) -> int:
    return sum(end == which for end in ends)


def test_the_machine_keeps_its_promises_under_random_events() -> None:
    run_state_machine_as_test(
        Cluster,
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=STEPS_PER_RUN,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],  # shrinking a story of 100 steps takes minutes
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
    assert Cluster.steps >= 10_000
