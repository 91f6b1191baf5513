"""Settings: precedence, the TOML that is written, and the TOML that is read."""

import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distvi.config import run
from distvi.config.resolve import resolve
from distvi.engines import registry
from distvi.engines.local.settings import LocalSettings
from distvi.engines.registry import register_engine
from distvi.engines.settings import EngineSettings
from distvi.errors import InputError
from distvi.models import DeepGPSettings
from distvi.system.settings import write_toml

VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),  # infinite ones included; nan is unlike itself
    st.text(st.characters(codec="utf-8")),
)
VALUES = VALUES | st.lists(VALUES, max_size=3)
NAMES = st.text(st.characters(codec="utf-8"), max_size=5)
TABLES = st.recursive(
    st.dictionaries(NAMES, VALUES | st.none(), max_size=4),
    lambda tables: st.dictionaries(NAMES, VALUES | tables, max_size=3),
    max_leaves=5,
)


@given(TABLES)
def test_what_is_written_reads_back(table: dict) -> None:
    def without_none(part: dict) -> dict:
        return {
            k: without_none(v) if isinstance(v, dict) else v
            for k, v in part.items()
            if v is not None
        }

    assert tomllib.loads(write_toml(table)) == without_none(table)
    assert math.isnan(tomllib.loads(write_toml({"value": math.nan}))["value"])


def test_a_configuration_reads_back(tmp_path: Path) -> None:
    settings = {"target": "y", "optimizer_options": {"b1": 0.8}, "model": {"width": 7}}
    config = resolve("table.csv", settings=settings, assignments=["data.test_indices=[3, 1]"])
    file = tmp_path / "run.toml"
    file.write_text(write_toml(config.model_dump()))
    assert resolve(file=file) == config


def test_options_take_precedence_over_the_file_and_assignments_over_both(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[data]\ndataset = 'mnist'\n[training]\nepochs = 9\nbatch_size = 1\nseed = 1")
    config = resolve(
        "digits",
        file=file,
        settings={"updates": 5, "batch_size": 2},
        assignments=["training.batch_size=3", "model.kernel=arccos1", "model.ard = false"],
    )
    assert config.data.dataset == "digits"
    assert (config.training.epochs, config.training.updates) == (None, 5)
    assert (config.training.batch_size, config.training.seed) == (3, 1)
    assert (config.model.kernel, config.model.ard) == ("arccos1", False)


def test_a_narrow_wire_is_a_rule(tmp_path: Path) -> None:
    config = resolve("digits", settings={"rules": ("top-k",), "wire_dtype": "float16"})
    assert config.algorithm.rules == ("top-k", "cast")
    assert config.algorithm.rule_options == {"wire_dtype": "float16"}
    (tmp_path / "run.toml").write_text(write_toml(config.model_dump()))
    assert "wire_dtype" not in tomllib.loads((tmp_path / "run.toml").read_text())["algorithm"]
    assert resolve(file=tmp_path / "run.toml").algorithm == config.algorithm
    with pytest.raises(InputError, match="short for rule 'cast', which is named, too"):
        resolve("digits", settings={"rules": ("cast",), "wire_dtype": "float16"})


def test_both_lengths_at_once_are_refused() -> None:
    with pytest.raises(InputError, match="both given"):
        resolve("digits", settings={"epochs": 5, "updates": 5})


def test_an_unknown_keyword_is_refused_with_its_near_miss() -> None:
    with pytest.raises(InputError, match=r"unknown setting 'bach_size' .did you mean 'batch_size'"):
        resolve("digits", settings={"bach_size": 5})


def test_settings_objects_are_tables(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[model]\nkind = 'bayesian_network'\nactivation = 'tanh'")
    config = resolve("digits", file=file, settings={"model": DeepGPSettings(width=7)})
    assert config.model == DeepGPSettings(width=7)


def test_the_model_s_defaults_follow_its_kind() -> None:
    config = resolve("digits", assignments=["model.kind=bayesian_network"])
    assert config.model.activation == "relu"


def test_what_is_wrong_is_spelled_as_it_was_given(tmp_path: Path) -> None:
    def line(**settings: Any) -> str:
        with pytest.raises(InputError) as caught:
            resolve("digits", file=file, **settings)
        return str(caught.value)

    file = tmp_path / "c.toml"
    file.write_text("[training]\nseed = 1")
    assert line(settings={"batch_size": 0}).startswith("'batch_size' is 0")
    assert line(settings={"batch_size": 0}, spell=str.upper).startswith("BATCH_SIZE is 0")
    assert line(assignments=["training.batch_size=0"]).startswith("'training.batch_size' is 0")
    assert line(settings={"cluster": "x"}).startswith("engine 'local' has no setting 'cluster'")
    assert line(settings={"model": {"widht": 1}}).startswith("unknown key 'model.widht'")
    file.write_text("[training]\nseed = -1")
    assert line().startswith(f"{file}: 'training.seed' is -1")
    assert line(settings={"batch_size": 5}).startswith(f"{file}: 'training.seed' is -1")


def test_an_engine_of_one_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class OwnSettings(EngineSettings):
        kind: str = "own"
        speed: float = 1.0

    monkeypatch.setattr(registry, "_KNOWN", dict(registry.ENGINES))
    monkeypatch.setattr(registry, "ENGINES", registry._KNOWN)
    monkeypatch.setattr(run, "ENGINES", registry._KNOWN)
    with pytest.raises(InputError, match="settings of kind 'own'"):
        register_engine("other", OwnSettings, print)
    register_engine("own", OwnSettings, "builtins:print")
    with pytest.raises(InputError, match="engine 'local' exists already"):
        register_engine("local", OwnSettings, print)
    config = resolve("digits", settings={"engine": "own", "speed": 2})
    assert config.engine == OwnSettings(speed=2.0)
    assert registry.ENGINES["own"].build is print
    with pytest.raises(InputError, match="it belongs to engine own"):
        resolve("digits", settings={"speed": 2})


def test_settings_keep_to_their_kind() -> None:
    with pytest.raises(ValueError, match="settings of kind 'local', not 'mesh'"):
        LocalSettings(kind="mesh")
