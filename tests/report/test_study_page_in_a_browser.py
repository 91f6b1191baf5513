"""The report of a study as a browser shows it: sorting, downloads, and how fast it opens."""

import html
import json
import re
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from distvi.report.study.tables import csv_of, tables_of
from tests.browser import Shown, show
from tests.report.study_content import content, page_of
from tests.study_records import study

pytestmark = pytest.mark.xdist_group("study-page")  # one process makes the page once


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return page_of(tmp_path_factory.mktemp("page"), content(study()))


@pytest.fixture
def browse(tmp_path: Path) -> Callable[..., Shown]:
    """Shows a page after a script ran in it; the script leaves its answer in the title."""

    def browsed(page: str, script: str = "", *, wait_ms: int | None = None) -> Shown:
        path = tmp_path / "browsed.html"
        if script:  # the page's own policy lets no other script run
            page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
            page = page.replace("</body>", f"<script>{script}</script></body>")
        path.write_text(page)
        return show(path.as_uri(), tmp_path / "browser", virtual_time_ms=wait_ms)

    return browsed


def answer(shown: Shown) -> object:
    (title,) = re.findall(r"<title>(.*?)</title>", shown.page, flags=re.S)
    return json.loads(html.unescape(title))


def test_no_complaints(page: str, browse: Callable[..., Shown]) -> None:
    shown = browse(page)
    assert shown.console == []
    assert shown.page.count("<svg") == page.count("<svg")


def test_a_complaint_would_be_seen(page: str, browse: Callable[..., Shown]) -> None:
    injected = page.replace("</body>", "<script>document.title = 'mine'</script></body>")
    shown = browse(injected)
    assert (
        "Schemes · distvi</title>" in shown.page
    )  # the page's policy let no stranger's script run
    assert any("Content Security Policy" in line for line in shown.console)


SORTED = """
const header = document.querySelector('#settings th[data-csv="virtual_time_s"]');
const column = () => [...document.querySelector("#settings").tBodies[0].rows].map(
  (row) => row.cells[header.cellIndex].textContent);
const seen = [];
for (let i = 0; i < 2; i++) {
  header.querySelector("button").click();
  seen.push([header.getAttribute("aria-sort"), column()]);
}
document.title = JSON.stringify(seen);
"""


def test_a_click_on_a_heading_sorts(page: str, browse: Callable[..., Shown]) -> None:
    seen = answer(browse(page, SORTED, wait_ms=500))
    assert isinstance(seen, list)
    (up, ascending), (down, descending) = seen
    assert (up, down) == ("ascending", "descending")
    assert ascending[-1] == descending[-1] == "–"  # the setting that diverged has no time
    numbers = [float(text) for text in ascending[:-1]]
    assert len(numbers) == 17
    assert numbers == sorted(numbers)
    assert [float(text) for text in descending[:-1]] == numbers[::-1]


SAVED = """
const seen = {};
let done = false;
URL.createObjectURL = (blob) => { seen.blob = blob; return "#"; };
HTMLAnchorElement.prototype.click = async function () {
  const bytes = new Uint8Array(await seen.blob.arrayBuffer());
  const isImage = seen.blob.type === "image/png";
  const text = isImage ? "" : new TextDecoder().decode(bytes);
  const size = isImage ? await createImageBitmap(seen.blob) : { width: 0, height: 0 };
  document.title = JSON.stringify(
    [this.download, seen.blob.type, text, [...bytes.slice(0, 4)], size.width, size.height]);
  done = true;
};
document.querySelector('SELECTOR').click();
// The page's time flies while images are made beside it: this slows it down.
const waiting = setInterval(() => {
  for (let i = 0, sum = 0; i < 1e7; i++) sum += i;
  if (done) clearInterval(waiting);
}, 20);
"""


def saved(selector: str, page: str, browse: Callable[..., Shown]) -> list:
    found = answer(browse(page, SAVED.replace("SELECTOR", selector), wait_ms=100_000))
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("table", ["claims", "settings", "lost", "cells"])
def test_a_table_is_saved_as_csv(table: str, page: str, browse: Callable[..., Shown]) -> None:
    name, kind, text, *_ = saved(f'[data-csv-of="{table}"]', page, browse)
    assert (name, kind) == (f"{table}.csv", "text/csv")
    assert text == csv_of(tables_of(content(study()))[table])


def test_a_figure_is_saved_as_svg(page: str, browse: Callable[..., Shown]) -> None:
    name, kind, text, *_ = saved('[data-svg-of="front"]', page, browse)
    assert (name, kind) == ("front.svg", "image/svg+xml")
    assert text.startswith("<svg xmlns=")
    assert "var(" not in text
    assert "#0072b2" in text


def test_a_figure_is_saved_as_png(page: str, browse: Callable[..., Shown]) -> None:
    name, kind, _, first, width, height = saved('[data-png-of="front"]', page, browse)
    assert (name, kind, bytes(first)) == ("front.png", "image/png", b"\x89PNG")
    assert (width, height) == (3 * 480, 3 * 380)


def test_a_thousand_cells_open_fast(tmp_path: Path, browse: Callable[..., Shown]) -> None:
    records = study(
        3, scheme=["sync", "async", "mesh", "k-sync"], workers=[1, 2, 4, 8, 16, 32],
        batch_size=[100, 200, 500], learning_rate=[0.001, 0.003, 0.01, 0.03, 0.1],
    )  # fmt: skip
    assert len(records) == 1080
    page = page_of(tmp_path, content(records))
    assert len(page.encode()) < 5e6
    before_s = children_cpu_s()
    assert browse("<!doctype html><title>nothing</title>").console == []
    between_s = children_cpu_s()
    assert browse(page).console == []
    opened_s = children_cpu_s() - between_s - (between_s - before_s)
    assert opened_s < 3.0  # of the processor's time: others may use it too


def children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
