"""Models, data, optimizers, schemes and rules of one's own do in every engine what others do."""

import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jaxtyping
import numpy as np
import optax
import pytest

import distvi
from distvi.aggregation.registry import SCHEMES, register
from distvi.algorithms.registry import RULES, register_rule
from distvi.dashboard import Dashboard
from distvi.errors import InputError
from distvi.models import DeepGPSettings, build_model
from distvi.progress import Callbacks, Lines, Live
from distvi.runs import checkpoints
from distvi.runs.folder import Run
from tests import own_parts
from tests.own_parts import Line, PlainLine, TestedLine

ENGINES: dict[str, dict[str, Any]] = {
    "mesh": {"engine": "mesh"},
    "simulated": {"engine": "simulated", "workers": 2},
    "local": {"engine": "local", "workers": 2},
}
every_engine = pytest.mark.parametrize("engine", ENGINES)
SMALL: dict[str, Any] = {"updates": 4, "batch_size": 8, "seed": 3, "optimizer": "sgd"}
RATE = {"learning_rate": 1e-3}
GP: dict[str, Any] = {"hidden_layers": 1, "width": 2, "features": 4, "test_samples": 2}


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def train(*args: Any, **settings: Any) -> Run:
    return distvi.train(*args, **{**SMALL, **settings})


def final(run: Run) -> dict[str, np.ndarray]:
    """The parameters of a run's last checkpoint, by name."""
    return dict(run.newest_checkpoint().arrays[checkpoints.PARAMS])


def assert_equal(one: Run, other: Run, rtol: float = 1e-5) -> None:
    assert one.newest_checkpoint().update == other.newest_checkpoint().update
    for name, expected in final(other).items():
        np.testing.assert_allclose(final(one)[name], expected, rtol=rtol, atol=1e-6)


@every_engine
def test_a_model_as_an_object_is_the_model_of_its_settings(engine: str) -> None:
    data, settings = own_parts.labels(), DeepGPSettings(**GP)
    model = build_model(settings, inputs=2, outputs=2, task="classification", seed=3)
    named = train(data=data, model=settings, **RATE, **ENGINES[engine])
    own = train(data=data, model=model, set=["model.test_samples=2"], **RATE, **ENGINES[engine])
    assert_equal(own, named, rtol=0)
    assert own.summary["test"] == named.summary["test"]
    assert own.summary["model"] == "own"
    assert own.config.model.object["of"] == "distvi.models.deep_gp:DeepGP"


def test_engines_agree_on_a_model_and_an_optimizer_of_one_s_own() -> None:
    data, parts = own_parts.arrays(), {"model": Line(2), "optimizer": own_parts.clipped}
    runs = {
        engine: train(data=data, **parts, **RATE, **{**settings, "batch_size": size})
        for (engine, settings), size in zip(ENGINES.items(), (16, 8, 8), strict=True)
    }
    assert_equal(runs["simulated"], runs["mesh"])
    assert_equal(runs["local"], runs["mesh"])
    assert len(final(runs["local"])) == 2


@every_engine
def test_a_model_without_predictions_trains_and_is_not_tested(
    engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dashboard = Dashboard()
    progress = Callbacks(Lines(), Live(), dashboard)
    run = train(*own_parts.arrays(), model=Line(2), progress=progress, **RATE, **ENGINES[engine])
    assert run.summary["test"] == {}
    assert run.summary["status"] == "done"
    assert run.figure.stat().st_size > 1000
    assert "without tests" in capsys.readouterr().err
    assert json.loads(dashboard.state_json())["tests"] == []
    with pytest.raises(InputError, match=r"has no predict\(params, x, key, samples\)"):
        distvi.evaluate(run)


@pytest.mark.parametrize(
    "model",
    [
        TestedLine(2),
        PlainLine(2),
        distvi.by_name("tests.own_parts:TestedLine", inputs=2),
        "tests.own_parts:line_of_two",
    ],
)
def test_a_model_is_made_again_from_the_run_folder(model: Any) -> None:
    data = own_parts.arrays()
    run = train(data=data, model=model, **RATE, **ENGINES["mesh"])
    again = Run(run.path)
    assert distvi.evaluate(again, data) == pytest.approx(run.summary["test"])
    assert distvi.predict(again, data[0], "out.csv") == 60
    assert_equal(distvi.resume(again, data=data), run)


def test_names_in_a_file_mean_the_same_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "parts.py").write_text("from tests.own_parts import *\n")
    names = {
        "model": "parts.py:line_of_two",
        "optimizer": "parts.py:clipped",
        "optimizer_options": {"limit": "0.5"},  # as the command line has it
        "rules": "parts.py:ShrinkSettings",
    }
    data, parts = own_parts.arrays(), {**SMALL, **names}
    run = distvi.train(data=data, out="here", **RATE, **parts, **ENGINES["mesh"])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    distvi.evaluate(tmp_path / run.path, data)
    again = distvi.train(config=tmp_path / run.path / "run.toml", data=data)
    assert_equal(again, Run(tmp_path / run.path), rtol=0)
    assert again.config.training.optimizer_options == {"limit": 0.5}


