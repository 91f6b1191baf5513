"""``distvi study``: from a spec to its page."""

from pathlib import Path

import pytest

from tests.small_run import Distvi
from tests.small_study import write_study

CLAIMS = """
[[claims]]
name = "C3"
says = "error_rate of async exceeds that of sync"
"""
BLOCKS = """
[[blocks]]
name = "main"
axes = { scheme = ["sync", "async"] }
"""


@pytest.mark.xdist_group("studies")
def test_from_a_spec_to_its_page(distvi: Distvi, tmp_path: Path) -> None:
    spec = write_study(tmp_path / "small.toml", BLOCKS + CLAIMS)
    planned = distvi("study", "plan", spec)
    assert planned.status == 0, planned.err
    assert "4 cells of 2 shapes" in planned.out
    assert not (tmp_path / "small").exists()
    early = distvi("study", "report", tmp_path / "small")
    assert early.status == 2
    assert "holds no study" in early.err
    ran = distvi("study", "run", spec)
    assert ran.status == 0, ran.err
    assert "4 cells done, 0 diverged, 0 failed" in ran.err
    again = distvi("study", "run", spec)
    assert "4 cells done" in again.err
    reported = distvi("study", "report", tmp_path / "small", "--figures", tmp_path / "figures")
    assert reported.status == 0, reported.err
    assert "C3: " in reported.out
    page = (tmp_path / "small" / "report.html").read_text()
    assert "error_rate of async exceeds that of sync" in page
    assert {path.suffix for path in (tmp_path / "figures").iterdir()} == {".svg", ".png", ".csv"}
    advised = distvi("study", "advise", tmp_path / "small", "--target-error", "0.999")
    assert advised.status == 0, advised.err
    assert "scheme" in advised.out


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_claim_about_what_no_cell_has_is_refused(
    distvi: Distvi, tmp_path: Path, command: str
) -> None:
    text = BLOCKS + CLAIMS.replace("async", "asinc")
    found = distvi("study", command, write_study(tmp_path / "small.toml", text))
    assert found.status == 2
    assert found.err.count("\n") == 1
    assert "small.toml" in found.err
    assert "asinc" in found.err


def test_wrong_input_takes_one_line(distvi: Distvi, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    spec = write_study(tmp_path / "small.toml")
    for arguments in (
        ("plan", tmp_path / "absent.toml"),
        ("run", tmp_path / "absent.toml"),
        ("run", spec, "--out", tmp_path / "file"),
        ("report", tmp_path),
        ("advise", tmp_path),
    ):
        found = distvi("study", *arguments)
        assert found.status == 2, arguments
        assert found.err.count("\n") == 1, found.err
