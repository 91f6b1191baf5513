"""The parts of a run's wall-clock time."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distvi.runs.wall_time import PARTS, WallTime

seconds = st.floats(0, 1000)
steps = st.recursive(
    st.tuples(st.sampled_from(PARTS), seconds, st.just(())),
    lambda inner: st.tuples(st.sampled_from(PARTS), seconds, st.lists(inner, max_size=3)),
    max_leaves=10,
)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def go_through(wall: WallTime, clock: Clock, step: Any) -> None:
    name, took_s, inner = step
    with wall.part(name):
        clock.now_s += took_s
        for each in inner:
            go_through(wall, clock, each)


@given(st.lists(steps, max_size=5), seconds, seconds)
def test_the_parts_sum_to_the_whole(steps: list[Any], setup_s: float, moved_s: float) -> None:
    clock = Clock()
    wall = WallTime(clock)
    clock.now_s += setup_s
    for step in steps:
        go_through(wall, clock, step)
    wall.move("setup", "compile", moved_s)
    parts = wall.as_json()
    whole = parts.pop("whole")
    assert set(parts) == set(PARTS)
    assert min(parts.values()) >= 0
    assert whole == pytest.approx(sum(parts.values()))
    assert whole == pytest.approx(clock.now_s - 100.0)


def test_a_resumed_run_adds_to_what_it_took_before() -> None:
    clock = Clock()
    first = WallTime(clock)
    with first.part("training"):
        clock.now_s += 3.0
    second = WallTime(clock)
    second.add(first.as_json())
    with second.part("training"):
        clock.now_s += 2.0
    assert second.as_json()["training"] == second.as_json()["whole"] == 5.0
