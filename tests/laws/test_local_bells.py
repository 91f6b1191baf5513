"""A worker begins when its version is published, however often or seldom its doorbell was rung."""

import functools
import selectors
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import pytest

from distvi.engines.coordinator.messages import Abandon, Abandoned, Compute, receive, send
from distvi.engines.local.doorbell import (
    Doorbell,
    PublishedVersions,
    drain,
    new_doorbell,
    notify,
    published_in,
)
from distvi.engines.local.memory import Slots
from distvi.engines.local.worker import orders_of

SERVERS = 2


@pytest.fixture
def doorbell() -> Iterator[Doorbell]:
    doorbell = new_doorbell()
    yield doorbell
    doorbell.close()


@pytest.fixture
def published() -> PublishedVersions:
    return published_in(Slots(8 * SERVERS))


@pytest.fixture
def ends() -> Iterator[tuple[Connection, Connection]]:
    """The main process's, and the worker's."""
    ours, theirs = Pipe()
    with ours, theirs:
        yield ours, theirs


def request(number: int, version: int) -> Compute:
    return Compute(number, version, parameters=3, gradient=4, batch=number)


def test_seals_lie_in_memory_that_processes_share(published: PublishedVersions) -> None:
    slots = Slots(8 * SERVERS)
    published_in(slots)[1] = 2**40
    other = Slots(8 * SERVERS, slots.descriptor)
    assert published_in(other).tolist() == [0, 2**40]
    assert published.tolist() == [0, 0]  # memory of its own


def test_an_order_is_begun_when_all_servers_have_sealed_its_version(
    ends, doorbell, published
) -> None:
    ours, theirs = ends
    begun = orders_of(theirs, doorbell.read_end, published)
    for number, published in ((1, [5, 5]), (2, [6, 7])):
        send(ours, request(number, min(published)))
        published[:] = published
        assert next(begun)[0] == request(number, min(published))


def test_a_worker_that_waits_is_woken_by_the_last_server(
    ends, doorbell, published, monkeypatch
) -> None:
    ours, theirs = ends
    script = [lambda: send(ours, request(1, 5))]

    def publish(server: int) -> None:
        published[server] = 5
        notify([doorbell.write_end])

    script += [functools.partial(publish, server) for server in range(SERVERS)]
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
    assert next(orders_of(theirs, doorbell.read_end, published))[0] == request(1, 5)
    assert not script


def test_an_order_that_waits_can_be_abandoned(ends, doorbell, published) -> None:
    ours, theirs = ends
    published[:] = 5, 4
    for message in (request(1, 5), request(2, 4), Abandon(1)):
        send(ours, message)
    assert next(orders_of(theirs, doorbell.read_end, published))[0] == request(2, 4)
    assert receive(ours) == Abandoned(1)


def test_a_bell_that_nobody_hears_holds_nobody_up(ends, doorbell, published) -> None:
    """A stopped worker's is rung for ever; it fills, and what it was rung for last is not lost."""
    ours, theirs = ends
    for _ in range(100_000):
        notify([doorbell.write_end])
    send(ours, request(1, 100_000))
    published[:] = 100_000
    assert next(orders_of(theirs, doorbell.read_end, published))[0] == request(1, 100_000)
    drain(doorbell.read_end)
    drain(doorbell.read_end)  # one that does not notify
