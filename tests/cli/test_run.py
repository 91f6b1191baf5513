"""A run from its command to its folder, and what can be asked of it afterwards."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import distvi as package
from distvi import cli
from distvi.evaluation.predictor import Evaluation
from distvi.models import BayesianNetworkSettings, DeepGPSettings
from distvi.progress import Lines
from tests.small_run import MODEL, TINY, UPDATES, Distvi, write_mnist, write_table

FIELDS = {
    "status", "engine", "scheme", "workers", "servers", "batch_size", "learning_rate", "seed",
    "updates", "gradients_used", "gradients_refused", "examples", "clock", "training_time_s",
    "compile_time_s", "examples_per_s", "staleness", "bytes", "worker_idle_fraction", "test",
    "versions", "machine",
}  # fmt: skip


def test_the_folder_of_a_run(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    files = {"run.toml", "summary.json", "metrics.parquet", "data.json", "figure.png"}
    assert names == files | {"checkpoints"}
    assert (finished / "figure.png").read_bytes().startswith(b"\x89PNG")
    kept = {path.name for path in (finished / "checkpoints").iterdir()}
    assert kept == {str(UPDATES - 2), str(UPDATES - 1), str(UPDATES)}
    for checkpoint in (finished / "checkpoints").iterdir():
        names = {path.name for path in checkpoint.iterdir()}
        assert names == {"params.safetensors", "optimizer.safetensors", "state.json"}


def test_summary(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    assert set(summary) >= FIELDS
    assert summary["status"] == "done"
    assert summary["updates"] == summary["gradients_used"] == UPDATES
    assert summary["examples"] == 16 * UPDATES
    assert summary["training_time_s"] > 0
    assert {"rmse", "mnll", "coverage_90"} <= set(summary["test"])


def test_the_first_lines_say_what_is_learnt_from_what(
    distvi: Distvi, numbers: Path, kinds: Path
) -> None:
    answer = distvi("train", numbers, "--target", "y", *TINY, "--json")
    assert answer.err.splitlines()[:2] == [
        "numbers.csv: 60 rows, 54 to train on and 6 to test on",
        "regression of y, from 2 inputs (a, b)",
    ]
    data = json.loads(answer.out)["data"]
    assert (data["task"], data["targets"], data["inputs"]) == ("regression", ["y"], 2)
    assert (data["train_rows"], data["test_rows"], data["classes"]) == (54, 6, [])
    lines = distvi("train", kinds, "--target", "kind", *TINY).err.splitlines()
    assert lines[1] == "classification of kind into 2 classes (even, odd), from 2 inputs (a, b)"


def test_metrics_have_a_row_for_each_update(finished: Path) -> None:
    rows = pq.read_table(finished / "metrics.parquet").to_pylist()
    assert [row["update"] for row in rows] == list(range(1, UPDATES + 1))
    assert all(np.isfinite(row["neg_elbo"]) and np.isfinite(row["test_rmse"]) for row in rows)
    times_s = [row["training_time_s"] for row in rows]
    assert times_s == sorted(times_s)


def test_run_toml_repeats_the_run(distvi: Distvi, finished: Path) -> None:
    config = tomllib.loads((finished / "run.toml").read_text())
    assert config["model"] | MODEL == config["model"]
    assert config["training"]["optimizer"] == "adam"
    assert distvi("train", "--config", finished / "run.toml", "--out", "again").status == 0
    assert newest_params(Path("again")) == newest_params(finished)
    assert Path("again/run.toml").read_text() == (finished / "run.toml").read_text()


def test_a_run_finds_its_data_again_without_the_variable_that_named_their_folder(
    distvi: Distvi, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mnist(Path("mnist"))
    monkeypatch.setenv("DISTVI_DATA", ".")
    answer = distvi("train", "mnist", *TINY, "--out", "run")
    assert answer.status == 0, answer.err
    monkeypatch.delenv("DISTVI_DATA")
    config = tomllib.loads(Path("run/run.toml").read_text())
    assert config["data"]["data_dir"] == str(Path.cwd())
    assert not {"test_fraction", "split_seed"} & set(config["data"])
    shutil.rmtree(f"run/checkpoints/{UPDATES}")
    assert distvi("resume", "run").status == 0
    assert distvi("evaluate", "run", "--json").status == 0
    assert distvi("train", "--config", "run/run.toml", "--out", "again").status == 0


def test_how_the_test_rows_were_drawn_is_written_out(finished: Path) -> None:
    config = tomllib.loads((finished / "run.toml").read_text())
    assert (config["data"]["test_fraction"], config["data"]["split_seed"]) == (0.1, 0)


def test_json_is_alone_on_standard_output(distvi: Distvi, kinds: Path) -> None:
    answer = distvi("train", kinds, "--target", "kind", *TINY, "--json")
    assert answer.status == 0
    summary = json.loads(answer.out)
    assert summary == json.loads(Path("runs/kinds-0001/summary.json").read_text())
    assert {"error_rate", "mnll", "ece", "brier"} == set(summary["test"])
    assert "update 7/7" in answer.err


def test_runs_are_numbered(distvi: Distvi, numbers: Path) -> None:
    Path("runs/numbers-0041").mkdir(parents=True)
    assert distvi("train", numbers, "--target", "y", *TINY).status == 0
    assert Path("runs/numbers-0042/summary.json").exists()


def test_python_does_the_same(
    finished: Path, numbers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {"batch_size": 16, "updates": UPDATES, "seed": 3, "target": "y", "model": MODEL}
    settings |= {"engine": "mesh"}
    run = package.train(numbers, out="mine", **settings)
    assert newest_params(run.path) == newest_params(finished)
    assert package.evaluate(run) == run.summary["test"]
    assert package.load_run("mine").metrics.num_rows == UPDATES


def test_evaluate_repeats_the_last_test(distvi: Distvi, finished: Path) -> None:
    answer = distvi("evaluate", finished, "--json")
    assert json.loads(answer.out) == json.loads((finished / "summary.json").read_text())["test"]
    assert "rmse" in distvi("evaluate", finished).out


def test_evaluate_on_another_table(distvi: Distvi, finished: Path) -> None:
    Path("other.csv").write_text("a,b,y\n1,2,1010\n2,1,1080\n")
    answer = distvi("evaluate", finished, "other.csv", "--json")
    assert set(json.loads(answer.out)) >= {"rmse", "mnll"}
    assert answer.err == "tested on all 2 rows of other.csv\n"


def test_evaluate_on_rows_that_were_trained_on_is_told(distvi: Distvi, finished: Path) -> None:
    answer = distvi("evaluate", finished, write_table(Path("copy.csv")))
    assert answer.err.splitlines() == [
        f"distvi: warning: 54 of 60 rows to test on are among those that {finished} learnt from: "
        "the metrics will look better than the model is",
        "tested on all 60 rows of copy.csv",
    ]


@pytest.mark.parametrize("command", ["evaluate", "resume"])
def test_data_that_have_moved(distvi: Distvi, numbers: Path, copied: Path, command: str) -> None:
    shown = distvi("evaluate", copied, "--json").out
    Path("old.csv").write_bytes(numbers.read_bytes())
    Path("new.csv").write_bytes(numbers.read_bytes())
    toml = copied / "run.toml"
    toml.write_text(toml.read_text().replace(str(numbers), str(Path("old.csv").resolve())))
    Path("old.csv").unlink()
    answer = distvi(command, copied)
    assert answer.status == 2
    assert "is not there; if it has moved, say where to: --data PATH" in answer.err
    shutil.rmtree(copied / f"checkpoints/{UPDATES}")
    answer = distvi(command, copied, "--data", "new.csv", "--json")
    assert answer.status == 0, answer.err
    if command == "resume":  # and from now on they are found there
        assert distvi("evaluate", copied, "--json").out == shown
    else:
        assert "tested on the 6 of 60 rows that were held out" in answer.err


def test_evaluate_on_the_run_s_own_data_takes_what_it_held_out(
    distvi: Distvi, finished: Path, numbers: Path
) -> None:
    shown = distvi("evaluate", finished, "--json").out
    assert distvi("evaluate", finished, numbers, "--json").out == shown


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_predict_in_original_units(
    distvi: Distvi, finished: Path, numbers: Path, suffix: str
) -> None:
    out = Path(f"predictions.{suffix}")
    assert distvi("predict", finished, numbers, "--out", out).status == 0
    table = read(out)
    assert list(table) == ["y_mean", "y_sd", *(f"y_q{q}" for q in ("2.5", 5, 25, 75, 95, "97.5"))]
    true = read(numbers)["y"]
    assert len(table["y_mean"]) == len(true)
    # The model is hardly trained: it knows the targets' location and scale and little more.
    assert abs(table["y_mean"].mean() - true.mean()) < true.std()
    assert 0.2 < table["y_sd"].mean() / true.std() < 5
    quantiles = np.stack([values for name, values in table.items() if "_q" in name])
    assert (np.diff(quantiles, axis=0) > 0).all()


def test_predict_classes(distvi: Distvi, classifier: Path, kinds: Path) -> None:
    assert distvi("predict", classifier, kinds, "--out", "p.parquet").status == 0
    table = pq.read_table("p.parquet").to_pydict()
    assert list(table) == ["predicted", "p_even", "p_odd"]
    probabilities = np.stack([table["p_even"], table["p_odd"]], axis=1)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert table["predicted"] == [["even", "odd"][row] for row in probabilities.argmax(1)]


def test_images_in_another_scale_are_told(distvi: Distvi) -> None:
    write_mnist(Path("mnist"))
    assert distvi("train", "mnist", "--data-dir", ".", *TINY, "--out", "run").status == 0
    images = np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 2, 2)
    for scale, warned in ((1, True), (255, False)):
        np.save("x.npy", images * scale)
        answer = distvi("predict", "run", "x.npy", "--out", "p.csv")
        assert answer.status == 0
        lines = answer.err.splitlines()
        assert lines[-1] == "2 predictions written to p.csv"
        assert (
            len(lines) == 2 and "lie in [0, 1], but run learnt from whole" in lines[0]
        ) == warned


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A table of mixed columns, and a run on it."""
    folder = tmp_path_factory.mktemp("mixed")
    rng = np.random.default_rng(5)
    rows = [
        f"{n};name {n};{'' if n % 9 == 4 else n / 8};{('red', 'green', 'blue')[n % 3]};"
        f"2020-0{1 + n % 9}-01;{rng.normal():.3f}".replace(".", ",")
        for n in range(60)
    ]
    table = folder / "mixed.csv"
    table.write_text("\n".join([";id;a;colour;when;y", *rows]) + "\n", encoding="utf-16")
    arguments = ("train", table, "--target", "y", *TINY, "--out", folder / "run")
    assert cli.run([str(argument) for argument in arguments]) == 0
    return table, folder / "run"


