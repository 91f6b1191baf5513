"""The report of a study: what stands in it, and which cells its figures show."""

import csv
import html
import io
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from distvi.report.study import PageContent, picture, write_figures
from distvi.report.study.drawing import svg_of
from distvi.report.study.front import best
from distvi.report.study.measures import by_clock, examples_per_s, main_metric, time_to
from distvi.report.study.page import plates_of
from distvi.report.study.slices import along
from distvi.report.study.speed import speedups
from distvi.report.study.statistics import front_of, mean_of, median_band
from distvi.report.study.tables import tables_of
from distvi.report.study.words import number, tick
from distvi.runs.records import Measured, Record, Value
from tests.report.study_content import claim, content, page_of
from tests.study_records import record, study

pytestmark = pytest.mark.xdist_group("study-page")  # one process makes the page once

HOSTILE = "<script>document.title='mine'</script>&amp;\"'$x$"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return page_of(tmp_path_factory.mktemp("page"), content(study()))


# What stands in it


def test_every_figure_and_table_is_there(page: str) -> None:
    plates = plates_of(content(study()))
    assert [plate.id.removeprefix("figures-") for plate in plates] == [
        "front", "axis-scheme", "axis-workers", "curves", "targets", "speedup", "staleness",
        "gradients", "idle",
    ]  # fmt: skip
    ids = [drawing.id for plate in plates for drawing in plate.drawings]
    assert {"time-by-workers", "error-rate-by-scheme", "curve-bytes-4-workers", "front"} < set(ids)
    assert {"target-4", "speedup-workers", "staleness-1-worker", "idle-by-workers"} < set(ids)
    for id in ids:
        assert f'<figure id="{id}"' in page
    for id in ("claims", "best", "settings", "targets-reached", "lost", "cells"):
        assert f'<table id="{id}"' in page


def test_identifiers_are_unique_and_links_have_ends(page: str) -> None:
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    links = set(re.findall(r'href="#([^"]*)"', page))
    assert links <= set(ids)


def test_nothing_is_fetched(page: str) -> None:
    names = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?://[^\"\s]*", page)) <= names
    assert "src=" not in page.replace("image.src", "")
    assert not re.search(r"url\((?!#)|@import", page)


def test_lost_cells_are_listed_and_marked(page: str) -> None:
    lost = [r for r in study() if r.status != "done"]
    assert len(lost) == 3
    rows = tables_of(content(study()))["lost"].rows
    assert [row.cells[0].text for row in rows] == [r.cell for r in lost]
    assert page.count("the ELBO was not finite at update 17") == 3
    assert '<span class="badge diverged">diverged</span>' in page
    (line,) = [x for x in along(study(), "workers").cells if x.label == "async"]
    assert len(along(study(), "workers").cells[line][32]) == 3
    curves = next(p for p in plates_of(content(study())) if p.id == "figures-curves")
    assert "async (diverged)" in "".join(svg_of(drawing) for drawing in curves.drawings)


def test_claims_link_to_the_settings_they_rest_on(page: str) -> None:
    numbers = [int(n) for n in re.findall(r'href="#setting-(\d+)"', page.split("Advice</h2>")[0])]
    rows = tables_of(content(study()))["settings"].rows
    assert numbers == [4, 10, 16]
    assert [rows[n - 1].cells[2].text for n in numbers] == ["8", "8", "8"]
    assert "&lt; 0.0001" in page


