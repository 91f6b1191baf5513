"""The code in the documents runs as it stands; only the number of updates is cut."""

import re
from pathlib import Path

import pytest

from distvi.config.resolve import resolve
from distvi.engines.simulated.settings import cluster_named
from distvi.studies.runner import study_of

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("document", ["README.md", "docs/tour.md"])
def test_python_blocks_run(document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # runs/ is made here
    text = (ROOT / document).read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        short = re.sub(r"updates=\d+", "updates=3", block)
        exec(compile(short, document, "exec"), {})


@pytest.mark.parametrize("document", ["README.md", "docs/tour.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text()
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", text)
    missing = [link for link in links if not (ROOT / document).parent.joinpath(link).exists()]
    assert links
    assert not missing


def test_toml_blocks_are_configurations(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        file = tmp_path / "run.toml"
        file.write_text(block)
        if "[[blocks]]" in block:
            base, _, _ = (ROOT / "studies" / "digits.toml").read_text().partition("[[blocks]]")
            file.write_text(base + block)
            assert study_of(file).cells
        else:
            assert resolve("digits", file=file).algorithm.rules


@pytest.mark.parametrize("spec", [*(ROOT / "studies").glob("*.toml")], ids=lambda path: path.stem)
def test_the_studies_here_are_studies(spec: Path) -> None:
    if "[[blocks]]" in spec.read_text():
        assert study_of(spec).cells
    else:
        cluster_named(str(spec))


PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_links_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", text)
    assert not [link for link in links if not page.parent.joinpath(link).exists()]
    files = re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|md|toml))`", text)
    places = [ROOT, ROOT / "src/distvi"]
    assert not [file for file in files if not any((place / file).is_file() for place in places)]
