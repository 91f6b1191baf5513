"""``distvi train --help-rules``."""

from pathlib import Path

import pytest

from distvi.algorithms.registry import RULES
from tests.small_run import Distvi


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_every_rule_and_option_is_listed(distvi: Distvi) -> None:
    assert "--help-rules" in distvi("train", "--help").out
    answer = distvi("train", "--help-rules")
    assert answer.status == 0
    assert max(map(len, answer.out.splitlines())) <= 80
    assert "…" not in answer.out
    text = " ".join(answer.out.split())
    for name, rule in RULES.items():
        _, _, section = text.partition(f"--rules {name}: ")
        section, _, _ = section.partition("--rules ")
        kind = rule.settings_class
        assert kind.__doc__
        assert section.startswith(" ".join(kind.__doc__.split()))
        assert "(20" in section  # the year of a paper
        for option, field in kind.model_fields.items():
            assert f" {option} " in section
            assert field.description
    assert "fraction float > 0, <= 1 0.01 " in text
    assert "steps int > 0 10 " in text
    assert not list(Path().iterdir())
