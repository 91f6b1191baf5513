"""A checkpoint is read back exactly as it was written, or refused by name."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from distvi.errors import InputError
from distvi.runs import checkpoints

PARAMS = {"layers": [{"w": jnp.arange(6.0).reshape(2, 3)}, {"w": jnp.zeros(())}]}


def write(folder: Path, update: int, keep: int = 2) -> Path:
    opt_state = optax.adam(0.1).init(PARAMS)
    trees = {"params": PARAMS, "optimizer": opt_state}
    return checkpoints.write(folder, update, trees, {"time_s": 1.5}, keep)


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.adam(optax.constant_schedule(0.1)),
        optax.sgd(0.1),
        optax.adam(0.1, mu_dtype=jnp.bfloat16),
        optax.adafactor(0.1),
        optax.noisy_sgd(0.1, key=jax.random.key(3)),
        optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, momentum=0.9)),
    ],
    ids=["adam", "sgd", "bfloat16", "adafactor", "keys", "chain"],
)
def test_what_is_read_is_what_was_written(
    tmp_path: Path, optimizer: optax.GradientTransformation
) -> None:
    opt_state = optimizer.init(PARAMS)
    trees = {"params": PARAMS, "optimizer": opt_state}
    path = checkpoints.write(tmp_path, 7, trees, {"time_s": 1.5}, 1)
    read = checkpoints.read(path)
    assert read.update == 7
    assert read.counters["time_s"] == 1.5
    params = read.restore("params", PARAMS)
    restored = read.restore("optimizer", jax.eval_shape(optimizer.init, PARAMS))
    assert read.memories(PARAMS) == ()
    for got, expected in ((params, PARAMS), (restored, opt_state)):
        assert jax.tree.structure(got) == jax.tree.structure(expected)
        assert jax.tree.map(jnp.shape, got) == jax.tree.map(jnp.shape, expected)
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(_bits(a), _bits(b)), got, expected)


def _bits(leaf: jax.Array) -> np.ndarray:
    keys = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if keys else leaf.astype(jnp.float32))


def test_the_newest_are_kept_and_later_ones_of_an_abandoned_course_go(tmp_path: Path) -> None:
    for update in (0, 10, 20, 100):
        write(tmp_path, update)
    assert checkpoints.updates(tmp_path) == [20, 100]
    write(tmp_path, 30)
    assert checkpoints.updates(tmp_path) == [20, 30]
    write(tmp_path, 30)
    assert checkpoints.updates(tmp_path) == [20, 30]


def test_a_crash_while_writing_leaves_no_checkpoint_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_json", full)
        with pytest.raises(OSError, match="No space left"):
            write(tmp_path, 2)
    assert checkpoints.updates(tmp_path) == [1]
    checkpoints.read(tmp_path / "1")
    write(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


@pytest.mark.parametrize("name", ["params.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("harm", ["truncate", "alter", "delete", "empty"])
def test_damage_is_refused_by_the_file_s_name(tmp_path: Path, name: str, harm: str) -> None:
    path = write(tmp_path, 5)
    content = bytearray((path / name).read_bytes())
    if harm == "delete":
        (path / name).unlink()
    else:
        content[-3] ^= 0x55
        harmed = {"truncate": content[:-3], "alter": content, "empty": b""}[harm]
        (path / name).write_bytes(harmed)
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        checkpoints.read(path)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"update": 6}, "its update is 6, its folder's name 5"),
        ({"update": "5"}, "its update is '5'"),
        ({"update": None}, "it lacks 'update'"),
        ({"sha256": None}, "it lacks 'sha256'"),
        ({"sha256": []}, "holds no SHA-256"),
        ({"time_s": None}, "it lacks 'time_s'"),
    ],
)
def test_an_incomplete_state_is_refused(tmp_path: Path, change: dict, what: str) -> None:
    path = write(tmp_path, 5)
    state = json.loads((path / "state.json").read_text()) | change
    kept = {name: value for name, value in state.items() if value is not None}
    (path / "state.json").write_text(json.dumps(kept))
    with pytest.raises(InputError, match=what):
        checkpoints.read(path, ["time_s"])


def test_another_configuration_s_checkpoint_is_refused(tmp_path: Path) -> None:
    read = checkpoints.read(write(tmp_path, 5))
    wider = {"layers": [PARAMS["layers"][0], {"w": jnp.zeros(2)}]}
    with pytest.raises(InputError, match=r"params.safetensors .*'layers/1/w' is float32"):
        read.restore("params", wider)
    with pytest.raises(InputError, match=r"params.safetensors .*'layers/1/w' differs"):
        read.restore("params", {"layers": [PARAMS["layers"][0]]})


def with_memories(folder: Path) -> Path:
    """Of workers 0 and 2; worker 1 had begun anew."""
    memory = ((), {"m": PARAMS, "count": jnp.int32(3)})
    trees = {"params": PARAMS, "optimizer": (), "memories": {"0": memory, "2": memory}}
    return checkpoints.write(folder, 5, trees, {}, 1)


def test_memories_go_back_to_their_workers(tmp_path: Path) -> None:
    read = checkpoints.read(with_memories(tmp_path))
    like = ((), {"m": PARAMS, "count": jnp.int32(0)})
    first, second, third = read.memories(like)
    assert second is None
    for memory in (first, third):
        assert memory is not None
        assert jax.tree.structure(memory) == jax.tree.structure(like)
        assert memory is not None
        assert memory[1]["count"] == 3
        jax.tree.map(np.testing.assert_array_equal, memory[1]["m"], PARAMS)
    with pytest.raises(InputError, match=r"memories.safetensors does not fit"):
        read.memories(((), {"m": PARAMS}))


@pytest.mark.parametrize("harm", ["alter", "delete"])
def test_damaged_memories_are_refused_by_the_file_s_name(tmp_path: Path, harm: str) -> None:
    file = with_memories(tmp_path) / "memories.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 0x55
    file.write_bytes(content)
    if harm == "delete":
        file.unlink()
    with pytest.raises(InputError, match=r"memories\.safetensors"):
        checkpoints.read(tmp_path / "5")
