"""What the engine of a Ray cluster promises when machines, processes and links are lost.

Three raylets on this machine stand for three machines; everything is bound to loopback.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from distvi.aggregation import Scheme, asynchronous, backup_workers, sync
from distvi.data import Examples
from distvi.engines.base import Halted
from distvi.engines.ray.engine import build as ray_engine
from distvi.engines.ray.settings import RaySettings
from distvi.errors import InputError
from tests import linear

os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # on loopback, before it is loaded
ray: Any = pytest.importorskip("ray", reason="the extra distvi[ray] is not installed")

UPDATES, CUT = 60, 20
NICENESS = "RAY_worker_niceness"

pytestmark = [
    pytest.mark.xdist_group("ray"),  # one cluster
    pytest.mark.filterwarnings("ignore:os.fork"),  # of Ray, as it starts its processes
]


class Machines:
    """A Ray cluster of several raylets, and this process as its driver."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        os.environ[NICENESS] = "0"
        head = {"num_cpus": 1, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        ray.init(address=self.cluster.address, log_to_driver=False, logging_level="ERROR")
        self.added: list[Any] = []

    def add(self, cpus: int = 2) -> Any:
        self.added.append(self.cluster.add_node(num_cpus=cpus))
        return self.added[-1]

    def lose(self, node_id: str, engine: Any) -> None:
        """A machine is gone, and all its processes with it."""
        fleet = engine._fleet
        for process in (*fleet.processes.values(), *fleet._backups.values()):
            if process.node == node_id:
                os.kill(process.pid, signal.SIGKILL)
        self.forget(node_id)

    def drain(self, node_id: str) -> None:
        """A machine is about to be taken away, as after SIGTERM to its ``ray start``."""
        client = ray._raylet.GcsClient(address=self.cluster.address)
        preemption, no_deadline = 2, 0
        accepted, why = client.drain_node(node_id, preemption, "a test", no_deadline)
        assert accepted, why

    def forget(self, node_id: str) -> None:
        """A machine that was drained is gone."""
        (found,) = (node for node in self.added if node.node_id == node_id)
        self.cluster.remove_node(found, allow_graceful=False)
        self.added.remove(found)

    def close(self) -> None:
        ray.shutdown()
        self.cluster.shutdown()


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    machines = Machines()
    yield machines
    machines.close()


@pytest.fixture
def settings(seed: int) -> dict[str, Any]:
    return {"seed": seed, "batch_size": 4, "updates": UPDATES}


@pytest.fixture
def three(machines: Machines) -> Machines:
    """Two machines beside the head, each with room for two workers."""
    while len(machines.added) < 2:
        machines.add()
    machines.cluster.wait_for_nodes()  # one that was lost is known to be
    return machines


def engine_of(settings: dict[str, Any], scheme: Scheme, **options: Any) -> Any:
    given = {"workers": 2, "silence_s": 20.0, "encrypt": True} | options
    return linear.ray(settings, scheme, address="auto", **given)


def undisturbed(settings: dict[str, Any]) -> Any:
    """Two workers in lockstep are one with twice the batch."""
    with linear.mesh(settings | {"batch_size": 8}) as engine:
        engine.advance(UPDATES)
        return jax.tree.map(np.array, engine.state)


def assert_close(one: Any, other: Any, rtol: float = 1e-4) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())


def process(engine: Any, role: str, number: int) -> Any:
    return engine._fleet.processes[role, number]


@pytest.mark.parametrize("servers", [1, 2])
def test_lockstep_on_several_machines_is_plain_training(three, settings, servers: int) -> None:
    with engine_of(settings, sync(), servers=servers) as engine:
        engine.advance(UPDATES)
        assert_close(engine.state.params, undisturbed(settings).params)
        placed = [process(engine, "server", n).node for n in range(servers)]
        backups = [engine._fleet._backups[n].node for n in range(servers)]
    assert all(server != backup for server, backup in zip(placed, backups, strict=True))


@pytest.mark.parametrize("what", ["worker", "server", "backup"])
def test_a_process_that_is_killed_is_replaced_and_nothing_is_lost(
    three, settings, what: str
) -> None:
    with engine_of(settings, sync(), servers=2) as engine:
        engine.advance(CUT)
        struck = engine._fleet._backups[0] if what == "backup" else process(engine, what, 0)
        os.kill(struck.pid, signal.SIGKILL)
        engine.advance(UPDATES)
        assert_close(engine.state, undisturbed(settings))
        assert engine.update == UPDATES
        assert engine.statistics["restarts"] == (what != "backup")


def test_a_server_is_lost_twice(three, settings) -> None:
    """The second time its place is taken by the backup of the backup."""
    with engine_of(settings, sync()) as engine:
        for update in (CUT, 2 * CUT):
            engine.advance(update)
            while not engine._fleet._backups[0].is_current:
                engine._transport._listen()
            os.kill(process(engine, "server", 0).pid, signal.SIGKILL)
        engine.advance(UPDATES)
        assert_close(engine.state, undisturbed(settings))
        assert engine.statistics["restarts"] == 2