def test_resume_goes_on_with_everything_that_is_given_again(monkeypatch: Any) -> None:
    data, optimizer, scheme = own_parts.arrays(), optax.adam(1e-2), own_parts.lockstep()

    def parts() -> dict[str, Any]:
        return {"data": data, "model": replace(Line(2), transform=lambda f: f)}

    settings = {**SMALL, **ENGINES["simulated"], "checkpoint_every": 1}
    del settings["optimizer"]
    whole = distvi.train(optimizer=optimizer, scheme=scheme, **parts(), **settings)
    stopped = distvi.train(optimizer=optimizer, scheme=scheme, **parts(), **settings)
    newest = stopped.checkpoint_folder / "4"
    newest.rename(stopped.path / "gone")
    given = {**parts(), "optimizer": optimizer, "scheme": scheme}
    for name, words in {
        "data": "the data of this run were made in memory; give them again",
        "model": "'transform' of the model is a lambda",
        "optimizer": "the optimizer of this run was an object; give it again",
        "scheme": "the scheme of this run was an object; give it again",
    }.items():
        others = {key: value for key, value in given.items() if key != name}
        with pytest.raises(InputError, match=words):
            distvi.resume(stopped, **others)
    assert_equal(distvi.resume(stopped, **given), whole, rtol=0)
    with pytest.raises(InputError, match=r"not what it was when .* began: other values"):
        distvi.resume(whole, **{**given, "data": (data[0] + 1.0, data[1])})


def test_rules_and_schemes_of_one_s_own_travel_by_name() -> None:
    data, half = own_parts.arrays(), own_parts.ShrinkSettings(share=0.5)
    name = "tests.own_parts:ShrinkSettings"
    options: dict[str, Any] = {**ENGINES["local"], "scheme": own_parts.lockstep}
    own = train(data=data, model=Line(2), rules=[half], **RATE, **options)
    named = train(
        data=data, model=Line(2), rules=[name], rule_options={"share": 0.5}, **RATE, **options
    )
    plain = train(data=data, model=Line(2), learning_rate=5e-4, **options)
    assert_equal(own, named, rtol=0)
    assert_equal(own, plain)
    assert own.config.algorithm.rules == (name,)
    assert own.config.algorithm.scheme == "tests.own_parts:lockstep"


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (
            {"model": replace(Line(2), transform=lambda f: f)},
            "'transform' of the model is a lambda",
        ),
        ({"model": Line(2), "optimizer": optax.adam(0.1)}, "optimizer is made of closures; give"),
        ({"model": Line(2), "optimizer": lambda r: optax.sgd(r)}, "the optimizer is a lambda"),
    ],
)
def test_what_cannot_travel_is_told_before_anything_is_written(
    parts: dict[str, Any], words: str
) -> None:
    def call(**engine: Any) -> Run:
        return distvi.train(data=own_parts.arrays(), updates=2, batch_size=8, **parts, **engine)

    with pytest.raises(InputError, match=words) as caught:
        call(**ENGINES["local"])
    assert "Or use engine 'mesh' or 'simulated'" in str(caught.value)
    assert not Path("runs").exists()
    assert call(**ENGINES["mesh"]).summary["status"] == "done"


def test_a_class_made_in_a_function_is_told_where_to_go() -> None:
    class Inner(Line):
        pass

    with pytest.raises(InputError, match=r"the class of the model .* made inside a function"):
        train(data=own_parts.arrays(), model=Inner(2), **ENGINES["local"])


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (own_parts.Rows(2), r"a column \(batch, 1\) and a row \(batch,\) makes \(batch, batch\)"),
        (own_parts.Vector(2), r"negative ELBO has shape \(8,\) for a batch of 8"),
        (3, "the model is an int without init"),
        (type("Silent", (), {"init": print})(), "without neg_elbo.* and without loss"),
    ],
)
def test_a_model_that_is_wrong_is_told(model: Any, words: str) -> None:
    for _ in range(2):  # what JAX has traced before it does not look at again
        with pytest.raises(InputError, match=words):
            train(data=own_parts.arrays(), model=model, **ENGINES["mesh"])
    assert not Path("runs").exists()