def test_a_table_as_it_is(distvi: Distvi, mixed: tuple[Path, Path]) -> None:
    _, run = mixed
    notes = json.loads((run / "summary.json").read_text())["data"]["notes"]
    assert notes[:2] == [
        "read with separator ';', decimal comma, encoding utf-16",
        "left out: the index column ''",
    ]
    assert [note.split(" (")[0] for note in notes[2:]] == [
        "left out: 'id'",
        "'a': as it is; 3.875 where missing, and a flag",
        "'colour': one-hot: 3 categories",
        "'when': days since 2020-01-01; the week",
    ]
    answer = distvi("evaluate", run, "--json")
    assert json.loads(answer.out) == json.loads((run / "summary.json").read_text())["test"]
    shutil.copytree(run, "copy")
    shutil.rmtree(f"copy/checkpoints/{UPDATES}")
    assert distvi("resume", "copy").status == 0
    assert newest_params(Path("copy")) == newest_params(run)
    Path("new.csv").write_text("when,colour,a\n2020-05-01,pink,3.5\n2020-05-02,red,1.5\n")
    answer = distvi("predict", run, "new.csv", "--out", "p.csv")
    assert answer.err.splitlines() == [
        "distvi: warning: column 'colour': 1 of 2 rows hold what the training rows do not, 'pink': "
        "taken as none of its categories",
        "2 predictions written to p.csv",
    ]


