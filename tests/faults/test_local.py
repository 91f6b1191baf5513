"""What the local engine promises when its processes die, stop, fail or compute nonsense."""

import errno
import gc
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from distvi.aggregation import Scheme, asynchronous, backup_workers, ssp, sync
from distvi.engines.base import Halted
from distvi.engines.coordinator.environment import cores
from distvi.engines.coordinator.transport import Limits
from distvi.protocol import Dismiss, Joined
from tests import linear

UPDATES, WHOLE = 50, 7

pytestmark = pytest.mark.xdist_group("faults of processes")  # they share compiled programs


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("programs")


@pytest.fixture
def settings(seed: int, tmp_path: Path) -> dict[str, Any]:
    return {"seed": seed, "batch_size": 4, "once": str(tmp_path / "happened"), "signal": "SIGKILL"}


@pytest.fixture(scope="module")
def whole(cache: Path) -> list[Any]:
    """The states after each update of a run without faults, with the seed `WHOLE`."""
    settings = {"seed": WHOLE, "batch_size": 4}
    states = []
    with linear.local(settings, sync(), workers=2, servers=2, cache=cache) as engine:
        for update in range(UPDATES + 1):
            engine.advance(update)
            states.append(jax.tree.map(np.array, engine.state))
    return states


def trained(engine: Any, updates: int = UPDATES) -> Any:
    with engine:
        assert len(engine.advance(updates)) == updates
        assert engine._transport.requests.used <= 2 * len(engine.status().workers)
        state = jax.tree.map(np.array, engine.state)
    servers, counts = engine.status().servers, engine.counters
    moved = [
        counts["pushed"] * pushed + counts["pulled"] * pulled
        for pushed, pulled in zip(*engine._traffic, strict=True)
    ]
    assert [server.moved_bytes for server in servers] == moved
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    return state


def save_often(engine: Any) -> None:
    """After every fourth update of two workers."""
    engine._transport._servers.most_kept = 8


def assert_identical(one: Any, other: Any) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("fault", "scheme"),
    [("computing", sync()), ("writing", asynchronous()), ("pushed", sync()), ("pushed", ssp(1))],
    ids=lambda value: value.name if isinstance(value, Scheme) else value,
)
def test_a_worker_that_is_killed_is_replaced(settings, cache, fault: str, scheme: Scheme) -> None:
    engine = linear.local(settings | {"fault": fault}, scheme, workers=2, cache=cache)
    state = trained(engine)
    if scheme.name == "sync":  # lockstep waited for the other one
        undisturbed = linear.local(settings, scheme, workers=2, cache=cache)
        assert_identical(state, trained(undisturbed))
    assert Path(settings["once"]).exists()
    assert engine.statistics["restarts"] == 1
    (incident,) = engine.statistics["incidents"]
    assert "was killed by SIGKILL" in incident


def test_an_idle_worker_that_is_killed_is_replaced(settings, cache) -> None:
    engine = linear.local(settings, sync(), workers=2, cache=cache)
    with engine:
        engine.advance(10)
        os.kill(engine.status().workers[1].process, signal.SIGKILL)
        engine.advance(UPDATES)
    assert engine.update == UPDATES
    assert engine.statistics["restarts"] == 1


def test_all_workers_killed_at_once_are_replaced(settings, cache) -> None:
    engine = linear.local(settings, backup_workers(1), workers=2, cache=cache)
    with engine:
        engine.advance(10)
        for worker in engine.status().workers:
            os.kill(worker.process, signal.SIGKILL)
        engine.advance(UPDATES)
    assert engine.update == UPDATES
    assert engine.statistics["restarts"] == 2


def test_a_run_without_workers_halts_with_a_good_state(settings, cache) -> None:
    limits = Limits(max_restarts=0)
    engine = linear.local(settings, sync(), workers=2, limits=limits, cache=cache)
    with engine:
        engine.advance(10)
        for worker in engine.status().workers:
            os.kill(worker.process, signal.SIGKILL)
        with pytest.raises(Halted, match=r"killed by SIGKILL.*no worker is left"):
            engine.advance(UPDATES)
    assert engine.update < UPDATES
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(engine.state.params))


