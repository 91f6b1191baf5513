"""The live view, drawn to consoles of known width."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from distvi.progress import Lines, Live
from tests.progress.fake_engines import METRICS, Bare, Scene


def live(engine: Bare, width: int = 80) -> tuple[Live, Console]:
    console = Console(file=io.StringIO(), record=True, width=width, force_terminal=True)
    view = Live(console)
    view.attached(engine)
    view.started(Path("runs/digits-0001"), 0, 1000)
    view.reported(600, 1.2345, 3.0)
    view.tested(600, METRICS)
    return view, console


def written(console: Console) -> str:
    """What went to the terminal, without colours and movements."""
    assert isinstance(console.file, io.StringIO)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())


def drawn(engine: Bare, width: int = 80) -> list[str]:
    view, console = live(engine, width)
    console.print(view.draw())
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_every_process_has_a_line_above_the_bar() -> None:
    *lines, bar = drawn(Scene(workers=2, servers=2))
    assert bar.startswith("digits-0001 ━━━━━━━━")
    assert re.search(r"━━━━━━━  612/1000 \S+ left$", bar)
    assert len(bar) == 78
    assert lines == [
        "● worker 0  computing       1,204  gradients  staleness 0",
        "○ worker 1  waiting         1,201  gradients  staleness 1     replaced 1×",
        "● server 0  ready             612  updates    moved 5.4 GB",
        "● server 1  ready             612  updates    moved 5.4 GB",
        "ELBO -1.234 per example   test error 2.81%, MNLL 0.0913",
    ]


def test_the_bar_moves_between_reports() -> None:
    assert " 612/1000 " in drawn(Scene())[-1]


def test_many_processes_share_lines() -> None:
    *lines, _, _ = drawn(Scene(workers=64, servers=8))
    assert lines[:6] == drawn(Scene(workers=7))[:6]
    assert lines[6] == "  58 more   12 waiting     63,829  gradients  staleness ≤ 3"
    assert lines[-1] == "  5 more    5 ready           612  updates    moved 27.1 GB"
    assert len(lines) == 11


def test_a_worker_without_gradients_has_no_staleness() -> None:
    engine = Scene()
    engine.now.workers[0].staleness = None
    assert drawn(engine)[0].endswith("staleness –")


@pytest.mark.parametrize("width", [40, 60, 80, 200])
@pytest.mark.parametrize("workers", [1, 64])
def test_no_line_is_wider_than_the_terminal(width: int, workers: int) -> None:
    lines = drawn(Scene(workers=workers, servers=4), width)
    assert len(lines) == min(workers, 7) + 4 + 2
    assert max(map(len, lines)) <= width


def test_an_engine_without_processes_has_the_bar_alone() -> None:
    (bar,) = drawn(Bare())
    assert bar.startswith("digits-0001 ")
    assert " 600/1000 " in bar
    assert bar.rstrip().endswith("left ELBO -1.234 error 2.81%, MNLL 0.0913")


def test_incidents_stand_above_what_is_live() -> None:
    view, console = live(Scene())
    with view:
        view.warned("worker 1 [process 4711] was killed by SIGKILL")
    text = written(console)
    incident = "distvi: warning: worker 1 [process 4711] was killed by SIGKILL\n"
    before, after = text.split(incident)
    assert "computing       1,204  gradients" in before + after
    assert "■ worker 0  ended           1,204  gradients" in after
    assert "SIGKILL" not in before + after


@pytest.mark.parametrize("height", [6, 12, 30])
def test_the_numbers_and_the_bar_are_seen_however_low_the_terminal(height: int) -> None:
    console = Console(file=io.StringIO(), record=True, width=60, height=height, force_terminal=True)
    view = Live(console)
    view.attached(Scene(workers=7, servers=4))
    view.started(Path("runs/digits-0001"), 0, 1000)
    console.print(view.draw())
    *lines, numbers, bar = [line.rstrip() for line in console.export_text().splitlines()]
    assert len(lines) + 2 < height
    assert numbers.startswith("ELBO ")
    assert " 612/1000 " in bar
    assert len(bar) <= 58  # what is typed, such as ^C, begins no line
    if height == 6:
        assert lines[1].startswith("  6 more")
        assert lines[2].startswith("  4 in all  ")


def test_nothing_was_left_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    Lines().finished(Path("run"), {"training_time_s": 1.0, "test": METRICS})
    assert capsys.readouterr().err.splitlines() == [
        "nothing was left to do: it was done in 1.0 s of training: error 2.81%, MNLL 0.0913",
        "it is in run",
    ]