def test_data_info_shows_what_would_be_made_of_a_table(
    distvi: Distvi, mixed: tuple[Path, Path]
) -> None:
    answer = distvi("data", "info", mixed[0], "--target", "y", "--drop", "id")
    assert answer.status == 0, answer.err
    lines = answer.out.splitlines()
    assert lines[0] == "mixed.csv: 60 rows, 54 of them to train on; 8 inputs"
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines if not line.startswith(" ")][3:] == [
        *("column", "a", "colour", "when", "y")
    ]
    answer = distvi("data", "info", mixed[0], "--columns", "a,x")
    assert answer.status == 2
    assert "--columns: no column named 'x'" in answer.err


def test_resume_of_a_finished_run_changes_nothing(distvi: Distvi, copied: Path) -> None:
    before = newest_params(copied)
    answer = distvi("resume", copied, "--json")
    assert answer.status == 0
    assert json.loads(answer.out)["status"] == "done"
    assert newest_params(copied) == before


@pytest.mark.parametrize(
    ("rate", "message"),
    [("1e30", "the ELBO became nan at update 2"), ("3e38", "the parameters were no longer finite")],
)
def test_a_non_finite_number_fails_the_run_and_keeps_the_last_good_checkpoint(
    distvi: Distvi, numbers: Path, rate: str, message: str
) -> None:
    options = ("--learning-rate", rate, "--optimizer", "sgd", "--out", "run")
    answer = distvi("train", numbers, "--target", "y", *TINY, *options)
    assert answer.status == 1
    line = answer.err.splitlines()[-1]
    assert line.startswith(f"distvi: error: {message}")
    assert "the last good checkpoint is run/checkpoints/" in line
    assert json.loads(Path("run/summary.json").read_text())["status"] == "failed"
    checkpoint = package.load_run("run").newest_checkpoint()
    assert all(np.isfinite(array).all() for array in checkpoint.arrays["params"].values())


