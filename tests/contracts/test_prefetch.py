"""Items made ahead in a thread arrive in order, once, and never more than ``depth`` wait."""

import threading

import pytest

from distvi.system.prefetch import Prefetch


def test_all_items_in_order() -> None:
    with Prefetch(lambda n: n, 3, 100) as numbers:
        assert list(numbers) == list(range(3, 100))


def test_an_error_takes_the_place_of_its_item() -> None:
    def produce(n: int) -> int:
        return 1 // (n - 2)

    with Prefetch(produce, 0, 9) as items:
        assert [next(items), next(items)] == [-1, -1]
        with pytest.raises(ZeroDivisionError):
            next(items)
        assert list(items) == []


def test_at_most_depth_items_are_ahead() -> None:
    made, full = [], threading.Event()

    def produce(n: int) -> int:
        made.append(n)
        if len(made) == 2:
            full.set()
        return n

    with Prefetch(produce, 0, 100, depth=2) as items:
        assert full.wait(60)
        for taken in range(10):
            assert len(made) <= taken + 2
            next(items)


def test_leaving_ends_the_thread() -> None:
    before = threading.active_count()
    with Prefetch(lambda n: n, 0, 10**9) as items:
        next(items)
    assert threading.active_count() == before
