"""Runs on an instance of Ray, from the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.small_run import MODEL, Distvi

pytest.importorskip("ray", reason="the extra distvi[ray] is not installed")

pytestmark = [
    pytest.mark.xdist_group("ray"),  # one instance at a time
    pytest.mark.filterwarnings("ignore:os.fork"),  # of Ray, as it starts its processes
]

SHORT = (
    *("--updates", "20", "--set", "model.hidden_layers=1", "--evaluate-every", "0"),
    *("--set", f"model.width={MODEL['width']}", "--set", f"model.features={MODEL['features']}"),
)


def test_a_run_on_ray_is_a_run(distvi: Distvi, numbers: Path) -> None:
    data = ("train", numbers, "--target", "y", *SHORT)
    answer = distvi(
        *data, "--engine", "ray", "--servers", 2, "--batch-size", 16, "--trace", "--json",
        "--out", "ray",
    )  # fmt: skip
    assert answer.status == 0, answer.err
    summary = json.loads(answer.out)
    expected = {"engine": "ray", "scheme": "sync", "workers": 2, "servers": 2, "clock": "wall"}
    assert {name: summary[name] for name in expected} == expected
    assert summary["gradients_used"] == 40
    assert summary["restarts"] == 0
    spans = json.loads(Path("ray/trace.json").read_text())["traceEvents"]
    assert {"compute", "push", "apply"} <= {span["name"] for span in spans}
    options = ("--engine", "mesh", "--batch-size", 32, "--out", "mesh")
    assert distvi(*data, *options).status == 0
    one, other = (
        load_file(Path(run, "checkpoints", "20", "params.safetensors")) for run in ("ray", "mesh")
    )
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], rtol=1e-4, atol=1e-4 * abs(value).max())
