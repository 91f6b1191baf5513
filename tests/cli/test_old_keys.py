"""Files of the time before the tables ``[algorithm]`` and ``engine.kind`` are read for one release.

``OLD_RUN`` is what `distvi train digits --updates 5 --engine simulated` wrote then.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest

from distvi.config.algorithm import AlgorithmSettings
from distvi.config.resolve import resolve
from distvi.engines.local.settings import LocalSettings
from distvi.engines.mesh.settings import MeshSettings
from distvi.engines.simulated.settings import SimulatedSettings
from distvi.errors import InputError
from tests.small_run import SMALL, Distvi

OLD_ENGINE = """
[engine]
engine = "{engine}"
workers = 4
servers = 1
scheme = "sync"
placement = "ranges"
unusable_limit = 80
pin = true
patience_s = 60.0
replacements = 16
cluster = "compute-bound"
journal = false
trace = false
data_on_device = "auto"
"""

OLD_RUN = (
    """\
[data]
dataset = "digits"
test_fraction = 0.1
split_seed = 0
inputs = "auto"

[model]
likelihood = "auto"
hidden_layers = 2
width = 50
estimator = "local"
samples = 1
test_samples = 50
kind = "deep_gp"
features = 500
kernel = "rbf"
ard = true
omega = "var_fixed"
orthogonal = false
feed_forward = false
freeze_omega = 0
freeze_kernel = 0
initial_weight_var = 0.01
initial_weight_spread = 0.5
initial_lengthscale = 1.0
initial_noise_var = 0.1353352832366127

[training]
updates = 5
batch_size = 200
learning_rate = 0.01
optimizer = "adam"
schedule = "constant"
warmup_updates = 0
final_rate = 0.0
seed = 0
shuffle_block = 1
evaluate_every = 1
report_every = 1
checkpoint_every = 1
keep_checkpoints = 2
"""
    + OLD_ENGINE
)


def read(text: str, **settings: Any) -> Any:
    Path("old.toml").write_text(text)
    return resolve("digits", file="old.toml", settings=settings)


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        ("simulated", SimulatedSettings(workers=4, servers=1, nonfinite_limit=80)),
        ("local", LocalSettings(workers=4, servers=1, nonfinite_limit=80)),
        ("mesh", MeshSettings(workers=4)),
    ],
)
def test_an_old_run_has_the_settings_of_its_engine(engine: str, expected: object) -> None:
    config = read(OLD_RUN.format(engine=engine))
    assert config.engine == expected
    assert config.algorithm == AlgorithmSettings(scheme="sync")
    assert config.training.updates == 5


def test_old_keys_have_new_names() -> None:
    config = read(
        "[engine]\nscheme = 'async'\nscheme_options = { orders = 3, combine = 'add' }\n"
        "patience_s = 7.0\nreplacements = 5\nunusable_limit = 9"
    )
    assert config.algorithm.scheme == "async"
    assert config.algorithm.scheme_options == {"in_flight": 3, "combine": "add"}
    expected = LocalSettings(worker_timeout_s=7.0, max_restarts=5, nonfinite_limit=9)
    assert config.engine == expected


def test_an_old_file_goes_with_the_engine_that_an_option_names() -> None:
    old = "[engine]\nengine = 'local'\ncluster = 'network-bound'\npin = false"
    assert read(old).engine == LocalSettings(pin=False)
    assert read(old, engine="simulated").engine == SimulatedSettings(cluster="network-bound")
    with pytest.raises(InputError, match="engine 'local' has no setting 'cluster'"):
        read(old, cluster="network-bound")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("patience_s", "worker_timeout_s"),
        ("replacements", "max_restarts"),
        ("unusable_limit", "nonfinite_limit"),
    ],
)
def test_old_names_are_told_the_new_ones(old: str, new: str) -> None:
    with pytest.raises(InputError, match=f"unknown setting '{old}' .did you mean '{new}'"):
        resolve("digits", settings={old: 3})


def test_an_old_run_goes_on(distvi: Distvi, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ("--engine", "simulated", "--workers", 4, "--nonfinite-limit", 80)
    assert distvi("train", "digits", *SMALL, *arguments, "--out", run).status == 0
    tables = (run / "run.toml").read_text()
    begin = tables.index("[algorithm]")
    (run / "run.toml").write_text(tables[:begin] + OLD_ENGINE.format(engine="simulated"))
    shutil.rmtree(max((run / "checkpoints").iterdir(), key=lambda path: int(path.name)))
    for command in ("resume", "evaluate"):
        answer = distvi(command, run)
        assert answer.status == 0, answer.err
    pixels = ",".join(f"pixel{number}" for number in range(64))
    Path("new.csv").write_text(f"{pixels}\n{','.join('0' * 64)}\n")
    answer = distvi("predict", run, "new.csv", "--out", "p.csv")
    assert answer.status == 0, answer.err