def test_names_are_never_markup(tmp_path: Path) -> None:
    records = [record({"scheme": s, HOSTILE: n}, 0) for s in ("sync", HOSTILE) for n in (1, 2)]
    records.append(replace(records[0], status="failed", reason=HOSTILE, cell=HOSTILE, seed=1))
    text: dict[str, str] = {HOSTILE: HOSTILE}
    answer = claim(records, name=HOSTILE, text=HOSTILE, unit=HOSTILE, note=HOSTILE)
    page = page_of(
        tmp_path,
        PageContent(HOSTILE, records, (answer,), (HOSTILE,), text, text, HOSTILE, (0.1,), HOSTILE),
    )
    assert page.count("<script") == 1
    assert "<script>document" not in page
    assert (
        f"<h1>{html.escape(HOSTILE).replace('&quot;', '&#34;').replace('&#x27;', '&#39;')}</h1>"
        in page
    )


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    made = [content(study(2, scheme=["sync", "async"], workers=[1, 8])) for _ in range(2)]
    assert page_of(tmp_path, made[0]) == page_of(tmp_path, made[1])


def test_a_study_of_nothing(tmp_path: Path) -> None:
    page = page_of(tmp_path, PageContent("Nothing yet", []))
    assert "<h1>Nothing yet</h1>" in page
    with pytest.raises(ValueError, match="one setting alone"):
        picture(PageContent("Nothing yet", []))


def test_one_setting_and_one_seed(tmp_path: Path) -> None:
    page = page_of(tmp_path, content([record({"workers": 4}, 0)], claims=()))
    assert "The study varies neither workers nor servers." in page
    assert '<table id="settings"' in page


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_a_study_without_one_training_that_was_done(tmp_path: Path, status: str) -> None:
    records = [replace(r, status=status, measured=Measured()) for r in study(seeds=1)]  # type: ignore[arg-type]
    page = page_of(tmp_path, content(records))
    assert page.count(f'<span class="badge {status}">') == 3 * len(records)


def test_a_regression() -> None:
    def regression(r: Record) -> Record:
        m = r.measured
        curve = {k.replace("error_rate", "rmse"): v for k, v in m.curve.items()}
        test = {k.replace("error_rate", "rmse"): v for k, v in m.test.items()}
        return replace(r, measured=replace(m, test=test, curve=curve))

    made = content([regression(r) for r in study(seeds=2)])
    plates = {plate.id: plate for plate in plates_of(made)}
    assert plates["figures-targets"].drawings[0].title == "Time to 0.04 test RMSE"
    assert ">test RMSE<" in svg_of(plates["figures-front"].drawings[0])


def test_chosen_learning_rates_are_shown() -> None:
    def tuned(r: Record) -> Record:
        rate = 0.003 * (1 + int(r.settings["workers"]))
        return replace(r, measured=replace(r.measured, tuned={"learning_rate": rate}))

    made = content([tuned(r) for r in study()])
    (row, *_), columns = tables_of(made)["settings"].rows, tables_of(made)["settings"].columns
    place = [column.csv for column in columns].index("chosen_learning_rate")
    assert row.cells[place].text == "0.006"
    drawings = [d for plate in plates_of(made) for d in plate.drawings]
    (drawn,) = [d for d in drawings if d.id == "tuned-learning-rate-by-workers"]
    assert ">0.006<" in svg_of(drawn) or ">0.01<" in svg_of(drawn)


def test_clocks_are_never_mixed() -> None:
    wall = [replace(r, measured=replace(r.measured, clock="wall")) for r in study(seeds=1)]
    records = [
        replace(r, settings={**r.settings, "engine": name}, cell=f"{r.cell}{name}")
        for name, some in (("local", wall), ("simulated", study(seeds=1)))
        for r in some
    ]
    groups = by_clock(records)
    assert {c: {r.settings["engine"] for r in rs} for c, rs in groups.items()} == {
        "wall": {"local"}, "virtual": {"simulated"},
    }  # fmt: skip
    plates = {plate.id: plate for plate in plates_of(content(records))}
    time = [d for d in plates["figures-axis-workers"].drawings if d.title.startswith("Training")]
    labels = [re.findall(r">((?:virtual )?time \(s\))<", svg_of(drawing)) for drawing in time]
    assert labels == [["time (s)"], ["virtual time (s)"]]
    assert "On the wall clock" in plates["figures-axis-workers"].caption
    engine = plates["figures-axis-engine"]  # varied between clocks alone
    assert [d.id for d in engine.drawings] == ["error-rate-by-engine", "mnll-by-engine"]
    assert "Each value has its own clock" in engine.caption


