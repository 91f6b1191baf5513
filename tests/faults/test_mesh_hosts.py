"""What engine mesh promises over hosts when a process dies, stops, or has other data."""

import os
import re
import select
import signal
import socket
import subprocess
import sys
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from distvi.engines.base import StateLost
from distvi.engines.mesh.address import free_port
from distvi.engines.mesh.hosts import group
from distvi.engines.mesh.leader import HostsEngine
from distvi.errors import InputError
from tests import linear
from tests.small_run import TINY, write_table

UPDATES, SAVED, BATCH = 30, 10, 8
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.xdist_group("faults of hosts")  # they share compiled programs


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="module")
def whole(cache: Path) -> Any:
    """The values and the last state of a run without faults."""
    with linear.hosts(problem(), cache=cache) as engine:
        values = engine.advance(UPDATES)
        return values, jax.tree.map(np.array, engine.state)


def problem(**more: Any) -> dict[str, Any]:
    return {"seed": 7, "batch_size": BATCH, "updates": UPDATES} | more


def kill(engine: HostsEngine, process: int, number: signal.Signals = signal.SIGKILL) -> None:
    os.kill(engine.status().workers[process].process, number)


def finish(engine: HostsEngine, values: list[np.ndarray], whole: Any) -> None:
    """Make the rest of the updates: all is as if nothing had happened."""
    values.append(engine.advance(UPDATES))
    np.testing.assert_array_equal(np.concatenate(values), whole[0])
    jax.tree.map(np.testing.assert_array_equal, engine.state, whole[1])


def test_a_process_that_dies_while_it_computes_costs_no_update(
    cache: Path, whole: Any, tmp_path: Path
) -> None:
    once = tmp_path / "happened"
    struck = problem(fault="computing", once=str(once), signal="SIGKILL")
    with linear.hosts(struck, cache=cache) as engine:
        finish(engine, [], whole)
    assert once.exists()
    (incident,) = engine.statistics["incidents"]
    assert re.match(r"process \d \(process \d+\) was killed by SIGKILL", incident)
    assert engine.statistics["restarts"] == engine.counters["restarts"] == 1


def test_all_begin_anew_from_the_last_state_that_was_asked_for(
    cache: Path, whole: Any, tmp_path: Path
) -> None:
    told: list[str] = []
    with linear.hosts(problem(), cache=cache) as engine:
        values = [engine.advance(SAVED)]
        saved = jax.tree.map(np.array, engine.state)
        values.append(engine.advance(SAVED + 5))
        kill(engine, 0)
        engine.attach(tmp_path, told.append)
        assert not np.array_equal(engine.params["w"], saved.params["w"])
        assert engine.update == SAVED + 5
        finish(engine, values, whole)
    (incident,) = told
    assert incident.endswith(f"all processes begin anew from update {SAVED}")


def test_a_process_that_is_stopped_is_not_waited_for(cache: Path, whole: Any) -> None:
    with linear.hosts(problem(), silence_s=2.0, cache=cache) as engine:
        values = [engine.advance(SAVED)]
        kill(engine, 1, signal.SIGSTOP)
        finish(engine, values, whole)
    (incident,) = engine.statistics["incidents"]
    assert incident == "process 1 on 127.0.0.1 gave no sign of life for 2 s"


def test_a_run_whose_restarts_are_used_up_fails(cache: Path) -> None:
    with linear.hosts(problem(), max_restarts=0, cache=cache) as engine:
        engine.advance(SAVED)
        kill(engine, 1)
        with pytest.raises(StateLost, match=r"SIGKILL; all 0 restarts have been used"):
            engine.advance(UPDATES)


def test_an_exception_of_a_process_is_told_and_not_repeated(cache: Path, tmp_path: Path) -> None:
    raising = problem(fault="updating", once=str(tmp_path / "happened"), signal="raise")
    failed = r"process \d on 127.0.0.1 failed with ValueError: this"
    with linear.hosts(raising, cache=cache) as engine, pytest.raises(StateLost, match=failed):
        [engine.advance(update) for update in range(1, UPDATES + 1)]
    assert engine.restarts == 0


def test_a_host_that_does_not_come_is_waited_for_until_a_limit_or_an_interruption(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = f"127.0.0.1:{free_port('127.0.0.1')},127.0.0.1"
    asked = chain([False], repeat(True))
    with linear.hosts(problem(), hosts=hosts, host=0, cache=cache) as engine:
        assert len(engine.advance(UPDATES, lambda: next(asked))) == 0
        assert engine.update == 0
        jax.tree.map(np.testing.assert_array_equal, engine.params, linear.start())
        monkeypatch.setattr(group, "JOIN_S", 0.5)
        with pytest.raises(StateLost, match=r"process \d of 2 did not come within 0.5 s"):
            engine.advance(UPDATES)


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        hosts = f"127.0.0.1:{taken.getsockname()[1]},127.0.0.1"
        with pytest.raises(InputError, match=r"cannot listen at 127.0.0.1:\d+: Address already"):
            linear.hosts(problem(), hosts=hosts, host=0)


ORPHANS = """
from tests import linear
engine = linear.hosts({"seed": 1, "batch_size": 4, "updates": 10**9})
with engine:
    engine.advance(3)
    print(*(each.process for each in engine.status().workers), flush=True)
    engine.advance(10**9)
"""


def test_no_process_survives_the_main_one() -> None:
    main = subprocess.Popen([sys.executable, "-c", ORPHANS], stdout=subprocess.PIPE, cwd=ROOT)
    assert main.stdout is not None
    processes = [int(word) for word in main.stdout.readline().split()]
    assert len(processes) == 2
    handles = [os.pidfd_open(process) for process in processes]
    os.kill(processes[1], signal.SIGSTOP)  # even this one
    main.kill()
    main.wait()
    main.stdout.close()
    for handle in handles:
        readable, _, _ = select.select([handle], [], [], 5.0)  # readable: it has ended
        os.close(handle)
        assert readable


# Two commands, as on two hosts


def commands(folder: Path, *tables: Path) -> list[subprocess.Popen[str]]:
    """A command for each of two hosts, which has that table."""
    hosts = f"127.0.0.1:{free_port('127.0.0.1')},127.0.0.1"
    return [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "distvi", "train", str(table), "--target", "y"),
                *(*TINY, "--hosts", hosts, "--host", str(host), "--out", f"run-{host}"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])},
        )
        for host, table in enumerate(tables)
    ]


def test_the_same_command_on_two_hosts_is_one_run(tmp_path: Path) -> None:
    table = write_table(tmp_path / "numbers.csv")
    leader, other = commands(tmp_path, table, table)
    (_, leaders), (_, others) = leader.communicate(timeout=300), other.communicate(timeout=300)
    assert leader.returncode == other.returncode == 0, leaders + others
    assert (tmp_path / "run-0" / "summary.json").exists()
    assert (tmp_path / "run-0" / "logs" / "process-0.log").exists()
    assert not (tmp_path / "run-1").exists()


def test_a_host_with_other_data_cannot_take_part(tmp_path: Path) -> None:
    table, other_table = (tmp_path / name for name in ("numbers.csv", "others.csv"))
    write_table(table)
    other_table.write_text(table.read_text().replace("\n1", "\n2").replace("\n-", "\n-1"))
    leader, other = commands(tmp_path, table, other_table)
    (_, leaders), (_, others) = leader.communicate(timeout=300), other.communicate(timeout=300)
    assert (leader.returncode, other.returncode) == (1, 1), leaders + others
    assert "process 1 on 127.0.0.1 cannot take part: it has other training" in leaders
    assert "process 1 cannot take part: it has other training examples" in others
