"""The picture of a run: it appears, has its size, and survives tables of one row."""

from pathlib import Path

import matplotlib as mpl
import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from distvi.evaluation.metrics import ClassificationMetrics, Intervals, Reliability
from distvi.report.figures import number_text, run_figure


def training_table(rows: int) -> dict[str, np.ndarray]:
    update = 100 * np.arange(1, rows + 1)
    return {
        "update": update,
        "training_time_s": 0.01 * update,
        "neg_elbo": 0.1 + 5 * np.exp(-update / 500),
    }


def evaluation_table(rows: int, score: str) -> dict[str, np.ndarray]:
    update = 300 * np.arange(1, rows + 1)
    return {
        "update": update,
        "training_time_s": 0.01 * update,
        score: 0.02 + 0.1 * np.exp(-update / 500),
        "mnll": np.exp(-update / 500) - 0.5,
    }


def reliability(points: int) -> Reliability:
    metrics = ClassificationMetrics()
    top = np.linspace(0.55, 1, points)
    metrics.update(np.stack([top, 1 - top], axis=1), np.arange(points) % 5 // 4)
    return metrics.reliability()


def intervals(points: int) -> Intervals:
    true = np.linspace(-3, 5, points) ** 3
    mean = true + np.sin(7 * true)
    return Intervals("strength (MPa)", true, mean, mean - 0.8, mean + 0.8)


@pytest.mark.parametrize(("rows", "points"), [(1, 1), (2, 5000), (60, 2)])
@pytest.mark.parametrize("score", ["error_rate", "rmse"])
def test_png_of_the_announced_size(tmp_path: Path, rows: int, points: int, score: str):
    path = tmp_path / "run.png"
    tests = evaluation_table(rows, score)
    if score == "rmse":
        tests |= {f"coverage_{level}": np.full(rows, level / 100) for level in (50, 90, 95)}
    run_figure(
        path,
        title="digits, 2 hidden layers",
        training=training_table(rows),
        tests=tests,
        predictions=reliability(points) if score == "error_rate" else intervals(points),
    )
    image = matplotlib.image.imread(path)
    assert image.shape[:2] == (720, 1800)
    assert np.ptp(image[..., :3]) > 0.9  # not a blank page


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_left_out(tmp_path: Path, bad: float):
    training, tests = training_table(5), evaluation_table(5, "error_rate")
    training["neg_elbo"][-1] = tests["mnll"][0] = bad
    tests["error_rate"][:] = bad
    path = tmp_path / "run.png"
    run_figure(path, title="", training=training, tests=tests, predictions=reliability(9))
    assert path.exists()


def test_matplotlib_settings_of_the_caller_stay_and_do_not_show(tmp_path: Path):
    def draw(name: str) -> bytes:
        path = tmp_path / name
        run_figure(
            path,
            title="t",
            training=training_table(9),
            tests=evaluation_table(9, "error_rate"),
            predictions=reliability(50),
        )
        return path.read_bytes()

    plain = draw("a.png")
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        assert draw("b.png") == plain
        assert mpl.rcParams["font.size"] == 30


def test_a_picture_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def half(figure: object, path: Path, format: str) -> None:
        path.write_bytes(b"half")
        raise OSError("no space")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", half)
    training, tests = training_table(5), evaluation_table(5, "error_rate")
    path = tmp_path / "run.png"
    with pytest.raises(OSError, match="no space"):
        run_figure(path, title="", training=training, tests=tests, predictions=reliability(9))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a_$_b_$", "$\\nonsense$", "日本", "w" * 300])
def test_any_name_can_stand_in_a_picture(tmp_path: Path, name: str):
    predictions = intervals(40)._replace(target=name)
    path = tmp_path / "run.png"
    run_figure(
        path,
        title=name,
        training=training_table(5),
        tests=evaluation_table(5, "rmse"),
        predictions=predictions,
    )
    assert path.exists()


@pytest.mark.parametrize("unit", [1e-2, 1.0, 1e6])
def test_numbers_are_written_out_and_the_constant_is_seen(
    tmp_path: Path, unit: float, monkeypatch: pytest.MonkeyPatch
):
    tests = evaluation_table(9, "rmse")
    tests["rmse"] *= unit
    shown = intervals(40)
    scaled = {name: unit * getattr(shown, name) for name in ("true", "mean", "lower", "upper")}
    texts: list[str] = []

    def read(figure: Figure, *where: object, **options: object) -> None:
        figure.draw_without_rendering()
        texts.extend(text.get_text() for text in figure.findobj(Text))
        figure.canvas.print_png(str(where[0]))  # pyright: ignore[reportAttributeAccessIssue]

    monkeypatch.setattr(Figure, "savefig", read)
    run_figure(
        tmp_path / "run.png",
        title="",
        training=training_table(9),
        tests=tests,
        predictions=shown._replace(**scaled),
        constant={"rmse": 0.3 * unit, "mnll": np.inf},
    )
    assert not [text for text in texts if text.startswith(("1e", "+"))]  # offsets
    (constant,) = [text for text in texts if "constant" in text]
    assert constant == f"\N{UPWARDS ARROW} constant {number_text(0.3 * unit)}"
    if unit > 1:
        assert {"300,000", "50,000,000"} & {text.split()[-1] for text in texts if text}