def test_a_run_that_diverges_before_its_first_checkpoint(distvi: Distvi, numbers: Path) -> None:
    options = ("--set", "model.initial_weight_spread=3e38", "--out", "run")
    answer = distvi("train", numbers, "--target", "y", *TINY, *options)
    assert answer.status == 1
    assert answer.err.splitlines()[-1] == (
        "distvi: error: the parameters were no longer finite at update 0; there is no checkpoint. "
        "Look for an extreme value in the [model] settings"
    )
    assert json.loads(Path("run/summary.json").read_text())["status"] == "failed"


class Signals(Lines):
    """Sends this process a signal after each of some updates."""

    def __init__(self, signals: dict[int, list[signal.Signals]]) -> None:
        self._signals = signals

    def reported(self, update: int, neg_elbo: float, training_time_s: float) -> None:
        for number in self._signals.get(update, ()):
            signal.raise_signal(number)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_the_second_ctrl_c_does_not_wait_for_a_checkpoint(
    distvi: Distvi, numbers: Path, monkeypatch: pytest.MonkeyPatch, first: signal.Signals
) -> None:
    signals = {3: [first, signal.SIGINT]}
    monkeypatch.setattr("distvi.progress.for_terminal", lambda: Signals(signals))
    answer = distvi("train", numbers, "--target", "y", *TINY, "--out", "run")
    assert answer.status == 130
    assert answer.err.splitlines()[-1] == "distvi: error: interrupted"
    summary = json.loads(Path("run/summary.json").read_text())
    assert (summary["status"], summary["updates"]) == ("interrupted", 3)
    assert newest(Path("run")).name == "2"


