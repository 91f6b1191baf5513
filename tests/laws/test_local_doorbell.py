"""A worker begins when its version is published, however often or seldom its doorbell was rung."""

import functools
import selectors
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import pytest

from distvi.engines.coordinator.messages import Abandon, Abandoned, Compute
from distvi.engines.coordinator.slots import ArraySlots, Numbers, PublishedVersions
from distvi.engines.local.connection import receive, send
from distvi.engines.local.doorbell import Doorbell, drain, new_doorbell, notify
from distvi.engines.local.memory import SharedSlots
from distvi.engines.local.roles import requests_of

SERVERS = 2


@pytest.fixture
def doorbell() -> Iterator[Doorbell]:
    doorbell = new_doorbell()
    yield doorbell
    doorbell.close()


@pytest.fixture
def published() -> PublishedVersions:
    return np.zeros(SERVERS, np.int64)


@pytest.fixture
def ends() -> Iterator[tuple[Connection, Connection]]:
    """The main process's, and the worker's."""
    ours, theirs = Pipe()
    with ours, theirs:
        yield ours, theirs


def request(number: int, version: int) -> Compute:
    return Compute(number, version, parameters=3, payload=4, memory=-1, turn=number)


def numbers(published: SharedSlots) -> Numbers:
    nothing = ArraySlots(0)
    return Numbers(nothing, nothing, nothing, nothing, published)


def test_published_versions_lie_in_memory_that_processes_share() -> None:
    slots = SharedSlots(8 * SERVERS)
    numbers(slots).published_versions[1] = 2**40
    other = SharedSlots(8 * SERVERS, slots.descriptor)
    assert numbers(other).published_versions.tolist() == [0, 2**40]
    new = numbers(SharedSlots(8 * SERVERS))
    assert new.published_versions.tolist() == [0, 0]  # memory of its own


def test_a_request_is_begun_when_all_servers_have_published_its_version(
    ends, doorbell, published
) -> None:
    ours, theirs = ends
    begun = requests_of(theirs, doorbell.read_end, published)
    for number, versions in ((1, [5, 5]), (2, [6, 7])):
        send(ours, request(number, min(versions)))
        published[:] = versions
        assert next(begun)[0] == request(number, min(versions))


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
    assert next(requests_of(theirs, doorbell.read_end, published))[0] == request(1, 5)
    assert not script


def test_a_request_that_waits_can_be_abandoned(ends, doorbell, published) -> None:
    ours, theirs = ends
    published[:] = 5, 4
    for message in (request(1, 5), request(2, 4), Abandon(1)):
        send(ours, message)
    assert next(requests_of(theirs, doorbell.read_end, published))[0] == request(2, 4)
    assert receive(ours) == Abandoned(1)


def test_a_doorbell_that_nobody_hears_holds_nobody_up(ends, doorbell, published) -> None:
    """A stopped worker's is rung for ever; it fills, and what it was rung for last is not lost."""
    ours, theirs = ends
    for _ in range(100_000):
        notify([doorbell.write_end])
    send(ours, request(1, 100_000))
    published[:] = 100_000
    assert next(requests_of(theirs, doorbell.read_end, published))[0] == request(1, 100_000)
    drain(doorbell.read_end)
    drain(doorbell.read_end)  # one that does not ring
