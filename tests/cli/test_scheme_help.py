"""``distvi train --help-schemes``."""

from pathlib import Path

import pytest

from distvi.aggregation import SCHEMES
from tests.small_run import Distvi


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_every_scheme_and_option_is_listed(distvi: Distvi) -> None:
    assert "--help-schemes" in distvi("train", "--help").out
    answer = distvi("train", "--help-schemes")
    assert answer.status == 0
    assert max(map(len, answer.out.splitlines())) <= 80
    assert "…" not in answer.out
    text = " ".join(answer.out.split())
    for name, entry in SCHEMES.items():
        _, _, section = text.partition(f"--scheme {name}: ")
        section, _, _ = section.partition("--scheme ")
        assert section.startswith(entry.summary.replace("``", ""))
        assert entry.paper
        assert entry.paper in section
        for option in entry.options:
            assert f" {option.name} " in section
            assert option.help
    assert "n int >= 1 all but 1 in 20 " in text
    assert "combine name average " in text
    assert "bound int >= 0 3 " in text
    assert "max_staleness int >= 0 none " in text
    assert "rate name none " in text.partition("Every scheme has")[2]
    assert not list(Path().iterdir())


def test_numbers_are_those_of_the_workers(distvi: Distvi) -> None:
    text = " ".join(distvi("train", "--help-schemes", "--workers", 40).out.split())
    for line in ("all but 1 in 20: 38", "3/4 of workers: 30", "1/2 of workers: 20"):
        assert line in text
    assert "2 * workers: 80" in text
