"""Engine mesh over hosts, from the command line; here all hosts are this machine."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from distvi.engines.mesh.address import hosts_of
from distvi.engines.mesh.hosts.group import Group
from tests.small_run import TINY, UPDATES, Distvi

HOSTS = ("--hosts", "localhost,localhost")


def params(run: Path, update: int) -> dict[str, np.ndarray]:
    return load_file(run / "checkpoints" / str(update) / "params.safetensors")


def at_call(number: int, what: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let something happen when the values of that call are waited for."""
    made, calls = Group.made, [0]

    def and_more(self: Group, limit_s: float) -> Any:
        calls[0] += 1
        if calls[0] == number:
            what(self)
        return made(self, limit_s)

    monkeypatch.setattr(Group, "made", and_more)


def test_an_interrupted_run_goes_on_and_is_that_of_one_process(
    distvi: Distvi, numbers: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_call(2, lambda group: signal.raise_signal(signal.SIGINT), monkeypatch)
    answer = distvi("train", numbers, "--target", "y", *TINY, *HOSTS, "--out", "run", "--json")
    assert answer.status == 130, answer.err
    assert answer.err.splitlines()[-1].endswith("go on with: distvi resume run")
    summary = json.loads(answer.out)
    assert summary["status"] == "interrupted"
    assert 0 < summary["updates"] < UPDATES
    assert params(Path("run"), summary["updates"])
    answer = distvi("resume", "run", "--json")
    assert answer.status == 0, answer.err
    summary = json.loads(answer.out)
    expected = {"status": "done", "engine": "mesh", "workers": 2, "servers": 0, "restarts": 0}
    assert {name: summary[name] for name in expected} == expected
    assert summary["gradients_used"] == 2 * UPDATES
    assert {log.name for log in Path("run/logs").iterdir()} == {"process-0.log", "process-1.log"}
    one, other = params(Path("run"), UPDATES), params(finished, UPDATES)
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], rtol=1e-4, atol=1e-4 * abs(value).max())


def test_a_run_that_loses_its_processes_too_often_leaves_a_checkpoint(
    distvi: Distvi, numbers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(group: Group) -> None:
        os.kill(group.processes[1][0], signal.SIGKILL)

    at_call(3, kill, monkeypatch)
    data = ("train", numbers, "--target", "y", *TINY, *HOSTS, "--evaluate-every", 0)
    answer = distvi(*data, "--max-restarts", 0, "--out", "run")
    assert answer.status == 1
    last = answer.err.splitlines()[-1]
    assert "was killed by SIGKILL; see run/logs/process-1.log; all 0 restarts" in last
    assert "the last good checkpoint is run/checkpoints/" in last
    assert json.loads(Path("run/summary.json").read_text())["status"] == "failed"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--hosts", "a,,b"), "hosts is 'a,,b'; it should be names or IPv4 addresses"),
        (("--hosts", "localhost:x,localhost"), "hosts has the port 'x'; it should be a number"),
        (("--hosts", "localhost", "--host", "1"), "host is 1, but there are 1 hosts"),
        (
            ("--hosts", "198.51.100.1,198.51.100.2"),
            "none of the hosts 198.51.100.1,198.51.100.2 has an",
        ),
        (("--hosts", "no.such.host.invalid"), "cannot resolve the host 'no.such.host.invalid'"),
        ((*HOSTS, "--host", "0"), "the first host, localhost, has the address 127.0.0.1 on this"),
        (("--hosts", "auto"), "no SLURM or MPI has started this process"),
        (("--host", "0"), "host is 0, but no hosts are named"),
        ((*HOSTS, "--workers", "3"), "workers is 3, which cannot be spread evenly over 2"),
        (
            (*HOSTS, "--set", "training.batch_size=15"),
            "a batch of 15 examples cannot be cut evenly among 2",
        ),
    ],
)
def test_hosts_that_make_no_sense_are_one_line(
    distvi: Distvi, numbers: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    answer = distvi("train", numbers, "--target", "y", *TINY, *arguments, "--out", "run")
    assert answer.status == 2
    (line,) = answer.err.splitlines()
    assert complaint in line
    assert not Path("run").exists()


def test_slurm_says_which_process_this_is(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        "SLURM_JOB_ID": "7",
        "SLURM_STEP_NODELIST": "node[03-05]",
        "SLURM_NTASKS": "3",
        "SLURM_PROCID": "2",
        "SLURM_LOCALID": "0",
    }
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    hosts = hosts_of("auto", None)
    assert (hosts.first[0], hosts.processes, hosts.own) == ("node03", 3, (2,))
    assert not hosts.leads
