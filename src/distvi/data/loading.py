"""From a name or a path to a split data set."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from distvi.data.columns import near, refuse_arrays
from distvi.data.dataset import Dataset, Examples, Schema, Task
from distvi.data.folder import SCHEMA_FILE, read_folder
from distvi.data.idx import read_idx
from distvi.data.mapping import map_npy
from distvi.data.mnist import holds_mnist, read_mnist
from distvi.data.npz import read_npz, read_npz_examples, read_npz_inputs
from distvi.data.numbers import store
from distvi.data.registry import Entry, available, data_folder, info
from distvi.data.splits import (
    is_train,
    parted,
    read_test_indices,
    refuse_one_class,
    refuse_two_splits,
    split,
)
from distvi.data.table_files import AS_FOUND, TableOptions, is_table
from distvi.data.tables import TableRows, read_table, read_table_examples, read_table_inputs
from distvi.errors import InputError, InputWarning

_NPZ = ".npz"
_BLOCK_CELLS = 1 << 20


def load(
    name_or_path: str | Path,
    *,
    data_dir: str | Path | None = None,
    target: str | Sequence[str] | None = None,
    task: Task | None = None,
    test_fraction: float | None = None,
    split_seed: int | None = None,
    test_indices: Integer[np.ndarray, " test"] | Sequence[int] | str | Path | None = None,
    options: TableOptions = AS_FOUND,
) -> Dataset:
    """A data set with its training and its test part.

    Args:
        name_or_path: A name of ``available()``, a ``.csv``, ``.parquet`` or ``.npz`` table, a
            folder of the four IDX files of MNIST, or a folder that ``augment`` wrote.
        data_dir: Where the files of named data sets are; else the environment variable
            ``DISTVI_DATA``, else the user's cache folder.
        target: The target column or columns of a table; all other columns are inputs.
        task: What to predict from a table; None: classification if the target is text,
            regression otherwise.
        test_fraction: How much of the rows to test on, where the data have no test part of their
            own; None: 0.1.
        split_seed: Seed of that split; None: 0.
        test_indices: The rows to test on instead, counted from 0; or a JSON file of them.
        options: How to read a CSV or Parquet table, where that is not to be read off the file.

    Raises:
        InputError: the data cannot be trained on; one line says what is wrong, and where.

    Example:
        >>> digits = load("digits")
        >>> len(digits.train), len(digits.test), digits.train.x.shape[1]
        (1617, 180, 64)
    """
    if isinstance(test_indices, str | Path):
        test_indices = read_test_indices(test_indices)
    refuse_two_splits(test_fraction, split_seed, test_indices)
    found = _whole(name_or_path, data_dir, target, task, options)
    if isinstance(found, TableRows):
        train = is_train(len(found.y), test_fraction, split_seed, test_indices)
        x, schema, notes = found.encoded(train)
        return parted(x, found.y, schema, train, drawn=test_indices is None, notes=notes)
    _refuse_table_options(str(name_or_path), options)
    if isinstance(found, Dataset):
        _refuse_split(found.name, test_fraction, split_seed, test_indices)
        _refuse_options(found.schema, target, task)
        return refuse_one_class(found)
    x, y, schema = found
    return split(x, y, schema, test_fraction, split_seed, test_indices)


def load_inputs(path: str | Path, schema: Schema, options: TableOptions = AS_FOUND) -> np.ndarray:
    """New inputs for a trained model; columns that are none of its inputs are not looked at.

    Args:
        path: A table with the model's input columns, or images or rows without names as ``.npy``
            or IDX.
        schema: The columns of the data that the model was trained on.
        options: How to read a CSV or Parquet table.

    Returns:
        x (rows, inputs).

    Raises:
        InputError: the file is missing or bad, or does not have the model's inputs.

    Warns:
        InputWarning: categories or missing values as the training rows did not have.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if is_table(path):
        return read_table_inputs(path, schema, options, _warn)
    refuse_arrays(schema, str(path))
    if suffix == _NPZ:
        return read_npz_inputs(path, schema)
    x = map_npy(path) if suffix == ".npy" else read_idx(path)
    return _rows(x, schema, str(path))


def load_examples(path: str | Path, schema: Schema, options: TableOptions = AS_FOUND) -> Examples:
    """New inputs for a trained model with their targets; see `load_inputs`.

    Args:
        path: A table with the model's input and target columns.
        schema: The columns of the data that the model was trained on.
        options: How to read a CSV or Parquet table.

    Raises:
        InputError: the file is missing or bad, or does not have the model's inputs and targets.
    """
    path = Path(path)
    if is_table(path):
        return read_table_examples(path, schema, options, _warn)
    refuse_arrays(schema, str(path))
    if path.suffix.lower() == _NPZ:
        return Examples(*read_npz_examples(path, schema))
    targets = ", ".join(schema.targets)
    raise InputError(f"{path}: holds no targets ({targets}): it is no CSV, Parquet or NPZ table")


def _warn(note: str) -> None:
    warnings.warn(note, InputWarning, stacklevel=4)


