"""``distvi train --engine simulated``: the folder, its files, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from distvi.aggregation import sync
from distvi.protocol import Commit, Rules, initial_state, read_line, replay
from tests.small_run import SMALL, UPDATES, Distvi

SIMULATED = ("--target", "y", *SMALL, "--engine", "simulated")


def without_wall_time(content: bytes) -> Any:
    """A JSON file but for what the wall's clock said; that clock alone tells two runs apart."""
    table = json.loads(content)
    found = [table, *(value for value in table.values() if isinstance(value, dict))]
    for each in found:
        each.pop("wall_time_s", None)
    return table


def test_a_run_twice_gives_the_same_bytes(distvi: Distvi, numbers: Path) -> None:
    options = ("--workers", 3, "--servers", 2, "--cluster", "network-bound", "--journal", "--trace")
    for out in ("one", "two"):
        answer = distvi("train", numbers, *SIMULATED, *options, "--out", out)
        assert answer.status == 0, answer.err
    files = {path.relative_to("one") for path in Path("one").rglob("*") if path.is_file()}
    assert {Path("journal.jsonl"), Path("trace.json"), Path("figure.png")} <= files
    for file in files:
        one, two = ((Path(run) / file).read_bytes() for run in ("one", "two"))
        assert one == two or without_wall_time(one) == without_wall_time(two), file
    summary = json.loads(Path("one/summary.json").read_text())
    assert summary["clock"] == "virtual"
    assert (summary["workers"], summary["servers"]) == (3, 2)
    assert summary["gradients_used"] == 3 * UPDATES == summary["examples"] / 16
    assert summary["bytes"]["pushed"] > 0
    assert summary["bytes"]["largest_server_share"] == pytest.approx(0.5, rel=0.02)
    assert 0 < summary["worker_idle_fraction"] < 1
    assert summary["staleness"]["histogram"] == {"0": 3 * UPDATES}
    lines = Path("one/journal.jsonl").read_text().splitlines()
    rules = Rules(sync(), updates=UPDATES)
    course = list(replay(rules, initial_state(rules), map(read_line, lines)))
    assert course[-1][0].version == UPDATES
    assert sum(isinstance(c, Commit) for _, commands in course for c in commands) == UPDATES
    spans = json.loads(Path("one/trace.json").read_text())["traceEvents"]
    assert {span["name"] for span in spans} >= {"compute", "push", "pull", "wait", "apply"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--scheme", "backup", "--scheme-options.n", "9"), "needs 9 workers and the run has 4"),
        (("--scheme", "ssp", "--scheme-options.bound", "-1"), "ssp: bound is '-1'; it must be"),
        (("--scheme", "sinc"), "no scheme 'sinc' (did you mean 'sync'?)"),
        (("--servers", "100000"), "there are parameters for"),
        (("--servers", "0"), "--servers is '0': input should be greater than 0"),
        (("--placement", "greedy", "--servers", "99"), "or placement 'ranges'"),
        (("--optimizer", "muon", "--servers", "3"), "whole tensors"),
        (("--cluster", "nowhere.toml"), "cannot read cluster nowhere.toml"),
        (("--cluster", "broken.toml"), "'servers.bandwidth_bytes_per_s.0' is 0"),
    ],
)
def test_impossible_clusters_are_refused_before_anything_runs(
    distvi: Distvi, numbers: Path, options: tuple, message: str
) -> None:
    Path("broken.toml").write_text(
        "[gradient]\noverhead_s = 1\n[workers]\nbandwidth_bytes_per_s = 1\n"
        "[servers]\nbandwidth_bytes_per_s = 0\n"
    )
    answer = distvi("train", numbers, *SIMULATED, *options, "--out", "out")
    assert answer.status == 2
    assert message in answer.err
    assert not Path("out").exists()


def test_a_cluster_that_loses_its_workers_fails_with_a_checkpoint(
    distvi: Distvi, numbers: Path
) -> None:
    Path("dying.toml").write_text(
        "[gradient]\noverhead_s = 1\n[servers]\nbandwidth_bytes_per_s = 1e9\n"
        "[workers]\nbandwidth_bytes_per_s = 1e9\ncrash_rate_per_s = 2.0\n"
    )
    options = ("--cluster", "dying.toml", "--scheme", "async")
    answer = distvi("train", numbers, *SIMULATED, *options, "--out", "out")
    assert answer.status == 1
    assert "0 workers" in answer.err
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["status"] == "failed"
    assert Path(f"out/checkpoints/{summary['updates']}/params.safetensors").is_file()


def test_an_interrupted_run_goes_on(distvi: Distvi, numbers: Path) -> None:
    options = ("--workers", 3, "--checkpoint-every", 3)
    whole = distvi("train", numbers, *SIMULATED, *options, "--out", "whole")
    assert whole.status == 0
    last = Path(f"whole/checkpoints/{UPDATES}/params.safetensors")
    expected = last.read_bytes()
    for file in last.parent.iterdir():
        file.unlink()
    last.parent.rmdir()
    assert distvi("resume", "whole").status == 0
    assert last.read_bytes() == expected
    summary = json.loads(Path("whole/summary.json").read_text())
    assert summary["gradients_used"] == 3 * UPDATES
