"""Digits, the IDX files of MNIST, and folders of deformed images."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from distvi.data import Dataset, Examples, Schema, Standardization, Task, augment, load, load_inputs
from distvi.data.deformation import deformed
from distvi.data.folder import write_schema
from distvi.data.idx import read_idx
from distvi.errors import InputError


def idx_bytes(array: np.ndarray) -> bytes:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_mnist(folder: Path, seed: int, *, gzipped: bool = False) -> dict[str, np.ndarray]:
    """Four files in MNIST's form: 12 training and 5 test images of 4 x 4 pixels."""
    rng = np.random.default_rng(seed)
    arrays = {
        "train-images-idx3-ubyte": rng.integers(0, 256, (12, 4, 4), np.uint8),
        "train-labels-idx1-ubyte": np.arange(12, dtype=np.uint8) % 3,
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (5, 4, 4), np.uint8),
        "t10k-labels-idx1-ubyte": np.arange(5, dtype=np.uint8) % 3,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        if gzipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx_bytes(array)))
        else:
            (folder / name).write_bytes(idx_bytes(array))
    return arrays


def test_digits():
    digits = load("digits")
    assert digits.train.x.dtype == np.uint8
    assert digits.classes == tuple("0123456789")
    scale = Standardization.learn(digits.train, digits.task, digits.inputs_mode)
    x, y = scale.standardize(digits.train.x, digits.train.y)
    np.testing.assert_allclose(x.mean(axis=0), 0.0, atol=1e-5)
    deviations = x.std(axis=0)
    assert (np.diff(deviations) <= 1e-5).all()  # principal axes, the longest first
    np.testing.assert_array_equal(y, digits.train.y)


def test_digits_are_scikit_learn_s(monkeypatch: pytest.MonkeyPatch):
    fast = load("digits")
    monkeypatch.setattr("distvi.data.loading._installed_digits", lambda: None)
    imported = load("digits")
    for part in ("train", "test"):
        for name in ("x", "y"):
            ours, theirs = (getattr(getattr(data, part), name) for data in (fast, imported))
            np.testing.assert_array_equal(ours, theirs)
            assert ours.dtype == theirs.dtype


@pytest.mark.parametrize("name", ["digits", "mnist"])
@pytest.mark.parametrize("options", [{"target": "label"}, {"task": Task.REGRESSION}])
def test_images_have_their_own_target(tmp_path: Path, seed: int, name: str, options: dict):
    write_mnist(tmp_path, seed)
    with pytest.raises(InputError, match="its target is 'label'"):
        load(name, data_dir=tmp_path, **options)


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("below", ["", "mnist"])
def test_mnist_from_a_folder(tmp_path: Path, seed: int, gzipped: bool, below: str):
    arrays = write_mnist(tmp_path / below, seed, gzipped=gzipped)
    mnist = load("mnist", data_dir=tmp_path)
    np.testing.assert_array_equal(mnist.train.x, arrays["train-images-idx3-ubyte"].reshape(12, 16))
    np.testing.assert_array_equal(mnist.test.y, arrays["t10k-labels-idx1-ubyte"])
    assert mnist.classes == ("0", "1", "2")
    assert mnist.inputs_mode == "pca"
    assert load(tmp_path / below).name == (tmp_path / below).name


def test_mnist_from_the_environment(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch):
    write_mnist(tmp_path, seed)
    monkeypatch.setenv("DISTVI_DATA", str(tmp_path))
    assert len(load("mnist").train) == 12


def test_plain_idx_is_mapped(tmp_path: Path, seed: int):
    arrays = write_mnist(tmp_path, seed)
    train = load("mnist", data_dir=tmp_path).train
    base = train.x
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    x, y = train.take(np.array([7, 0, 7]))
    np.testing.assert_array_equal(x, arrays["train-images-idx3-ubyte"].reshape(12, 16)[[7, 0, 7]])
    np.testing.assert_array_equal(y, [1, 0, 1])
    np.testing.assert_array_equal(np.concatenate(list(train.blocks())), train.x)


@pytest.mark.parametrize("wrong", [-1, 12])
def test_rows_outside_a_mapped_file(tmp_path: Path, seed: int, wrong: int):
    write_mnist(tmp_path, seed)
    with pytest.raises(IndexError, match="0 to 11"):
        load("mnist", data_dir=tmp_path).train.take(np.array([wrong]))


