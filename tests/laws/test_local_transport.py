"""The local engine's transport in every request of events, with processes that are only played.

Real processes die, stop, wake and answer when the kernel lets them; here a random number says so,
between any two messages. What they would read and write is followed slot by slot.
"""

from dataclasses import replace
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
from distvi.engines.coordinator import clock, transport
from distvi.engines.coordinator import servers as local_servers
from distvi.engines.local import Limits
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
from tests.fake_processes import LIMITS, UPDATES, World


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(name: str, seed: int, workers: int, servers: int, limits: Limits = LIMITS) -> World:
        world = World(name, seed, workers, servers, limits)
        for module in (clock, local_servers, transport):
            monkeypatch.setattr(module, "perf_counter", lambda: world.now_s)
        return world

    return make


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
            assert -1 not in world.applied[commit.version, server]
    each = [o for (_, server), requests in world.applied.items() if not server for o in requests]
    assert len(set(each)) == len(each), "a gradient was applied twice"
    begin, updates = world.transport.recovery
    assert (begin.version, updates) == (state.version, [])
    for server in range(world.servers):
        assert world.parameters[begin.parameters, server] == state.version
        assert world.states[begin.state, server] == state.version
    if not world.transport._events:
        held = sum(len(tickets) for tickets in state.held.values())
        workers = range(len(world.transport.members))
        unanswered = [o for n in workers for o in world.transport.requests.unanswered(n)]
        assert world.transport.requests.used == held + len(unanswered)
        read = {request.parameters for request in unanswered}
        versions = world.transport.versions
        assert versions.used == len(read | {versions.slot, begin.parameters})


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("seed", range(2))
def test_whatever_happens_every_update_is_made_once(play: Any, name: str, seed: int) -> None:
    world = play(name, seed, workers=3, servers=2)
    state = initial_state(world.rules)
    for until in (1, 10, 11, UPDATES):
        state = world.advance(state, until)
        assert_consistent(world, state)
        world.now_s += 1000.0  # nobody listens for a while
        for _ in range(world.random.randrange(100)):
            world.move()
    assert state.outcome is Outcome.DONE


@pytest.fixture
def calm(play: Any) -> Any:
    """A run in which nothing happens by itself."""

    def make(name: str, **changes: Any) -> tuple[World, State]:
        options = {"seed": 0, "workers": 2, "servers": 1} | changes
        world = play(name, **options)
        world.faults = 0.0
        return world, initial_state(world.rules)

    return make


def child_of(world: World, role: str, number: int) -> Any:
    return world.transport.fleet.processes[role, number]


def test_a_worker_that_is_stopped_for_long_does_not_heap_up_orders(calm: Any) -> None:
    world, state = calm("k-sync")
    state = world.advance(state, 1)
    stopped = child_of(world, "worker", 1)
    stopped.is_stopped = True
    state = world.advance(state, 15)
    assert world.transport.requests.used <= 2 + 2  # two overtaken, two present
    stopped.is_stopped = False
    state = world.advance(state, UPDATES)
    assert_consistent(world, state)
    assert world.transport.status.workers[1].gradients


def test_a_dismissed_worker_is_shown_as_that_while_others_go_on(calm: Any) -> None:
    world, state = calm("async")
    world.rules = replace(world.rules, worker_timeout_s=0.6)
    state = world.advance(state, 2)
    child_of(world, "worker", 1).is_stopped = True
    state = world.advance(state, 15)
    dismissed = [c for *_, commands in world.journal for c in commands if isinstance(c, Dismiss)]
    assert dismissed[0].worker == 1
    assert state.version == 15
    assert world.transport.status.workers[1].state == "dismissed"


def test_workers_are_not_blamed_for_the_time_in_which_a_server_starts(calm: Any) -> None:
    world, state = calm("sync")
    state = world.advance(state, 1)
    child_of(world, "server", 0).is_alive = False
    until_s = world.now_s + 40.0

    def wait() -> None:
        for process in world.transport.fleet.of("server"):
            process.is_stopped = world.now_s < until_s  # pyright: ignore[reportAttributeAccessIssue]

    world.meddle = wait
    state = world.advance(state, UPDATES)
    assert world.now_s > until_s
    assert not any(isinstance(c, Dismiss) for *_, commands in world.journal for c in commands)