REMEMBERING = {
    "top-k": {"fraction": 0.3},
    "local-steps": {"steps": 2},
}


@pytest.mark.parametrize(
    ("rule", "fault", "lost"),
    [("top-k", "pushed", 1), ("local-steps", "idle", 1), ("top-k", "writing", 0)],
)
def test_a_worker_that_is_killed_begins_its_memory_anew(
    settings, cache, rule: str, fault: str, lost: int
) -> None:
    """What dies before its first answer is delivered had nothing to lose."""
    struck = settings | {"rules": {rule: REMEMBERING[rule]}}
    struck |= {} if fault == "idle" else {"fault": fault}
    engine = linear.local(struck, sync(), workers=2, servers=2, cache=cache)
    with engine:
        engine.advance(5)
        if fault == "idle":
            os.kill(engine.status().workers[1].process, signal.SIGKILL)
        engine.advance(12)
        state = jax.tree.map(np.array, engine.state)
    assert engine.statistics["restarts"] == 1
    assert engine.statistics["memories_lost"] == engine.counters["memories_lost"] == lost
    assert len(state.memories) == 2
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    again = linear.local(
        settings | {"rules": struck["rules"]},
        sync(),
        workers=2,
        start=linear.Start(linear.start, counters=engine.counters),
    )
    assert again.statistics["memories_lost"] == lost  # it goes on counting


@pytest.mark.parametrize("when", ["idle", "updating", "saving"])
def test_a_server_that_is_killed_leaves_no_trace_in_the_parameters(
    settings, cache, whole, when
) -> None:
    struck = settings | {"seed": WHOLE} | ({} if when == "idle" else {"fault": when})
    engine = linear.local(struck, sync(), workers=2, servers=2, cache=cache)
    save_often(engine)  # so that there are saves before and after the fault
    with engine:
        engine.advance(5)
        if when == "idle":
            os.kill(engine.status().servers[0].process, signal.SIGKILL)
        engine.advance(UPDATES)
        state = jax.tree.map(np.array, engine.state)
    assert engine.statistics["restarts"] == 1
    assert_identical(state, whole[UPDATES])


CORRECTED = {"delay-compensation": {"strength": 1e-2}, "top-k": {"fraction": 0.5}}


@pytest.mark.parametrize(
    ("when", "rules"),
    [("updating", CORRECTED), ("saving", CORRECTED), ("saving", {"step-limit": {}})],
)
def test_a_server_that_is_killed_redoes_what_its_rule_remembers(
    settings, cache, when, rules
) -> None:
    """Stale gradients are corrected again by the parameters that they were computed on."""
    given = settings | {"rules": rules, "updates": 30}
    states = []
    for own in (given, given | {"fault": when}):
        scheme = asynchronous(in_flight=2)
        engine = linear.local(own, scheme, workers=1, servers=2, cache=cache)
        save_often(engine)
        states.append(trained(engine, 30))
        assert engine.statistics["restarts"] == ("fault" in own)
        assert engine.statistics["staleness"]["max"] == 1
    assert_identical(*states)


def test_a_server_that_is_stopped_is_waited_for_no_longer_than_that(settings, cache, whole) -> None:
    struck = settings | {"seed": WHOLE, "fault": "updating", "signal": "SIGSTOP"}
    limits = Limits(worker_timeout_s=2.0)
    engine = linear.local(struck, sync(), workers=2, servers=2, limits=limits, cache=cache)
    assert_identical(trained(engine), whole[UPDATES])
    (incident,) = engine.statistics["incidents"]
    assert re.search(r"server \d did not make update \d+ within 2 s and was ended", incident)


def test_a_process_that_is_not_ready_in_time_is_named(settings) -> None:
    engine = linear.local(settings, sync(), workers=1, limits=Limits(start_s=0.01))
    named = r"(worker|server) 0 was not ready 0.01 s after it was started"
    with engine, pytest.raises(Halted, match=named):
        engine.advance(1)