def test_real_mnist(data_dir: Path):
    if not (data_dir / "mnist").is_dir():
        pytest.skip(f"no mnist in {data_dir}")
    mnist = load("mnist", data_dir=data_dir)
    assert mnist.train.x.shape == (60_000, 784)
    assert mnist.test.x.shape == (10_000, 784)
    assert np.bincount(mnist.test.y).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009
    ]  # fmt: skip
    scale = Standardization.learn(mnist.train, mnist.task, mnist.inputs_mode)
    assert np.all(scale.x_scale == 255)


def test_mnist_without_files(tmp_path: Path):
    with pytest.raises(InputError, match="distvi data fetch mnist --data-dir"):
        load("mnist", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"test_fraction": 0.1}, "test fraction"),
        ({"split_seed": 0}, "split seed"),
        ({"test_indices": [1]}, "list of test rows"),
    ],
)
def test_mnist_with_another_split(tmp_path: Path, seed: int, options: dict, what: str):
    write_mnist(tmp_path, seed)
    with pytest.raises(InputError, match=f"mnist: has its own test part, so leave the {what} out"):
        load("mnist", data_dir=tmp_path, **options)


def test_mnist_with_a_file_missing(tmp_path: Path, seed: int):
    write_mnist(tmp_path, seed)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match="no t10k-labels-idx1-ubyte or"):
        load("mnist", data_dir=tmp_path)


def test_labels_of_other_images(tmp_path: Path, seed: int):
    write_mnist(tmp_path, seed)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(7)))
    with pytest.raises(InputError, match=r"labels of shape \(7,\) for 12 images"):
        load("mnist", data_dir=tmp_path)


def test_one_class_only(tmp_path: Path, seed: int):
    write_mnist(tmp_path, seed)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.ones(12)))
    with pytest.raises(InputError, match="only one class"):
        load("mnist", data_dir=tmp_path)


WHOLE = idx_bytes(np.arange(24).reshape(2, 3, 4))
GZIPPED = gzip.compress(WHOLE)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "truncated: 0 bytes"),
        (WHOLE[:3], "truncated: 3 bytes"),
        (WHOLE[:9], "truncated inside its header"),
        (WHOLE[:-1], "truncated: its header announces 2 x 3 x 4 = 24 bytes, the file holds 23"),
        (WHOLE + b"x", "too long"),
        (b"\x89PNG\r\n\x1a\n", "not an IDX file of unsigned bytes"),
        (b"\0\0\x0d\x01\0\0\0\0", "not an IDX file of unsigned bytes"),  # floats
        (GZIPPED, "not an IDX file"),
    ],
    ids=["empty", "3 bytes", "header", "cut", "long", "png", "floats", "gzipped"],
)
def test_bad_idx(tmp_path: Path, content: bytes, what: str):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(InputError, match=what):
        read_idx(path)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (GZIPPED[:-9], "truncated or damaged gzip"),
        (GZIPPED[:20] + b"????" + GZIPPED[24:], "truncated or damaged gzip|cannot be read"),
        (WHOLE, "cannot be read: Not a gzipped file"),
        (gzip.compress(WHOLE[:-1]), "truncated: its header announces"),
        (b"", "truncated: 0 bytes"),
    ],
    ids=["cut", "damaged", "plain", "cut inside", "empty"],
)
def test_bad_gzipped_idx(tmp_path: Path, content: bytes, what: str):
    path = tmp_path / "file.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=what):
        read_idx(path)


