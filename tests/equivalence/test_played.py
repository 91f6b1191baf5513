"""The played fleet trains through the same code as the engine ``local``, without a process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import distvi
from distvi.engines import registry as engines
from distvi.testing.engine import PlayedSettings, build

DIGITS = {
    "model": {"hidden_layers": 1, "width": 3, "features": 8, "test_samples": 2},
    "updates": 12,
    "batch_size": 32,
    "seed": 7,
    "scheme": "sync",
    "checkpoint_every": 5,
}


@pytest.fixture(autouse=True)
def played() -> Iterator[None]:
    """The engine's name, for a while."""
    engines.register_engine("played", PlayedSettings, build)
    yield
    engines._KNOWN.pop("played")


def test_digits(tmp_path: Path) -> None:
    kinds = ("played", "local")
    runs = [
        distvi.train("digits", engine=k, workers=2, servers=2, out=tmp_path / k, **DIGITS)
        for k in kinds
    ]
    assert runs[0].summary["status"] == "done"
    for name in ("params.safetensors", "optimizer.safetensors"):
        a, b = ((run.path / "checkpoints" / "12" / name).read_bytes() for run in runs)
        assert a == b
