"""When an answer is believed: once all that it speaks of is where it is to be, whatever is lost."""

import os
from itertools import permutations
from typing import Any

import pytest

pytest.importorskip("ray", reason="the extra distvi[ray] is not installed")

import numpy as np

from distvi.engines.coordinator.messages import Computed, Saved
from distvi.engines.coordinator.slots import ArrayAt, extents
from distvi.engines.ray.address import endpoint
from distvi.engines.ray.assignment import Assignment
from distvi.engines.ray.beat import Heartbeat
from distvi.engines.ray.deliveries import Deliveries
from distvi.engines.ray.messages import Arrived, Beat, Printed, Push
from distvi.engines.ray.remote import RayProcess
from distvi.engines.ray.sockets import Keys, Sockets, read, receive_from, send
from distvi.errors import RunFailed


def process(role: Any, number: int) -> RayProcess:
    return RayProcess(role, number, 0, 0.0, identity=f"{role}-{number}")


WORKER = process("worker", 0)
SERVERS = [process("server", number) for number in range(2)]
ANSWER = Computed(7, 1.0, True, 0.0, 0.0, 0.0, 0.0)
STEPS = {
    "answer": lambda d: d.computed(ANSWER),
    "server 0": lambda d: d.arrived(SERVERS[0], Arrived(7, 0, True), from_backup=False),
    "backup 0": lambda d: d.arrived(SERVERS[0], Arrived(7, 0, False), from_backup=True),
    "server 1": lambda d: d.arrived(SERVERS[1], Arrived(7, 0, False), from_backup=False),
}


@pytest.mark.parametrize("order", permutations(STEPS), ids=", ".join)
def test_an_answer_is_believed_with_the_last_arrival(order: tuple[str, ...]) -> None:
    deliveries = Deliveries(2)
    deliveries.asked(WORKER, 7)
    found = [STEPS[step](deliveries) for step in order]
    assert found == [[], [], [], [(WORKER, ANSWER)]]
    assert deliveries.computed(ANSWER) == []  # once


@pytest.mark.parametrize("order", permutations([*STEPS, "lost"]), ids=", ".join)
def test_what_only_a_lost_server_had_is_waited_for_again(order: tuple[str, ...]) -> None:
    """When server 0 is lost, its backup's copy counts, and else the worker pushes again."""
    deliveries = Deliveries(2)
    deliveries.asked(WORKER, 7)
    believed: list[Any] = []
    has_copy = is_promoted = False
    for step in order:
        if step == "lost":
            believed += deliveries.promoted(0)
            is_promoted = True
        elif step == "backup 0" and is_promoted:
            continue  # it speaks as the server now
        elif step == "server 0" and is_promoted:
            continue  # it is dead
        else:
            has_copy = has_copy or step == "backup 0"
            believed += STEPS[step](deliveries)
    if not believed and not has_copy:
        again = deliveries.arrived(SERVERS[0], Arrived(7, 0, False), from_backup=False)
        believed += again
    assert believed == [(WORKER, ANSWER)]


def test_a_backup_that_is_lost_is_not_waited_for() -> None:
    deliveries = Deliveries(1)
    deliveries.asked(WORKER, 7)
    assert STEPS["server 0"](deliveries) == STEPS["answer"](deliveries) == []
    saved = Saved(4, 0.0, 0.0)
    server = SERVERS[0]
    assert deliveries.arrived(server, Arrived(0, 4, True), from_backup=False) == []
    assert deliveries.saved(server, saved) == []
    assert deliveries.alone(0) == [(WORKER, ANSWER), (server, saved)]


def test_a_save_counts_when_the_backup_has_it() -> None:
    deliveries, server, saved = Deliveries(1), SERVERS[0], Saved(4, 0.0, 0.0)
    deliveries.arrived(server, Arrived(0, 4, True), from_backup=False)
    assert deliveries.arrived(server, Arrived(0, 3, False), from_backup=True) == []  # an old one
    assert deliveries.saved(server, saved) == []
    assert deliveries.arrived(server, Arrived(0, 4, False), from_backup=True) == [(server, saved)]