def test_an_interrupted_resume_prints_its_summary(
    distvi: Distvi, numbers: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals = {3: [signal.SIGTERM], 5: [signal.SIGINT]}
    monkeypatch.setattr("distvi.progress.for_terminal", lambda: Signals(signals))
    train = ("train", numbers, "--target", "y", *TINY, "--keep-checkpoints", 3, "--out", "run")
    for command, status, updates in ((train, 143, 3), (("resume", "run"), 130, 5)):
        answer = distvi(*command, "--json")
        assert answer.status == status
        summary = json.loads(answer.out)
        assert (summary["status"], summary["updates"]) == ("interrupted", updates)
        assert answer.err.splitlines()[-1].endswith("go on with: distvi resume run")
    assert json.loads(distvi("resume", "run", "--json").out)["status"] == "done"
    assert newest_params(Path("run")) == newest_params(finished)


def test_the_summary_holds_the_last_test_though_one_of_its_metrics_is_not_finite(
    distvi: Distvi, numbers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tests = iter(range(UPDATES))

    class Metrics(Evaluation):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.metrics = {"rmse": float(next(tests)), "mnll": float("nan")}

    monkeypatch.setattr("distvi.training.run_tests.Evaluation", Metrics)
    answer = distvi("train", numbers, "--target", "y", *TINY, "--json")
    assert answer.status == 0, answer.err
    assert json.loads(answer.out)["test"] == {"rmse": UPDATES - 1, "mnll": None}


def test_json_has_null_for_a_metric_that_is_not_finite(
    distvi: Distvi, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distvi.api.evaluate", lambda *_, **__: {"mnll": float("inf")})
    assert json.loads(distvi("evaluate", finished, "--json").out) == {"mnll": None}


def test_resume_from_before_the_first_row_of_metrics(distvi: Distvi, numbers: Path) -> None:
    rare = ("--report-every", 50, "--evaluate-every", 0, "--checkpoint-every", 3)
    assert distvi("train", numbers, "--target", "y", *TINY, *rare, "--out", "run").status == 0
    expected = newest_params(Path("run"))
    shutil.rmtree(f"run/checkpoints/{UPDATES}")
    assert distvi("resume", "run").status == 0
    assert newest_params(Path("run")) == expected


def test_data_commands(distvi: Distvi) -> None:
    assert "digits" in distvi("data", "list").out
    assert "70000" in distvi("data", "info", "mnist").out
    assert distvi("data", "info", "mnits").status == 2
    made = distvi("data", "augment", "digits", "--rows", 1700, "--out", "more")
    assert made.status == 0
    assert Path("more/dataset.json").exists()


def test_the_models_settings_are_listed(distvi: Distvi) -> None:
    assert "--help-model" in distvi("train", "--help").out
    answer = distvi("train", "--help-model")
    assert answer.status == 0
    lines = [line.split() for line in answer.out.splitlines()]
    shown = {line[0] for line in lines if line}
    for kind in (DeepGPSettings, BayesianNetworkSettings):
        assert set(kind.model_fields) - {"kind"} <= shown
    for line in ("orthogonal false", "features 500", "width 50", "width 200"):
        assert any(words[: len(line.split())] == line.split() for words in lines), line
    assert "matern52" in answer.out
    assert not list(Path().iterdir())


def test_help_and_version_do_not_import_jax() -> None:
    code = (
        "import sys; from distvi.cli import run; run(sys.argv[1:]);"
        "assert not {'jax', 'numpy', 'pyarrow', 'matplotlib'} & set(sys.modules)"
    )
    for arguments in (["--help"], ["train", "--help"], ["data", "--help"], ["--version"]):
        command = [sys.executable, "-c", code, *arguments]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        assert answer.stderr == ""
        assert answer.stdout


def newest_params(run: Path) -> bytes:
    return (newest(run) / "params.safetensors").read_bytes()


def newest(run: Path) -> Path:
    return max((run / "checkpoints").iterdir(), key=lambda path: int(path.name))


def read(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".parquet":
        return {name: np.array(column) for name, column in pq.read_table(path).to_pydict().items()}
    rows = list(csv.DictReader(path.read_text().splitlines()))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
