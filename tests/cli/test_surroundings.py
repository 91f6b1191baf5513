"""What the surroundings of a run do to it: the process environment, signals, streams."""

import json
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from distvi import api
from tests.small_run import MODEL, TINY, Distvi

SETTINGS = {"batch_size": 16, "updates": 7, "seed": 3, "target": "y", "model": MODEL}


@pytest.fixture
def x64() -> Iterator[None]:
    """A program, or a user's profile, that has told JAX to compute in float64."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("engine", ["mesh", "local"])
def test_a_run_is_the_same_where_jax_was_told_float64(
    finished: Path, numbers: Path, tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    run = api.train(numbers, out=tmp_path / "run", engine=engine, **SETTINGS)
    if engine == "mesh":
        parameters = Path("checkpoints", "7", "params.safetensors")
        assert (run.path / parameters).read_bytes() == (finished / parameters).read_bytes()
    metrics = json.loads((run.path / "summary.json").read_text())["test"]
    assert api.evaluate(run) == pytest.approx(metrics)
    assert api.predict(run, numbers, tmp_path / "predicted.csv") == 60
    assert api.resume(run).summary["status"] == "done"
    assert jax.numpy.zeros(()).dtype == "float64"  # the caller's own is left alone


@pytest.mark.parametrize(("column", "name"), [(0, "a"), (2, "y")])
def test_numbers_that_processors_take_for_zero_are_refused(
    distvi: Distvi, numbers: Path, column: int, name: str
) -> None:
    header, *lines = numbers.read_text().splitlines()
    rows = [line.split(",") for line in lines]
    for row in rows:
        row[column] = f"{float(row[column]) * 1e-43!r}"
    Path("tiny.csv").write_text("\n".join([header, *map(",".join, rows)]) + "\n")
    answer = distvi("train", "tiny.csv", "--target", "y", *TINY)
    assert answer.status == 2
    assert f"tiny.csv: column '{name}' varies by only" in answer.err
    assert "taken for zero; multiply it by a constant first, such as 1e40" in answer.err
    assert [path.name for path in Path().iterdir()] == ["tiny.csv"]


def test_devices_that_are_not_there_are_one_line(
    distvi: Distvi, numbers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("Unable to initialize backend 'nonsense'")

    monkeypatch.setattr(jax, "devices", fail)
    monkeypatch.setenv("JAX_PLATFORMS", "nonsense")
    answer = distvi("train", numbers, "--target", "y", *TINY)
    assert (answer.status, answer.err.count("\n")) == (2, 1)
    assert "JAX_PLATFORMS is 'nonsense'; leave it out" in answer.err


def test_of_an_option_that_is_given_twice_the_last_counts(distvi: Distvi) -> None:
    answer = distvi("train", "digit", "--workers", 0, "--json", "--json", "--workers", 2)
    assert (answer.status, answer.err.count("\n")) == (2, 1)
    assert "did you mean 'digits'" in answer.err
