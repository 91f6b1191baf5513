"""Checkpoints: the training state after an update, written whole or not at all.

``checkpoints/UPDATE/`` holds ``params.safetensors``, ``optimizer.safetensors``, where workers
remember something ``memories.safetensors`` (each array under its path in the tree, such as
``layer_0/weights/mean``; of memories after the worker's number) and ``state.json``: the update,
counters, and the SHA-256 of the other files. It is written under another name and then renamed.
"""

import hashlib
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from safetensors import SafetensorError
from safetensors.numpy import load, save

from distvi.errors import InputError
from distvi.system.files import read_json, sync_folder, write_bytes, write_json

PARAMS, OPTIMIZER, MEMORIES = "params", "optimizer", "memories"
_ALWAYS = (PARAMS, OPTIMIZER)


class Checkpoint(NamedTuple):
    """What was read back.

    Attributes:
        path: Its folder.
        update: Number of the update.
        arrays: Under their paths in the trees, by tree: ``params``, ``optimizer``, ``memories``.
        counters: Of the run.
    """

    path: Path
    update: int
    arrays: Mapping[str, Mapping[str, np.ndarray]]
    counters: Mapping[str, Any]

    def restore(self, name: str, like: PyTree) -> PyTree:
        """A tree of it, see `restore`."""
        return restore(like, self.arrays[name], file_of(self.path, name))

    def memories(self, like: PyTree) -> tuple[PyTree | None, ...]:
        """What each worker remembers; None for one that remembers nothing, or has no number here.

        Raises:
            InputError: see `restore`.
        """
        by_worker: dict[int, dict[str, np.ndarray]] = {}
        for path, array in self.arrays.get(MEMORIES, {}).items():
            worker, _, own = path.partition("/")
            by_worker.setdefault(int(worker), {})[own] = array
        where, count = file_of(self.path, MEMORIES), max(by_worker, default=-1) + 1
        return tuple(
            restore(like, by_worker[worker], where) if worker in by_worker else None
            for worker in range(count)
        )


def file_of(path: Path, name: str) -> Path:
    """The file of a tree, by its name."""
    return path / f"{name}.safetensors"


def write(
    folder: Path,
    update: int,
    trees: Mapping[str, PyTree],
    counters: Mapping[str, Any],
    keep: int,
) -> Path:
    """Write ``folder/update`` and delete all but the newest ``keep`` checkpoints.

    Checkpoints of later updates are deleted too: they belong to what was abandoned when
    the run was resumed from an earlier one.

    Args:
        folder: Of all checkpoints.
        update: Number of the update.
        trees: ``params``, ``optimizer``, and ``memories`` by worker if there are any.
        counters: Of the run.
        keep: How many checkpoints are kept.

    Raises:
        OSError: it could not be written; the other checkpoints are as they were.
    """
    part = folder / f".{update}.part"
    shutil.rmtree(part, ignore_errors=True)
    try:
        _write_part(part, update, trees, counters)
    except OSError:
        shutil.rmtree(part, ignore_errors=True)  # on a full disk its part takes room
        raise
    final = folder / str(update)
    shutil.rmtree(final, ignore_errors=True)
    part.replace(final)
    sync_folder(folder)
    kept = [u for u in updates(folder) if u <= update][-keep:]
    for other in set(updates(folder)) - set(kept):
        shutil.rmtree(folder / str(other))
    return final


def _write_part(
    part: Path, update: int, trees: Mapping[str, PyTree], counters: Mapping[str, Any]
) -> None:
    part.mkdir(parents=True)
    digests = {}
    for name, tree in trees.items():
        file, content = file_of(part, name), save(flatten(tree))
        write_bytes(file, content)
        digests[file.name] = hashlib.sha256(content).hexdigest()
    write_json(part / "state.json", {"update": update, **counters, "sha256": digests})


def updates(folder: Path) -> list[int]:
    """The updates that have a checkpoint, oldest first."""
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdecimal())


def read(path: Path, counters: Iterable[str] = ()) -> Checkpoint:
    """Read one checkpoint and verify it.

    Args:
        path: The checkpoint's folder, named by its update.
        counters: Names that its counters must have.

    Raises:
        InputError: a file of it is absent, truncated or altered.
    """
    state = _read_state(path / "state.json", counters)
    names = [name for name in (*_ALWAYS, MEMORIES) if _is_there(name, state["sha256"])]
    arrays = {name: _read_arrays(file_of(path, name), state["sha256"]) for name in names}
    return Checkpoint(path, state["update"], arrays, counters=state)


def _is_there(name: str, digests: Mapping[str, str]) -> bool:
    return name in _ALWAYS or file_of(Path(), name).name in digests


def _read_arrays(file: Path, digests: Mapping[str, str]) -> Mapping[str, np.ndarray]:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read checkpoint {file}: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != digests.get(file.name):
        raise InputError(f"checkpoint {file} is damaged: its SHA-256 is not the recorded one")
    try:
        return load(content)
    except SafetensorError as error:
        raise InputError(f"checkpoint {file} is damaged: {error}") from error


def _read_state(file: Path, counters: Iterable[str]) -> dict[str, Any]:
    state = read_json(file)
    missing = [name for name in ("update", "sha256", *counters) if name not in state]
    if missing:
        raise InputError(f"checkpoint {file} is damaged: it lacks '{missing[0]}'")
    if not isinstance(state["update"], int) or str(state["update"]) != file.parent.name:
        raise InputError(
            f"checkpoint {file} is damaged: its update is {state['update']!r}, its folder's name "
            f"{file.parent.name}"
        )
    if not isinstance(state["sha256"], dict):
        raise InputError(f"checkpoint {file} is damaged: it holds no SHA-256 of the other files")
    return state


def flatten(tree: PyTree) -> dict[str, np.ndarray]:
    """Arrays of a tree under their paths.

    Example:
        >>> list(flatten({"layers": [{"w": np.zeros(2)}]}))
        ['layers/0/w']
    """
    return {name: np.asarray(_numbers(leaf), order="C") for name, leaf in _named(tree)}


def restore(like: PyTree, arrays: Mapping[str, np.ndarray], where: Path) -> PyTree:
    """The tree whose arrays are given by path; the inverse of `flatten`.

    Args:
        like: A tree of arrays, or of their shapes, with the structure wanted.
        arrays: From `read`.
        where: The file, for messages.

    Raises:
        InputError: another set of paths, or an array of another shape or dtype.
    """
    named = _named(like)
    strange = sorted({name for name, _ in named} ^ set(arrays))
    if strange:
        raise InputError(f"{where} does not fit the run's configuration: '{strange[0]}' differs")
    leaves = []
    for name, leaf in named:
        array = arrays[name]
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaves.append(jax.random.wrap_key_data(jnp.asarray(array)))
            continue
        if leaf.dtype == jnp.bfloat16:
            array = array.view(jnp.bfloat16)
        if array.shape != leaf.shape or array.dtype != leaf.dtype:
            raise InputError(
                f"{where} does not fit the run's configuration: '{name}' is {array.dtype} "
                f"{array.shape}, expected {leaf.dtype} {leaf.shape}"
            )
        leaves.append(jnp.asarray(array))
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _named(tree: PyTree) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]


def _numbers(leaf: Any) -> np.ndarray:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if leaf.dtype == jnp.bfloat16:
        return np.asarray(leaf).view(np.uint16)  # NumPy's safetensors cannot read bfloat16
    return np.asarray(leaf)
