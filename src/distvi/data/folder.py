"""A data set as a folder: four uncompressed arrays, memory-mapped, and a description in JSON."""

import json
from pathlib import Path

import numpy as np

from distvi.data.columns import check_counts
from distvi.data.dataset import Dataset, Examples, Schema, Task
from distvi.data.mapping import map_npy
from distvi.data.numbers import check_finite
from distvi.errors import InputError

SCHEMA_FILE = "dataset.json"


def read_folder(folder: Path) -> Dataset:
    """The data set in ``dataset.json``, ``x_train.npy``, ``y_train.npy`` and the same of the test.

    Inputs are uint8 or float32, row after row, and stay in their files. Targets are as ``Task``
    says.

    Raises:
        InputError: a file is missing, cut short, or does not fit the others.
    """
    schema = _read_schema(folder / SCHEMA_FILE)
    train, test = (_read_part(folder, part, schema) for part in ("train", "test"))
    if train.x.dtype != test.x.dtype:
        raise InputError(
            f"{folder}: training inputs are {train.x.dtype}, those to test on {test.x.dtype}"
        )
    return Dataset(
        name=schema.name,
        task=schema.task,
        train=train,
        test=test,
        classes=schema.classes,
        inputs=schema.inputs,
        targets=schema.targets,
    )


def write_schema(folder: Path, schema: Schema) -> None:
    """Writes ``dataset.json``."""
    text = json.dumps(schema.to_json(), indent=1) + "\n"
    (folder / SCHEMA_FILE).write_text(text, encoding="utf-8")


def _read_schema(path: Path) -> Schema:
    try:
        return Schema.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not the description of a data set: {error!r}") from None


def _read_part(folder: Path, part: str, schema: Schema) -> Examples:
    x_file, y_file = folder / f"x_{part}.npy", folder / f"y_{part}.npy"
    x, y = map_npy(x_file), np.array(map_npy(y_file))
    if x.dtype not in (np.uint8, np.float32) or x.ndim != 2 or x.shape[1] != len(schema.inputs):
        raise InputError(
            f"{x_file}: {x.dtype} of shape {x.shape}; expected uint8 or float32 with "
            f"{len(schema.inputs)} columns"
        )
    if len(x) == 0 or y.ndim == 0 or len(y) != len(x):
        raise InputError(f"{y_file}: targets of shape {y.shape} for {len(x)} rows of inputs")
    examples = Examples(x, _checked_targets(y, schema, y_file))
    if x.dtype == np.float32:
        start = 0
        for block in examples.blocks():
            check_finite(block, schema.inputs, str(x_file), start)
            start += len(block)
    return examples


def _checked_targets(y: np.ndarray, schema: Schema, file: Path) -> np.ndarray:
    if schema.task is Task.CLASSIFICATION:
        if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
            raise InputError(f"{file}: {y.dtype} of shape {y.shape}; expected class numbers")
        if int(y.min()) < 0 or int(y.max()) >= len(schema.classes):
            raise InputError(f"{file}: class numbers must lie in 0 to {len(schema.classes) - 1}")
        return y.astype(np.int32)
    if y.ndim != 2 or y.shape[1] != len(schema.targets) or y.dtype.kind not in "iuf":
        raise InputError(
            f"{file}: {y.dtype} of shape {y.shape}; expected numbers in "
            f"{len(schema.targets)} columns"
        )
    stored = y.astype(np.float32)
    check_finite(stored, schema.targets, str(file))
    if schema.task is Task.COUNT:
        check_counts(stored, schema.targets[0], str(file))
    return stored
