"""NPZ archives: each array is one column or several."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from distvi.data.columns import (
    check_columns,
    check_counts,
    check_has_targets,
    check_targets,
    choose_task,
    class_numbers,
)
from distvi.data.dataset import Schema, Task
from distvi.data.mapping import map_array, read_npy_header
from distvi.data.numbers import store
from distvi.errors import InputError

_BLOCK_CELLS = 1 << 20
_LOCAL_HEADER_BYTES = 30


def read_npz(
    path: Path, targets: Sequence[str], task: Task | None = None
) -> tuple[np.ndarray, np.ndarray, Schema]:
    """Inputs, targets and their description; every array that is no target is an input.

    All arrays have as many rows. One with a row of several numbers (or an image) is as many
    columns, named by the array's name and a number.

    Args:
        path: The file.
        targets: The target arrays.
        task: What to predict; None: classification of text and of true and false, else
            regression.

    Returns:
        x uint8 or float32 (rows, inputs), y as ``Task`` says, and the columns.

    Raises:
        InputError: anything about the file that cannot be trained on, with where.
    """
    where, arrays = str(path), _arrays(path)
    check_targets(targets, list(arrays), task, where)
    task = choose_task(task, any(arrays[name].dtype.kind in "USb" for name in targets))
    check_targets(targets, list(arrays), task, where)
    features = {name: array for name, array in arrays.items() if name not in targets}
    if not features:
        raise InputError(f"{where}: no input arrays: all are targets")
    x, inputs = _numbers(features, where)
    wanted = {name: arrays[name] for name in targets}
    y, names, classes = _targets(wanted, task, where)
    return x, y, Schema(path.name, task, inputs, names, classes)


def read_npz_inputs(path: Path, schema: Schema) -> np.ndarray:
    """The inputs of a trained model from an archive.

    Raises:
        InputError: an input is missing, or its values are bad.
    """
    return _inputs(_arrays(path), schema, str(path))


def read_npz_examples(path: Path, schema: Schema) -> tuple[np.ndarray, np.ndarray]:
    """The inputs of a trained model from an archive, and the targets.

    Raises:
        InputError: an input or a target is missing, or its values are bad.
    """
    where, arrays = str(path), _arrays(path)
    x = _inputs(arrays, schema, where)
    names = {name: _column_names(name, array) for name, array in arrays.items()}
    check_has_targets([each for columns in names.values() for each in columns], schema, where)
    given = set(schema.targets)
    targets = {name: arrays[name] for name, columns in names.items() if given & set(columns)}
    return x, _targets(targets, schema.task, where, schema.classes or None)[0]


def _inputs(arrays: Mapping[str, np.ndarray], schema: Schema, where: str) -> np.ndarray:
    columns = {name: _column_names(name, array) for name, array in arrays.items()}
    check_columns([name for names in columns.values() for name in names], schema.inputs, where)
    known = set(schema.inputs)
    features = {name: arrays[name] for name, names in columns.items() if known & set(names)}
    x, inputs = _numbers(features, where)
    if inputs != schema.inputs:
        position = {name: number for number, name in enumerate(inputs)}
        x = x[:, [position[name] for name in schema.inputs]]
    return x


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of the archive; those not compressed are memory-mapped."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
            arrays = {
                member.filename.removesuffix(".npy"): _member(archive, member, path)
                for member in members
            }
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable NPZ archive: {error}") from None
    if not arrays:
        raise InputError(f"{path}: the archive is empty: it holds no arrays")
    rows = {name: array.shape[0] if array.ndim else 0 for name, array in arrays.items()}
    if min(rows.values()) == 0:
        raise InputError(f"{path}: the array {min(rows, key=rows.__getitem__)!r} is empty")
    if len(set(rows.values())) > 1:
        sizes = ", ".join(f"{name} {count}" for name, count in rows.items())
        raise InputError(f"{path}: the arrays differ in their number of rows: {sizes}")
    return arrays


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> np.ndarray:
    if member.compress_type != zipfile.ZIP_STORED:
        with archive.open(member) as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    with path.open("rb") as file:
        # PKWARE's APPNOTE 4.3.7: the name and an extra field lie between header and content.
        file.seek(member.header_offset)
        header = file.read(_LOCAL_HEADER_BYTES)
        skip = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        start = member.header_offset + _LOCAL_HEADER_BYTES + skip
        file.seek(start)
        dtype, shape, offset = read_npy_header(file, path)
    if offset - start + int(np.prod(shape)) * dtype.itemsize > member.file_size:
        raise InputError(f"{path}: the array {member.filename!r} is cut short")
    return map_array(path, dtype, shape, offset)


def _column_names(name: str, array: np.ndarray) -> tuple[str, ...]:
    if array.ndim == 1:
        return (name,)
    return tuple(f"{name}{number}" for number in range(int(np.prod(array.shape[1:]))))


def _numbers(arrays: Mapping[str, np.ndarray], where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Arrays side by side: a single uint8 array as it is, all else as checked float32."""
    names: list[str] = []
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise InputError(f"{where}: the array {name!r} holds no numbers but {array.dtype}")
        names.extend(_column_names(name, array))
    flat = [array.reshape(len(array), -1) for array in arrays.values()]
    if len(flat) == 1 and flat[0].dtype == np.uint8:
        return flat[0], tuple(names)
    rows = len(flat[0])
    step = max(1, _BLOCK_CELLS // len(names))
    blocks = (
        np.concatenate([array[start : start + step] for array in flat], axis=1)
        for start in range(0, rows, step)
    )
    return store(blocks, rows, names, where), tuple(names)


def _targets(
    arrays: Mapping[str, np.ndarray],
    task: Task,
    where: str,
    classes: Sequence[str] | None = None,
) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    if task is not Task.CLASSIFICATION:
        y, names = _numbers({name: a.astype(np.float64) for name, a in arrays.items()}, where)
        if task is Task.COUNT:
            check_counts(y, names[0], where)
        return y, names, ()
    ((name, labels),) = arrays.items()
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim != 1 or labels.dtype.kind not in "biufUS":
        raise InputError(f"{where}: {name!r} holds no labels but {labels.dtype} {labels.shape}")
    if labels.dtype.kind == "b":
        labels = np.where(labels, "true", "false")
    if labels.dtype.kind == "f":
        if not np.all(labels == np.floor(labels)):
            raise InputError(f"{where}: {name!r} holds numbers that are not whole: no classes")
        labels = labels.astype(np.int64)
    found, codes = np.unique(labels, return_inverse=True)
    y, classes = class_numbers([_text(label) for label in found], codes, name, where, classes)
    return y, (name,), tuple(classes)


def _text(label: object) -> str:
    return label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label)