# Which cells a figure shows


def test_what_is_not_drawn_is_held_and_said() -> None:
    records = study(2, scheme=["sync", "mesh"], workers=[1, 2, 4], batch_size=[10, 20, 30, 40, 50])
    extra = [record({"scheme": "sync", "workers": 1, "batch_size": 99, "block": 2}, 0)]
    cut = along([*records, *extra], "workers")
    assert cut.split == ("scheme",)
    assert cut.held["batch_size"] == 10
    assert "Held: batch size 10." in cut.words
    assert {r.settings["batch_size"] for r in cut.records} == {10}
    assert [len(cells) for line in cut.cells.values() for cells in line.values()] == [2] * 6


def test_lines_of_two_settings() -> None:
    records = study(1, scheme=["sync", "mesh"], servers=[1, 2], workers=[1, 2, 4])
    labels = [line.label for line in along(records, "workers").cells]
    assert labels == ["sync, servers 1", "sync, servers 2", "mesh, servers 1", "mesh, servers 2"]


def test_options_are_told_with_their_scheme() -> None:
    grid = [("sync", None), ("backup", 3), ("backup", 7)]
    records = [
        record({"scheme": s, "workers": w, **({} if n is None else {"scheme_options.n": n})}, 0)
        for s, n in grid
        for w in (1, 2)
    ]
    labels = [line.label for line in along(records, "workers").cells]
    assert labels == ["sync", "backup, n 3", "backup, n 7"]
    assert along(records, "scheme").values == ["sync", "backup, n 3", "backup, n 7"]
    assert along(records, "scheme_options.n").values == [3, 7]


def test_too_many_lines_are_counted() -> None:
    records = study(1, scheme=[f"s{i}" for i in range(40)], workers=[1, 2])
    cut = along(records, "workers")
    assert (len(cut.cells), cut.left_out) == (14, 26)
    assert "26 more lines without room" in cut.words


def test_speed_ups_are_the_formula() -> None:
    cut = along(study(), "workers")
    speedup = speedups(cut, examples_per_s)
    for line, row in cut.cells.items():
        for workers, cells in row.items():
            for r in cells:
                if r.status == "done":
                    power = 1.0 if line.label == "async" else 0.7
                    assert speedup(r) == pytest.approx(float(workers) ** power, rel=0.07)


# Statistics


def test_the_interval_of_a_mean_against_scipy(seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=5).tolist()
    mean = mean_of(values)
    assert mean is not None
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert mean.half_width is not None
    assert (mean.value - mean.half_width, mean.value + mean.half_width) == pytest.approx(
        (low, high), rel=1e-4
    )
    one = mean_of([2.0])
    assert one is not None
    assert (one.value, one.half_width, one.n) == (2.0, None, 1)
    assert mean_of([]) is None


points = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30)


@given(points)
def test_no_point_beats_the_front(points: list[tuple[int, int]]) -> None:
    numbers = [(float(a), float(b)) for a, b in points]
    front = {numbers[i] for i in front_of(numbers)}

    def beaten(point: tuple[float, float]) -> bool:
        return any(o != point and o[0] <= point[0] and o[1] <= point[1] for o in numbers)

    assert front == {point for point in numbers if not beaten(point)}


def test_the_median_of_curves_on_different_grids() -> None:
    curves = [(np.linspace(a, 10 + a, 7), np.linspace(a, 10 + a, 7)) for a in (0.0, 1.0, 2.0)]
    band = median_band(curves, 20, log=False)
    assert band is not None
    grid, median, low, high = band
    assert (grid[0], grid[-1]) == (2.0, 10.0)
    for column in (median, low, high):
        np.testing.assert_allclose(column, grid)  # all three are the identity
    assert (
        median_band(
            [(np.array([1.0, 2]), np.array([1.0, 2])), (np.array([3.0, 4]), np.array([3.0, 4]))],
            5,
            log=False,
        )
        is None
    )


