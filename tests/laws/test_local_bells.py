"""A worker begins when its version is sealed, however often or seldom its bell was rung."""

import selectors
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import pytest

from distvi.engines.local.arena import Slots
from distvi.engines.local.bells import Bell, Seals, let_fade, new_bell, ring, seals_in
from distvi.engines.local.messages import Abandon, Abandoned, Compute, receive, send
from distvi.engines.local.worker import orders_of

SERVERS = 2


@pytest.fixture
def bell() -> Iterator[Bell]:
    bell = new_bell()
    yield bell
    bell.close()


@pytest.fixture
def seals() -> Seals:
    return seals_in(Slots(8 * SERVERS))


@pytest.fixture
def ends() -> Iterator[tuple[Connection, Connection]]:
    """The main process's, and the worker's."""
    ours, theirs = Pipe()
    with ours, theirs:
        yield ours, theirs


def order(number: int, version: int) -> Compute:
    return Compute(number, version, parameters=3, gradient=4, batch=number)


def test_seals_lie_in_memory_that_processes_share(seals: Seals) -> None:
    slots = Slots(8 * SERVERS)
    seals_in(slots)[1] = 2**40
    other = Slots(8 * SERVERS, slots.descriptor)
    assert seals_in(other).tolist() == [0, 2**40]
    assert seals.tolist() == [0, 0]  # memory of its own


def test_an_order_is_begun_when_all_servers_have_sealed_its_version(ends, bell, seals) -> None:
    ours, theirs = ends
    begun = orders_of(theirs, bell.ear, seals)
    for number, sealed in ((1, [5, 5]), (2, [6, 7])):
        send(ours, order(number, min(sealed)))
        seals[:] = sealed
        assert next(begun)[0] == order(number, min(sealed))


def test_a_worker_that_waits_is_woken_by_the_last_server(ends, bell, seals, monkeypatch) -> None:
    ours, theirs = ends
    script = [lambda: send(ours, order(1, 5))]
    script += [lambda server=server: (seals.__setitem__(server, 5), ring([bell.rope]))
               for server in range(SERVERS)]  # fmt: skip
    select = selectors.DefaultSelector.select

    def wait(selector: selectors.DefaultSelector, timeout: float | None = None) -> Any:
        """What it waits for happens when it waits, and not before."""
        if timeout is None:
            script.pop(0)()
            found = select(selector, 0)
            assert found, "nothing would wake it"
            return found
        return select(selector, timeout)

    monkeypatch.setattr(selectors.DefaultSelector, "select", wait)
    assert next(orders_of(theirs, bell.ear, seals))[0] == order(1, 5)
    assert not script


def test_an_order_that_waits_can_be_abandoned(ends, bell, seals) -> None:
    ours, theirs = ends
    seals[:] = 5, 4
    for message in (order(1, 5), order(2, 4), Abandon(1)):
        send(ours, message)
    assert next(orders_of(theirs, bell.ear, seals))[0] == order(2, 4)
    assert receive(ours) == Abandoned(1)


def test_a_bell_that_nobody_hears_holds_nobody_up(ends, bell, seals) -> None:
    """A stopped worker's is rung for ever; it fills, and what it was rung for last is not lost."""
    ours, theirs = ends
    for _ in range(100_000):
        ring([bell.rope])
    send(ours, order(1, 100_000))
    seals[:] = 100_000
    assert next(orders_of(theirs, bell.ear, seals))[0] == order(1, 100_000)
    let_fade(bell.ear)
    let_fade(bell.ear)  # one that does not ring
