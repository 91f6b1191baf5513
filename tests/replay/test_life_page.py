"""The page about a gradient's life shows the diagram of the table that the machine uses."""

from pathlib import Path

from distvi.protocol import life_diagram

ROOT = Path(__file__).parents[2]


def test_the_diagram_is_drawn_from_the_code() -> None:
    page = (ROOT / "docs/life-of-a-gradient.md").read_text(encoding="utf-8")
    assert f"```mermaid\n{life_diagram()}```" in page


def test_the_files_it_names_exist() -> None:
    page = (ROOT / "docs/life-of-a-gradient.md").read_text(encoding="utf-8")
    names = {word for word in page.split("`") if word.endswith(".py")}
    assert len(names) > 10
    for name in names:
        places = (ROOT / name, ROOT / "src/distvi" / name)
        assert any(place.is_file() for place in places), name
