"""``distvi simulate``: tables, pictures, and what is refused."""

import json
from pathlib import Path

import pytest

from distvi.aggregation import SCHEMES
from distvi.studies.simulation import Spec, plan_of
from tests.small_run import Distvi

SPEC = """
schemes = ["async", { name = "backup", n = 2 }]
workers = [2, 3]
servers = [1, 2]
parameters = 1000
batch_size = 10
gradients_per_worker = 4
"""


def test_tables_and_pictures(distvi: Distvi) -> None:
    Path("spec.toml").write_text(SPEC)
    answer = distvi("simulate", "spec.toml", "--json")
    assert answer.status == 0, answer.err
    content = json.loads(answer.out)
    out = Path("simulations/spec")
    assert json.loads((out / "simulation.json").read_text()) == content
    for name in ("scaling.png", "timeline.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    runs = content["results"]
    assert [(run["workers"], run["servers"]) for run in runs] == 2 * [
        (2, 1),
        (3, 1),
        (2, 2),
        (3, 2),
    ]
    assert {run["scheme"] for run in runs} == {"async", "backup(n=2)"}
    for run in runs:
        assert run["gradients"] > 0
        assert run["examples_per_s"] > 0
        assert 0 < run["worker_idle_fraction"] < 1
        assert len(run["server_receiving"]) == run["servers"]
        assert all(0 < share <= 1 for share in run["server_receiving"] + run["server_sending"])
    assert {path.name for path in out.iterdir()} == {
        "simulation.json", "scaling.png", "timeline.png"
    }  # fmt: skip
    again = distvi("simulate", "spec.toml")
    assert again.status == 2
    assert "not empty" in again.err


def test_a_scheme_that_suits_some_numbers_of_workers_is_left_out_for_the_others(
    distvi: Distvi,
) -> None:
    Path("spec.toml").write_text(SPEC.replace("workers = [2, 3]", "workers = [1, 3]"))
    answer = distvi("simulate", "spec.toml", "--json")
    assert answer.status == 0
    assert answer.err.startswith("distvi: warning: left out: backup with 1 workers: ")
    content = json.loads(answer.out)
    assert len(content["left_out"]) == 1
    seen = {(run["scheme"], run["workers"]) for run in content["results"]}
    assert seen == {("async", 1), ("async", 3), ("backup(n=2)", 3)}


def test_numbers_that_follow_the_workers_make_one_curve_and_one_panel() -> None:
    table = {"name": "backup", "combine": "add"}
    spec = Spec(schemes=(*SCHEMES, table), workers=(1, 2, 20), parameters=10)
    simulation = plan_of(spec)
    named = {(cell.asked, cell.workers): cell.scheme.name for cell in simulation.cells}
    assert len(named) == len(simulation.cells) == 3 * (len(SCHEMES) + 1)
    assert named["backup", 20] == named["backup(combine=add)", 20] == "backup(n=19)"
    assert named["ssp(bound=3)", 1] == "ssp(bound=3)"
    spec = Spec(schemes=("backup",), workers=(2, 3, 20), parameters=10, gradients_per_worker=4)
    few = plan_of(spec)
    assert list(few.timelines()) == ["backup(n=2)"]
    (asked,) = {result.as_json()["asked"] for result in few.results()}
    assert asked == "backup"


def test_a_trace_of_every_run(distvi: Distvi) -> None:
    Path("spec.toml").write_text(SPEC)
    answer = distvi("simulate", "spec.toml", "--out", "out", "--trace")
    assert answer.status == 0, answer.err
    results = json.loads(Path("out/simulation.json").read_text())["results"]
    traces = sorted(Path("out/traces").iterdir())
    assert len(traces) == len(results) == 8
    assert traces[0].name == "01-async-2-workers-1-servers.json"
    for trace, result in zip(traces, results, strict=True):
        spans = [e for e in json.loads(trace.read_text())["traceEvents"] if e["ph"] == "X"]
        assert {span["name"] for span in spans} >= {"pull", "compute", "push", "apply"}
        applied = sum(span["name"] == "apply" for span in spans)
        assert applied == result["updates"] * result["servers"]
        pushed = sum(span["name"] == "push" for span in spans)
        assert pushed == result["gradients"] + result["gradients_refused"]
    twice = distvi("simulate", "spec.toml", "--out", "again", "--trace")
    assert twice.status == 0
    for file in Path("out").rglob("*.*"):
        assert (Path("again") / file.relative_to("out")).read_bytes() == file.read_bytes(), file


def test_a_folder_is_whole_or_not_there(distvi: Distvi, monkeypatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    Path("spec.toml").write_text(SPEC)
    monkeypatch.setattr("distvi.report.simulation.timeline_figure", fail)
    with pytest.raises(OSError, match="No space left"):
        distvi("simulate", "spec.toml", "--out", "out")
    assert [path.name for path in Path().iterdir()] == ["spec.toml"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("schemes = [{ name = 'backup', n = 9 }]", "needs 9 workers and the run has 2"),
        ("schemes = [{ name = 'ssp', bound = 1.5 }]", "bound is 1.5; it must be a whole number"),
        ("servers = 2000", "there are parameters for 1000"),
        ("tensors = [4]", "either parameters or tensors"),
        ("worker = 3", "unknown key 'worker'"),
        ("cluster = 'compute'", "did you mean 'compute-bound'"),
        ("workers = []", "'workers' is []"),
        ("[cluster]\ngradient = {overhead_s = 1}", "'workers' is missing"),
    ],
)
def test_impossible_simulations_are_refused(distvi: Distvi, change: str, message: str) -> None:
    key = change.split(" ")[0]
    kept = [line for line in SPEC.splitlines() if not line.startswith(key + " ")]
    Path("spec.toml").write_text("\n".join([*kept, change]))
    answer = distvi("simulate", "spec.toml", "--out", "out")
    assert answer.status == 2
    assert message in answer.err
    assert not Path("out").exists()


def test_a_cluster_that_dies_fails_with_the_reason(distvi: Distvi) -> None:
    Path("spec.toml").write_text(
        SPEC + "[cluster]\ngradient = { overhead_s = 1 }\n"
        "workers = { bandwidth_bytes_per_s = 1e9, crash_rate_per_s = 5 }\n"
        "servers = { bandwidth_bytes_per_s = 1e9 }\n"
    )
    answer = distvi("simulate", "spec.toml", "--out", "out")
    assert answer.status == 1
    assert "0 workers" in answer.err


def test_the_examples_are_valid(distvi: Distvi) -> None:
    from distvi.engines.simulated.settings import cluster_named
    from distvi.studies.simulation import plan

    examples = Path(__file__).parents[2] / "examples"
    assert cluster_named(str(examples / "cluster.toml")).workers.speeds[3] == 0.5
    assert len(plan(examples / "simulation.toml").cells) == 16
