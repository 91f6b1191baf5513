"""Items prepared ahead of their use, in a background thread."""

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Prefetch(Generic[Item]):
    """``produce(first), ..., produce(last - 1)``, at most ``depth`` of them ahead of the reader.

    An exception in ``produce`` is raised by the ``next`` that would have returned its item. The
    thread ends with the last item, with an exception, or when the ``with`` block is left.

    Example:
        >>> with Prefetch(lambda n: n * n, 2, 5) as squares:
        ...     list(squares)
        [4, 9, 16]
    """

    def __init__(
        self, produce: Callable[[int], Item], first: int, last: int, depth: int = 3
    ) -> None:
        self._produce = produce
        self._range = range(first, last)
        self._ready: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue()
        self._free = threading.Semaphore(depth)
        self._closed = threading.Event()
        self._taken = 0
        self._thread = threading.Thread(target=self._work, name="distvi-prefetch", daemon=True)

    def __enter__(self) -> "Prefetch[Item]":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closed.set()
        self._free.release()  # wakes a thread that waits for room
        self._thread.join()

    def __iter__(self) -> "Prefetch[Item]":
        return self

    def __next__(self) -> Item:
        if self._taken == len(self._range):
            raise StopIteration
        item, error = self._ready.get()
        if error is not None:
            self._taken = len(self._range)
            raise error
        self._taken += 1
        self._free.release()
        return item  # pyright: ignore[reportReturnType]

    def _work(self) -> None:
        for n in self._range:
            self._free.acquire()
            if self._closed.is_set():
                return
            try:
                self._ready.put((self._produce(n), None))
            except BaseException as error:  # handed to the reader, whatever it is
                self._ready.put((None, error))
                return