def test_workers_are_not_blamed_for_the_time_that_a_save_takes(calm: Any) -> None:
    world, state = calm("sync")
    state = world.advance(state, 2)
    servers, until_s = world.transport._servers, 1e6
    save = servers.save

    def stop_and_save() -> None:
        nonlocal until_s
        if servers.saving is None:
            until_s = world.now_s + 4.0  # longer than workers are waited for, not than servers
            child_of(world, "server", 0).is_stopped = True
        save()

    def wake() -> None:
        if world.now_s > until_s:
            child_of(world, "server", 0).is_stopped = False

    servers.save, world.meddle = stop_and_save, wake
    for until in range(3, UPDATES + 1):
        state = world.advance(state, until)
    assert not any(isinstance(c, Dismiss) for *_, commands in world.journal for c in commands)


def test_a_stopped_server_is_given_up_once(calm: Any) -> None:
    world, state = calm("async")
    world.transport._servers.most_kept = 1  # every update is saved, while the next is made

    def stop() -> None:
        servers = world.transport._servers
        if servers.update is not None and servers.saving is not None and world.starts == 3:
            child_of(world, "server", 0).is_stopped = True

    world.meddle = stop
    state = world.advance(state, UPDATES)
    assert_consistent(world, state)
    assert world.transport.replaced == 1


def test_gradients_that_always_come_too_late_end_the_run_with_what_to_do(calm: Any) -> None:
    world, state = calm("sync", limits=LIMITS._replace(worker_timeout_s=1e6))

    def slow_down() -> None:
        world.now_s += 2.0  # the rules' patience is 3 s

    state = world.advance(state, 3)
    world.meddle = slow_down
    with pytest.raises(Halted, match=r"gradients take longer than that; give the workers more"):
        world.advance(state, UPDATES)


def test_those_left_behind_do_not_wait_for_ever(calm: Any) -> None:
    world, _ = calm("sync", limits=LIMITS._replace(max_restarts=0))
    world.rules = Rules(Scheme("pairs", chain(collect(2)), after_own_update()))
    state = world.advance(initial_state(world.rules), 3)
    child_of(world, "worker", 0).is_alive = False
    state = world.advance(state, UPDATES)
    assert state.outcome is Outcome.FAILED
    assert "nothing can happen any more" in world.transport.end


def test_workers_that_were_dismissed_are_not_waited_for_for_ever(calm: Any) -> None:
    world, state = calm("sync")
    state = world.advance(state, 3)
    for number in range(2):
        child_of(world, "worker", number).is_stopped = True
    with pytest.raises(Halted, match=r"worker 0, worker 1 to come back: dismissed"):
        world.advance(state, UPDATES)


@pytest.mark.parametrize("role", ["worker", "server"])
def test_a_process_that_ends_by_itself_before_it_is_ready_is_not_started_again(
    calm: Any, role: str
) -> None:
    world, state = calm("sync")
    process = child_of(world, role, 0)
    process.is_alive = process.is_killed = False
    with pytest.raises(Halted, match=f"{role} 0 .* before it was ready"):
        world.advance(state, 1)


def test_a_server_without_replacement_leaves_the_last_whole_version(calm: Any) -> None:
    world, state = calm("async", servers=2, limits=LIMITS._replace(max_restarts=0))
    state = world.advance(state, 3)
    child_of(world, "server", 1).is_alive = False
    with pytest.raises(Halted, match="all 0 max_restarts have been used"):
        world.advance(state, UPDATES)
    versions = world.transport.versions
    assert {world.parameters[versions.slot, server] for server in range(2)} == {versions.newest}
    begin, updates = world.transport.recovery
    assert [update.version for update in updates] == [
        *range(begin.version + 1, versions.newest + 1)
    ]
    for server in range(2):
        assert world.parameters[begin.parameters, server] == begin.version
        assert world.states[begin.state, server] == begin.version
        for version, _, gradients, *_ in updates:
            requests = tuple(world.gradients[slot] for slot in gradients)
            assert requests == world.applied[version, server]


def test_training_goes_on_after_an_interruption(calm: Any) -> None:
    world, state = calm("sync")
    state = world.advance(state, 3)
    for process in list(world.transport.fleet.processes.values()):
        process.is_stopped = True
    world.transport.interrupted = lambda: True
    world.transport.go_on()
    state = drive(world.rules, world.transport, state=state, pause=lambda state: True)
    heard = []  # of before
    while not isinstance(event := world.transport.receive()[1], Alarm):
        heard.append(event)
    world.transport._events.extend(heard)
    world.transport.interrupted = lambda: False
    world.mend()
    assert world.advance(state, UPDATES).outcome is Outcome.DONE
