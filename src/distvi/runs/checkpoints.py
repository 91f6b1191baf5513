"""Checkpoints: the training state after an update, written whole or not at all.

``checkpoints/UPDATE/`` holds ``params.safetensors``, ``optimizer.safetensors`` (each array under
its path in the tree, such as ``layer_0/weights/mean``) and ``state.json``: the update, counters,
and the SHA-256 of the other two files. It is written under another name and then renamed.
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

_ARRAYS = ("params.safetensors", "optimizer.safetensors")


class Checkpoint(NamedTuple):
    """What was read back; arrays under their paths in the trees."""

    update: int
    params: Mapping[str, np.ndarray]
    opt_state: Mapping[str, np.ndarray]
    counters: Mapping[str, Any]


def write(
    folder: Path,
    update: int,
    params: PyTree,
    opt_state: PyTree,
    counters: Mapping[str, Any],
    keep: int,
) -> Path:
    """Write ``folder/update`` and delete all but the newest ``keep`` checkpoints.

    Checkpoints of later updates are deleted too: they belong to a course that was abandoned when
    the run was resumed from an earlier one.

    Raises:
        OSError: it could not be written; the other checkpoints are as they were.
    """
    part = folder / f".{update}.part"
    shutil.rmtree(part, ignore_errors=True)
    try:
        _write_part(part, update, params, opt_state, counters)
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
    part: Path, update: int, params: PyTree, opt_state: PyTree, counters: Mapping[str, Any]
) -> None:
    part.mkdir(parents=True)
    digests = {}
    for name, tree in zip(_ARRAYS, (params, opt_state), strict=True):
        content = save(flatten(tree))
        write_bytes(part / name, content)
        digests[name] = hashlib.sha256(content).hexdigest()
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
    arrays = []
    for name in _ARRAYS:
        file = path / name
        try:
            content = file.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read checkpoint {file}: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest() != state["sha256"].get(name):
            raise InputError(f"checkpoint {file} is damaged: its SHA-256 is not the recorded one")
        try:
            arrays.append(load(content))
        except SafetensorError as error:
            raise InputError(f"checkpoint {file} is damaged: {error}") from error
    return Checkpoint(state["update"], *arrays, counters=state)


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
