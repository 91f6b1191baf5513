"""The page as a browser draws it."""

import html
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from distvi import api
from distvi.dashboard import Dashboard
from distvi.engines import Engine
from distvi.engines.coordinator.engine import FleetEngine
from distvi.progress import Callbacks, Silent
from tests.browser import show
from tests.progress.fake_engines import METRICS, Bare, Scene, run_folder
from tests.small_run import MODEL, UPDATES, write_table

LOOK_MS = 2500  # of the page's own time: a few polls

Look = Callable[[str], str]


@pytest.fixture(autouse=True)
def no_last_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distvi.dashboard.dashboard.LAST_LOOK_S", 0.0)


@pytest.fixture
def look(tmp_path: Path) -> Look:
    """Opens an address and gives the page back as it is after a while."""
    profile = tmp_path / "browser"
    return lambda url: show(url, profile, virtual_time_ms=LOOK_MS).page


def words(page: str) -> str:
    """What stands on the page, without the script that wrote it."""
    body = re.sub(
        r"<(script|style|noscript)>.*?</\1>|hidden=\"\".*?</section>", "", page, flags=re.S
    )
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def drawn(engine: Engine, folder: Path, look: Look) -> tuple[str, str]:
    """The page of a run that stands at update 612 of 1000, and its words."""
    with Dashboard() as board:
        board.attached(engine)
        board.started(run_folder(folder), 0, 1000)
        board.reported(300, 1.5, 1.5)
        board.reported(600, 1.2345, 3.0)
        board.tested(600, METRICS)
        board.warned("worker 1 was killed by <b>SIGKILL</b>")
        page = look(board.url)
    return page, words(page)


def test_a_run_with_processes(tmp_path: Path, look: Look) -> None:
    page, said = drawn(Scene(), tmp_path / "digits-0001", look)
    assert "<title>61 % · digits-0001 · distvi</title>" in page
    assert "digits-0001 running digits · deep_gp · local · async · 2 workers · 1 server" in said
    assert "612 of 1,000 updates" in said
    assert "ELBO per example −1.234 test error 2.81 % test MNLL 0.0913" in said
    assert "gradients used 612 4 refused" in said
    assert "0 computing 100 1,204 0 9.97 ms – 1 waiting 101 1,201 1 9.99 ms 1" in said
    assert "0 ready 90 612 2.21 MB 5.41 GB 2.45 ms –" in said
    assert "Staleness of gradients mean 0.8562 updates 16 % 0 82 % 1 2 % 2" in said
    assert "worker 0 worker 1 server 0" in said
    assert "update 600 worker 1 was killed by <b>SIGKILL</b>" in said
    assert 'aria-label="neg_elbo at 2 points; the last is 1.234 at update 600"' in page
    assert 'aria-valuenow="612"' in page


def test_everything_that_takes_time_has_its_colour(tmp_path: Path, look: Look) -> None:
    page, said = drawn(Scene(), tmp_path / "digits-0001", look)
    assert said.count("save") == 1
    for what in ("wait", "pull", "compute", "push", "apply", "save"):
        assert f'fill="var(--{what})"' in page
    assert 'd="undefined' not in page


def test_an_engine_without_processes(tmp_path: Path, look: Look) -> None:
    _, said = drawn(Bare(), tmp_path / "run", look)
    assert "train: −ELBO per example 1.234" in said
    for absent in ("Processes", "Staleness", "Who did what"):
        assert absent not in said


def test_many_processes(tmp_path: Path, look: Look) -> None:
    page, said = drawn(Scene(workers=300, servers=20), tmp_path / "run", look)
    assert "300 workers · 20 servers" in said
    assert "the first 64 of 300 workers" in said
    assert "worker 23 server 0" in said  # lanes of the timeline
    assert page.count("<tr>") == 2 + 64 + 20


def test_names_are_never_markup(tmp_path: Path, look: Look) -> None:
    name = "<img src=x onerror=document.title=`mine`>&amp;"
    page, said = drawn(Scene(), tmp_path / name, look)
    assert f"{name} running" in said
    assert "<img" not in page
    assert "<title>mine" not in page


class Visits(Silent):
    """Does something after some updates, while the run goes on."""

    def __init__(self, visits: dict[int, Callable[[FleetEngine], None]]) -> None:
        self._visits, self.warnings = visits, []

    def attached(self, engine: Engine) -> None:
        assert isinstance(engine, FleetEngine)
        self._engine = engine

    def reported(self, update: int, neg_elbo: float, training_time_s: float) -> None:
        if update in self._visits:
            self._visits[update](self._engine)

    def warned(self, message: str) -> None:
        self.warnings.append(message)


def test_a_run_in_progress_whose_worker_is_replaced(tmp_path: Path, look: Look) -> None:
    pages: list[str] = []
    board = Dashboard()
    visits = Visits(
        {
            3: lambda engine: os.kill(engine.status().workers[0].process, signal.SIGKILL),
            UPDATES - 1: lambda engine: pages.append(look(board.url)),
        }
    )
    api.train(
        write_table(tmp_path / "numbers.csv"), target="y", out=tmp_path / "run",
        progress=Callbacks(board, visits), model=MODEL, report_every=1, evaluate_every=1,
        engine="local", workers=1, servers=1, scheme="async",
        updates=UPDATES, batch_size=16, seed=3,
    )  # fmt: skip
    (warning,) = visits.warnings
    assert re.match(r"worker 0 \(process \d+\) was killed by SIGKILL", warning)
    said = words(pages[0])
    assert "run running numbers.csv · deep_gp · local · async · 1 worker · 1 server" in said
    assert f"{UPDATES - 1} of {UPDATES} updates" in said
    assert " test: RMSE " in said
    assert f'aria-label="rmse at {UPDATES - 2} points' in pages[0]
    assert "compute pull push wait apply save worker 0 server 0" in said
    assert re.search(r" 0 (waiting|computing) \d+ \d+ 0 \S+ m?s 1 ", said)
    # The worker may have delivered its next gradient before it was killed.
    assert any(f"update {update} {warning}" in said for update in (3, 4))
