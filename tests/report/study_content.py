"""A study that nobody ran, as the content of its page."""

from dataclasses import replace
from pathlib import Path

from distvi.report.study import PageContent, write_page
from distvi.runs.answers import ClaimAnswer
from distvi.runs.records import Record


def claim(records: list[Record], **changes: object) -> ClaimAnswer:
    cells = tuple(r.cell for r in records if r.settings.get("workers") == 8)
    answer = ClaimAnswer(
        "slower", "sync is slower than async", "holds", 10.25, 9.0, 11.5, "s", 1e-6, 3e-6, cells
    )
    return replace(answer, **changes)  # type: ignore[arg-type]


def content(records: list[Record], **changes: object) -> PageContent:
    made = PageContent(
        title="Schemes", records=records, claims=(claim(records),), advice=("Use sync.",),
        methods={"Intervals": "Student's t."}, machine={"processor": "two cores"},
        spec_toml="[grid]\nworkers = [1, 2]\n", target_errors=(0.04, 0.1),
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def page_of(folder: Path, made: PageContent) -> str:
    write_page(folder / "page.html", made)
    return (folder / "page.html").read_text()
