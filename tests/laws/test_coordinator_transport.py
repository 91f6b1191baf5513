"""The coordinator's transport in every order of events, on a fleet that is only played.

Real processes die, stop, wake and answer when the kernel lets them; here a random number says so,
between any two messages. What they would read and write is followed slot by slot.
"""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from distvi.aggregation import (
    SCHEMES,
    Scheme,
    after_own_update,
    chain,
    collect,
)
from distvi.engines import Halted
from distvi.engines.coordinator.fleet import Role
from distvi.protocol import (
    Alarm,
    Commit,
    Dismiss,
    Outcome,
    Rules,
    State,
    drive,
    initial_state,
    replay,
)
from distvi.testing.fleet import CALM
from tests.fake_processes import HALF_WRITTEN, LIMITS, UPDATES, World, marks


def assert_consistent(world: World, state: State) -> None:
    """All that has been decided has been done, once, on every server; nothing has been lost."""
    played = replay(world.rules, initial_state(world.rules), (entry for entry, *_ in world.journal))
    assert list(played) == [(state, commands) for _, state, commands in world.journal]
    commits = [c for *_, commands in world.journal for c in commands if isinstance(c, Commit)]
    assert [commit.version for commit in commits] == list(range(1, state.version + 1))
    assert world.transport.versions.newest == state.version
    assert len(world.applied) == state.version * world.servers
    for commit in commits:
        for server in range(world.servers):
            assert len(world.applied[commit.version, server]) == len(commit.contributions)
            assert HALF_WRITTEN not in world.applied[commit.version, server]
    each = [o for (_, server), requests in world.applied.items() if not server for o in requests]
    assert len(set(each)) == len(each), "a gradient was applied twice"
    begin, updates = world.transport.recovery
    assert (begin.version, updates) == (state.version, [])
    assert (marks(world.numbers.parameters, begin.parameters) == state.version).all()
    assert (marks(world.numbers.states, begin.state) == state.version).all()
    if world.memories is not None:
        world.check_memories(state)
    if not world.transport._events:
        assert_nothing_is_lost(world, state)


def assert_nothing_is_lost(world: World, state: State) -> None:
    """Every slot in use has somebody who will give it back."""
    requests, versions = world.transport.requests, world.transport.versions
    held = {ticket for tickets in state.held.values() for ticket in tickets}
    workers = range(len(world.transport.members))
    unanswered = [o for n in workers for o in requests.unanswered(n)]
    assert requests.used == len(held) + len(unanswered)
    needed = unanswered + ([requests.of(ticket) for ticket in held] if world.keeps_base else [])
    begin, _ = world.transport.recovery
    read = {request.parameters for request in needed}
    assert versions.used == len(read | {versions.slot, begin.parameters})
    if world.memories is not None:
        settled = sum(world.memories.slot(worker) >= 0 for worker in workers)
        assert world.memories.used == settled + len(held) + len(unanswered)


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "options", [{}, {"keeps_base": True, "has_memory": True}], ids=["plain", "base and memory"]
)
def test_whatever_happens_every_update_is_made_once(
    name: str, seed: int, options: dict[str, Any]
) -> None:
    world = World(name, seed, workers=3, servers=2, **options)
    state = initial_state(world.rules)
    for until in (1, 10, 11, UPDATES):
        state = world.advance(state, until)
        assert_consistent(world, state)
        world.fleet.time_s += 1000.0  # nobody listens for a while
        for _ in range(world.fleet.random.randrange(100)):
            world.fleet.move()
    assert state.outcome is Outcome.DONE


def calm(name: str, **changes: Any) -> tuple[World, State]:
    """A run in which nothing happens by itself."""
    options: dict[str, Any] = {"seed": 0, "workers": 2, "servers": 1}
    world = World(name, **(options | changes))
    world.fleet.odds = {"worker": CALM, "server": CALM}
    return world, initial_state(world.rules)


def test_a_worker_that_is_stopped_for_long_does_not_heap_up_orders() -> None:
    world, state = calm("k-sync")
    state = world.advance(state, 1)
    stopped = world.fleet.played("worker", 1)
    stopped.is_stopped = True
    state = world.advance(state, 15)
    assert world.transport.requests.used <= 2 + 2  # two overtaken, two present
    stopped.is_stopped = False
    state = world.advance(state, UPDATES)
    assert_consistent(world, state)
    assert world.transport.tracker.workers[1].gradients


def test_a_dismissed_worker_is_shown_as_that_while_others_go_on() -> None:
    world, state = calm("async")
    world.rules = replace(world.rules, worker_timeout_s=0.6)
    state = world.advance(state, 2)
    world.fleet.played("worker", 1).is_stopped = True
    state = world.advance(state, 15)
    dismissed = [c for *_, commands in world.journal for c in commands if isinstance(c, Dismiss)]
    assert dismissed[0].worker == 1
    assert state.version == 15
    assert world.transport.tracker.workers[1].state == "dismissed"


