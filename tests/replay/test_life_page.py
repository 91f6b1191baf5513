"""The page about a gradient's life shows the table that the machine uses, and a run's messages."""

import re
from pathlib import Path

import pytest

from distvi.aggregation import registry
from distvi.protocol import life_diagram
from distvi.testing.drawing import coordinator_diagram

ROOT = Path(__file__).parents[2]


def test_the_diagram_is_drawn_from_the_code() -> None:
    page = (ROOT / "docs/life-of-a-gradient.md").read_text(encoding="utf-8")
    assert f"```mermaid\n{life_diagram()}```" in page


def test_the_messages_are_drawn_from_a_run() -> None:
    page = (ROOT / "docs/life-of-a-gradient.md").read_text(encoding="utf-8")
    marked = f"<!-- coordinator_diagram() -->\n```mermaid\n{coordinator_diagram()}```"
    assert marked in page


def test_the_files_it_names_exist() -> None:
    page = (ROOT / "docs/life-of-a-gradient.md").read_text(encoding="utf-8")
    names = {word for word in page.split("`") if word.endswith(".py")}
    assert len(names) > 10
    for name in names:
        places = (ROOT / name, ROOT / "src/distvi" / name)
        assert any(place.is_file() for place in places), name


def test_its_scheme_of_ones_own_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # runs/ is made here
    page = (ROOT / "docs/life-of-a-gradient.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    try:
        exec(compile(block.replace("updates=200", "updates=3"), "life", "exec"), {})
    finally:
        registry._KNOWN.pop("patient", None)
    assert capsys.readouterr().out.startswith("patient(n=3)")
