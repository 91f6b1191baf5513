"""What comes of a cell: the run that it would be by itself, up to where it is to stop."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distvi.aggregation import sync
from distvi.config.resolve import resolve
from distvi.engines.simulated.all_reduce import AllReduceCluster
from distvi.engines.simulated.settings import cluster_of
from distvi.engines.simulated.timing import time_rules
from distvi.protocol import Rules
from distvi.runs.records import CURVE_COLUMNS, Record, repeatable
from distvi.studies.cells import Cell, cells_of
from distvi.studies.measure import Workbench
from distvi.studies.pilot import estimate
from distvi.studies.spec import SpecFile
from distvi.training.prepare import prepare
from tests.small_study import write_study


def spec_file(tmp_path: Path, blocks: str, **changed: str) -> SpecFile:
    path = write_study(tmp_path / "s.toml", blocks, seeds=2)
    text = path.read_text()
    for before, after in changed.items():
        assert before in text
        text = text.replace(before, after)
    path.write_text(text)
    return SpecFile(path)


def records(file: SpecFile) -> list[tuple[Cell, Record]]:
    bench = Workbench(file.spec.measuring)
    found = [(cell, bench.record(cell)) for cell in cells_of(file)]
    return [(cell, record) for cell, record in found if record is not None]


def one_block(axes: str, fixed: str = "") -> str:
    return f'[[blocks]]\nname = "b"\naxes = {{ {axes} }}\nfixed = {{ {fixed} }}\n'


@pytest.mark.parametrize("engine", ["simulated", "mesh", "local"])
def test_a_cell_is_the_run_it_would_be_by_itself(tmp_path: Path, engine: str) -> None:
    fixed = f'engine = "{engine}"' + (", workers = 1" if engine == "mesh" else "")
    for cell, record in records(spec_file(tmp_path, one_block("batch_size = [8]", fixed))):
        assert (record.status, record.reason) == ("done", "")
        plan = prepare(cell.config)
        with plan.engine() as own:
            own.advance(plan.updates)
        measured = record.measured
        assert measured.updates == own.update == 6
        assert measured.examples == own.examples
        assert measured.clock == own.statistics["clock"]
        if measured.clock == "virtual":
            assert measured.time_s == own.now_s()
        assert measured.bytes == {w: own.statistics["bytes"][w] for w in ("pushed", "pulled")}
        assert sum(measured.staleness.values()) == measured.gradients["used"]
        assert {len(column) for column in measured.curve.values()} == {2}
        assert {*CURVE_COLUMNS, "neg_elbo", "test_error_rate"} <= measured.curve.keys()
        assert measured.curve["update"] == [3, 6]
        assert measured.curve["test_mnll"][-1] == measured.test["mnll"]


def test_cells_repeat_whatever_came_before_them(tmp_path: Path) -> None:
    file = spec_file(tmp_path, one_block('learning_rate = [0.1, 0.001], scheme = ["async"]'))
    bench, other = Workbench(file.spec.measuring), Workbench(file.spec.measuring)
    found = cells_of(file)
    forward = {cell.id: bench.record(cell) for cell in found}
    backward = {cell.id: other.record(cell) for cell in reversed(found)}
    for cell in found:
        one, two = forward[cell.id], backward[cell.id]
        assert one is not None
        assert two is not None
        assert repeatable(one) == repeatable(two)


def test_seeds_differ_in_more_than_their_number(tmp_path: Path) -> None:
    found = [record for _, record in records(spec_file(tmp_path, one_block("workers = [2]")))]
    assert found[0].measured.curve["neg_elbo"] != found[1].measured.curve["neg_elbo"]


def test_all_reduce_has_the_numbers_of_sync_and_times_of_its_own(tmp_path: Path) -> None:
    def plan(exchange: str) -> Any:
        settings = {"engine": "simulated", "exchange": exchange, "workers": 3, "scheme": "sync"}
        small = {"hidden_layers": 1, "width": 2, "features": 4}
        return prepare(resolve("digits", settings={**settings, "updates": 5, "model": small}))

    with plan("servers").engine() as servers, plan("all-reduce").engine() as ring:
        np.testing.assert_array_equal(servers.advance(5), ring.advance(5))
    size = servers.statistics["bytes"]["pushed"] // (5 * 3)
    assert ring.statistics["bytes"]["pushed"] == 5 * 3 * -(-2 * 2 * size // 3)


def test_an_all_reduce_takes_as_long_as_a_ring() -> None:
    costs = {
        "gradient": {"overhead_s": 0.25},
        "workers": {"latency_s": 0.5, "bandwidth_bytes_per_s": [4000.0, 1000.0]},
        "servers": {"bandwidth_bytes_per_s": 1.0, "overhead_s": 0.125},
    }
    cluster = AllReduceCluster(cluster_of(costs, "here"), 3, (600,), batch_size=1)
    timing = time_rules(Rules(sync(), updates=4), cluster)
    # 4 hops of 200 bytes, each from one interface to another, by the slower of the links.
    ring_s = 4 * (200 / 1000 + 2 * 0.5)
    assert timing.time_s == pytest.approx(4 * 0.25 + 3 * (ring_s + 0.125))


@pytest.mark.parametrize(
    ("length", "stopped_by"),
    [("examples = 64", "examples"), ("time_s = 1e-9", "time_s"), ("wall_s = 1e-9", "wall_s")],
)
def test_a_training_ends_where_the_spec_says(tmp_path: Path, length: str, stopped_by: str) -> None:
    changed = {"updates = 6": length if "examples" in length else f"updates = 6\n{length}"}
    file = spec_file(tmp_path, one_block('scheme = ["async"]'), **changed)
    for _, record in records(file):
        assert record.measured.stopped_by == stopped_by
        if stopped_by == "examples":
            assert record.measured.updates == 4
        else:  # at the first update that is found to be too late
            assert record.measured.updates < 6
        assert "error_rate" in record.measured.test


def test_a_target_error_ends_a_training(tmp_path: Path) -> None:
    file = spec_file(
        tmp_path, one_block("workers = [2]"), **{"updates = 6": "updates = 6\ntarget_error = 0.999"}
    )
    for _, record in records(file):
        assert record.measured.stopped_by == "target"
        assert record.measured.updates == 3


def test_a_diverged_cell_is_a_row_with_its_reason(tmp_path: Path) -> None:
    file = spec_file(tmp_path, one_block("learning_rate = [1e30]", 'engine = "mesh", workers = 1'))
    for _, record in records(file):
        assert record.status == "diverged"
        assert "at update" in record.reason
        assert "\n" not in record.reason


def test_a_failed_cell_is_a_row_with_its_reason(tmp_path: Path) -> None:
    file = spec_file(tmp_path, one_block("batch_size = [5000]"))
    for _, record in records(file):
        assert record.status == "failed"
        assert "the batch size is 5000" in record.reason


def test_a_learning_rate_is_tuned_on_a_part_of_the_training_examples(tmp_path: Path) -> None:
    tuning = "\n[tuning]\nvalues = [1e-6, 0.05]\nexamples_share = 0.5\n"
    file = spec_file(
        tmp_path, one_block('learning_rate = ["tuned"]') + tuning, **{"updates = 6": "updates = 40"}
    )
    bench = Workbench(file.spec.measuring)
    for cell in cells_of(file):
        trial, final = bench.plan(cell, 0.1, is_trial=True), bench.plan(cell, 0.1)
        assert trial.updates == 20
        assert final.updates == 40
        held = len(trial.dataset.test)
        assert held == round(0.1 * len(final.dataset.train))
        assert held + len(trial.dataset.train) == len(final.dataset.train)
        record = bench.record(cell)
        assert record is not None
        assert record.measured.tuned == {"learning_rate": 0.05}
        assert [each["learning_rate"] for each in record.measured.trials] == [1e-6, 0.05]


def test_the_test_part_has_no_say_in_tuning(tmp_path: Path) -> None:
    tuning = "\n[tuning]\nvalues = [1e-6, 0.05]\n"
    file = spec_file(tmp_path, one_block('learning_rate = ["tuned"]') + tuning)
    bench = Workbench(file.spec.measuring)
    cell = cells_of(file)[0]
    trial, final = bench.plan(cell, 0.1, is_trial=True), bench.plan(cell, 0.1)
    rows = {row.tobytes() for row in final.dataset.test.x}
    own = {row.tobytes() for row in final.dataset.train.x}
    assert not rows & {row.tobytes() for row in trial.dataset.test.x} - own


def test_a_pilot_says_what_cells_cost(tmp_path: Path) -> None:
    file = spec_file(tmp_path, one_block("batch_size = [8, 5000]"))
    found = estimate(cells_of(file), file.spec, limit_s=0.0)
    assert [each.seconds is None for each in found] == [False, False, True, True]
    assert found[0].seconds is not None
    assert found[1].seconds is not None
    assert found[0].seconds > found[1].seconds > 0  # the second compiles nothing
    assert "5000" in found[-1].reason
