"""The document behind the page: what it says of a run, and that it stays small."""

import json
from pathlib import Path
from typing import Any

import pytest

from distvi.dashboard import Dashboard, dashboard
from distvi.dashboard.curve import MOST_POINTS
from distvi.dashboard.dashboard import FRESH_S, MOST_MESSAGES
from distvi.dashboard.state import MOST_ROWS, MOST_SPANS, MOST_SPANS_EACH
from distvi.engines.trace import Span
from distvi.errors import InputError
from distvi.runs.folder import Run
from tests.progress.fake_engines import METRICS, Bare, Scene, run_folder


class Clock:
    """Stands still until it is set."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(clock: Clock, tmp_path: Path) -> Dashboard:
    """A run at update 612 of 1000."""
    board = Dashboard(clock=clock)
    board.attached(Scene())
    board.started(run_folder(tmp_path / "digits-0001"), 0, 1000)
    return board


def state(board: Dashboard) -> dict[str, Any]:
    return json.loads(board.state_json())


def test_what_it_says_of_a_run(board: Dashboard) -> None:
    board.reported(600, 1.25, 3.0)
    board.tested(600, METRICS)
    board.warned("worker 1 was killed by SIGKILL")
    said = state(board)
    watched = said.pop("processes")
    assert said == {
        "run": {"name": "digits-0001", "dataset": "digits", "model": "deep_gp", "engine": "local"},
        "status": "running",
        "update": 612,
        "updates": 1000,
        "elapsed_s": 0.0,
        "left_s": None,
        "training": [{"update": 600, "training_time_s": 3.0, "neg_elbo": 1.25}],
        "tests": [{"update": 600, **METRICS}],
        "messages": [{"update": 600, "message": "worker 1 was killed by SIGKILL"}],
        "measured": {
            "scheme": "async",
            "clock": "wall",
            "gradients_used": 612,
            "gradients_refused": 4,
            "bytes": {"pushed": 0, "pulled": 0},
            "staleness": {"0": 100, "1": 500, "2": 12},
        },
    }
    assert watched["workers_in_all"] == 2
    assert watched["workers"][1]["state"] == "waiting"
    assert watched["servers"][0]["bytes"] == 2_210_304
    assert watched["spans"][0] == ["server", 0, "apply", 2.0, 1.75]  # before the last end
    assert [span[2] for span in watched["spans"][1:3]] == ["save", "compute"]
    assert watched["spans"][2] == ["worker", 1, "compute", 0.5, 0.0]


def test_before_the_run_has_begun(clock: Clock) -> None:
    said = state(Dashboard(clock=clock))
    assert (said["status"], said["run"], said["elapsed_s"]) == ("starting", {}, None)


def test_an_engine_without_processes(board: Dashboard) -> None:
    board.attached(Bare())
    said = state(board)
    assert said["processes"] is None
    assert said["measured"]["staleness"] == {}


def test_numbers_that_are_not_finite_are_null(board: Dashboard) -> None:
    board.reported(1, float("nan"), 0.1)
    board.tested(1, {"rmse": float("inf"), "mnll": 1.0})
    said = state(board)
    assert said["training"][0]["neg_elbo"] is said["tests"][0]["rmse"] is None


def test_it_stays_small_however_long_and_wide_the_run(board: Dashboard, clock: Clock) -> None:
    engine = Scene(workers=300, servers=100, gradients=100)
    board.attached(engine)
    for update in range(20_000):
        board.reported(update, 1.2345678901234567, update * 0.1234567890123)
        board.tested(update, METRICS)
        board.warned(f"worker {update} was killed by SIGKILL")
    said = state(board)
    assert len(said["training"]) <= MOST_POINTS
    assert len(said["tests"]) <= MOST_POINTS
    assert said["training"][-1]["update"] == said["tests"][-1]["update"] == 19_999
    assert [message["update"] for message in said["messages"]][-1] == 19_999
    assert len(said["messages"]) == MOST_MESSAGES
    watched = said["processes"]
    assert len(watched["workers"]) == len(watched["servers"]) == MOST_ROWS
    assert watched["workers_in_all"] == 300
    assert len(watched["spans"]) <= MOST_SPANS
    assert len(board.state_json()) < 400_000


def test_spans_are_the_newest(board: Dashboard) -> None:
    engine = Scene(workers=1, servers=1)
    spans = tuple(Span("worker", 0, "compute", at, at + 0.5, at) for at in range(2 * MOST_SPANS))
    engine.now = engine.now._replace(spans=spans)
    board.attached(engine)
    told = state(board)["processes"]["spans"]
    assert [end_s for *_, end_s in told] == list(range(2 * MOST_SPANS_EACH))


def test_many_browsers_make_no_more_work_than_one(board: Dashboard, clock: Clock) -> None:
    first = board.state_json()
    board.reported(613, 1.0, 3.0)
    assert board.state_json() is first
    clock.now_s += FRESH_S
    assert b'"update": 613' in board.state_json()


def test_the_time_left_is_told_at_the_pace_since_the_first_look(
    board: Dashboard, clock: Clock
) -> None:
    engine = Scene()
    board.attached(engine)
    engine.update = 0
    clock.now_s += 60  # programs are compiled
    assert state(board)["left_s"] is None
    for update in (10, 110):
        engine.update = update
        clock.now_s += 2
        left_s = state(board)["left_s"]
    assert left_s == pytest.approx(890 * 2 / 100)


def test_a_run_that_goes_on_shows_its_curves_so_far(clock: Clock, tmp_path: Path) -> None:
    path = run_folder(tmp_path / "run")
    rows = [
        {"update": update, "epoch": 1.0, "examples": 9, "training_time_s": 0.1 * update}
        for update in (5, 10, 15)
    ]
    for row in rows:
        row |= {"neg_elbo": 1.0 / row["update"], "learning_rate": 0.1}
    rows[1] |= {"test_error_rate": 0.5, "test_mnll": 1.5}
    Run(path).write_metrics(rows)
    board = Dashboard(clock=clock)
    board.attached(Bare())
    board.started(path, 10, 20)
    said = state(board)
    assert [point["update"] for point in said["training"]] == [5, 10]
    assert said["tests"] == [{"update": 10, "error_rate": 0.5, "mnll": 1.5}]


@pytest.mark.parametrize(
    ("update", "error", "status"),
    [
        (1000, None, "done"),
        (612, None, "interrupted"),
        (612, KeyboardInterrupt(), "interrupted"),
        (612, ValueError("no worker is left"), "failed"),
    ],
)
def test_an_open_page_sees_how_the_run_ended(
    board: Dashboard,
    monkeypatch: pytest.MonkeyPatch,
    update: int,
    error: BaseException | None,
    status: str,
) -> None:
    engine = Scene()
    engine.update = update
    board.attached(engine)
    looks = []
    monkeypatch.setattr(dashboard.time, "sleep", lambda _: looks.append(state(board)))
    board.__enter__()
    state(board)  # somebody looks
    board.__exit__(None if error is None else type(error), error)
    (last,) = looks if not isinstance(error, KeyboardInterrupt) else [state(board)]
    assert last["status"] == status
    assert last["update"] == update
    assert [message["message"] for message in last["messages"]] == [str(error)] * (
        status == "failed"
    )


@pytest.mark.parametrize("address", ["", "digits", "70000", "-1", ":80", "localhost:", "1.5", "٣"])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(InputError, match="expected PORT or HOST:PORT, such as 8080"):
        Dashboard(address)
