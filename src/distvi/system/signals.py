"""Ending a run at the next update when the user, or the machine, asks for it."""

import signal
import threading
from types import FrameType
from typing import Any

_URGENT = (signal.SIGINT, signal.SIGTERM)
_ON_POSIX = [getattr(signal, name, None) for name in ("SIGHUP", "SIGUSR1")]

ENDING = (*_URGENT, *(number for number in _ON_POSIX if number is not None))
"""Ways to ask a run to end: Ctrl-C, schedulers, a terminal that closes, SLURM before its limit."""


class Interruption:
    """True, when called, once a signal of ``ENDING`` has arrived inside the ``with`` block.

    A SIGINT or SIGTERM after that acts as if there were no block, so that nothing can hang; the
    others may come several times for one reason. SIGHUP stays ignored where it is, as under
    ``nohup``. Outside of the main thread Python delivers no signals, and the block changes nothing.

    Attributes:
        signum: The signal that arrived, or None.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            heard = [number for number in ENDING if not _is_left_alone(number)]
            self._before = {number: signal.signal(number, self._note) for number in heard}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def __call__(self) -> bool:
        return self.signum is not None

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.signum = self.signum or signum
        for number in _URGENT:
            signal.signal(number, self._before[number])


def _is_left_alone(number: int) -> bool:
    """Whether whoever started this program wants it to outlive the terminal."""
    return number not in _URGENT and signal.getsignal(number) == signal.SIG_IGN
