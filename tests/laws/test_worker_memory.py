"""What a worker of the coordinator remembers, without any processes."""

from typing import Any

import jax
import numpy as np
import pytest

from distvi.engines.base import Built
from distvi.engines.coordinator.messages import Compute, Computed
from distvi.engines.coordinator.slots import Numbers, SlotMap, slot_map, views
from distvi.engines.coordinator.worker import Worker
from distvi.parameters import layout_of, make_shards, place
from tests import linear

STEPS, BEFORE = 3, 10
FIRST, SECOND, EARLIER = 0, 1, 2  # slots of memories
RULES = {"local-steps": {"steps": STEPS}}


class ArraySlots:
    """Slots that are arrays of this process."""

    def __init__(self, size: int) -> None:
        self._content = np.zeros((4, size), np.uint8)

    def bytes(self, slot: int) -> np.ndarray:
        return self._content[slot]


def built_of(settings: dict[str, Any]) -> tuple[Built, SlotMap, Numbers]:
    rows = linear.examples(settings["seed"])
    built = linear.build(settings, rows.x, rows.y)
    layout = layout_of(built.problem.shapes)
    shards = make_shards(layout, place("ranges", layout.sizes, 2), built.server)
    slots = slot_map(shards, built.worker)
    return built, slots, Numbers(*map(ArraySlots, slots.sizes))


def steps_made(slots: SlotMap, numbers: Numbers, slot: int) -> int:
    """Adam's count in what is remembered."""
    leaves = views(slots.memory, numbers.memories.bytes(slot))
    (count,) = (leaf for leaf in leaves if leaf.dtype == np.int32)
    return int(count)


def asked(worker: Worker, turn: int, memory: int) -> Computed:
    request = Compute(turn + 1, 0, parameters=0, payload=0, memory=memory, turn=turn)
    return worker.answer(request, worker.batch(turn), 0.0)


@pytest.mark.parametrize("slot", [EARLIER, -1])
def test_a_worker_goes_on_with_what_is_in_its_slot_when_it_is_first_asked(
    seed: int, slot: int
) -> None:
    built, slots, numbers = built_of({"seed": seed, "batch_size": 4, "rules": RULES})
    worker = Worker(0, 1, slots, numbers, built, slot)
    worker.compile()
    # Only now: parameters may take longer to be drawn than processes take to get ready.
    count = built.worker.init(linear.start())
    kept = [np.full(leaf.shape, BEFORE, leaf.dtype) for leaf in jax.tree.leaves(count)]
    for target, leaf in zip(
        views(slots.memory, numbers.memories.bytes(EARLIER)), kept, strict=True
    ):
        target[...] = leaf
    before = 0 if slot < 0 else BEFORE
    assert asked(worker, 0, FIRST).is_finite
    assert steps_made(slots, numbers, FIRST) == before + STEPS
    assert asked(worker, 1, SECOND).is_finite
    assert steps_made(slots, numbers, SECOND) == before + 2 * STEPS


def test_nothing_is_remembered_of_an_answer_that_is_not_finite(seed: int) -> None:
    settings = {"seed": seed, "batch_size": 4, "rules": RULES}
    built, slots, numbers = built_of(settings)
    bad = [built.problem.indices(4 * batch, 4).tolist() for batch in range(STEPS, 2 * STEPS)]
    built, slots, numbers = built_of(settings | {"bad_batch": bad[0]})
    worker = Worker(0, 1, slots, numbers, built)
    worker.compile()
    assert asked(worker, 0, FIRST).is_finite
    assert not asked(worker, 1, SECOND).is_finite
    assert asked(worker, 2, SECOND).is_finite
    assert steps_made(slots, numbers, SECOND) == 2 * STEPS
