"""A folder of compiled programs that is torn, or of no use, costs time and nothing else."""

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from distvi.system.compilation_cache import compilation_cache, keep_compiled

_PROGRAM = """
from distvi.system.compilation_cache import keep_compiled
keep_compiled()
import jax
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
def twice_the_sine(x):
    return 2 * jax.numpy.sin(x)
print(jax.jit(twice_the_sine)(0.5))
"""


def compile_in(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(folder), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "default", "-c", _PROGRAM]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True)


def test_a_torn_entry_is_compiled_and_kept_anew(tmp_path: Path) -> None:
    first = compile_in(tmp_path)
    (entry,) = tmp_path.glob("jit_twice_the_sine-*")
    whole = entry.read_bytes()
    entry.write_bytes(whole[: len(whole) // 2])
    again = compile_in(tmp_path)
    assert (again.stdout, again.stderr) == (first.stdout, "")
    assert entry.stat().st_size > len(whole) // 2
    assert compile_in(tmp_path).stderr == ""


@pytest.fixture
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a program does to its own process."""
    with warnings.catch_warnings():
        for name in os.environ:
            if name.startswith("JAX_"):
                monkeypatch.setenv(name, os.environ[name])
        yield


@pytest.mark.usefixtures("_restored")
def test_another_folder_is_used_than_one_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file := tmp_path / "file").touch()
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(file))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.warns(RuntimeWarning, match=f"{file} cannot be written: compiled programs are ke"):
        keep_compiled()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(compilation_cache())
    assert str(compilation_cache()).startswith(str(tmp_path / "distvi"))


@pytest.mark.usefixtures("_restored")
@pytest.mark.parametrize("has_home", [True, False])
def test_without_any_folder_nothing_is_kept(
    has_home: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def home() -> Path:
        if not has_home:
            raise RuntimeError("Could not determine home directory.")
        return tmp_path / "file"

    (tmp_path / "file").touch()
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", home)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "file"))
    with pytest.warns(RuntimeWarning, match="compiled programs are not kept"):
        keep_compiled()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ
    assert compilation_cache() is None


@pytest.mark.usefixtures("_restored")
def test_an_object_store_is_left_to_jax(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "gs://bucket/programs")
    keep_compiled()
    assert compilation_cache() is None
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "gs://bucket/programs"
    assert not list(tmp_path.iterdir())
