"""Runs of processes, from the command line."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from distvi.engines.coordinator.transport import FleetTransport
from tests.small_run import MODEL, Distvi

SHORT = (
    *("--updates", "20", "--set", "model.hidden_layers=1"),
    *("--set", f"model.width={MODEL['width']}", "--set", f"model.features={MODEL['features']}"),
)
BATCH = ("--batch-size", 16)


def parameters(run: Path) -> dict[str, np.ndarray]:
    (newest,) = (run / "checkpoints").glob("20")
    return load_file(newest / "params.safetensors")


def test_processes_are_the_default(distvi: Distvi, numbers: Path) -> None:
    answer = distvi(
        "train", numbers, "--target", "y", *SHORT, *BATCH, "--trace", "--journal", "--json"
    )
    assert answer.status == 0, answer.err
    summary = json.loads(answer.out)
    expected = {"engine": "local", "scheme": "sync", "workers": 2, "servers": 1, "clock": "wall"}
    assert {name: summary[name] for name in expected} == expected
    assert summary["gradients_used"] == 40
    assert summary["examples"] == 40 * 16
    assert summary["restarts"] == 0
    assert 0 < summary["worker_idle_fraction"] < 1
    assert summary["bytes"]["pushed"] > 0
    (run,) = Path("runs").iterdir()
    assert {log.name for log in (run / "logs").iterdir()} == {
        "worker-0.log",
        "worker-1.log",
        "server-0.log",
    }
    spans = json.loads((run / "trace.json").read_text())["traceEvents"]
    assert {"compute", "push", "apply"} <= {span["name"] for span in spans}
    assert (run / "journal.jsonl").read_text().count("gradient_arrived") >= 40
    assert "[engine]" in (run / "run.toml").read_text()


def test_sync_trains_as_one_process_with_the_whole_batch(distvi: Distvi, numbers: Path) -> None:
    data = ("train", numbers, "--target", "y", *SHORT, "--evaluate-every", 0)
    assert distvi(*data, *BATCH, "--out", "local", "--servers", 2).status == 0
    assert distvi(*data, "--out", "mesh", "--engine", "mesh", "--batch-size", 32).status == 0
    one, other = parameters(Path("local")), parameters(Path("mesh"))
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], rtol=1e-4, atol=1e-4 * abs(value).max())


def test_ctrl_c_while_the_processes_start(
    distvi: Distvi, numbers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = FleetTransport.begin

    def interrupted(self: FleetTransport) -> None:
        signal.raise_signal(signal.SIGINT)
        begin(self)

    monkeypatch.setattr(FleetTransport, "begin", interrupted)
    answer = distvi("train", numbers, "--target", "y", *SHORT, *BATCH, "--out", "run", "--json")
    assert answer.status == 130
    summary = json.loads(answer.out)
    assert (summary["status"], summary["updates"]) == ("interrupted", 0)


def test_a_run_whose_workers_are_all_dead_leaves_a_checkpoint_and_goes_on_from_it(
    distvi: Distvi, numbers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive, events = FleetTransport.receive, [0]

    def and_strike(self: FleetTransport) -> Any:
        events[0] += 1
        if events[0] == 12:
            for worker in self.fleet.of("worker"):
                os.kill(worker.pid, signal.SIGKILL)
        return receive(self)

    monkeypatch.setattr(FleetTransport, "receive", and_strike)
    data = ("train", numbers, "--target", "y", *SHORT, *BATCH, "--evaluate-every", 0)
    answer = distvi(*data, "--max_restarts", 0, "--out", "run")
    assert answer.status == 1
    last = answer.err.splitlines()[-1]
    assert "killed by SIGKILL" in last
    assert "no worker is left, and all 0 restarts have been used" in last
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["status"] == "failed"
    assert 0 < summary["updates"] < 20
    assert f"the last good checkpoint is run/checkpoints/{summary['updates']}" in last
    assert distvi("resume", "run").status == 0
    assert parameters(Path("run"))
