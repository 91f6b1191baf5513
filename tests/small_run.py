"""A run small enough for tests of everything around it: seven updates of a tiny deep GP."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

UPDATES = 7
MODEL = {"hidden_layers": 1, "width": 2, "features": 4, "test_samples": 2}
SMALL = (
    *(word for name, value in MODEL.items() for word in ("--set", f"model.{name}={value}")),
    *("--batch-size", "16", "--updates", str(UPDATES), "--seed", "3"),
)
TINY = (*SMALL, "--engine", "mesh")


class Answer(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str


Distvi = Callable[..., Answer]


def write_table(path: Path, columns: str = "a,b,y", rows: int = 60) -> Path:
    """A CSV table: ``y = 1000 + 50 a - 20 b`` and noise; kind is odd or even."""
    rng = np.random.default_rng(5)
    a, b, noise = rng.normal(size=(3, rows))
    y = 1000 + 50 * a - 20 * b + noise
    kind = np.where(np.arange(rows) % 2, "even", "odd")
    values = {"a": a, "b": b, "y": y, "kind": kind}
    lines = zip(*(values[name] for name in columns.split(",")), strict=True)
    path.write_text("\n".join([columns, *(",".join(map(str, line)) for line in lines)]) + "\n")
    return path


def write_mnist(folder: Path, rows: int = 24) -> Path:
    """The four files of MNIST, with so many images of 2 x 2 pixels and 3 classes in each part."""
    folder.mkdir()
    rng = np.random.default_rng(5)
    for part in ("train", "t10k"):
        images = struct.pack(">4B3I", 0, 0, 8, 3, rows, 2, 2) + rng.bytes(4 * rows)
        labels = struct.pack(">4BI", 0, 0, 8, 1, rows) + bytes(n % 3 for n in range(rows))
        (folder / f"{part}-images-idx3-ubyte").write_bytes(images)
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    return folder
