"""Any number of deformed images from a data set of small ones, written as they are made."""

import contextlib
import io
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import isqrt
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from distvi.data.dataset import Dataset, Task
from distvi.data.folder import write_schema
from distvi.errors import InputError

LARGEST_SHIFT = 2
"""Pixels, either way."""
LARGEST_ROTATION = np.deg2rad(10.0)
LARGEST_STRETCH = 0.10
"""Of the image's size, in each direction, and as shear."""
ELASTIC_DEVIATION = 0.6
"""Pixels, root mean square at the knots."""

_LARGEST_CLASS = 255
_KNOTS = 7
_IMAGES_A_FIELD = 32
_FIELDS_A_BLOCK = 64
_BLOCK = _IMAGES_A_FIELD * _FIELDS_A_BLOCK


def augment(
    dataset: Dataset,
    rows: int,
    out_dir: str | Path,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Writes a data set of ``rows`` training images to a new folder that ``load`` takes.

    First come the originals, then deformations of them in turn (see ``deformed``), in bounded
    memory; the test part is copied as it is. The folder appears when it is complete. The same
    seed gives the same files, and fewer rows give the beginning of more.

    Args:
        dataset: Square images of unsigned bytes with class labels, such as MNIST.
        rows: Training images in all; at least as many as there are originals.
        out_dir: The folder to write; it must not exist.
        seed: Seed of the deformations, from 0 on.
        progress: Called with the number of rows written so far.

    Returns:
        The folder.

    Raises:
        InputError: these are no such images, too few rows, no room on the disk, or the folder
            exists or cannot be written.
    """
    out_dir = Path(out_dir)
    _check(dataset, rows, seed)
    partial = out_dir.with_name(f".{out_dir.name}.partial-{os.getpid()}")
    if out_dir.exists():
        raise InputError(f"{out_dir}: exists already and is never overwritten; choose another")
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{out_dir}: cannot be written: {error.strerror}") from None
    try:
        _check_room(partial, rows, dataset, out_dir)
        _write(dataset, rows, partial, seed, progress or (lambda _: None))
        partial.rename(out_dir)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return out_dir


def deformed(
    dataset: Dataset, rows: int, seed: int
) -> Iterator[tuple[UInt8[np.ndarray, "block pixels"], np.ndarray]]:
    """Blocks of images and labels without end of the originals: ``rows`` deformations in turn.

    Each image is moved by up to ``LARGEST_SHIFT`` whole pixels, turned by up to 10 degrees,
    stretched and sheared by up to a tenth, and warped by a smooth random field (Simard, Steinkraus
    and Platt 2003). One such field serves ``_IMAGES_A_FIELD`` images in a row: then each pixel of
    the field is looked up once for all of them, in contiguous memory.

    Yields:
        Images and their labels.
    """
    side = isqrt(dataset.train.x.shape[1])
    originals = len(dataset.train)
    for number, start in enumerate(range(0, rows, _BLOCK)):
        rng = np.random.Generator(
            np.random.Philox(np.random.SeedSequence(seed, spawn_key=(number,)))
        )
        taken = np.arange(start, start + _BLOCK) % originals
        images, labels = dataset.train.take(taken)
        out = _warp(images, _sources(rng, side), side)
        count = min(_BLOCK, rows - start)
        yield out[:count], labels[:count]


def _sources(rng: np.random.Generator, side: int) -> Float32[np.ndarray, "fields 2 side side"]:
    """For each field and pixel, the point of the original (row, column) that is seen there."""
    fields = _FIELDS_A_BLOCK
    centre = (side - 1) / 2
    grid = (np.indices((side, side)) - centre).astype(np.float32)
    angle = rng.uniform(-LARGEST_ROTATION, LARGEST_ROTATION, fields)
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.moveaxis(np.array([[cos, -sin], [sin, cos]]), 2, 0)
    stretch = np.eye(2) + rng.uniform(-LARGEST_STRETCH, LARGEST_STRETCH, (fields, 2, 2))
    affine = (rotation @ stretch).astype(np.float32)
    shift = rng.integers(-LARGEST_SHIFT, LARGEST_SHIFT + 1, (fields, 2, 1, 1))
    knots = rng.standard_normal((fields, 2, _KNOTS, _KNOTS), np.float32) * ELASTIC_DEVIATION
    smooth = _smoothing(side)
    elastic = smooth @ knots @ smooth.T
    points = np.einsum("fij,jrc->firc", affine, grid) + shift.astype(np.float32)
    return points + elastic + np.float32(centre)


def _smoothing(side: int) -> Float32[np.ndarray, "side knots"]:
    """Gaussian weights that spread values at evenly spaced knots over the pixels."""
    spacing = (side - 1) / (_KNOTS - 1)
    distance = np.arange(side)[:, None] - np.arange(_KNOTS)[None, :] * spacing
    weights = np.exp(-0.5 * (distance / spacing) ** 2)
    return (weights / np.sqrt(np.square(weights).sum(axis=1, keepdims=True))).astype(np.float32)


def _warp(
    images: UInt8[np.ndarray, "block pixels"],
    sources: Float32[np.ndarray, "fields 2 side side"],
    side: int,
) -> UInt8[np.ndarray, "block pixels"]:
    """Bilinear interpolation of the images at the source points; outside them is zero."""
    padded_side = side + 2
    padded = np.zeros((len(images), padded_side, padded_side), np.float32)
    padded[:, 1:-1, 1:-1] = images.reshape(-1, side, side)
    groups = padded.reshape(len(sources), -1, padded_side**2).transpose(0, 2, 1)
    points = np.clip(sources + 1, 0, padded_side - 1 - 1e-4)
    corner = points.astype(np.intp)
    part = points - corner
    top, left = part[:, 0, ..., None], part[:, 1, ..., None]
    first = corner[:, 0] * padded_side + corner[:, 1]
    out = np.empty((len(sources), _IMAGES_A_FIELD, side**2), np.uint8)
    for field, pixels in enumerate(groups):
        pixels = np.ascontiguousarray(pixels)
        at, down, right = (
            first[field].ravel(),
            top[field].reshape(-1, 1),
            left[field].reshape(-1, 1),
        )
        upper = pixels[at] * (1 - right) + pixels[at + 1] * right
        lower = pixels[at + padded_side] * (1 - right) + pixels[at + padded_side + 1] * right
        out[field] = np.rint(upper + (lower - upper) * down).astype(np.uint8).T
    return out.reshape(images.shape)


def _check(dataset: Dataset, rows: int, seed: int) -> None:
    pixels, originals = dataset.train.x.shape[1], len(dataset.train)
    square = isqrt(pixels) ** 2 == pixels
    images = dataset.task is Task.CLASSIFICATION and dataset.train.x.dtype == np.uint8 and square
    if not images or len(dataset.classes) > _LARGEST_CLASS + 1:
        raise InputError(f"{dataset.name}: only square 8-bit images with labels can be deformed")
    if rows < originals:
        raise InputError(
            f"{rows} rows: {dataset.name} has {originals} to train on, and all of them are kept"
        )
    if seed < 0:
        raise InputError(f"seed {seed}: must not be negative")


def _check_room(folder: Path, rows: int, dataset: Dataset, out_dir: Path) -> None:
    needed_bytes = (rows + len(dataset.test)) * (dataset.train.x.shape[1] + 1)
    free_bytes = shutil.disk_usage(folder).free
    if needed_bytes > free_bytes:
        raise InputError(
            f"{out_dir}: {rows} rows take {needed_bytes / 1e9:.1f} GB, the disk has "
            f"{free_bytes / 1e9:.1f} GB free; ask for fewer rows or choose another place"
        )


def _write(
    dataset: Dataset, rows: int, folder: Path, seed: int, progress: Callable[[int], None]
) -> None:
    train, written = dataset.train, 0
    pixels = train.x.shape[1]
    x_file = _npy(folder / "x_train.npy", np.dtype(np.uint8), (rows, pixels))
    y_file = _npy(folder / "y_train.npy", np.dtype(np.uint8), (rows,))
    with x_file as x_out, y_file as y_out:
        for block in _in_turn(dataset, rows, seed):
            x_out.write(np.ascontiguousarray(block[0]).data)
            y_out.write(block[1].astype(np.uint8).data)
            written += len(block[1])
            progress(written)
        for file in (x_out, y_out):
            file.flush()
            os.fsync(file.fileno())
    np.save(folder / "x_test.npy", dataset.test.x)
    np.save(folder / "y_test.npy", dataset.test.y.astype(np.uint8))
    write_schema(folder, replace(dataset.schema, name=f"{dataset.name}-{rows}"))


def _in_turn(dataset: Dataset, rows: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    originals = len(dataset.train)
    for start in range(0, originals, _BLOCK):
        yield dataset.train.take(np.arange(start, min(start + _BLOCK, originals)))
    yield from deformed(dataset, rows - originals, seed)


@contextlib.contextmanager
def _npy(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> Iterator[io.BufferedIOBase]:
    """A file that has the header of an array, open for its entries."""
    with path.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
        np.lib.format.write_array_header_1_0(file, header | {"shape": shape})
        yield file
