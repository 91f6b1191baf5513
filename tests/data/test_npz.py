"""NPZ archives as tables."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distvi.data import Task, load, load_examples, load_inputs
from distvi.data.npz import read_npz
from distvi.errors import InputError

Save = Callable[..., None]


@pytest.fixture(params=[np.savez, np.savez_compressed])
def save(request: pytest.FixtureRequest) -> Save:
    return request.param


def test_images_and_labels(tmp_path: Path, save: Save, seed: int):
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 2, 3), np.uint8)
    save(tmp_path / "t.npz", x=pixels, label=np.array(list("abcabc")))
    data = load(tmp_path / "t.npz", target="label", test_indices=[5])
    assert data.train.x.dtype == np.uint8
    np.testing.assert_array_equal(data.train.x, pixels.reshape(6, 6)[:5])
    np.testing.assert_array_equal(data.train.y, [0, 1, 2, 0, 1])
    assert (data.task, data.classes) == (Task.CLASSIFICATION, ("a", "b", "c"))
    assert data.inputs == ("x0", "x1", "x2", "x3", "x4", "x5")


def test_columns_side_by_side(tmp_path: Path, save: Save):
    arrays = {"a": np.arange(3), "b": np.ones((3, 2)), "y": np.arange(6.0).reshape(3, 2)}
    save(tmp_path / "t.npz", **arrays)
    data = load(tmp_path / "t.npz", target="y", test_indices=[0])
    assert (data.inputs, data.targets) == (("a", "b0", "b1"), ("y0", "y1"))
    np.testing.assert_array_equal(data.train.x, np.array([[1, 1, 1], [2, 1, 1]], np.float32))
    np.testing.assert_array_equal(data.train.y, np.array([[2, 3], [4, 5]], np.float32))
    assert load_inputs(tmp_path / "t.npz", data.schema).shape == (3, 3)
    examples = load_examples(tmp_path / "t.npz", data.schema)
    assert examples.x.shape == (3, 3)
    np.testing.assert_array_equal(examples.y, arrays["y"])


def test_whole_numbers_as_classes(tmp_path: Path, save: Save):
    save(tmp_path / "t.npz", x=np.ones((3, 1)), y=np.array([10.0, 9.0, 9.0]))
    data = load(tmp_path / "t.npz", target="y", task=Task.CLASSIFICATION, test_indices=[2])
    assert data.classes == ("9", "10")


def test_true_and_false_are_classes(tmp_path: Path, save: Save):
    save(tmp_path / "t.npz", x=np.arange(3), y=np.array([True, False, True]))
    data = load(tmp_path / "t.npz", target="y", test_indices=[2])
    assert data.classes == ("false", "true")
    np.testing.assert_array_equal(data.train.y, [1, 0])


def test_uncompressed_images_are_mapped(tmp_path: Path):
    np.savez(tmp_path / "t.npz", x=np.ones((3, 4), np.uint8), y=np.arange(3))
    x, _, _ = read_npz(tmp_path / "t.npz", ["y"])
    base: object = x
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)


@pytest.mark.parametrize(
    ("arrays", "options", "what"),
    [
        ({"x": np.ones((2, 1)), "label": [0, 1]}, {"target": "labels"}, "did you mean 'label'"),
        ({"x": np.ones((2, 1)), "y": [0, 1, 2]}, {}, "differ in their number of rows: x 2, y 3"),
        ({"x": np.ones((0, 1)), "y": np.ones(0)}, {}, "is empty"),
        ({}, {}, "the archive is empty"),
        ({"x": 1.0, "y": 1.0}, {}, "is empty"),
        ({"y": [0, 1]}, {}, "no input arrays"),
        ({"x": [[1, 2], [3, np.nan]], "y": [0, 1]}, {}, "row 2, column 'x1' holds a missing"),
        ({"x": [1, np.inf], "y": [0, 1]}, {}, "row 2, column 'x' holds an infinite"),
        ({"x": [1, 2], "y": [0, np.nan]}, {}, "row 2, column 'y' holds a missing"),
        ({"x": ["u", "v"], "y": [0, 1]}, {}, "'x' holds no numbers but <U1"),
        ({"x": [1j, 2j], "y": [0, 1]}, {}, "'x' holds no numbers but complex"),
        ({"x": [1, 2], "y": ["u", "u"]}, {}, "only one class, 'u'"),
        ({"x": [1, 2], "y": ["u", ""]}, {}, "row 2, column 'y' holds no label"),
        ({"x": [1, 2], "y": [0.5, 1]}, {"task": Task.CLASSIFICATION}, "not whole"),
        ({"x": [1, 2], "y": [np.nan, 1]}, {"task": Task.CLASSIFICATION}, "not whole"),
        ({"x": [1, 2], "y": [-1, 1]}, {"task": Task.COUNT}, "row 1, column 'y' holds -1"),
        ({"x": [1, 2], "y": [[0, 1], [1, 0]]}, {"task": Task.CLASSIFICATION}, "holds no labels"),
    ],
)
def test_bad_arrays(
    tmp_path: Path, save: Save, arrays: dict[str, object], options: dict, what: str
):
    path = tmp_path / "t.npz"
    save(path, **{name: np.asarray(array) for name, array in arrays.items()})
    with pytest.raises(InputError, match=what):
        load(path, **{"target": "y", "test_indices": [0], **options})


def test_python_objects(tmp_path: Path, save: Save):
    save(tmp_path / "t.npz", x=np.array([None, 1]), y=np.ones(2))
    with pytest.raises(InputError, match=r"t\.npz"):
        load(tmp_path / "t.npz", target="y")


def test_not_an_archive(tmp_path: Path):
    (tmp_path / "t.npz").write_bytes(b"something else")
    with pytest.raises(InputError, match="not a readable NPZ archive"):
        load(tmp_path / "t.npz", target="y")


def test_a_truncated_archive(tmp_path: Path, save: Save):
    save(tmp_path / "t.npz", x=np.ones((100, 10)), y=np.ones(100))
    content = (tmp_path / "t.npz").read_bytes()
    (tmp_path / "t.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="not a readable NPZ archive"):
        load(tmp_path / "t.npz", target="y")


def test_targets_are_not_read_for_prediction(tmp_path: Path, save: Save):
    save(tmp_path / "t.npz", a=np.arange(3), y=np.arange(3.0))
    schema = load(tmp_path / "t.npz", target="y", test_indices=[0]).schema
    save(tmp_path / "new.npz", a=np.arange(3), y=np.full(3, np.nan))
    np.testing.assert_array_equal(load_inputs(tmp_path / "new.npz", schema)[:, 0], [0, 1, 2])
    save(tmp_path / "new.npz", a=np.arange(3))
    with pytest.raises(InputError, match="no column named 'y', the target"):
        load_examples(tmp_path / "new.npz", schema)