def images(seed: int, count: int = 20) -> Dataset:
    """Random 8 x 8 images, bright in the middle and black at the border."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((count, 8, 8), np.uint8)
    pixels[:, 3:5, 3:5] = rng.integers(100, 256, (count, 2, 2))
    rows = Examples(pixels.reshape(count, 64), np.arange(count, dtype=np.int32) % 2)
    names = tuple(f"pixel{number}" for number in range(64))
    return Dataset("spots", Task.CLASSIFICATION, rows, rows, ("even", "odd"), names, ("label",))


def test_augment(tmp_path: Path, seed: int):
    spots, out, seen = images(seed), tmp_path / "out", []
    assert augment(spots, 5000, out, seed=1, progress=seen.append) == out
    many = load(out)
    assert (many.name, many.classes, many.inputs) == ("spots-5000", spots.classes, spots.inputs)
    assert len(many.train) == 5000
    np.testing.assert_array_equal(many.train.x[:20], spots.train.x)
    np.testing.assert_array_equal(many.test.x, spots.test.x)
    np.testing.assert_array_equal(many.test.y, spots.test.y)
    np.testing.assert_array_equal(many.train.y, np.arange(5000) % 20 % 2)
    assert seen[-1] == 5000
    assert sorted(seen) == seen
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_augment_is_reproducible_and_a_beginning_of_more(tmp_path: Path, seed: int):
    sizes = {"a": (3000, 1), "b": (3000, 1), "c": (4500, 1), "d": (3000, 2)}
    a, b, c, d = (
        load(augment(images(seed), rows, tmp_path / name, seed=draw)).train.x
        for name, (rows, draw) in sizes.items()
    )
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a, c[:3000])
    assert not np.array_equal(a, d)


def test_deformations_are_small_and_differ(seed: int):
    spots = images(seed, 64)
    block, labels = next(deformed(spots, 2000, seed=0))
    originals = spots.train.x[np.arange(2000) % 64].astype(float)
    np.testing.assert_array_equal(labels, spots.train.y[np.arange(2000) % 64])
    assert len(np.unique(block, axis=0)) > 1800
    # Light moves, and is neither made nor lost but for the stretching.
    ratio = block.sum(axis=1) / originals.sum(axis=1)
    assert 0.9 < ratio.mean() < 1.1
    row, column = np.divmod(np.arange(64), 8)
    for axis in (row, column):
        moved = block @ axis / block.sum(axis=1) - originals @ axis / originals.sum(axis=1)
        assert abs(moved.mean()) < 0.3
        assert 1.0 < moved.std() < 2.0  # whole shifts in -2 .. 2 alone have 1.41


def test_without_deformation_the_image_stays(seed: int, monkeypatch: pytest.MonkeyPatch):
    for name in ("SHIFT", "ROTATION", "STRETCH"):
        monkeypatch.setattr(f"distvi.data.deformation.LARGEST_{name}", 0)
    monkeypatch.setattr("distvi.data.deformation.ELASTIC_DEVIATION", 0.0)
    block, _ = next(deformed(images(seed), 20, seed=0))
    np.testing.assert_array_equal(block, images(seed).train.x)


def test_augment_never_overwrites(tmp_path: Path, seed: int):
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="exists already"):
        augment(images(seed), 50, tmp_path / "out")


def test_augment_into_a_file(tmp_path: Path, seed: int):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        augment(images(seed), 50, tmp_path / "file" / "out")


def test_augment_on_a_full_disk(tmp_path: Path, seed: int):
    with pytest.raises(InputError, match="the disk has"):
        augment(images(seed), 10**14, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_augment_keeps_all_originals(tmp_path: Path, seed: int):
    with pytest.raises(InputError, match="has 20 to train on"):
        augment(images(seed), 19, tmp_path / "out")


def test_augment_refuses_what_are_no_images(tmp_path: Path, seed: int):
    spots = images(seed)
    table = Examples(spots.train.x[:, :63], spots.train.y)
    dataset = Dataset(
        "table", spots.task, table, table, spots.classes, spots.inputs[:63], spots.targets
    )
    with pytest.raises(InputError, match="only square 8-bit images"):
        augment(dataset, 50, tmp_path / "out")


def test_an_interrupted_augment_leaves_nothing(tmp_path: Path, seed: int):
    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        augment(images(seed), 5000, tmp_path / "out", progress=stop)
    assert not list(tmp_path.iterdir())


def folder_of(tmp_path: Path, seed: int) -> Path:
    return augment(images(seed), 100, tmp_path / "out")


def test_a_folder_with_a_truncated_array(tmp_path: Path, seed: int):
    path = folder_of(tmp_path, seed) / "x_train.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"x_train\.npy: truncated"):
        load(path.parent)


def test_a_folder_with_an_array_missing(tmp_path: Path, seed: int):
    path = folder_of(tmp_path, seed) / "y_test.npy"
    path.unlink()
    with pytest.raises(InputError, match=r"y_test\.npy: no such file"):
        load(path.parent)


@pytest.mark.parametrize(
    ("file", "array", "what"),
    [
        ("x_train", np.zeros((100, 63), np.uint8), "expected uint8 or float32 with 64 columns"),
        ("x_train", np.zeros((100, 64), np.int16), "expected uint8 or float32"),
        ("x_train", np.zeros((64, 64), np.uint8).T, "stored by columns"),
        ("x_train", np.zeros((99, 64), np.uint8), "targets of shape \\(100,\\) for 99 rows"),
        ("x_train", np.full((100, 64), np.nan, np.float32), "row 1, column 'pixel0'"),
        ("x_train", np.zeros((100, 64), np.float32), "those to test on uint8"),
        ("y_train", np.zeros((100, 1)), "expected class numbers"),
        ("y_train", np.full(100, 2, np.uint8), "class numbers must lie in 0 to 1"),
        ("y_train", np.zeros(100, np.uint8), "the training part holds only one class"),
        ("y_train", np.array([None] * 100), "holds Python objects"),
    ],
)
def test_a_folder_with_foreign_arrays(
    tmp_path: Path, seed: int, file: str, array: np.ndarray, what: str
):
    folder = folder_of(tmp_path, seed)
    np.save(folder / f"{file}.npy", array)
    with pytest.raises(InputError, match=what):
        load(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "a", "task": "guessing"}'])
def test_a_folder_with_a_bad_description(tmp_path: Path, seed: int, text: str):
    folder = folder_of(tmp_path, seed)
    (folder / "dataset.json").write_text(text)
    with pytest.raises(InputError, match="not the description of a data set"):
        load(folder)


def test_a_folder_of_something_else(tmp_path: Path):
    with pytest.raises(InputError, match=r"without dataset\.json and without the IDX files"):
        load(tmp_path)


def test_a_folder_of_real_numbers_is_mapped_and_standardized(tmp_path: Path, seed: int):
    rng = np.random.default_rng(seed)
    arrays = {
        f"{name}_{part}": rng.normal(3, 2, (rows, columns)).astype(np.float32)
        for part, rows in (("train", 70), ("test", 30))
        for name, columns in (("x", 4), ("y", 2))
    }
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    write_schema(tmp_path, Schema("numbers", Task.REGRESSION, tuple("abcd"), ("u", "v")))
    data = load(tmp_path)
    rows = np.array([3, 69, 3])
    for found, name in zip(data.train.take(rows), ("x_train", "y_train"), strict=True):
        np.testing.assert_array_equal(found, arrays[name][rows])
    scale = Standardization.learn(data.train, data.task, data.inputs_mode)
    np.testing.assert_allclose(scale.x_shift, arrays["x_train"].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(scale.y_scale, arrays["y_train"].std(axis=0), rtol=1e-6)


def test_rows_of_a_mapped_file_do_not_become_resident(tmp_path: Path):
    rows = 100_000
    folder = tmp_path / "large"
    folder.mkdir()
    for part, count in (("train", rows), ("test", 2)):
        np.save(folder / f"x_{part}.npy", np.ones((count, 784), np.uint8))
        np.save(folder / f"y_{part}.npy", np.arange(count, dtype=np.int32) % 2)
    names = tuple(f"pixel{number}" for number in range(784))
    write_schema(folder, Schema("large", Task.CLASSIFICATION, names, ("label",), ("0", "1")))
    train = load(folder).train
    resident = Path("/proc/self/smaps")
    if not resident.exists():
        pytest.skip("this system does not tell what of a mapping is resident")
    for start in range(0, rows, 10_000):
        train.take(np.arange(start, start + 10_000))
    assert sum(1 for _ in train.blocks()) > 1
    mapping = resident.read_text().split(str(folder / "x_train.npy"), 1)[1]
    line = next(line for line in mapping.splitlines() if line.startswith("Rss:"))
    assert int(line.split()[1]) < 1000  # kB, of 76,000


def test_images_to_predict(tmp_path: Path, seed: int):
    arrays = write_mnist(tmp_path, seed)
    schema = load("mnist", data_dir=tmp_path).schema
    expected = arrays["t10k-images-idx3-ubyte"].reshape(5, 16)
    x = load_inputs(tmp_path / "t10k-images-idx3-ubyte", schema)
    np.testing.assert_array_equal(x, expected)
    np.save(tmp_path / "images.npy", arrays["t10k-images-idx3-ubyte"])
    np.testing.assert_array_equal(load_inputs(tmp_path / "images.npy", schema), expected)
    np.save(tmp_path / "images.npy", np.zeros((5, 3, 4)))
    with pytest.raises(InputError, match="the model takes rows of 16"):
        load_inputs(tmp_path / "images.npy", schema)
