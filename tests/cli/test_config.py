"""Settings: precedence, the TOML that is written, and the TOML that is read."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distvi.config.run import resolve
from distvi.errors import InputError
from distvi.models.settings import DeepGPSettings
from distvi.system.settings import write_toml

VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(codec="utf-8")),
)
VALUES = VALUES | st.lists(VALUES, max_size=3)
NAMES = st.text(st.characters(codec="utf-8"), max_size=5)
TABLES = st.dictionaries(NAMES, VALUES | st.dictionaries(NAMES, VALUES, max_size=3), max_size=4)


@given(TABLES)
def test_what_is_written_reads_back(table: dict) -> None:
    def without_empty(part: dict) -> dict:
        return {
            k: without_empty(v) if isinstance(v, dict) else v for k, v in part.items() if v != {}
        }

    assert tomllib.loads(write_toml(table)) == without_empty(table)


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