def test_what_a_dead_worker_pushed_is_nobodys() -> None:
    deliveries = Deliveries(1)
    deliveries.asked(WORKER, 7)
    deliveries.ended(WORKER)
    assert STEPS["server 0"](deliveries) == deliveries.computed(ANSWER) == []


def test_a_part_of_a_slot_is_in_few_pieces() -> None:
    slot, float32 = np.arange(40, dtype=np.uint8), np.dtype(np.float32)
    arrays = [ArrayAt(16, (2,), float32), ArrayAt(0, (2,), float32), ArrayAt(8, (1,), float32)]
    found = extents([*arrays, ArrayAt(36, (0,), float32)], slot)
    assert [piece.tolist() for piece in found] == [list(range(12)), list(range(16, 24))]
    found[0][0] = 99
    assert slot[0] == 99  # it is the slot itself


@pytest.mark.parametrize("is_encrypted", [True, False])
@pytest.mark.parametrize("is_alone", [True, False])
def test_numbers_arrive_in_their_places(is_encrypted: bool, is_alone: bool) -> None:
    keys = Keys.new() if is_encrypted else None
    one, other = Sockets(keys), Sockets(keys)
    bound, address = one.bound(endpoint(is_alone=True) if is_alone else "tcp://127.0.0.1")
    connected = other.connected(address, "worker-3.0")
    sent = [np.arange(n, dtype=np.uint8) for n in (3, 200_000)]
    assert send(connected, Push(5, 8), sent)
    assert bound.poll(10_000)
    assert receive_from(bound) == ("worker-3.0", Push(5, 8))
    found = [np.zeros(len(frame), np.uint8) for frame in sent]
    read(bound, found)
    for piece, expected in zip(found, sent, strict=True):
        np.testing.assert_array_equal(piece, expected)
    assert not send(bound, Push(1, 1), to="nobody")
    send(connected, Push(5, 9), sent[:1])
    assert bound.poll(10_000)
    receive_from(bound)
    with pytest.raises(RunFailed, match="3 bytes came where 4 were expected"):
        read(bound, [np.zeros(4, np.uint8)])
    for sockets in (one, other):
        sockets.close()


@pytest.mark.parametrize("stranger", [None, "other"])
def test_a_stranger_is_not_let_in(stranger: str | None) -> None:
    keys, others = Keys.new(), Keys.new()
    ours = Sockets(keys)
    bound, address = ours.bound("tcp://127.0.0.1")
    half_known = others._replace(public=keys.public)  # it knows whom it speaks to, and no more
    theirs, friend = Sockets(half_known if stranger else None), Sockets(keys)
    strange, known = theirs.connected(address, "stranger"), friend.connected(address, "friend")
    send(strange, Push(1, 1))
    send(known, Push(2, 2))
    assert bound.poll(10_000)
    assert receive_from(bound) == ("friend", Push(2, 2))
    send(known, Push(3, 3))  # whatever comes next is not the stranger's
    assert bound.poll(10_000)
    assert receive_from(bound) == ("friend", Push(3, 3))
    for sockets in (ours, theirs, friend):
        sockets.close()


def test_what_a_process_prints_is_told_beside_its_signs_of_life() -> None:
    ours, theirs = Sockets(None), Sockets(None)
    bound, address = ours.bound("tcp://127.0.0.1")
    fields: dict[str, Any] = dict.fromkeys(Assignment._fields)
    assignment = Assignment(
        **fields | {"name": "worker-0.0", "coordinator": address, "beat_s": 0.1}
    )
    with Heartbeat(theirs, assignment):
        assert bound.poll(10_000)
        assert receive_from(bound) == ("worker-0.0!", Beat())
        os.write(2, b"of XLA\n")
        said: Any = Beat()
        while isinstance(said, Beat):
            assert bound.poll(10_000)
            _, said = receive_from(bound)
    assert said == Printed("of XLA\n")
    for sockets in (ours, theirs):
        sockets.close()
