"""The played fleet trains what the engine ``local`` trains, bit for bit, without a process."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from distvi import api
from distvi.engines import registry
from distvi.engines.coordinator.environment import worker_environment
from distvi.runs.folder import Run
from distvi.testing.engine import PlayedSettings, build

UPDATES = 8
FILES = ("params.safetensors", "optimizer.safetensors")

TRAIN = f"""
import sys
from distvi import api
from distvi.engines.registry import register_engine
from distvi.testing.engine import PlayedSettings, build

register_engine("played", PlayedSettings, build)
model = {{"hidden_layers": 1, "width": 2, "features": 4, "test_samples": 2}}
api.train(
    "digits", engine=sys.argv[1], out=sys.argv[2], model=model, scheme="sync", workers=2,
    servers=2, updates={UPDATES}, batch_size=16, seed=7,
)
"""


@pytest.fixture
def played() -> Iterator[None]:
    """The engine has its name for a while."""
    registry.register_engine("played", PlayedSettings, build)
    yield
    registry._KNOWN.pop("played")


def trained(engine: str, out: Path) -> Run:
    """Train in a process like those of the engine ``local``: they have one thread each."""
    environment = os.environ | worker_environment(0, []) | {"JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", TRAIN, engine, str(out)], env=environment, check=True)
    return api.load_run(out)


def test_digits_by_either_fleet(played: None, tmp_path: Path) -> None:
    ours, theirs = (trained(engine, tmp_path / engine) for engine in ("played", "local"))
    assert ours.summary["status"] == theirs.summary["status"] == "done"
    assert ours.summary["test"] == theirs.summary["test"]
    for name in FILES:
        file = Path("checkpoints", str(UPDATES), name)
        assert (ours.path / file).read_bytes() == (theirs.path / file).read_bytes()


def test_it_is_an_engine_as_any_other(played: None, tmp_path: Path) -> None:
    run = api.train(
        "digits", engine="played", scheme="async", out=tmp_path / "run", updates=UPDATES,
        batch_size=16, model={"hidden_layers": 1, "width": 2, "features": 4, "test_samples": 2},
    )  # fmt: skip
    assert run.summary["status"] == "done"
    assert run.summary["staleness"]["histogram"]["1"] > 0
    assert run.config.engine == PlayedSettings(workers=2, servers=1, nonfinite_limit=40)