def test_a_machine_with_a_server_and_workers_is_lost(three, settings) -> None:
    with engine_of(settings, sync(), servers=2) as engine:
        engine.advance(CUT)
        nodes = {process(engine, "server", number).node for number in range(2)}
        here = ray.get_runtime_context().get_node_id()
        three.lose(next(node for node in sorted(nodes) if node != here), engine)
        engine.advance(UPDATES)
        assert_close(engine.state, undisturbed(settings))
        assert engine.update == UPDATES
        assert engine.statistics["restarts"] >= 1


@pytest.mark.parametrize("scheme", [asynchronous(), backup_workers(1)], ids=lambda s: s.name)
def test_a_process_that_stands_still_is_lost_after_its_silence(
    three, settings, scheme: Scheme
) -> None:
    with engine_of(settings, scheme, silence_s=3.0) as engine:
        engine.advance(CUT)
        for role in ("worker", "server"):
            os.kill(process(engine, role, 0).pid, signal.SIGSTOP)
        engine.advance(UPDATES)
        assert engine.update == UPDATES
    assert any("no sign of life for" in each for each in engine.statistics["incidents"])


def test_a_server_without_a_backup_ends_the_run_with_a_word(three, settings) -> None:
    with engine_of(settings, sync(), replicas=0) as engine:
        engine.advance(CUT)
        os.kill(process(engine, "server", 0).pid, signal.SIGKILL)
        with pytest.raises(Halted, match=r"server 0 is lost.*go on from the last checkpoint"):
            engine.advance(UPDATES)


def test_more_workers_than_there_is_room_for(three, settings) -> None:
    engine = engine_of(settings, sync(), workers=99)
    with (
        pytest.raises(Halted, match=r"CPU free, room for 5 workers, and this run needs 99"),
        engine,
    ):
        pass


@pytest.mark.parametrize("replicas", [0, 1])
def test_what_is_on_a_machine_that_is_drained_goes_elsewhere(
    three, settings, replicas: int
) -> None:
    here = ray.get_runtime_context().get_node_id()
    with engine_of(settings, sync(), servers=2, replicas=replicas) as engine:
        engine.advance(CUT)
        fleet = engine._fleet
        (leaving, *_) = {process(engine, "server", n).node for n in range(2)} - {here}
        three.drain(leaving)
        while any(each.node == leaving for each in fleet._by_name.values()):
            engine._transport._listen()
        engine.advance(UPDATES)
        assert_close(engine.state, undisturbed(settings))
        assert engine.statistics["restarts"] == 0
        assert len(fleet._backups) == 2 * replicas
    assert any("is being drained" in each for each in engine.statistics["incidents"])
    three.forget(leaving)


def test_workers_join_when_machines_are_added(three, settings) -> None:
    """Each takes a machine for itself, and there are two; the head is too small."""
    with engine_of(settings, sync(), workers=3, min_workers=2, cpus_per_worker=2) as engine:
        engine.advance(CUT)
        assert engine.statistics["gradients_used"] == 2 * CUT
        three.add()
        while not all(each.is_ready for each in engine._fleet.of("worker")):
            engine._transport._listen()
        engine.advance(UPDATES)
        with_three = engine.statistics["gradients_used"] - 2 * CUT
        assert with_three >= 3 * (UPDATES - CUT) - 1  # the first may have been on its way
    three.forget(three.added[-1].node_id)


def test_machines_that_see_the_file_read_the_inputs_from_it(
    three, settings, tmp_path: Path
) -> None:
    problem, algorithm = linear.made(settings, sync(), 2)
    np.save(tmp_path / "x.npy", problem.examples.x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    problem = problem._replace(examples=Examples(mapped, problem.examples.y))
    chosen: Any = RaySettings(address="auto", data_from="file").written_out()
    engine: Any = ray_engine(chosen, problem, algorithm, linear.BEGIN)
    with engine:
        assert engine._fleet._x[0] == str(tmp_path / "x.npy")
        engine.advance(UPDATES)
        assert_close(engine.state, undisturbed(settings))


def test_inputs_in_memory_have_no_path(settings) -> None:
    with pytest.raises(InputError, match="data_from is 'file', but the training inputs are not"):
        engine_of(settings, sync(), data_from="file")


def test_memories_travel_with_a_checkpoint(three, settings) -> None:
    remembering = settings | {"rules": {"top-k": {"fraction": 0.3}}}
    states = []
    with engine_of(remembering, sync()) as engine:
        engine.advance(CUT)
        start = linear.from_state(engine)
        engine.advance(UPDATES)
        states.append(jax.tree.map(np.array, engine.state))
    with engine_of(remembering, sync(), start=start) as engine:
        engine.advance(UPDATES)
        states.append(jax.tree.map(np.array, engine.state))
    assert len(states[0].memories) == 2
    assert_close(states[1], states[0], 1e-6)


def test_an_exception_arrives_in_full(three, settings, tmp_path: Path) -> None:
    raising = settings | {"fault": "writing", "signal": "raise", "once": str(tmp_path / "once")}
    engine = engine_of(raising, asynchronous())
    with engine, pytest.raises(Halted, match=r"worker \d failed with ValueError: this") as raised:
        engine.advance(UPDATES)
    assert "in fault\n" in str(raised.value)