def test_targets_that_are_never_reached() -> None:
    r, metric = study()[0], main_metric(study())
    assert time_to(r, 1e-9, metric) == math.inf
    assert time_to(r, 100.0, metric) == r.measured.curve["time_s"][0]
    table = tables_of(content(study(), target_errors=(1e-9,)))["targets-reached"]
    assert {row.cells[-1].text for row in table.rows} == {"never"}
    assert {row.cells[-2].text for row in table.rows} == {"0/3"}


def test_the_best_settings_are_a_front() -> None:
    found = best(study(), "virtual", main_metric(study()))
    times, errors = [s.time.value for s in found], [s.error.value for s in found]
    assert times == sorted(times)
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1234567.0, "1,234,567"), (0.0312, "0.0312"), (-2.5, "−2.50"), (3e-7, "3×10⁻⁷"),
     (None, "–"), (math.nan, "–"), (math.inf, "∞")],
)  # fmt: skip
def test_numbers_can_be_read(value: float | None, text: str) -> None:
    assert number(value) == text


def test_ticks_have_no_more_digits_than_they_need() -> None:
    assert [tick(v) for v in (0.003, 20000, 1.5, 100)] == ["0.003", "20,000", "1.5", "100"]


def test_numbers_in_figures_keep_their_digits() -> None:
    records = study(2, scheme=["sync"], workers=[1, 2], learning_rate=[0.00125, 0.003, 0.1])
    plate = next(p for p in plates_of(content(records)) if p.id == "figures-axis-learning-rate")
    texts = re.findall(r"<text[^>]*>([^<]*)<", svg_of(plate.drawings[0]))
    assert {"0.00125", "0.003", "0.1"} <= set(texts)


# Files


def test_figures_and_tables_as_files(tmp_path: Path) -> None:
    made = content(study(3, scheme=["sync", "async"], workers=[1, 8]))
    written = write_figures(tmp_path / "figures", made)
    names = {path.name for path in written}
    ids = [d.id for plate in plates_of(made) for d in plate.drawings]
    assert names == {f"{id}.{kind}" for id in ids for kind in ("svg", "png")} | {
        f"{table}.csv" for table in tables_of(made)
    }
    svg = (tmp_path / "figures" / "front.svg").read_text()
    assert "var(" not in svg
    assert (tmp_path / "figures" / "front.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "figures" / "settings.csv").read_text())))
    assert len(rows) == 4
    mean = np.mean([r.measured.time_s for r in made.records[:3]])
    assert float(rows[0]["virtual_time_s"]) == pytest.approx(mean)


def test_an_overview() -> None:
    assert picture(content(study())).startswith(b"\x89PNG")


def test_a_figure_shows_all_of_its_axis() -> None:
    """Blocks that have one value of it alone may have many more points than those that vary it."""
    rates = [0.001, 0.01, 0.1]
    one: dict[str, Value] = {"servers": 1, "workers": 4, "cluster": "compute-bound"}
    records = [
        record(one | {"scheme": scheme, "rate": rate, "batch_size": size}, seed)
        for scheme in ("sync", "async")
        for rate in rates
        for size in (20, 200, 2000)
        for seed in range(3)
    ]
    records += [
        record(
            {"servers": servers, "workers": 8, "cluster": cluster, "scheme": scheme}
            | {"rate": 0.01, "batch_size": 200},
            seed,
        )
        for servers in (1, 2, 8)
        for cluster in ("compute-bound", "network-bound")
        for scheme in ("sync", "async")
        for seed in range(3)
    ]
    cut = along(records, "servers")
    assert cut.values == [1, 2, 8]
    assert cut.split == ("scheme", "cluster")
    assert cut.held == {"workers": 8, "rate": 0.01, "batch_size": 200}