def _rows(x: np.ndarray, schema: Schema, where: str) -> np.ndarray:
    """Rows without names: uint8 as they are, all else as checked float32."""
    if x.dtype.kind not in "biuf":
        raise InputError(f"{where}: holds no numbers but {x.dtype}")
    if not x.size:
        raise InputError(f"{where}: the array is empty: its shape is {x.shape}")
    flat = x.reshape(len(x), -1) if x.ndim > 1 else x
    if flat.ndim != 2 or flat.shape[1] != len(schema.inputs):
        raise InputError(
            f"{where}: an array of shape {x.shape}; the model takes rows of {len(schema.inputs)}"
        )
    if flat.dtype == np.uint8:
        return flat
    step = max(1, _BLOCK_CELLS // flat.shape[1])
    blocks = (flat[start : start + step] for start in range(0, len(flat), step))
    return store(blocks, len(flat), schema.inputs, where)


def _whole(
    name_or_path: str | Path,
    data_dir: str | Path | None,
    target: str | Sequence[str] | None,
    task: Task | None,
    options: TableOptions,
) -> Dataset | TableRows | tuple[np.ndarray, np.ndarray, Schema]:
    """A data set with its own split, or rows that are still to be split."""
    name, path = str(name_or_path), Path(name_or_path)
    targets = (target,) if isinstance(target, str) else tuple(target or ())
    names = [entry.name for entry in available()]
    if is_table(path) and not path.is_dir():
        return read_table(path, targets, task, options)
    if name in names:
        return _named(info(name), data_dir, targets, task, options)
    if path.is_dir():
        return _folder(path)
    if path.suffix.lower() == _NPZ:
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        return read_npz(path, targets, task)
    if path.is_file():
        raise InputError(f"{path}: not a kind of table known here; save it as CSV, Parquet or NPZ")
    if os.sep in name:
        raise InputError(f"{path}: no such file or folder")
    raise InputError(f"unknown data set {name!r}, and no file of this name{near(name, names)}")


def _named(
    entry: Entry,
    data_dir: str | Path | None,
    targets: Sequence[str],
    task: Task | None,
    options: TableOptions,
) -> Dataset | TableRows | tuple[np.ndarray, np.ndarray, Schema]:
    if entry.name == "digits":
        x, y, schema = _digits()
        _refuse_options(schema, targets, task)
        return x, y, schema
    folder = data_folder(data_dir)
    if not entry.table:
        return _named_mnist(entry.name, folder)
    for path in (folder / Path(entry.table).name, folder / entry.table):
        if path.is_file():
            rows = read_table(path, targets or (entry.target,), task or entry.task, options)
            return replace(rows, schema=replace(rows.schema, name=entry.name))
    raise InputError(
        f"{folder / entry.table}: no such file; the data set {entry.name!r} goes there"
    )


def _named_mnist(name: str, folder: Path) -> Dataset:
    for place in (folder, folder / name):
        if holds_mnist(place):
            return read_mnist(place, name)
    raise InputError(
        f"no MNIST files in {folder} or {folder / name}; "
        f"`distvi data fetch {name} --data-dir {folder}` downloads them"
    )


def _folder(folder: Path) -> Dataset:
    if (folder / SCHEMA_FILE).is_file():
        return read_folder(folder)
    if holds_mnist(folder):
        return read_mnist(folder, folder.resolve().name)
    raise InputError(f"{folder}: a folder without {SCHEMA_FILE} and without the IDX files of MNIST")


def _digits() -> tuple[np.ndarray, np.ndarray, Schema]:
    pixels, labels = _installed_digits() or _imported_digits()
    inputs = tuple(f"pixel{number}" for number in range(pixels.shape[1]))
    classes = tuple(str(digit) for digit in range(10))
    schema = Schema("digits", Task.CLASSIFICATION, inputs, ("label",), classes)
    return pixels.astype(np.uint8), labels.astype(np.int32), schema


def _installed_digits() -> tuple[np.ndarray, np.ndarray] | None:
    """The file among scikit-learn's own, without the second that it takes to import it."""
    try:
        installed = metadata.files("scikit-learn") or []
    except metadata.PackageNotFoundError:
        return None
    for file in installed:
        if file.name == "digits.csv.gz" and (path := Path(str(file.locate()))).is_file():
            rows = np.loadtxt(path, delimiter=",")
            return rows[:, :-1], rows[:, -1]
    return None


def _imported_digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return np.asarray(pixels), np.asarray(labels)


def _refuse_split(name: str, fraction: object, seed: object, indices: object) -> None:
    """Refuses another split where the data have their own."""
    given = {"test fraction": fraction, "split seed": seed, "list of test rows": indices}
    for what, value in given.items():
        if value is not None:
            raise InputError(f"{name}: has its own test part, so leave the {what} out")


def _refuse_table_options(name: str, options: TableOptions) -> None:
    """Refuses options of CSV and Parquet tables where the data are none."""
    for option, value in asdict(options).items():
        if value is not None:
            raise InputError(f"{name}: is no CSV or Parquet table, so leave {option} out")


def _refuse_options(schema: Schema, target: str | Sequence[str] | None, task: Task | None) -> None:
    """Refuses a target or another task where the data have their own."""
    if target or task not in (None, schema.task):
        raise InputError(
            f"{schema.name}: its target is {schema.targets[0]!r} and its task "
            f"{str(schema.task)!r}; no other can be chosen"
        )