def test_workers_are_not_blamed_for_the_time_in_which_a_server_starts() -> None:
    world, state = calm("sync")
    state = world.advance(state, 1)
    world.fleet.played("server", 0).is_alive = False
    until_s = world.fleet.time_s + 40.0

    def wait() -> None:
        if ("server", 0) in world.fleet.processes:
            world.fleet.played("server", 0).is_stopped = world.fleet.time_s < until_s

    world.meddle = wait
    state = world.advance(state, UPDATES)
    assert world.fleet.time_s > until_s
    assert not any(isinstance(c, Dismiss) for *_, commands in world.journal for c in commands)


def test_workers_are_not_blamed_for_the_time_that_a_save_takes() -> None:
    world, state = calm("sync")
    state = world.advance(state, 2)
    servers, until_s = world.transport._servers, 1e6
    save = servers.save

    def stop_and_save() -> None:
        nonlocal until_s
        if servers.saving is None:
            until_s = (
                world.fleet.time_s + 4.0
            )  # longer than workers are waited for, not than servers
            world.fleet.played("server", 0).is_stopped = True
        save()

    def wake() -> None:
        if world.fleet.time_s > until_s:
            world.fleet.played("server", 0).is_stopped = False

    servers.save, world.meddle = stop_and_save, wake
    for until in range(3, UPDATES + 1):
        state = world.advance(state, until)
    assert not any(isinstance(c, Dismiss) for *_, commands in world.journal for c in commands)


def test_a_stopped_server_is_given_up_once() -> None:
    world, state = calm("async")
    world.transport._servers.most_kept = 1  # every update is saved, while the next is made

    def stop() -> None:
        servers = world.transport._servers
        if (
            servers.update is not None
            and servers.saving is not None
            and sum(world.fleet.starts.values()) == 3
        ):
            world.fleet.played("server", 0).is_stopped = True

    world.meddle = stop
    state = world.advance(state, UPDATES)
    assert_consistent(world, state)
    assert world.transport.restarts == 1


def test_gradients_that_always_come_too_late_end_the_run_with_what_to_do() -> None:
    world, state = calm("sync", limits=LIMITS._replace(worker_timeout_s=1e6))

    def slow_down() -> None:
        world.fleet.time_s += 2.0  # the rules' patience is 3 s

    state = world.advance(state, 3)
    world.meddle = slow_down
    with pytest.raises(Halted, match=r"gradients take longer than that; give the workers more"):
        world.advance(state, UPDATES)


def test_those_left_behind_do_not_wait_for_ever() -> None:
    world, _ = calm("sync", limits=LIMITS._replace(max_restarts=0))
    world.rules = Rules(Scheme("pairs", chain(collect(2)), after_own_update()))
    state = world.advance(initial_state(world.rules), 3)
    world.fleet.played("worker", 0).is_alive = False
    state = world.advance(state, UPDATES)
    assert state.outcome is Outcome.FAILED
    assert "nothing can happen any more" in world.transport.end


def test_workers_that_were_dismissed_are_not_waited_for_for_ever() -> None:
    world, state = calm("sync")
    state = world.advance(state, 3)
    for number in range(2):
        world.fleet.played("worker", number).is_stopped = True
    with pytest.raises(Halted, match=r"waited .* for worker 0, worker 1: dismissed"):
        world.advance(state, UPDATES)


@pytest.mark.parametrize("role", ["worker", "server"])
def test_a_process_that_ends_by_itself_before_it_is_ready_is_not_started_again(role: Role) -> None:
    world, state = calm("sync")
    process = world.fleet.played(role, 0)
    process.is_alive, process.ends_by_itself = False, True
    with pytest.raises(Halted, match=f"{role} 0 .* before it was ready"):
        world.advance(state, 1)


def test_a_server_without_replacement_leaves_the_last_whole_version() -> None:
    world, state = calm("async", servers=2, limits=LIMITS._replace(max_restarts=0))
    state = world.advance(state, 3)
    world.fleet.played("server", 1).is_alive = False
    with pytest.raises(Halted, match="all 0 restarts have been used"):
        world.advance(state, UPDATES)
    numbers, versions = world.numbers, world.transport.versions
    assert (marks(numbers.parameters, versions.slot) == versions.newest).all()
    begin, updates = world.transport.recovery
    assert [update.version for update in updates] == [
        *range(begin.version + 1, versions.newest + 1)
    ]
    assert (marks(numbers.parameters, begin.parameters) == begin.version).all()
    assert (marks(numbers.states, begin.state) == begin.version).all()
    for update, server in product(updates, range(2)):
        requests = tuple(int(marks(numbers.payloads, slot)[0]) for slot in update.payloads)
        assert requests == world.applied[update.version, server]


def test_training_goes_on_after_an_interruption() -> None:
    world, state = calm("sync")
    state = world.advance(state, 3)
    for role, number in world.fleet.processes:
        world.fleet.played(role, number).is_stopped = True
    world.transport.interrupted = lambda: True
    world.transport.go_on()
    state = drive(world.rules, world.transport, state=state, pause=lambda state: True)
    heard = []  # of before
    while (received := world.transport.receive()) and not isinstance(received[1], Alarm):
        heard.append(received[1])
    world.transport._events.extend(heard)
    world.transport.interrupted = lambda: False
    world.fleet.mend()
    assert world.advance(state, UPDATES).outcome is Outcome.DONE