@pytest.mark.parametrize("when", ["updating", "saving"])
def test_a_server_that_stays_dead_leaves_the_last_update_complete(
    settings, cache, whole, when
) -> None:
    limits = Limits(max_restarts=0)
    struck = settings | {"seed": WHOLE, "fault": when}
    engine = linear.local(struck, sync(), workers=2, servers=2, limits=limits, cache=cache)
    save_often(engine)
    with engine, pytest.raises(Halted, match=r"server \d .*SIGKILL.*restarts have been used"):
        engine.advance(UPDATES)
    begin, since = engine._transport.recovery
    assert begin.version + len(since) == engine.update
    assert since, "nothing was made again"
    assert_identical(engine.state, whole[engine.update])


@pytest.mark.parametrize("scheme", [asynchronous(), backup_workers(1)], ids=lambda s: s.name)
def test_others_go_on_while_a_worker_is_stopped(settings, cache, scheme: Scheme) -> None:
    stopped = settings | {"fault": "computing", "signal": "SIGSTOP"}
    engine = linear.local(stopped, scheme, workers=2, cache=cache)
    trained(engine)
    assert Path(settings["once"]).exists()
    assert engine.statistics["restarts"] == 0


def test_sync_dismisses_a_stopped_worker_which_joins_again_when_it_wakes(settings, cache) -> None:
    stopped = settings | {"fault": "computing", "signal": "SIGSTOP"}
    stopped |= {"updates": 10**6}
    engine = linear.local(stopped, sync(), workers=2, worker_timeout_s=2.0, cache=cache)
    came_back: list[Joined] = []

    def wake(now_s: float, event: Any, state: Any, commands: tuple[Any, ...]) -> None:
        for command in commands:
            if isinstance(command, Dismiss):
                process = engine.status().workers[command.worker].process
                os.kill(process, signal.SIGCONT)
        if isinstance(event, Joined) and event.incarnation == 1:
            came_back.append(event)

    engine.observers.append(wake)
    with engine:
        engine.advance(10**6, lambda: bool(came_back))
        engine.advance(engine.update)
    assert engine.statistics["restarts"] == 0
    assert "dismissed" in engine.statistics["incidents"][0]


def test_ssp_goes_on_up_to_its_bound_while_a_worker_is_stopped(settings, cache) -> None:
    stopped = settings | {"fault": "computing", "signal": "SIGSTOP"}
    engine = linear.local(stopped, ssp(3), workers=2, worker_timeout_s=2.0, cache=cache)
    clocks: dict[int, int] = {}
    leads: list[int] = []

    def follow(now_s: float, event: Any, state: Any, commands: tuple[Any, ...]) -> None:
        if any(isinstance(command, Dismiss) for command in commands):
            leads.append(max(clocks.values()) - min(clocks.values()))
        clocks.clear()
        clocks.update({record.worker: record.clock for record in state.members.values()})

    engine.observers.append(follow)
    trained(engine)  # alone, once it is not waited for any more
    assert leads == [4]  # at clock c it may start, and so come to c + 1, while c - 3 is reached


def test_who_is_interrupted_waits_for_nobody(settings, cache) -> None:
    engine = linear.local(settings, asynchronous(), workers=2, cache=cache)
    fleet: Any = engine._fleet
    statuses, end = list[int](), fleet._end

    def look_and_end() -> None:
        statuses.extend(process.process.wait(10.0) for process in fleet.processes.values())
        end()

    fleet._end = look_and_end
    with pytest.raises(KeyboardInterrupt), engine:  # noqa: PT012 (where the interruption comes)
        engine.advance(3)
        os.kill(engine.status().workers[0].process, signal.SIGSTOP)  # it does not end by itself
        raise KeyboardInterrupt
    assert statuses == [-signal.SIGKILL] * 3