def test_a_column_of_labels_is_the_row_that_it_means(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = own_parts.labels()
    row, column = (
        train(x, labels, model=GP, **RATE, **ENGINES["mesh"]) for labels in (y, y[:, None])
    )
    assert_equal(column, row, rtol=0)
    examples = distvi.data.from_arrays(x, y)
    parts = {name: getattr(examples, name) for name in ("train", "test")}
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is for users
    columns = {n: distvi.data.Examples(p.x, p.y[:, None].copy()) for n, p in parts.items()}
    as_dataset = train(replace(examples, **columns), model=GP, **RATE, **ENGINES["mesh"])
    assert_equal(as_dataset, row, rtol=0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, y: (x[:, 0], y), r"x has shape \(60,\); give one row for each example"),
        (lambda x, y: (x, y[:5]), "x has 60 rows and y has 5"),
        (lambda x, y: (x, np.eye(2)[y].astype(int)), r"y has shape \(60, 2\); for classes give"),
        (lambda x, y: (x, np.arange(60)), "60 different whole numbers .* say task='regression'"),
        (lambda x, y: (x * np.nan, y), "x: row 1, column 'x0' holds a missing value"),
        (lambda x, y: (x, y, x), r"give .* arrays as data=\(x, y\)"),
    ],
)
def test_arrays_that_cannot_be_learnt_from_are_told(change: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        train(data=change(*own_parts.labels()), model=GP, **ENGINES["mesh"])


def test_a_given_test_part_is_used() -> None:
    x, y = own_parts.labels()
    run = train(data=(x, y, x[:7], y[:7]), model=GP, **RATE, **ENGINES["mesh"])
    assert run.n_train == 60
    assert distvi.evaluate(run, (x[:7], y[:7])) == pytest.approx(run.summary["test"])
    with pytest.raises(InputError, match="target is given, which data in memory"):
        train(data=(x, y), target="y", **ENGINES["mesh"])


def test_what_this_process_alone_has_registered_trains_in_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("distvi.algorithms.registry.RULES", dict(RULES))
    monkeypatch.setattr("distvi.aggregation.registry._KNOWN", known := dict(SCHEMES))
    for module in ("aggregation.registry", "config.run", "training.prepare"):
        monkeypatch.setattr(f"distvi.{module}.SCHEMES", known)
    register("mine", own_parts.lockstep)
    register_rule("shrunk", own_parts.ShrinkSettings)
    named = {"scheme": "mine", "rules": ["shrunk"], "model": Line(2), "data": own_parts.arrays()}
    run = train(**named, **RATE, **ENGINES["local"])
    assert run.summary["status"] == "done"
    assert (run.config.algorithm.scheme, run.config.algorithm.rules) == ("mine", ("shrunk",))

    class Hidden(own_parts.ShrinkSettings):
        pass

    monkeypatch.setitem(vars(own_parts), "Hidden", Hidden)
    Hidden.__module__, Hidden.__name__ = own_parts.__name__, "Hidden"
    register_rule("hidden", Hidden)
    with pytest.raises(InputError, match=r"rule 'hidden' is .*Hidden, made inside a function"):
        train(**named | {"rules": ["hidden"]}, **RATE, **ENGINES["local"])


SCRIPT = """
from dataclasses import dataclass

import numpy as np
import distvi
from tests.own_parts import Line as Base, arrays


@dataclass(frozen=True)
class Line(Base):
    pass


def run():
    run = distvi.train(
        data=arrays(), model=Line(2), engine="local", workers=2, updates=3, batch_size=8, out="out"
    )
    print(run.summary["status"], run.config.model.object["of"])

{guard}
"""


def python(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A program in a process of its own, which finds these tests' modules."""
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{root}:{root / 'src'}"},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("guarded", [True, False])
def test_a_class_of_a_script_travels_to_its_processes(guarded: bool, tmp_path: Path) -> None:
    guard = 'if __name__ == "__main__":\n    run()' if guarded else "run()"
    script = tmp_path / "own_script.py"
    script.write_text(SCRIPT.format(guard=guard))
    done = python(tmp_path, script.name)
    if guarded:
        assert done.stdout.split() == ["done", f"{script.resolve()}:Line"], done.stderr
        assert distvi.resume(tmp_path / "out", data=own_parts.arrays()).summary["updates"] == 3
    else:
        assert done.returncode == 1
        assert "put the call below: if __name__ == '__main__':" in done.stderr


def test_a_class_of_a_session_is_told_to_move(tmp_path: Path) -> None:
    done = python(tmp_path, "-c", SCRIPT.format(guard="run()"))
    assert "was made in this session" in done.stderr
    assert "write it to a file, such as my_models.py" in done.stderr


def test_the_example_runs(tmp_path: Path) -> None:
    done = python(tmp_path, Path(__file__).parents[2] / "examples" / "own_model.py")
    assert "runs/arrays-0001: " in done.stdout, done.stderr
    assert Run(tmp_path / "runs" / "arrays-0001").summary["workers"] == 2


def test_jax_still_warns_of_outer_products() -> None:
    """What `distvi.models.checks` reads."""
    with warnings.catch_warnings(record=True) as caught, jax.numpy_rank_promotion("warn"):
        warnings.simplefilter("always")
        jax.eval_shape(lambda a, b: a - b, np.zeros((17, 1)), np.zeros(17))
    assert "(17, 1) (17,)" in str(caught[0].message)
