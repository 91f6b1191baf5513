"""A run that was killed and resumed ends with the same parameters, bit for bit."""

import json
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distvi import api
from tests.small_run import MODEL, write_table

UPDATES = 200
EVERY = {"evaluate_every": 20, "checkpoint_every": 30}
SETTINGS = {"updates": UPDATES, "batch_size": 16, "target": "y", "schedule": "cosine", **EVERY}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("data") / "numbers.csv")


RULES = {"rules": ["local-steps", "top-k"], "rule_options": {"steps": 2, "fraction": 0.2}}
KINDS: dict[str, dict[str, Any]] = {
    "mesh": {"engine": "mesh"},
    "local": {"engine": "local"},
    "mesh with memory": {"engine": "mesh", **RULES},
    "local with memory": {"engine": "local", **RULES | {"rules": ["easgd", "top-k"]}},
    "local with factors": {"engine": "local", "rules": ["pvi"], "rule_options": {"steps": 2}},
}


@pytest.fixture(
    scope="module",
    params=[pytest.param(own, marks=pytest.mark.xdist_group(name)) for name, own in KINDS.items()],
    ids=list(KINDS),
)
def kind(request: pytest.FixtureRequest) -> dict[str, Any]:
    return request.param


@pytest.fixture(scope="module")
def uninterrupted(
    kind: dict[str, Any], table: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    model = MODEL | {"freeze_kernel": 50}
    return api.train(table, out=out, model=model, **kind, **SETTINGS).path


def signalled(
    table: Path, out: Path, seed: int, number: signal.Signals, kind: dict[str, Any]
) -> int:
    """The exit status of a run that gets a signal at a random one of its updates."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]
    model = [f"--set=model.{n}={v}" for n, v in (MODEL | {"freeze_kernel": 50}).items()]
    command = [
        sys.executable,
        "-m",
        "distvi",
        "train",
        str(table),
        *options,
        *model,
        f"--engine={kind['engine']}",
        *(word for rule in kind.get("rules", ()) for word in ("--rules", rule)),
        *(f"--rule-options.{n}={value}" for n, value in kind.get("rule_options", {}).items()),
        f"--out={out}",
    ]
    moment = random.Random(seed).randrange(20, UPDATES // 2)
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        for line in process.stderr:
            reached = re.match(r"update (\d+)/", line)
            if reached and int(reached[1]) >= moment:
                process.send_signal(number)
                break
        process.stderr.read()
    return process.returncode


def test_after_a_kill(
    table: Path, uninterrupted: Path, tmp_path: Path, seed: int, kind: dict[str, Any]
) -> None:
    out = tmp_path / "run"
    assert signalled(table, out, seed, signal.SIGKILL, kind) == -signal.SIGKILL
    assert json.loads((out / "summary.json").read_text())["status"] == "running"
    resumed_is_the_same(out, uninterrupted, has_memory="rules" in kind)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_after_an_interruption(
    table: Path,
    uninterrupted: Path,
    tmp_path: Path,
    seed: int,
    kind: dict[str, Any],
    number: signal.Signals,
) -> None:
    out = tmp_path / "run"
    assert signalled(table, out, seed, number, kind) == 128 + number
    summary = json.loads((out / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    assert (out / "checkpoints" / str(summary["updates"])).is_dir()
    resumed_is_the_same(out, uninterrupted, has_memory="rules" in kind)


def resumed_is_the_same(out: Path, uninterrupted: Path, *, has_memory: bool) -> None:
    run, whole = api.resume(out), api.load_run(uninterrupted)
    assert run.summary["status"] == "done"
    assert run.summary["test"] == whole.summary["test"]
    last = Path("checkpoints", str(UPDATES))
    files = {file.name for file in (uninterrupted / last).glob("*.safetensors")}
    assert files >= {"params.safetensors", "optimizer.safetensors"}
    assert ("memories.safetensors" in files) == has_memory
    for name in files:
        assert (out / last / name).read_bytes() == (uninterrupted / last / name).read_bytes()
    columns = ["update", "neg_elbo", "test_rmse"]
    ours, theirs = (r.metrics.select(columns).to_pylist() for r in (run, whole))
    assert [row["update"] for row in ours] == [row["update"] for row in theirs]
    assert [row["test_rmse"] for row in ours] == [row["test_rmse"] for row in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine["neg_elbo"] == pytest.approx(other["neg_elbo"], rel=1e-12)