@pytest.mark.skipif(len(cores()) < 2, reason="two workers need two cores")
@pytest.mark.parametrize("pin", [True, False])
def test_workers_have_a_core_each_where_there_are_enough(settings, cache, pin: bool) -> None:
    with linear.local(settings, asynchronous(), workers=2, pin=pin, cache=cache) as engine:
        engine.advance(3)
        processes = [worker.process for worker in engine.status().workers]
        threads = [list(Path(f"/proc/{process}/task").iterdir()) for process in processes]
        found = [
            {frozenset(os.sched_getaffinity(int(thread.name))) for thread in own} for own in threads
        ]
    everywhere = frozenset(cores())
    assert found == [{frozenset({core})} if pin else {everywhere} for core in cores()[:2]]


def test_an_exception_of_a_worker_arrives_in_full(settings, cache) -> None:
    raising = settings | {"fault": "writing", "signal": "raise"}
    engine = linear.local(raising, asynchronous(), workers=2, cache=cache)
    with engine, pytest.raises(Halted, match=r"worker \d failed with ValueError: this") as raised:
        engine.advance(UPDATES)
    assert "in fault\n" in str(raised.value)  # the traceback leads there


def test_gradients_that_are_not_finite_are_refused(settings, cache) -> None:
    poisoned = settings | {"poison": 7}
    engine = linear.local(poisoned, asynchronous(), workers=2, cache=cache)
    trained(engine)
    assert engine.statistics["gradients_refused"] > 0


def test_a_run_in_which_nothing_is_finite_halts_with_a_good_state(settings, cache) -> None:
    engine = linear.local(settings | {"poison": 1}, asynchronous(), workers=2, cache=cache)
    with engine, pytest.raises(Halted, match="20 unusable gradients in a row"):
        engine.advance(UPDATES)
    assert engine.update == 0
    assert_identical(engine.state.params, linear.start())


def processes_and_memory() -> tuple[int, int]:
    """Children of this process, and places in which it still holds an engine's memory."""
    gc.collect()
    here = Path("/proc/self")
    processes = [
        word for task in here.glob("task/*/processes") for word in task.read_text().split()
    ]
    names = [os.readlink(file) for file in (here / "fd").iterdir() if file.is_symlink()]
    mapped = (here / "maps").read_text().count("memfd:distvi")
    return len(processes), mapped + sum("memfd:distvi" in name for name in names)


def test_nothing_is_left_in_the_main_process(settings, cache) -> None:
    before = processes_and_memory()
    trained(linear.local(settings, asynchronous(), workers=1, cache=cache), updates=3)
    assert processes_and_memory() == before


def test_nothing_is_left_where_not_all_processes_can_be_started(
    settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = processes_and_memory()
    start, started = subprocess.Popen, list[Any]()

    def start_one(*arguments: Any, **options: Any) -> Any:
        if started:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        started.append(start(*arguments, **options))
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", start_one)
    engine = linear.local(settings, asynchronous(), workers=2)
    refused = r"cannot start worker 1: .*Resource temporarily unavailable"
    with pytest.raises(Halted, match=refused), engine:
        pass
    jax.tree.map(np.testing.assert_array_equal, engine.state.params, linear.start())
    del engine
    assert started[0].poll() is not None
    assert processes_and_memory() == before


ORPHANS = """
import sys
from distvi.aggregation import asynchronous
from tests import linear
engine = linear.local({"seed": 1, "batch_size": 4, "updates": 10**9}, asynchronous(), workers=2)
with engine:
    engine.advance(3)
    now = engine.status()
    print(*(each.process for each in (*now.workers, *now.servers)), flush=True)
    engine.advance(10**9)
"""


def test_no_process_survives_the_main_one() -> None:
    root = Path(__file__).parents[2]
    main = subprocess.Popen([sys.executable, "-c", ORPHANS], stdout=subprocess.PIPE, cwd=root)
    assert main.stdout is not None
    processes = [int(word) for word in main.stdout.readline().split()]
    assert len(processes) == 3
    handles = [os.pidfd_open(process) for process in processes]
    os.kill(processes[0], signal.SIGSTOP)  # even this one
    main.kill()
    main.wait()
    main.stdout.close()
    for handle in handles:
        readable, _, _ = select.select([handle], [], [], 5.0)  # readable: it has ended
        os.close(handle)
        assert readable
