"""``distvi calibrate``: the file, what is printed, and what is refused."""

import json
from pathlib import Path

import pytest

from distvi.calibration import probes
from distvi.engines.simulated.settings import cluster_named
from tests.small_run import MODEL, Distvi, write_table

SMALL = tuple(word for name, value in MODEL.items() for word in ("--set", f"model.{name}={value}"))


def test_a_measured_machine_is_a_cluster_to_train_on(
    distvi: Distvi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "_ROUNDS", 1)
    monkeypatch.setattr(probes, "_ROUND_S", 0.01)
    answer = distvi("calibrate", *SMALL, "--workers", 1, "--batch-size", 16, "--json")
    assert answer.status == 0, answer.err
    what = "digits with 1 worker, 1 or 2 servers and batches of 8 to 32 written to cluster.toml"
    assert what in " ".join(answer.err.split())
    content = json.loads(answer.out)
    costs = cluster_named("cluster.toml")
    assert content["cluster"]["gradient"] == costs.gradient.model_dump()
    assert [each["batch_size"] for each in content["observations"]] == [8, 16, 32, 16]
    assert all(each["gradients"] > 0 for each in content["observations"])
    assert costs.gradient.mean_s(16) > 0
    assert costs.servers.latency_s > 0
    simulated = ("--engine", "simulated", "--cluster", "cluster.toml", "--workers", 2)
    assert distvi("train", "digits", *SMALL, *simulated, "--updates", 3).status == 0
    written = Path("cluster.toml").read_bytes()
    again = distvi("calibrate", *SMALL)
    assert again.status == 2
    assert "cluster.toml exists already and is never overwritten" in again.err
    assert Path("cluster.toml").read_bytes() == written


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("digit",), "did you mean 'digits'"),
        (("digits", "--engine", "mesh"), "engine 'mesh' has no processes"),
        (("digits", "--workers", "0"), "--workers is '0'"),
        (("digits", "--batch-size", "99999"), "the batch size is 99999"),
        (("digits", "--out", "nowhere/cluster.toml"), "cannot write nowhere/cluster.toml"),
        (("few.csv", "--target", "y", "--test-fraction", "0.5"), "4 are needed"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    distvi: Distvi, arguments: tuple[str, ...], message: str
) -> None:
    write_table(Path("few.csv"), rows=4)
    answer = distvi("calibrate", *arguments)
    assert answer.status == 2
    assert message in answer.err
    assert not list(Path().glob("**/*.toml"))
